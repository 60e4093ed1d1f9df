//! Messaging on NATS, in two ways: JetStream (`nats:`), which keeps messages, and NATS core (`nats+core:`), which does not.
//!
//! JetStream has one stream `hostel=APP=LABEL` for each scope, with the subjects `hostel.APP.LABEL.TOPIC`. It keeps a message
//! until all groups that want it have acknowledged it, and none that nobody wants (retention by interest). A group is a
//! durable consumer. A delivery that was tried too often is recognised by its number when it comes once more: so a dead letter
//! is written before the message is given up, whatever breaks in between.
//!
//! NATS core has the subjects `hostel-core.APP.LABEL.TOPIC`; requests, which are never stored, go to
//! `hostel-request.APP.LABEL.TOPIC` with JetStream, and answers to `hostel-reply.APP.LABEL.NONCE` with both. The name of a
//! guest's topic is checked, and then follows one of these: no guest reaches another subject.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy};
use async_nats::{HeaderMap, RequestErrorKind, Subject};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::remote::{
    Ending, Endings, Permits, REPLIES_MAX, TRY_AGAIN, check_message, check_subscription,
    dead_letter, deliveries, from_line, line, nonce, pause, plain,
};
use super::{Delivery, Error, Message, Messaging, Result, Settle, Subscription};
use crate::server::nats::{
    Connected, Nats, Settings, lost_connection, message_bytes_max, round_trip,
};
use crate::server::{patience, stopped};
use crate::{Failure, Scope};

/// All headers of a message in one, in their order.
const HEADERS: &str = "Hostel-Headers";
/// The topic of an answer.
const TOPIC: &str = "Hostel-Topic";
/// How long a request for messages stays with the server.
const PULL: Duration = Duration::from_secs(5);
/// The same where requests of guests wait for it.
const PULL_SHARED: Duration = Duration::from_millis(250);
/// Requests for messages may be for so many at once.
const PULL_MAX: usize = 256;

/// One scope on NATS.
#[derive(Debug)]
pub(crate) struct NatsMessaging {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nats: Arc<Nats>,
    durable: bool,
    replicas: usize,
    /// `hostel=APP=LABEL`
    stream: String,
    /// `APP.LABEL.`
    scope: String,
    endings: Arc<Endings>,
}

impl NatsMessaging {
    pub(crate) fn new(nats: Arc<Nats>, durable: bool, settings: &Settings, scope: &Scope) -> Self {
        Self {
            shared: Arc::new(Shared {
                nats,
                durable,
                replicas: settings.replicas,
                stream: format!("hostel={}={}", scope.app(), scope.label()),
                scope: format!("{}.{}.", scope.app(), scope.label()),
                endings: Endings::new(),
            }),
        }
    }
}

#[async_trait]
impl Messaging for NatsMessaging {
    async fn check(&self) -> Result<()> {
        let nats = &self.shared.nats;
        nats.run(|connected| async move {
            match self.shared.durable {
                true => {
                    let known = nats.known_stream(&connected, &self.shared.stream).await?;
                    if known.is_none() {
                        let account = connected.jetstream.query_account().await;
                        let _account = account.map_err(|error| nats.unavailable(error))?;
                    }
                    Ok(())
                }
                false => Ok(round_trip(&connected.client).await?),
            }
        })
        .await
    }

    async fn publish(&self, message: Message) -> Result<()> {
        check_message(&message)?;
        self.shared.endings.wait().await;
        match self.shared.durable {
            true => self.shared.store(&message, &nonce()).await,
            false => self.shared.send(&message).await,
        }
    }

