//! Connections to servers, one for each URL in this process, shared by every scope that is kept there.
//!
//! A connection is made when it is first needed, by a task of the stores' own thread; whoever needs it meanwhile waits for
//! that one attempt, and whoever comes shortly after a failed one is told its reason without another. So a server that is
//! down costs one attempt per [`PAUSE`], however many ask. `redis` and `nats` say what the two libraries need on top of it;
//! the drivers, which know what is sent, are in [`kv`](crate::kv) and [`messaging`](crate::messaging).

pub(crate) mod nats;
pub(crate) mod redis;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::time::timeout;
use url::Url;

use self::nats::{Nats, Settings};
use self::redis::Redis;
use crate::kv::Kv;
use crate::kv::nats::NatsKv;
use crate::kv::redis::RedisKv;
use crate::messaging::Messaging;
use crate::messaging::nats::NatsMessaging;
use crate::messaging::redis::RedisMessaging;
use crate::place::PlaceError;
use crate::{Failure, Scope};

/// How long after a failed attempt to connect the next one is made at the earliest.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest piece of a server's own words that goes into an error.
const SAID: usize = 200;

/// The connections of this process, by what they were made from.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    redis: Known<Redis>,
    nats: Known<Nats>,
}

/// Connections that somebody still has, by URL and time-out.
type Known<T> = Mutex<HashMap<(Secret, Duration), Weak<T>>>;

/// A text that holds a password and does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Servers {
    /// The key-value store of a scope; `None` for a scheme that has no driver here.
    pub(crate) fn kv(
        &self,
        url: &Url,
        timeout: Duration,
        handle: &Handle,
        scope: &Scope,
    ) -> Result<Option<Arc<dyn Kv>>, PlaceError> {
        Ok(match url.scheme() {
            "redis" | "rediss" => {
                let redis = self.redis(url, timeout, handle)?;
                Some(Arc::new(RedisKv::new(redis, scope)))
            }
            "nats" => {
                let nats = self.nats(url, timeout, handle)?;
                let kv = NatsKv::new(nats, Settings::of(url)?, scope);
                Some(Arc::new(kv.ok_or_else(bad_bucket)?))
            }
            _ => None,
        })
    }

    /// The broker of a scope; `None` for a scheme that has no driver here.
    pub(crate) fn messaging(
        &self,
        url: &Url,
        timeout: Duration,
        handle: &Handle,
        scope: &Scope,
    ) -> Result<Option<Arc<dyn Messaging>>, PlaceError> {
        Ok(match url.scheme() {
            "nats" | "nats+core" => {
                let nats = self.nats(url, timeout, handle)?;
                let (durable, settings) = (url.scheme() == "nats", Settings::of(url)?);
                let messaging = NatsMessaging::new(nats, durable, &settings, scope);
                Some(Arc::new(messaging))
            }
            "redis" | "rediss" => {
                let redis = self.redis(url, timeout, handle)?;
                Some(Arc::new(RedisMessaging::new(redis, scope)))
            }
            _ => None,
        })
    }

    fn redis(
        &self,
        url: &Url,
        timeout: Duration,
        handle: &Handle,
    ) -> Result<Arc<Redis>, PlaceError> {
        let key = (Secret(url.to_string()), timeout);
        known(&self.redis, key, || Redis::new(url, timeout, handle))
    }

    /// The same server for each path and for `nats:` and `nats+core:`.
    fn nats(&self, url: &Url, timeout: Duration, handle: &Handle) -> Result<Arc<Nats>, PlaceError> {
        let key = (Secret(nats::identity(url)), timeout);
        known(&self.nats, key, || Nats::new(url, timeout, handle))
    }
}

fn known<T>(
    all: &Known<T>,
    key: (Secret, Duration),
    make: impl FnOnce() -> Result<Arc<T>, PlaceError>,
) -> Result<Arc<T>, PlaceError> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(one) = all.get(&key).and_then(Weak::upgrade) {
        return Ok(one);
    }
    let one = make()?;
    all.retain(|_, one| one.strong_count() > 0);
    all.insert(key, Arc::downgrade(&one));
    Ok(one)
}

/// One connection, made when it is needed and again after it was discarded.
pub(crate) struct Link<C> {
    handle: Handle,
    attempt: Duration,
    connect: Box<dyn Fn() -> BoxFuture<'static, Result<C, Failure>> + Send + Sync>,
    slot: Mutex<Slot<C>>,
}

/// A connection and which one it is, so that it is discarded once.
#[derive(Debug, Clone)]
pub(crate) struct Linked<C> {
    pub(crate) connection: C,
    pub(crate) id: u64,
}

type Attempt<C> = Shared<BoxFuture<'static, Result<Linked<C>, Failure>>>;

struct Slot<C> {
    next: u64,
    state: State<C>,
}

enum State<C> {
    Idle,
    Failed(Instant, Failure),
    Connecting(Attempt<C>),
    Ready(Linked<C>),
}

