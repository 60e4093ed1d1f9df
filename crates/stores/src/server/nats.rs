//! [`Nats`]: the connection to one NATS server or cluster, and what its drivers share: waiting for it, time-outs, JetStream's
//! errors, the streams that they need.
//!
//! The library reconnects by itself and keeps what is sent meanwhile for later. Here nothing is sent while the connection is
//! down, so that a write that was reported as failed does not come to life after minutes.

use std::fmt::{self, Display};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamErrorKind, PublishError, PublishErrorKind,
};
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, RequestErrorKind, ServerError};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use url::Url;

use super::{Link, attempt, bad_option, decoded, patience, said, secrets};
use crate::Failure;
use crate::place::PlaceError;

/// How often the server has to show that it is there; two pings without an answer end the connection.
const PING: Duration = Duration::from_secs(2);
/// Pauses between attempts to connect again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// Messages that wait in the process for one subscriber.
const WAITING: usize = 4096;

/// One NATS server or cluster.
pub(crate) struct Nats {
    address: String,
    link: Arc<Link<Connected>>,
    handle: Handle,
    timeout: Duration,
    secrets: Arc<[String]>,
    probing: AtomicBool,
    /// Counts the answers, of whatever kind: a connection that gives some is good.
    answers: AtomicU64,
}

/// The library's client, which is connected or was once.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    signal: Arc<Signal>,
}

/// What the library tells about a connection.
#[derive(Debug)]
struct Signal {
    /// Counts how often the connection was lost.
    lost: watch::Sender<u64>,
    /// Why it cannot be made again.
    down: Mutex<Option<Failure>>,
    /// What the server last complained about on its own, and when.
    complaint: Mutex<Option<(Instant, String)>>,
}

/// What a URL says beside the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The path.
    pub(crate) path: String,
    /// Copies of each stream that is made.
    pub(crate) replicas: usize,
    tls: bool,
    credentials: Option<String>,
}

const HELP: &str = "write nats://USER:PASSWORD@HOST:4222 or nats://TOKEN@HOST:4222, and after it a `?` and some of \
                    replicas=1 to 5, tls=true, credentials=FILE";

impl Settings {
    pub(crate) fn of(url: &Url) -> Result<Self, PlaceError> {
        let mut settings = Self {
            path: url.path().trim_matches('/').to_owned(),
            replicas: 1,
            tls: false,
            credentials: None,
        };
        for (name, value) in url.query_pairs() {
            match (name.as_ref(), value.as_ref()) {
                ("replicas", "1" | "2" | "3" | "4" | "5") => {
                    settings.replicas = value.parse().unwrap_or(1);
                }
                ("tls", "true") => settings.tls = true,
                ("tls", "false") => settings.tls = false,
                ("credentials", file) => settings.credentials = Some(file.to_owned()),
                ("replicas" | "tls", _) => {
                    return Err(bad_option(format!("`{name}` has no good value"), HELP));
                }
                _ => {
                    let what = format!("a NATS URL has no option `{name}`");
                    return Err(bad_option(what, HELP));
                }
            }
        }
        Ok(settings)
    }
}

/// What of a URL makes the connection another one. Holds its secrets.
pub(super) fn identity(url: &Url) -> String {
    let mut url = url.clone();
    url.set_path("");
    let rest = url.as_str();
    rest.split_once(':')
        .map_or(rest, |(_, rest)| rest)
        .to_owned()
}