    async fn request(
        &self,
        message: Message,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Message>> {
        check_message(&message)?;
        self.shared.endings.wait().await;
        let shared = self.shared.clone();
        self.shared
            .on_its_thread(async move { shared.request(&message, replies, timeout).await })
            .await
    }

    async fn reply(&self, to: &str, message: Message) -> Result<()> {
        let (shared, to) = (self.shared.clone(), to.to_owned());
        self.shared
            .on_its_thread(async move { shared.reply(&to, &message).await })
            .await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<BoxStream<'static, Delivery>> {
        check_subscription(&subscription)?;
        self.shared.endings.wait().await;
        let in_flight = subscription.in_flight.max(1);
        let (sender, receiver) = mpsc::channel(in_flight.min(PULL_MAX));
        let subscriber = Arc::new(Subscriber {
            shared: self.shared.clone(),
            permits: match self.shared.durable {
                true => Permits::new(in_flight),
                false => Permits::unstored(in_flight),
            },
            terms: Arc::new(subscription),
            sender,
        });
        let listening = subscriber.clone();
        let heard = self
            .shared
            .on_its_thread(async move { listening.listen().await });
        let heard = heard.await?;
        let (handle, endings) = (self.shared.nats.handle(), &self.shared.endings);
        let mut tasks = 1;
        if self.shared.durable {
            subscriber.consumer().await?;
            handle.spawn(subscriber.clone().pull_for_ever(endings.task()));
            tasks += 1;
        }
        handle.spawn(subscriber.hear_for_ever(heard, endings.task()));
        Ok(deliveries(receiver, endings.clone(), tasks))
    }

    fn is_durable(&self) -> bool {
        self.shared.durable
    }
}

impl Shared {
    /// Runs what has subscriptions of the library, which may be dropped on an event loop only.
    async fn on_its_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let done = self.nats.handle().spawn(work).await;
        done.unwrap_or_else(|_| Err(stopped().into()))
    }

    /// Where published messages go.
    fn published(&self) -> String {
        let root = if self.durable {
            "hostel"
        } else {
            "hostel-core"
        };
        format!("{root}.{}", self.scope)
    }

    /// Where requests go: nobody stores them.
    fn requested(&self) -> String {
        let root = match self.durable {
            true => "hostel-request",
            false => "hostel-core",
        };
        format!("{root}.{}", self.scope)
    }

    fn stream_config(&self) -> Config {
        Config {
            name: self.stream.clone(),
            description: Some("Messages of one of Hostel's apps".to_owned()),
            subjects: vec![format!("{}>", self.published())],
            retention: RetentionPolicy::Interest,
            // What was acknowledged is not thrown away for what comes later.
            discard: DiscardPolicy::New,
            num_replicas: self.replicas,
            ..Config::default()
        }
    }

    /// Stores a message. If the connection breaks before it is acknowledged it is sent again under the same name, which the
    /// server recognises.
    async fn store(&self, message: &Message, id: &str) -> Result<()> {
        let timeout = self.nats.timeout();
        let until = Instant::now() + patience(timeout);
        loop {
            let tried = self
                .nats
                .run(|connected| async move { self.put(&connected, message, id).await });
            match timeout_at(until, tried).await {
                Err(_) => return Err(Failure::TimedOut(timeout).into()),
                Ok(Err(Error::Failed(failure))) if failure == lost_connection() => {
                    sleep(TRY_AGAIN.0).await;
                }
                Ok(result) => return result,
            }
        }
    }

    async fn put(&self, connected: &Connected, message: &Message, id: &str) -> Result<()> {
        let headers = headers(message);
        fits(connected, &headers, message)?;
        let subject = format!("{}{}", self.published(), message.topic);
        let mut tries = 0;
        loop {
            let stored = PublishMessage::build()
                .payload(message.body.clone())
                .headers(headers.clone())
                .message_id(id);
            let sent = connected.jetstream.send_publish(subject.clone(), stored);
            let acknowledged = match sent.await {
                Ok(sent) => sent.await,
                Err(error) => Err(error),
            };
            match acknowledged {
                Ok(_) => return Ok(()),
                // There is no such stream: the first message, or somebody removed it.
                Err(error) if error.kind() == PublishErrorKind::StreamNotFound && tries == 0 => {
                    self.nats.stream(connected, self.stream_config()).await?;
                    tries += 1;
                }
                Err(error) => return Err(self.nats.publication(&error).into()),
            }
        }
    }

    /// Sends a message to whoever listens at this moment.
    async fn send(&self, message: &Message) -> Result<()> {
        self.nats
            .run(|connected| async move {
                let headers = headers(message);
                fits(&connected, &headers, message)?;
                let subject = format!("{}{}", self.published(), message.topic);
                let body = message.body.clone();
                let client = &connected.client;
                let sent = client.publish_with_headers(subject, headers, body).await;
                sent.map_err(|error| self.nats.unavailable(error))?;
                let flushed = client.flush().await;
                Ok(flushed.map_err(|error| self.nats.unavailable(error))?)
            })
            .await
    }

