//! Messaging: the contract.
//!
//! Delivery is **at least once** to each group: a message that [`Messaging::publish`] took is handed to one subscriber of each
//! group whose pattern matches its topic, and again until somebody acknowledges it or it has been tried as often as the group
//! allows; then it goes to the group's dead-letter topic, if it has one. A duplicate is possible after a crash, a
//! disconnection and a negative acknowledgement, and never otherwise. Groups are remembered by name: messages wait for a
//! group while none of its subscribers is there, but not from before its first subscription. A group is known by its name
//! and its pattern together: the same name with another pattern is a group beside it.
//!
//! What a message survives depends on the driver: `memory` and NATS core nothing; the embedded driver, JetStream and Redis
//! streams keep a published message and each group's place in it on disk before `publish` returns. NATS core is **at most
//! once**, has no redelivery, and says so with [`Messaging::is_durable`].

mod broker;
pub(crate) mod brokers;
mod embedded;
mod group;
mod journal;
mod memory;
pub(crate) mod nats;
pub(crate) mod redis;
mod remote;
mod subscriber;

pub(crate) use journal::TABLES;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::Failure;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Where it is published: words of letters, digits, `-` and `_`, separated by dots. See [`is_topic`].
    pub topic: String,
    /// What it says.
    pub body: Bytes,
    /// Names and values, in order; a name may be there twice.
    pub headers: Vec<(String, String)>,
    /// Where an answer is expected; made by the driver of the requester, opaque to everybody else.
    pub reply_to: Option<String>,
}

/// The headers by which a dead letter tells where it comes from.
const DEAD_LETTER_HEADERS: [&str; 3] = ["hostel-topic", "hostel-group", "hostel-deliveries"];

impl Message {
    /// The same under a dead-letter topic. What an earlier dead letter said of itself is replaced: the headers do not grow.
    fn dead_letter(&self, topic: &str, group: &str, deliveries: u32) -> Self {
        let said = [self.topic.clone(), group.to_owned(), deliveries.to_string()];
        let mut headers = self.headers.clone();
        headers.retain(|(name, _)| !DEAD_LETTER_HEADERS.contains(&name.as_str()));
        headers.extend(DEAD_LETTER_HEADERS.into_iter().map(str::to_owned).zip(said));
        Self {
            topic: topic.to_owned(),
            body: self.body.clone(),
            headers,
            reply_to: None,
        }
    }
}

/// Which messages, for whom, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// A topic, or a pattern: `*` stands for one word, `>` at the end for one or more. See [`is_pattern`].
    pub pattern: String,
    /// Subscribers of one group share the messages.
    pub group: String,
    /// Messages that may be unsettled at once, over this subscription.
    pub in_flight: usize,
    /// How long a delivery may stay unsettled before it counts as failed.
    pub ack_wait: Duration,
    /// How often a message is delivered at the most.
    pub deliveries: u32,
    /// Pause before the second delivery; doubled for each further one, up to `back_off_max`.
    pub back_off: Duration,
    /// The longest pause.
    pub back_off_max: Duration,
    /// Where messages go that were delivered in vain, with the headers `hostel-topic`, `hostel-group` and
    /// `hostel-deliveries` added.
    pub dead_letter: Option<String>,
}

impl Subscription {
    /// How long a message rests after the delivery with this number.
    pub fn pause(&self, attempt: u32) -> Duration {
        let doubled = 2u32.saturating_pow(attempt.saturating_sub(1));
        let pause = self.back_off.saturating_mul(doubled);
        pause.min(self.back_off_max)
    }
}

/// A message for one subscriber. Dropping it unsettled is a negative acknowledgement without a hurry.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// 1 for the first time, as far as the driver knows.
    pub attempt: u32,
    /// How the subscriber says what became of it.
    pub settle: Box<dyn Settle>,
}

/// The other half of a delivery.
#[async_trait]
pub trait Settle: fmt::Debug + Send {
    /// It is done. `Ok` means that it is not delivered again.
    async fn ack(self: Box<Self>) -> Result<()>;

    /// It failed: deliver it again after the group's pause, or give it up where it was tried often enough.
    async fn nack(self: Box<Self>) -> Result<()>;

    /// It failed for good, after this many tries: give it up now, however often it might still be delivered.
    async fn reject(self: Box<Self>, tries: u32) -> Result<()>;

    /// Nobody worked on it: it comes again at once, and this delivery does not count, where the broker can take that back.
    async fn release(self: Box<Self>) -> Result<()>;

