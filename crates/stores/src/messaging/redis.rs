//! Messaging on Redis streams.
//!
//! Each scope is one stream, `hostel-messages:APP:LABEL`, whose entries have the fields `topic`, `headers` and `body`; each
//! group is a consumer group of it, named `PATTERN GROUP`, that passes over what its pattern does not stand for. All its
//! subscribers are one consumer: who has a message is known to the one that has it, and to the others only that it is not
//! settled. What was refused waits in the sorted set `hostel-messages:APP:LABEL:later:PATTERN GROUP` for its time. What all
//! groups have settled is trimmed away. Every change of more than one of these is a script (`redis_scripts`).
//!
//! Requests are not stored: they go through the channels `hostel-requests:APP:LABEL:TOPIC`, where each group's subscribers
//! agree on who takes one, and answers through `hostel-replies:APP:LABEL:NONCE`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::streams::StreamReadReply;
use redis::{FromRedisValue, Value, cmd, from_redis_value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::redis_scripts::{ACK, CLAIM, GIVE_UP, PUBLISH, REFUSE, TAKE_REQUEST, TRIM};
use super::remote::{
    Ending, Endings, Permits, REPLIES_MAX, TRY_AGAIN, check_message, check_subscription,
    dead_letter, deliveries, from_line, line, nonce, pause,
};
use super::{Delivery, Error, Message, Messaging, Result, Settle, Subscription, matches};
use crate::server::redis::{Redis, STRING_BYTES_MAX};
use crate::server::stopped;
use crate::{Failure, Scope};

/// Messages that some group has not settled; one more is [`Failure::Full`].
const MESSAGES_MAX: u64 = 1_000_000;
/// Messages of one read.
const READ_MAX: usize = 256;
/// The longest read that waits for messages.
const BLOCK: Duration = Duration::from_millis(200);
/// How often a subscription removes what everybody has settled.
const TRIM_EVERY: Duration = Duration::from_secs(1);
/// How long a connection for requests may be silent before it has to show that it is there.
const SILENCE: Duration = Duration::from_secs(5);
/// Requests of one handle at once: each has a connection of its own.
const REQUESTS: usize = 64;
/// How long it is remembered who took a request.
const TAKEN: Duration = Duration::from_secs(60);
/// The one consumer of each group.
const CONSUMER: &str = "hostel";

/// One scope on a Redis.
#[derive(Debug)]
pub(crate) struct RedisMessaging {
    shared: Arc<Shared>,
    requests: Semaphore,
}

#[derive(Debug)]
struct Shared {
    redis: Arc<Redis>,
    /// `APP:LABEL`
    scope: String,
    stream: String,
    endings: Arc<Endings>,
}

impl RedisMessaging {
    pub(crate) fn new(redis: Arc<Redis>, scope: &Scope) -> Self {
        let scope = format!("{}:{}", scope.app(), scope.label());
        Self {
            shared: Arc::new(Shared {
                redis,
                stream: format!("hostel-messages:{scope}"),
                scope,
                endings: Endings::new(),
            }),
            requests: Semaphore::new(REQUESTS),
        }
    }
}

#[async_trait]
impl Messaging for RedisMessaging {
    async fn check(&self) -> Result<()> {
        let shared = &self.shared;
        let _length: u64 = shared.redis.query(cmd("XLEN").arg(&shared.stream)).await?;
        Ok(())
    }

    async fn publish(&self, message: Message) -> Result<()> {
        check_message(&message)?;
        check_size(&message)?;
        let shared = &self.shared;
        shared.endings.wait().await;
        let mut call = PUBLISH.key(&shared.stream);
        call.arg(MESSAGES_MAX).arg(&message.topic);
        call.arg(line(&message.headers)).arg(message.body.as_ref());
        match shared.redis.script(&call).await? {
            true => Ok(()),
            false => Err(Failure::Full(format!(
                "{MESSAGES_MAX} messages in {} are not settled by all groups",
                shared.stream
            ))
            .into()),
        }
    }

    async fn request(
        &self,
        message: Message,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Message>> {
        check_message(&message)?;
        check_size(&message)?;
        self.shared.endings.wait().await;
        let until = Instant::now() + timeout;
        let Ok(Ok(_turn)) = timeout_at(until, self.requests.acquire()).await else {
            return Err(Error::NoReply(timeout));
        };
        let wanted = replies.clamp(1, REPLIES_MAX);
        let received = self.shared.request(&message, wanted, until).await?;
        match received.is_empty() {
            true => Err(Error::NoReply(timeout)),
            false => Ok(received),
        }
    }

    async fn reply(&self, to: &str, message: Message) -> Result<()> {
        if to.len() != 32 || !to.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::NoRequester);
        }
        check_size(&message)?;
        let channel = self.shared.replies(to);
        let said = packed(&message, "");
        let mut publish = cmd("PUBLISH");
        publish.arg(channel).arg(said.as_slice());
        match self.shared.redis.query(&publish).await? {
            0_u64 => Err(Error::NoRequester),
            _ => Ok(()),
        }
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<BoxStream<'static, Delivery>> {
        check_subscription(&subscription)?;
        self.shared.endings.wait().await;
        let in_flight = subscription.in_flight.max(1);
        let (sender, receiver) = mpsc::channel(in_flight.min(READ_MAX));
        let subscriber = Arc::new(Subscriber {
            group: format!("{} {}", subscription.pattern, subscription.group),
            shared: self.shared.clone(),
            permits: Permits::new(in_flight),
            terms: Arc::new(subscription),
            sender,
        });
        subscriber.make_group("$").await?;
        let requests = subscriber.listen().await?;
        let (handle, endings) = (self.shared.redis.handle(), &self.shared.endings);
        handle.spawn(subscriber.clone().read_for_ever(endings.task()));
        handle.spawn(subscriber.hear_for_ever(requests, endings.task()));
        Ok(deliveries(receiver, endings.clone(), 2))
    }

    fn is_durable(&self) -> bool {
        true
    }
}