    fn reply_subject(&self, nonce: &str) -> String {
        format!("hostel-reply.{}{nonce}", self.scope)
    }

    async fn request(
        &self,
        message: &Message,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Message>> {
        let until = Instant::now() + timeout;
        let wanted = replies.clamp(1, REPLIES_MAX);
        let reply = &self.reply_subject(&nonce());
        let (mut answers, mut lost) = self
            .nats
            .run(|connected| async move {
                let lost = connected.lost();
                let headers = headers(message);
                fits(&connected, &headers, message)?;
                let client = &connected.client;
                let answers = client.subscribe(reply.clone()).await;
                let answers = answers.map_err(|error| self.nats.unavailable(error))?;
                let subject = format!("{}{}", self.requested(), message.topic);
                let body = message.body.clone();
                let sent = client
                    .publish_with_reply_and_headers(subject, reply.clone(), headers, body)
                    .await;
                sent.map_err(|error| self.nats.unavailable(error))?;
                Ok::<_, Error>((answers, lost))
            })
            .await?;
        let mut received = Vec::new();
        while received.len() < wanted {
            let answer = tokio::select! {
                answer = timeout_at(until, answers.next()) => answer,
                _ = lost.changed(), if received.is_empty() => return Err(lost_connection().into()),
            };
            match answer {
                Ok(Some(answer)) if answer.status.is_some() => break,
                Ok(Some(answer)) => received.push(heard(&answer, topic_of(&answer))),
                Ok(None) | Err(_) => break,
            }
        }
        match received.is_empty() {
            true => Err(Error::NoReply(timeout)),
            false => Ok(received),
        }
    }

    /// Answers, if somebody waits. A server says at once where nobody does, and before it answers the next request.
    async fn reply(&self, to: &str, message: &Message) -> Result<()> {
        let nonce = |byte: u8| byte.is_ascii_hexdigit();
        if to.len() != 32 || !to.bytes().all(nonce) {
            return Err(Error::NoRequester);
        }
        self.nats
            .run(|connected| async move {
                let mut headers = headers(message);
                if !message.topic.is_empty() {
                    headers.insert(TOPIC, line(&[(String::new(), message.topic.clone())]));
                }
                fits(&connected, &headers, message)?;
                let client = &connected.client;
                let inbox = client.new_inbox();
                let told = client.subscribe(format!("{inbox}.*")).await;
                let mut told = told.map_err(|error| self.nats.unavailable(error))?;
                let (nobody, end) = (format!("{inbox}.nobody"), format!("{inbox}.end"));
                let body = message.body.clone();
                let sent = client
                    .publish_with_reply_and_headers(self.reply_subject(to), nobody, headers, body)
                    .await;
                sent.map_err(|error| self.nats.unavailable(error))?;
                let asked = client
                    .publish_with_reply(client.new_inbox(), end.clone(), Bytes::new())
                    .await;
                asked.map_err(|error| self.nats.unavailable(error))?;
                match told.next().await {
                    Some(told) if told.subject.as_str() == end => Ok(()),
                    Some(_) => Err(Error::NoRequester),
                    None => Err(lost_connection().into()),
                }
            })
            .await
    }
}

/// One subscription.
#[derive(Debug)]
struct Subscriber {
    shared: Arc<Shared>,
    terms: Arc<Subscription>,
    permits: Permits,
    sender: mpsc::Sender<Delivery>,
}

impl Subscriber {
    /// Takes what is not stored: requests, and with NATS core everything. The library subscribes again by itself after a
    /// reconnection.
    async fn listen(&self) -> Result<async_nats::Subscriber> {
        let shared = &self.shared;
        shared
            .nats
            .run(|connected| async move {
                let subject = format!("{}{}", shared.requested(), self.terms.pattern);
                let group = format!(
                    "{}+{}",
                    plain(&self.terms.group),
                    plain(&self.terms.pattern)
                );
                let client = &connected.client;
                let heard = client.queue_subscribe(subject, group).await;
                let heard = heard.map_err(|error| shared.nats.unavailable(error))?;
                // What is published after this function is heard.
                round_trip(client).await?;
                Ok(heard)
            })
            .await
    }