impl Nats {
    pub(super) fn new(
        url: &Url,
        timeout: Duration,
        handle: &Handle,
    ) -> Result<Arc<Self>, PlaceError> {
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| bad_option("this URL of a NATS server has no host", HELP))?;
        let address = format!("nats://{host}:{}", url.port().unwrap_or(4222));
        let settings = Settings::of(url)?;
        let secrets: Arc<[String]> = secrets(url).into();
        let user = decoded(url.username());
        let password = url.password().map(decoded);
        let link = {
            let (address, secrets) = (address.clone(), secrets.clone());
            Link::new(handle, attempt(timeout), move || {
                let options = options(&user, password.as_deref(), timeout);
                connect(address.clone(), options, settings.clone(), secrets.clone())
            })
        };
        Ok(Arc::new(Self {
            address,
            link,
            handle: handle.clone(),
            timeout,
            secrets,
            probing: AtomicBool::new(false),
            answers: AtomicU64::new(0),
        }))
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Does something with the connection, within the time-out and while the connection lasts.
    pub(crate) async fn run<T, E, W>(
        self: &Arc<Self>,
        work: impl FnOnce(Connected) -> W,
    ) -> Result<T, E>
    where
        E: From<Failure>,
        W: Future<Output = Result<T, E>>,
    {
        let began = Instant::now();
        let mut owed = Owed {
            nats: self,
            armed: false,
        };
        let mut seen = None;
        let done = timeout(patience(self.timeout), async {
            let connected = self.connected().await?;
            let mut lost = connected.signal.lost.subscribe();
            seen = Some(connected.signal.clone());
            owed.armed = true;
            let result = tokio::select! {
                biased;
                result = work(connected) => {
                    self.answers.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
                    result
                }
                _ = lost.changed() => Err(lost_connection().into()),
            };
            owed.armed = false;
            result
        })
        .await;
        done.unwrap_or_else(|_| Err(self.late(began, seen).into()))
    }

    /// The client, as soon as it is connected; or why it is not.
    pub(crate) async fn connected(&self) -> Result<Connected, Failure> {
        let connected = self.link.get().await?.connection;
        while connected.client.connection_state() != State::Connected {
            if let Some(why) = lock(&connected.signal.down).clone() {
                return Err(why);
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(connected)
    }

    /// A server tells what it does not permit by itself, and lets the request hang.
    fn late(&self, began: Instant, signal: Option<Arc<Signal>>) -> Failure {
        let complaint = signal.and_then(|signal| lock(&signal.complaint).clone());
        match complaint {
            Some((at, text)) if at >= began => Failure::Refused(said(&text, &self.secrets)),
            _ => Failure::TimedOut(self.timeout),
        }
    }

    /// Somebody waited in vain: is the connection still good?
    fn probe(self: &Arc<Self>) {
        if self.probing.swap(true, Ordering::SeqCst) {
            return;
        }
        let nats = self.clone();
        self.handle.spawn(async move {
            if let Ok(linked) = nats.link.get().await {
                let client = &linked.connection.client;
                let bound = attempt(nats.timeout) / 2;
                let before = nats.answers.load(Ordering::Relaxed);
                let alive = timeout(bound, round_trip(client)).await;
                let others = nats.answers.load(Ordering::Relaxed) != before;
                if !matches!(alive, Ok(Ok(()))) && !others {
                    let again = timeout(bound, client.force_reconnect()).await;
                    if !matches!(again, Ok(Ok(()))) {
                        nats.link.discard(linked.id);
                    }
                }
            }
            nats.probing.store(false, Ordering::SeqCst);
        });
    }

    pub(crate) fn broken(&self, error: impl Display) -> Failure {
        Failure::Broken(said(&error.to_string(), &self.secrets))
    }

    pub(crate) fn unavailable(&self, error: impl Display) -> Failure {
        Failure::Unavailable(said(&error.to_string(), &self.secrets))
    }

    /// What JetStream answered instead of what was asked for.
    pub(crate) fn jetstream(&self, code: ErrorCode, error: impl Display) -> Failure {
        let text = said(&error.to_string(), &self.secrets);
        match code {
            ErrorCode::JETSTREAM_NOT_ENABLED
            | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
            | ErrorCode::NO_ACCOUNT => Failure::Refused(text),
            ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::MEMORY_RESOURCES_EXCEEDED
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::STREAM_STORE_FAILED
            | ErrorCode::MAXIMUM_STREAMS_LIMIT
            | ErrorCode::MAXIMUM_CONSUMERS_LIMIT => Failure::Full(text),
            ErrorCode::CLUSTER_NOT_AVAILABLE
            | ErrorCode::CLUSTER_NOT_ACTIVE
            | ErrorCode::CLUSTER_NOT_LEADER
            | ErrorCode::CLUSTER_INCOMPLETE
            | ErrorCode::STREAM_NOT_FOUND
            | ErrorCode::CONSUMER_NOT_FOUND => Failure::Unavailable(text),
            _ => Failure::Broken(text),
        }
    }

    /// What became of a publication that was not acknowledged, apart from what its caller looks for.
    pub(crate) fn publication(&self, error: &PublishError) -> Failure {
        match error.kind() {
            PublishErrorKind::TimedOut => Failure::TimedOut(self.timeout),
            PublishErrorKind::StreamNotFound | PublishErrorKind::BrokenPipe => {
                self.unavailable(error)
            }
            PublishErrorKind::MaxAckPending => Failure::Full(error.to_string()),
            _ => self.jetstream(code(&error.to_string()), error),
        }
    }

    /// A stream as it is, or made as it should be.
    pub(crate) async fn stream(
        &self,
        connected: &Connected,
        config: Config,
    ) -> Result<Stream, Failure> {
        if let Some(stream) = self.known_stream(connected, &config.name).await? {
            return Ok(stream);
        }
        let made = connected.jetstream.create_stream(config).await;
        made.map_err(|error| match error.kind() {
            CreateStreamErrorKind::JetStream(error) => self.jetstream(error.error_code(), error),
            CreateStreamErrorKind::TimedOut => Failure::TimedOut(self.timeout),
            CreateStreamErrorKind::JetStreamUnavailable => no_jetstream(),
            _ => self.broken(error),
        })
    }

    /// A stream, if there is one of this name.
    pub(crate) async fn known_stream(
        &self,
        connected: &Connected,
        name: &str,
    ) -> Result<Option<Stream>, Failure> {
        match connected.jetstream.get_stream(name).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                GetStreamErrorKind::JetStream(error) => {
                    Err(self.jetstream(error.error_code(), error))
                }
                _ if error.to_string().contains("no responders") => Err(no_jetstream()),
                _ => Err(self.unavailable(error)),
            },
        }
    }
}