impl Shared {
    fn replies(&self, nonce: &str) -> String {
        format!("hostel-replies:{}:{nonce}", self.scope)
    }

    fn requests(&self, topic: &str) -> String {
        format!("hostel-requests:{}:{topic}", self.scope)
    }

    async fn request(
        &self,
        message: &Message,
        wanted: usize,
        until: Instant,
    ) -> Result<Vec<Message>> {
        let nonce = nonce();
        let mut answers = self.redis.channels().await?;
        let subscribed = answers.subscribe(self.replies(&nonce));
        let subscribed = timeout(self.redis.timeout(), subscribed).await;
        let subscribed = subscribed.map_err(|_| Failure::TimedOut(self.redis.timeout()))?;
        subscribed.map_err(|error| self.redis.failure(&error))?;
        let mut publish = cmd("PUBLISH");
        let said = packed(message, &nonce);
        publish
            .arg(self.requests(&message.topic))
            .arg(said.as_slice());
        let mut received = Vec::new();
        if self.redis.query::<u64>(&publish).await? == 0 {
            return Ok(received);
        }
        let mut answers = answers.into_on_message();
        while received.len() < wanted {
            match timeout_at(until, answers.next()).await {
                Ok(Some(answer)) => {
                    received.extend(unpacked(answer.get_payload_bytes()).map(|(answer, _)| answer));
                }
                Ok(None) if received.is_empty() => {
                    let what = "the connection was lost".to_owned();
                    return Err(Failure::Unavailable(what).into());
                }
                Ok(None) | Err(_) => break,
            }
        }
        Ok(received)
    }
}

/// One subscription.
#[derive(Debug)]
struct Subscriber {
    shared: Arc<Shared>,
    terms: Arc<Subscription>,
    /// `PATTERN GROUP`
    group: String,
    permits: Permits,
    sender: mpsc::Sender<Delivery>,
}

impl Subscriber {
    fn later(&self) -> String {
        format!("{}:later:{}", self.shared.stream, self.group)
    }