    async fn hear_for_ever(self: Arc<Self>, mut heard: async_nats::Subscriber, _ending: Ending) {
        let prefix = self.shared.requested();
        loop {
            let message = tokio::select! {
                message = heard.next() => message,
                () = self.sender.closed() => return,
            };
            let Some(message) = message else {
                // The connection's task is gone.
                match self.listen().await {
                    Ok(again) => heard = again,
                    Err(_) => sleep(TRY_AGAIN.1).await,
                }
                continue;
            };
            let Some(topic) = message.subject.strip_prefix(&prefix).map(str::to_owned) else {
                continue;
            };
            let Some(permit) = self.permits.one().await else {
                return;
            };
            let delivery = Delivery {
                message: heard_request(&self.shared, &message, topic),
                attempt: 1,
                settle: Box::new(Heard { _permit: permit }),
            };
            if self.sender.send(delivery).await.is_err() {
                return;
            }
        }
    }

    /// The group's durable consumer, and the stream below it, made or changed as the subscription says.
    async fn consumer(&self) -> Result<PullConsumer> {
        let shared = &self.shared;
        let name = &format!(
            "{}+{}",
            plain(&self.terms.group),
            plain(&self.terms.pattern)
        );
        shared
            .nats
            .run(|connected| async move {
                let stream = shared
                    .nats
                    .stream(&connected, shared.stream_config())
                    .await?;
                let made = stream.create_consumer(pull::Config {
                    durable_name: Some(name.clone()),
                    description: Some(format!("{} of {}", self.terms.pattern, self.terms.group)),
                    deliver_policy: DeliverPolicy::New,
                    ack_policy: AckPolicy::Explicit,
                    ack_wait: self.terms.ack_wait,
                    // The driver counts: the server would forget a message without a dead letter.
                    max_deliver: -1,
                    max_ack_pending: -1,
                    filter_subject: format!("{}{}", shared.published(), self.terms.pattern),
                    ..pull::Config::default()
                });
                made.await.map_err(|error| match error.kind() {
                    async_nats::jetstream::stream::ConsumerErrorKind::JetStream(error) => {
                        shared.nats.jetstream(error.error_code(), error).into()
                    }
                    _ => Error::from(shared.nats.unavailable(error)),
                })
            })
            .await
    }

    async fn pull_for_ever(self: Arc<Self>, _ending: Ending) {
        let mut wait = TRY_AGAIN.0;
        while !self.sender.is_closed() {
            let began = Instant::now();
            // Ends when the connection was lost, the consumer is gone, or nobody listens any more.
            let _why = self.pull().await;
            wait = match began.elapsed() > TRY_AGAIN.1 {
                true => TRY_AGAIN.0,
                false => (wait * 2).min(TRY_AGAIN.1),
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.sender.closed() => return,
            }
        }
    }

    /// Takes messages over one connection.
    async fn pull(&self) -> Result<()> {
        let nats = &self.shared.nats;
        let connected = nats.connected().await?;
        let mut lost = connected.lost();
        let consumer = self.consumer().await?;
        let source = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{}",
            self.shared.stream,
            consumer.cached_info().name
        );
        let client = &connected.client;
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await;
        let mut messages = messages.map_err(|error| nats.unavailable(error))?;
        loop {
            let mut permits = tokio::select! {
                biased;
                () = self.sender.closed() => break,
                permits = self.permits.some(PULL_MAX) => permits.ok_or_else(stopped)?,
                _ = lost.changed() => return Err(lost_connection().into()),
            };
            let wait = if self.permits.are_shared() {
                PULL_SHARED
            } else {
                PULL
            };
            let (batch, expires) = (permits.num_permits(), wait.as_nanos());
            let ask = format!("{{\"batch\":{batch},\"expires\":{expires}}}");
            let asked = client.publish_with_reply(source.clone(), inbox.clone(), ask.into());
            asked.await.map_err(|error| nats.unavailable(error))?;
            while permits.num_permits() > 0 {
                let message = tokio::select! {
                    message = timeout(PULL * 2, messages.next()) => message,
                    () = self.sender.closed() => break,
                    _ = lost.changed() => return Err(lost_connection().into()),
                };
                let Ok(Some(message)) = message else {
                    return Err(lost_connection().into());
                };
                match message.status.map(|status| status.as_u16()) {
                    None | Some(200) => {}
                    Some(100) => continue,
                    Some(404 | 408) => break,
                    // The consumer is gone, or the server goes down.
                    Some(_) => return Err(lost_connection().into()),
                }
                let Some(permit) = permits.split(1) else {
                    break;
                };
                if let Some(delivery) = self.taken(&connected, message, permit).await {
                    let _nobody = self.sender.send(delivery).await;
                }
            }
        }
        self.give_back(&connected, messages).await
    }

