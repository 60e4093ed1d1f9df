//! Messaging on Redis streams.
//!
//! Each scope is one stream, `hostel-messages:APP:LABEL`, whose entries have the fields `topic`, `headers` and `body`; each
//! group is a consumer group of it, named `PATTERN GROUP`, that passes over what its pattern does not stand for. All its
//! subscribers are one consumer: who has a message is known to the one that has it, and to the others only that it is not
//! settled. What was refused waits in the sorted set `hostel-messages:APP:LABEL:later:PATTERN GROUP` for its time. What all
//! groups have settled is trimmed away. Every change of more than one of these is a script (`scripts`).
//!
//! Requests are not stored: they go through the channels `hostel-requests:APP:LABEL:TOPIC`, where each group's subscribers
//! agree on who takes one, and answers through `hostel-replies:APP:LABEL:NONCE`.

mod scripts;
mod subscriber;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use redis::cmd;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use self::scripts::PUBLISH;
use self::subscriber::{READ_MAX, Subscriber};
use super::remote::{
    Endings, MESSAGES_MAX, Permits, REPLIES_MAX, check_message, check_subscription, deliveries,
    from_line, line, nonce,
};
use super::{Delivery, Error, Message, Messaging, Result, Subscription};
use crate::server::redis::{Redis, STRING_BYTES_MAX};
use crate::{Failure, Scope};

/// Requests of one handle at once: each has a connection of its own.
const REQUESTS: usize = 64;

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

fn check_size(message: &Message) -> Result<()> {
    match message.body.len() < STRING_BYTES_MAX {
        true => Ok(()),
        false => Err(Error::TooLarge {
            bytes: message.body.len(),
            most: STRING_BYTES_MAX,
        }),
    }
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