    /// Makes the group if it is not there, so that it gets what comes after `from`.
    async fn make_group(&self, from: &str) -> Result<()> {
        let mut make = cmd("XGROUP");
        make.arg("CREATE").arg(&self.shared.stream).arg(&self.group);
        make.arg(from).arg("MKSTREAM");
        match self.shared.redis.query::<Value>(&make).await {
            Err(Failure::Broken(text)) if text.contains("BUSYGROUP") => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    async fn read_for_ever(self: Arc<Self>, _ending: Ending) {
        let mut wait = TRY_AGAIN.0;
        while !self.sender.is_closed() {
            let began = Instant::now();
            // Ends when the connection was lost, the group is gone, or nobody listens any more.
            let _why = self.read().await;
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
    async fn read(&self) -> Result<()> {
        // A group that was removed meanwhile gets all that is there.
        self.make_group("0").await?;
        let mut connection = self.shared.redis.alone().await?;
        let mut trimmed = Instant::now();
        loop {
            let mut permits = tokio::select! {
                biased;
                () = self.sender.closed() => return Ok(()),
                permits = self.permits.some(READ_MAX) => permits.ok_or_else(stopped)?,
            };
            let soon = self.claim(&mut permits).await?;
            if permits.num_permits() > 0 {
                self.read_new(&mut connection, &mut permits, soon).await?;
            }
            if trimmed.elapsed() > TRIM_EVERY {
                let _removed: u64 = self.trim().await?;
                trimmed = Instant::now();
            }
        }
    }

    async fn trim(&self) -> Result<u64> {
        let trim = TRIM.key(&self.shared.stream);
        Ok(self.shared.redis.script(&trim).await?)
    }

    /// What was refused and waited long enough, and what was not settled in time; how long until there is more of it.
    async fn claim(&self, permits: &mut OwnedSemaphorePermit) -> Result<Duration> {
        let mut call = CLAIM.key(&self.shared.stream);
        call.key(self.later()).arg(&self.group).arg(CONSUMER);
        call.arg(milliseconds(self.terms.ack_wait))
            .arg(permits.num_permits());
        let (soon, due): (u64, Vec<Value>) = self.shared.redis.script(&call).await?;
        for due in due {
            let broken =
                |error| Error::from(self.shared.redis.failure(&redis::RedisError::from(error)));
            let (id, count, fields): (String, u32, HashMap<String, Vec<u8>>) =
                from_redis_value(due).map_err(broken)?;
            let Some(permit) = permits.split(1) else {
                break;
            };
            let stored = self.stored(id, count, fields, permit);
            if count > self.terms.deliveries.max(1) {
                // If that fails it is claimed again.
                let _later = stored.give_up(count - 1).await;
                stored.forget();
            } else {
                self.hand_over(stored).await;
            }
        }
        Ok(Duration::from_millis(soon))
    }

    /// What nobody in the group has seen, waiting for it for a while.
    async fn read_new(
        &self,
        connection: &mut MultiplexedConnection,
        permits: &mut OwnedSemaphorePermit,
        soon: Duration,
    ) -> Result<()> {
        let shared = &self.shared;
        let block = soon.clamp(Duration::from_millis(1), BLOCK);
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.group).arg(CONSUMER);
        read.arg("COUNT").arg(permits.num_permits());
        read.arg("BLOCK").arg(milliseconds(block));
        read.arg("STREAMS").arg(&shared.stream).arg(">");
        let answer = read.query_async::<Option<StreamReadReply>>(connection);
        let answer = timeout(block + shared.redis.timeout(), answer).await;
        let answer = answer.map_err(|_| Failure::TimedOut(shared.redis.timeout()))?;
        let answer = answer.map_err(|error| shared.redis.failure(&error))?;
        let entries = answer.into_iter().flat_map(|answer| answer.keys);
        let mut passed = Vec::new();
        for entry in entries.flat_map(|key| key.ids) {
            let fields = entry.map.into_iter();
            let fields = fields.filter_map(|(name, value)| Some((name, bytes(value)?)));
            let fields: HashMap<_, _> = fields.collect();
            let topic = fields.get("topic").map_or(&[][..], Vec::as_slice);
            let topic = std::str::from_utf8(topic).unwrap_or_default();
            if !matches(&self.terms.pattern, topic) {
                passed.push(entry.id);
            } else if let Some(permit) = permits.split(1) {
                self.hand_over(self.stored(entry.id, 1, fields, permit))
                    .await;
            }
        }
        if !passed.is_empty() {
            let mut call = ACK.key(&shared.stream);
            call.key(self.later()).arg(&self.group).arg(passed);
            let _passed: u64 = shared.redis.script(&call).await?;
        }
        Ok(())
    }

    async fn hand_over(&self, stored: Stored) {
        let delivery = Delivery {
            message: stored.message.clone(),
            attempt: stored.attempt,
            settle: Box::new(stored),
        };
        // What nobody takes any more is refused where it is dropped.
        let _nobody = self.sender.send(delivery).await;
    }

    fn stored(
        &self,
        id: String,
        attempt: u32,
        mut fields: HashMap<String, Vec<u8>>,
        permit: OwnedSemaphorePermit,
    ) -> Stored {
        let text = |bytes: Option<Vec<u8>>| {
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        Stored {
            message: Message {
                topic: text(fields.remove("topic")),
                headers: from_line(&text(fields.remove("headers"))),
                body: fields.remove("body").unwrap_or_default().into(),
                reply_to: None,
            },
            shared: self.shared.clone(),
            terms: self.terms.clone(),
            group: self.group.clone(),
            later: self.later(),
            id,
            attempt,
            permit: Some(permit),
        }
    }

    /// A connection over which requests come. A channel's pattern takes more than a topic's: see [`Self::heard`].
    async fn listen(&self) -> Result<PubSub> {
        let redis = &self.shared.redis;
        let mut requests = redis.channels().await?;
        let channels = self.shared.requests(&self.terms.pattern.replace('>', "*"));
        let subscribed = timeout(redis.timeout(), requests.psubscribe(channels)).await;
        let subscribed = subscribed.map_err(|_| Failure::TimedOut(redis.timeout()))?;
        subscribed.map_err(|error| redis.failure(&error))?;
        Ok(requests)
    }

    async fn hear_for_ever(self: Arc<Self>, mut requests: PubSub, _ending: Ending) {
        loop {
            tokio::select! {
                () = self.hear(requests) => {}
                () = self.sender.closed() => return,
            }
            requests = loop {
                tokio::select! {
                    again = self.listen() => if let Ok(again) = again {
                        break again;
                    },
                    () = self.sender.closed() => return,
                }
                sleep(TRY_AGAIN.1).await;
            };
        }
    }

    /// Takes requests as long as the connection lasts.
    async fn hear(&self, requests: PubSub) {
        let (mut sink, mut requests) = requests.split();
        loop {
            match timeout(SILENCE, requests.next()).await {
                Ok(Some(request)) => {
                    if let Some((request, nonce)) = unpacked(request.get_payload_bytes()) {
                        self.heard(request, nonce).await;
                    }
                }
                Ok(None) => return,
                Err(_) => {
                    let pong = timeout(self.shared.redis.timeout(), sink.ping::<Value>()).await;
                    if !matches!(pong, Ok(Ok(_))) {
                        return;
                    }
                }
            }
        }
    }

    async fn heard(&self, mut request: Message, nonce: String) {
        if !matches(&self.terms.pattern, &request.topic) {
            return;
        }
        let Some(permit) = self.permits.one().await else {
            return;
        };
        let shared = &self.shared;
        let taken = format!("{}:taken:{nonce}:{}", shared.stream, self.group);
        let mut call = TAKE_REQUEST.key(taken);
        call.arg(shared.replies(&nonce)).arg(milliseconds(TAKEN));
        if !matches!(shared.redis.script(&call).await, Ok(true)) {
            return;
        }
        request.reply_to = Some(nonce);
        let delivery = Delivery {
            message: request,
            attempt: 1,
            settle: Box::new(Heard { _permit: permit }),
        };
        let _nobody = self.sender.send(delivery).await;
    }
}

/// A request: it is not delivered again.
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

/// An entry of the stream that the group has.
struct Stored {
    shared: Arc<Shared>,
    terms: Arc<Subscription>,
    group: String,
    later: String,
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

    async fn give_up(&self, attempts: u32) -> Result<()> {
        let mut call = GIVE_UP.key(&self.shared.stream);
        call.key(&self.later).arg(&self.group).arg(&self.id);
        if let Some(letter) = dead_letter(&self.terms, &self.message, attempts) {
            call.arg(letter.topic).arg(line(&letter.headers));
            call.arg(letter.body.as_ref());
        }
        let _given: u64 = self.shared.redis.script(&call).await?;
        Ok(())
    }

    async fn refuse(&self) -> Result<()> {
        let mut call = REFUSE.key(&self.shared.stream);
        call.key(&self.later).arg(&self.group).arg(&self.id);
        call.arg(self.attempt);
        call.arg(milliseconds(pause(&self.terms, self.attempt)));
        let _refused: u64 = self.shared.redis.script(&call).await?;
        Ok(())
    }
}

#[async_trait]
impl Settle for Stored {
    async fn ack(mut self: Box<Self>) -> Result<()> {
        let mut call = ACK.key(&self.shared.stream);
        call.key(&self.later).arg(&self.group).arg(&self.id);
        let settled = self.shared.redis.script::<u64>(&call).await;
        self.permit = None;
        settled?;
        Ok(())
    }

    async fn nack(mut self: Box<Self>) -> Result<()> {
        let settled = match self.attempt >= self.terms.deliveries.max(1) {
            true => self.give_up(self.attempt).await,
            false => self.refuse().await,
        };
        self.permit = None;
        settled
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        // Nobody settled it: the group is told, if the server is there, and else it is claimed when its time is over.
        let Some(permit) = self.permit.take() else {
            return;
        };
        let again = Self {
            shared: self.shared.clone(),
            terms: self.terms.clone(),
            group: std::mem::take(&mut self.group),
            later: std::mem::take(&mut self.later),
            id: std::mem::take(&mut self.id),
            attempt: self.attempt,
            message: Message::default(),
            permit: None,
        };
        let handle = self.shared.redis.handle().clone();
        handle.spawn(async move {
            let _unsure = again.refuse().await;
            drop(permit);
        });
    }
}

fn check_size(message: &Message) -> Result<()> {
    match message.body.len() < STRING_BYTES_MAX {
        true => Ok(()),
        false => Err(Error::TooLarge {
            bytes: message.body.len(),
            most: STRING_BYTES_MAX,
        }),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis())
        .unwrap_or(u64::MAX)
        .min(1 << 50)
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    Vec::<u8>::from_redis_value(value).ok()
}

/// A message as it goes through a channel: a line with the address of the answer, the topic and the headers, then the body.
fn packed(message: &Message, nonce: &str) -> Vec<u8> {
    let mut pairs = vec![(nonce.to_owned(), message.topic.clone())];
    pairs.extend(message.headers.iter().cloned());
    let mut packed = line(&pairs).into_bytes();
    packed.push(b'\n');
    packed.extend_from_slice(&message.body);
    packed
}

fn unpacked(packed: &[u8]) -> Option<(Message, String)> {
    let end = packed.iter().position(|byte| *byte == b'\n')?;
    let (line, body) = packed.split_at_checked(end)?;
    let mut pairs = from_line(std::str::from_utf8(line).ok()?).into_iter();
    let (nonce, topic) = pairs.next()?;
    let message = Message {
        topic,
        headers: pairs.collect(),
        body: Bytes::copy_from_slice(body.get(1..)?),
        reply_to: None,
    };
    Some((message, nonce))
}