    /// What the server has sent meanwhile goes to others at once.
    async fn give_back(
        &self,
        connected: &Connected,
        mut messages: async_nats::Subscriber,
    ) -> Result<()> {
        let unavailable = |error| Error::from(self.shared.nats.unavailable(error));
        messages.drain().await.map_err(unavailable)?;
        round_trip(&connected.client).await?;
        while let Ok(Some(message)) = timeout(TRY_AGAIN.1, messages.next()).await {
            if let Some(to) = message.reply.filter(|_| message.status.is_none()) {
                let _unsure = connected.client.publish(to, "-NAK".into()).await;
            }
        }
        Ok(round_trip(&connected.client).await?)
    }

    /// A delivery, unless the message was tried often enough: then it is given up.
    async fn taken(
        &self,
        connected: &Connected,
        message: async_nats::Message,
        permit: OwnedSemaphorePermit,
    ) -> Option<Delivery> {
        let message = async_nats::jetstream::Message {
            message,
            context: connected.jetstream.clone(),
        };
        let info = message.info().ok()?;
        let topic = message.subject.strip_prefix(&self.shared.published())?;
        let stored = Stored {
            shared: self.shared.clone(),
            terms: self.terms.clone(),
            acknowledge: message.reply.clone()?,
            id: format!("{}+{}+dead", info.stream_sequence, info.consumer),
            attempt: u32::try_from(info.delivered).unwrap_or(u32::MAX),
            message: heard(&message, topic.to_owned()),
            permit: Some(permit),
        };
        if stored.attempt > self.terms.deliveries.max(1) {
            // If that fails the server brings it again.
            let attempts = stored.attempt - 1;
            let _later = stored.give_up(attempts).await;
            stored.forget();
            return None;
        }
        Some(Delivery {
            message: stored.message.clone(),
            attempt: stored.attempt,
            settle: Box::new(stored),
        })
    }
}

/// A delivery of NATS core: nothing becomes of it.
#[derive(Debug)]
struct Heard {
    _permit: OwnedSemaphorePermit,
}

#[async_trait]
impl Settle for Heard {
    async fn ack(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn nack(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A delivery of JetStream.
struct Stored {
    shared: Arc<Shared>,
    terms: Arc<Subscription>,
    /// Where the server is told what became of it.
    acknowledge: Subject,
    /// Under which the dead letter is stored once.
    id: String,
    attempt: u32,
    message: Message,
    /// `None` when it is settled.
    permit: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Stored({}, attempt {})",
            self.message.topic, self.attempt
        )
    }
}

impl Stored {
    fn forget(mut self) {
        self.permit = None;
    }

    /// Tells the server, and waits until it knows.
    async fn tell(&self, what: Bytes) -> Result<()> {
        let (nats, what) = (&self.shared.nats, &what);
        nats.run(|connected| async move {
            let told = connected
                .client
                .request(self.acknowledge.clone(), what.clone())
                .await;
            match told.map_err(|error| error.kind()) {
                Ok(_) => Ok(()),
                Err(RequestErrorKind::TimedOut) => Err(Failure::TimedOut(nats.timeout()).into()),
                Err(kind) => Err(nats.unavailable(kind).into()),
            }
        })
        .await
    }

    async fn give_up(&self, attempts: u32) -> Result<()> {
        if let Some(letter) = dead_letter(&self.terms, &self.message, attempts) {
            self.shared.store(&letter, &self.id).await?;
        }
        self.tell(Bytes::from_static(b"+TERM")).await
    }