    /// It is still being worked on: the time in which it is to be settled begins again. Nothing, where it was over.
    async fn extend(&mut self) -> Result<()>;
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a topic, or not a pattern.
    #[error("{0}")]
    BadTopic(String),
    /// Nobody answered in time, or nobody listens.
    #[error("nobody answered within {} ms", .0.as_millis())]
    NoReply(Duration),
    /// The answer's address is not one of this driver's.
    #[error("nobody waits for this answer")]
    NoRequester,
    /// The backend cannot hold a message of this size.
    #[error("a message of {bytes} bytes is larger than the {most} that the backend takes")]
    TooLarge {
        /// Its size, headers included.
        bytes: usize,
        /// The largest.
        most: usize,
    },
    /// The backend is in trouble.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What operations return.
pub type Result<T> = std::result::Result<T, Error>;

/// One scope of a message broker. Methods may be awaited on any thread and runtime.
#[async_trait]
pub trait Messaging: fmt::Debug + Send + Sync {
    /// Reaches the backend as the operator told, and changes nothing: for `hostel check --config` and readiness.
    async fn check(&self) -> Result<()>;

    /// Hands a message over. `Ok` means that it is as safe as this driver makes it.
    async fn publish(&self, message: Message) -> Result<()>;

    /// Publishes a message and waits for up to `replies` answers. Fewer than that in time are returned if there is one at
    /// least. Requests are never stored: a group that has no subscriber at this moment does not get them later.
    async fn request(
        &self,
        message: Message,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Message>>;

    /// Answers: `to` is the [`Message::reply_to`] of a message that was received.
    async fn reply(&self, to: &str, message: Message) -> Result<()>;

    /// Messages from now on, or from where the group was. The stream reconnects by itself and ends when it is dropped; what
    /// it had not settled then is delivered again.
    async fn subscribe(&self, subscription: Subscription) -> Result<BoxStream<'static, Delivery>>;

    /// Whether messages and groups survive a restart of everything.
    fn is_durable(&self) -> bool;
}

/// What the drivers without a server may hold for one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one message, headers included; a larger one is [`Error::TooLarge`].
    pub message_bytes: usize,
    /// Messages that some group has not settled; one more is [`Failure::Full`].
    pub backlog: usize,
    /// Bytes of those messages.
    pub backlog_bytes: usize,
    /// How long a group without a subscriber is remembered once there is no room for more.
    pub forget: Duration,
    /// Topics and patterns that groups of one name subscribe to; one more is [`Failure::Full`].
    pub group_topics: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            message_bytes: 1 << 20,
            backlog: 100_000,
            backlog_bytes: 64 << 20,
            forget: Duration::from_secs(7 * 24 * 60 * 60),
            group_topics: 10_000,
        }
    }
}

impl Message {
    /// Its size: topic, body, and headers with 32 bytes for each.
    pub fn size(&self) -> usize {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.len() + value.len() + 32);
        self.topic.len() + self.body.len() + headers.sum::<usize>()
    }
}

/// The longest topic.
pub const TOPIC_BYTES_MAX: usize = 256;

/// Whether `text` is a topic: up to [`TOPIC_BYTES_MAX`] bytes, words separated by dots. No wildcards, no white space, nothing
/// that means something to any broker.
pub fn is_topic(text: &str) -> bool {
    !text.is_empty() && text.len() <= TOPIC_BYTES_MAX && text.split('.').all(is_word)
}

/// Whether `text` is a pattern: as a topic, but a word may be `*`, and the last one `>`.
pub fn is_pattern(text: &str) -> bool {
    let words = text.strip_suffix(".>").unwrap_or(text);
    let all = text == ">" || words.split('.').all(|word| word == "*" || is_word(word));
    all && text.len() <= TOPIC_BYTES_MAX
}

/// Whether a topic is one of those that the pattern stands for.
pub fn matches(pattern: &str, topic: &str) -> bool {
    let mut words = topic.split('.');
    for part in pattern.split('.') {
        match (part, words.next()) {
            (">", word) => return word.is_some(),
            ("*", Some(_)) => {}
            (part, word) if Some(part) == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

fn is_word(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !word.is_empty() && word.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_no_wildcards_and_patterns_may() {
        for topic in ["a", "orders.created", "a-b_c.9"] {
            assert!(is_topic(topic) && is_pattern(topic), "{topic}");
        }
        for pattern in ["*", ">", "orders.*", "orders.>", "*.created", "a.*.b"] {
            assert!(is_pattern(pattern) && !is_topic(pattern), "{pattern}");
        }
        let long = "a".repeat(TOPIC_BYTES_MAX + 1);
        for neither in [
            "", ".", "a.", ".a", "a..b", "a b", "a*", ">.a", "a.>.b", "\u{e9}", "a/b", "a\0",
            "$SYS.a", &long,
        ] {
            assert!(!is_topic(neither) && !is_pattern(neither), "{neither}");
        }
    }

    #[test]
    fn patterns_stand_for_words() {
        for (pattern, topic, matching) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("a.b", "a", false),
        ] {
            assert_eq!(matches(pattern, topic), matching, "{pattern} {topic}");
        }
    }
}