/// A server that has no JetStream does not answer its requests at all.
fn no_jetstream() -> Failure {
    Failure::Unavailable("JetStream does not answer; is it enabled on this server?".to_owned())
}

/// The largest message, headers included, that the server takes.
pub(crate) fn message_bytes_max(connected: &Connected) -> usize {
    connected.client.max_payload()
}

/// JetStream's own number in the text of one of the library's errors, which hides it otherwise; 0 for none.
fn code(text: &str) -> ErrorCode {
    let (_, number) = text.rsplit_once("error code ").unwrap_or_default();
    let digits = number.trim_end_matches(|c: char| !c.is_ascii_digit());
    ErrorCode(digits.parse().unwrap_or_default())
}

/// To the server and back: a request to nobody is answered at once.
pub(crate) async fn round_trip(client: &Client) -> Result<(), Failure> {
    let answer = client.request(client.new_inbox(), Bytes::new()).await;
    match answer.map_err(|error| error.kind()) {
        Ok(_) | Err(RequestErrorKind::NoResponders) => Ok(()),
        Err(_) => Err(lost_connection()),
    }
}

impl Connected {
    /// Ready when the connection is lost, from now on.
    pub(crate) fn lost(&self) -> watch::Receiver<u64> {
        self.signal.lost.subscribe()
    }
}

pub(crate) fn lost_connection() -> Failure {
    Failure::Unavailable("the connection was lost".to_owned())
}

/// Notices that somebody waited in vain, or no longer.
struct Owed<'a> {
    nats: &'a Arc<Nats>,
    armed: bool,
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.nats.probe();
        }
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nats({})", self.address)
    }
}