impl<C: Clone + Send + Sync + 'static> Link<C> {
    /// `attempt` bounds one attempt to connect.
    pub(crate) fn new<F, A>(handle: &Handle, attempt: Duration, connect: F) -> Arc<Self>
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<C, Failure>> + Send + 'static,
    {
        Arc::new(Self {
            handle: handle.clone(),
            attempt,
            connect: Box::new(move || connect().boxed()),
            slot: Mutex::new(Slot {
                next: 0,
                state: State::Idle,
            }),
        })
    }

    /// The connection, or the reason why there is none. A time-out of an attempt is tried again: the caller's own bound ends
    /// that.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<Linked<C>, Failure> {
        loop {
            let attempt = match self.now() {
                Now::Known(known) => return known,
                Now::Attempt(attempt) => attempt,
            };
            match attempt.await {
                Err(Failure::TimedOut(_)) => {}
                result => return result,
            }
        }
    }

    /// Gives it up, unless that was done already.
    pub(crate) fn discard(&self, id: u64) {
        let mut slot = self.lock();
        if matches!(&slot.state, State::Ready(linked) if linked.id == id) {
            slot.state = State::Idle;
        }
    }

    fn now(self: &Arc<Self>) -> Now<C> {
        let mut slot = self.lock();
        match &slot.state {
            State::Ready(linked) => return Now::Known(Ok(linked.clone())),
            State::Failed(at, why)
                if at.elapsed() < PAUSE && !matches!(why, Failure::TimedOut(_)) =>
            {
                return Now::Known(Err(why.clone()));
            }
            State::Connecting(attempt) => return Now::Attempt(attempt.clone()),
            State::Idle | State::Failed(..) => {}
        }
        slot.next += 1;
        // The task cannot end before the slot says that it runs: it needs the lock for that.
        let task = self.handle.spawn(self.clone().make(slot.next));
        let attempt = task
            .map(|ended| ended.unwrap_or_else(|_| Err(stopped())))
            .boxed()
            .shared();
        slot.state = State::Connecting(attempt.clone());
        Now::Attempt(attempt)
    }

    async fn make(self: Arc<Self>, id: u64) -> Result<Linked<C>, Failure> {
        let result = timeout(self.attempt, (self.connect)()).await;
        let result = result.unwrap_or(Err(Failure::TimedOut(self.attempt)));
        let result = result.map(|connection| Linked { connection, id });
        self.lock().state = match &result {
            Ok(linked) => State::Ready(linked.clone()),
            Err(why) => State::Failed(Instant::now(), why.clone()),
        };
        result
    }

    fn lock(&self) -> MutexGuard<'_, Slot<C>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Now<C> {
    Known(Result<Linked<C>, Failure>),
    Attempt(Attempt<C>),
}

impl<C> fmt::Debug for Link<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// The thread that drives connections has ended: the process does.
pub(crate) fn stopped() -> Failure {
    Failure::Unavailable("this process stops".to_owned())
}

/// How long one attempt to connect may take: half an operation, so that one that hung leaves time for another.
pub(crate) fn attempt(timeout: Duration) -> Duration {
    (timeout / 2).max(Duration::from_millis(50))
}

/// What drivers wait for an answer: a little less than those who call them, so that it is the driver that notices.
pub(crate) fn patience(timeout: Duration) -> Duration {
    timeout - timeout / 16
}

/// What a server said, fit for an error: one line, not long, without the passwords.
pub(crate) fn said(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "(secret)");
    }
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(printable).take(SAID).collect()
}

/// The texts of a URL that may be secret, as they are written and as they are meant.
pub(crate) fn secrets(url: &Url) -> Vec<String> {
    let written = [url.password(), Some(url.username())];
    let written = written.into_iter().flatten().filter(|text| text.len() > 2);
    written
        .flat_map(|text| [text.to_owned(), decoded(text)])
        .collect()
}

/// Percent-decoded.
pub(crate) fn decoded(text: &str) -> String {
    let pair = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

fn bad_bucket() -> PlaceError {
    let help = "write nats://HOST:4222/BUCKET, with letters, digits, `-` and `_` only";
    bad_option("the path of this URL is no name of a bucket", help)
}

/// An option of a URL that is not known, or has no good value.
pub(crate) fn bad_option(what: impl Into<String>, help: &str) -> PlaceError {
    PlaceError {
        what: what.into(),
        help: help.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    #[test]
    fn many_who_need_a_connection_share_one_attempt() {
        runtime().block_on(async {
            let attempts = Arc::new(AtomicUsize::new(0));
            let counted = attempts.clone();
            let link = Link::new(&Handle::current(), Duration::from_secs(5), move || {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                async move {
                    tokio::task::yield_now().await;
                    Ok::<_, Failure>(number)
                }
            });
            let all = futures::future::join_all((0..50).map(|_| link.get())).await;
            assert!(all.iter().all(|one| one.as_ref().unwrap().connection == 0));
            link.discard(all[0].as_ref().unwrap().id);
            link.discard(all[1].as_ref().unwrap().id);
            assert_eq!(link.get().await.unwrap().connection, 1);
            link.discard(1);
            assert_eq!(link.get().await.unwrap().connection, 1);
            assert_eq!(attempts.load(Ordering::SeqCst), 2);
        });
    }

    #[test]
    fn a_failed_attempt_is_not_repeated_at_once() {
        runtime().block_on(async {
            let attempts = Arc::new(AtomicUsize::new(0));
            let counted = attempts.clone();
            let link = Link::<()>::new(&Handle::current(), Duration::from_secs(5), move || {
                counted.fetch_add(1, Ordering::SeqCst);
                async { Err(Failure::Unavailable("nobody there".to_owned())) }
            });
            let begin = Instant::now();
            let mut asked = 0;
            while begin.elapsed() < PAUSE * 3 {
                assert!(link.get().await.is_err());
                asked += 1;
            }
            let attempts = attempts.load(Ordering::SeqCst);
            assert!(
                (1..=4).contains(&attempts) && asked > 10,
                "{attempts} {asked}"
            );
        });
    }

    #[test]
    fn secrets_are_taken_out_of_what_a_server_says() {
        let url = Url::parse("redis://shop:hunt%20er@host/").unwrap();
        let secrets = secrets(&url);
        let text = said("no\r\n'shop' 'hunt er' hunt%20er", &secrets);
        assert_eq!(text, "no  '(secret)' '(secret)' (secret)");
        assert_eq!(said(&"x".repeat(1000), &secrets).len(), SAID);
        assert_eq!(decoded("a%2Bb+c"), "a+b+c");
    }
}