    fn later(&self) -> Bytes {
        let pause = pause(&self.terms, self.attempt);
        format!("-NAK {{\"delay\": {}}}", pause.as_nanos()).into()
    }
}

#[async_trait]
impl Settle for Stored {
    async fn ack(mut self: Box<Self>) -> Result<()> {
        let told = self.tell(Bytes::from_static(b"+ACK")).await;
        self.permit = None;
        told
    }

    async fn nack(mut self: Box<Self>) -> Result<()> {
        let told = match self.attempt >= self.terms.deliveries.max(1) {
            true => self.give_up(self.attempt).await,
            false => self.tell(self.later()).await,
        };
        self.permit = None;
        told
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        // Nobody settled it: the server is told, if it can be, and else waits for the acknowledgement in vain.
        let Some(permit) = self.permit.take() else {
            return;
        };
        let (nats, to, later) = (
            self.shared.nats.clone(),
            self.acknowledge.clone(),
            self.later(),
        );
        self.shared.nats.handle().spawn(async move {
            if let Ok(connected) = nats.connected().await {
                let _unsure = connected.client.publish(to, later).await;
            }
            drop(permit);
        });
    }
}

/// A message's headers as NATS takes them. One plain header goes as it is, so that other clients see it; where there are
/// more, or names that mean something to the server, all of them are in one line beside.
fn headers(message: &Message) -> HeaderMap {
    let mut map = HeaderMap::new();
    let mut whole = message.headers.len() <= 1;
    for (name, value) in &message.headers {
        match (
            is_plain(name) && !value.contains(['\r', '\n']),
            name.parse(),
        ) {
            (true, Ok(name)) => {
                let name: async_nats::HeaderName = name;
                map.append(name, value.as_str());
            }
            _ => whole = false,
        }
    }
    if !whole {
        map.insert(HEADERS, line(&message.headers));
    }
    map
}

/// Whether a header of a guest may stand for itself: the server heeds names that begin with `Nats-`.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let lower = name.to_ascii_lowercase();
    let reserved =
        lower.starts_with("nats-") || lower == "hostel-headers" || lower == "hostel-topic";
    !name.is_empty() && name.bytes().all(plain) && !reserved
}

fn fits(connected: &Connected, headers: &HeaderMap, message: &Message) -> Result<()> {
    let headers = headers.iter();
    let headers = headers.flat_map(|(name, values)| values.iter().map(move |v| (name, v)));
    let headers = headers.map(|(name, value)| {
        let name: &str = name.as_ref();
        name.len() + value.as_str().len() + 4
    });
    // The frame of the headers, and the name under which a message is stored.
    let bytes = message.body.len() + headers.sum::<usize>() + 64;
    let most = message_bytes_max(connected);
    match bytes <= most {
        true => Ok(()),
        false => Err(Error::TooLarge { bytes, most }),
    }
}

fn heard(message: &async_nats::Message, topic: String) -> Message {
    Message {
        topic,
        body: message.payload.clone(),
        headers: message
            .headers
            .as_ref()
            .map_or_else(Vec::new, heard_headers),
        reply_to: None,
    }
}

fn heard_headers(map: &HeaderMap) -> Vec<(String, String)> {
    if let Some(whole) = map.get(HEADERS) {
        return from_line(whole.as_str());
    }
    let mut headers = Vec::new();
    for (name, values) in map.iter() {
        let name: &str = name.as_ref();
        if is_plain(name) {
            let values = values.iter();
            headers.extend(values.map(|value| (name.to_owned(), value.as_str().to_owned())));
        }
    }
    // Another client's: their order is not known.
    headers.sort();
    headers
}

/// A request, with the address of its answer if that is one of this scope's.
fn heard_request(shared: &Shared, message: &async_nats::Message, topic: String) -> Message {
    let reply = message.reply.as_ref();
    let nonce = reply.and_then(|reply| reply.strip_prefix(&shared.reply_subject("")));
    Message {
        reply_to: nonce.map(str::to_owned),
        ..heard(message, topic)
    }
}

fn topic_of(answer: &async_nats::Message) -> String {
    let topic = answer
        .headers
        .as_ref()
        .and_then(|headers| headers.get(TOPIC));
    let topic = topic.map(|topic| from_line(topic.as_str()));
    let topic = topic.and_then(|pairs| pairs.into_iter().next());
    topic.map_or_else(String::new, |(_, topic)| topic)
}