fn options(user: &str, password: Option<&str>, timeout: Duration) -> ConnectOptions {
    let options = ConnectOptions::new()
        .name("hostel")
        .connection_timeout(attempt(timeout))
        .request_timeout(Some(timeout))
        .ping_interval(PING)
        .subscription_capacity(WAITING)
        .reconnect_delay_callback(|attempts| {
            let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(8);
            (PAUSES.0 * 2_u32.pow(doublings)).min(PAUSES.1)
        });
    match (user, password) {
        ("", None) => options,
        (token, None) => options.token(token.to_owned()),
        (user, Some(password)) => options.user_and_password(user.to_owned(), password.to_owned()),
    }
}

async fn connect(
    address: String,
    mut options: ConnectOptions,
    settings: Settings,
    secrets: Arc<[String]>,
) -> Result<Connected, Failure> {
    if let Some(file) = settings.credentials {
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(&file));
        let text = read.await.map_err(|_| super::stopped())?;
        let bad = |cause: std::io::Error| {
            Failure::Refused(format!("the credentials file cannot be used: {cause}"))
        };
        options = options.credentials(&text.map_err(bad)?).map_err(bad)?;
    }
    let signal = Arc::new(Signal {
        lost: watch::Sender::new(0),
        down: Mutex::new(None),
        complaint: Mutex::new(None),
    });
    let told = signal.clone();
    let hidden = secrets.clone();
    let options = options
        .require_tls(settings.tls)
        .event_callback(move |event| {
            told.note(&event, &hidden);
            std::future::ready(())
        });
    let client = options.connect(address).await.map_err(|error| {
        let text = said(&error.to_string(), &secrets);
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                Failure::Refused(text)
            }
            _ => Failure::Unavailable(text),
        }
    })?;
    let jetstream = jetstream::new(client.clone());
    Ok(Connected {
        client,
        jetstream,
        signal,
    })
}

impl Signal {
    fn note(&self, event: &Event, secrets: &[String]) {
        match event {
            Event::Connected => *lock(&self.down) = None,
            Event::Disconnected | Event::Closed => {
                *lock(&self.down) = None;
                self.lost.send_modify(|lost| *lost += 1);
            }
            Event::ClientError(error) => {
                let text = said(&error.to_string(), secrets);
                *lock(&self.down) = Some(match text.contains("authorization") {
                    true => Failure::Refused(text),
                    false => Failure::Unavailable(text),
                });
            }
            Event::ServerError(ServerError::Other(text)) => {
                *lock(&self.complaint) = Some((Instant::now(), text.clone()));
            }
            _ => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jetstreams_number_is_found_in_a_text() {
        let text = "other error: maximum bytes exceeded (code 503, error code 10077)";
        assert_eq!(code(text), ErrorCode::STREAM_STORE_FAILED);
        assert_eq!(code("broken pipe"), ErrorCode(0));
    }

    #[test]
    fn one_server_is_one_connection_whatever_is_kept_there() {
        let identity = |text| identity(&Url::parse(text).unwrap());
        let one = identity("nats://shop:secret@host:4222");
        assert_eq!(one, identity("nats+core://shop:secret@host:4222"));
        assert_eq!(one, identity("nats://shop:secret@host:4222/bucket"));
        assert_ne!(one, identity("nats://shop:other@host:4222"));
        assert_ne!(one, identity("nats://shop:secret@host:4222?tls=true"));
    }

    #[test]
    fn settings_are_read_and_unknown_ones_refused() {
        let read = |text| Settings::of(&Url::parse(text).unwrap());
        let settings = read("nats://host/shop?replicas=3&tls=true&credentials=user.creds").unwrap();
        assert_eq!((settings.path.as_str(), settings.replicas), ("shop", 3));
        assert!(settings.tls && settings.credentials.as_deref() == Some("user.creds"));
        for bad in [
            "nats://host?replicas=0",
            "nats://host?tls=1",
            "nats://host?fast=1",
        ] {
            assert!(read(bad).unwrap_err().help.contains("replicas"), "{bad}");
        }
    }
}
