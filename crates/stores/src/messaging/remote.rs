//! What the drivers of brokers that run elsewhere have in common: what is refused before anything is sent, pauses, what
//! is delivered once, and how headers travel.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use url::form_urlencoded;

use super::{
    Delivery, Error, Message, Result, Settle, Subscription, is_pattern, is_topic, matches,
};

/// Messages of one app and label that some group has not settled; one more is refused.
pub(super) const MESSAGES_MAX: u32 = 1_000_000;
/// The answers that a requester takes at the most, whatever it asks for.
pub(super) const REPLIES_MAX: usize = 1024;
/// How long a subscription waits after a failure before it tries again: from, to.
pub(super) const TRY_AGAIN: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_millis(500));

/// The longest wait for subscriptions that end.
const TIDYING: Duration = Duration::from_millis(250);

/// Whether the message may be published. The topic becomes a part of names that mean something to the broker.
pub(super) fn check_message(message: &Message) -> Result<()> {
    match is_topic(&message.topic) {
        true => Ok(()),
        false => Err(bad_topic(&message.topic, "a topic")),
    }
}

pub(super) fn check_subscription(subscription: &Subscription) -> Result<()> {
    if !is_pattern(&subscription.pattern) {
        return Err(bad_topic(&subscription.pattern, "a pattern of topics"));
    }
    let Some(letter) = &subscription.dead_letter else {
        return Ok(());
    };
    if !is_topic(letter) {
        return Err(bad_topic(letter, "a topic"));
    }
    match matches(&subscription.pattern, letter) {
        false => Ok(()),
        true => Err(Error::BadTopic(format!(
            "the dead letters of {} would come back as its messages",
            subscription.pattern
        ))),
    }
}

fn bad_topic(text: &str, what: &str) -> Error {
    let shown: String = text.chars().take(64).collect();
    Error::BadTopic(format!("{shown:?} is not {what}"))
}

/// The message under the group's dead-letter topic, if it has one.
pub(super) fn dead_letter(
    subscription: &Subscription,
    message: &Message,
    deliveries: u32,
) -> Option<Message> {
    let topic = subscription.dead_letter.as_ref()?;
    Some(message.dead_letter(topic, &subscription.group, deliveries))
}

/// A delivery that the broker does not make again, whatever is said of it: a request, or one of NATS core.
#[derive(Debug)]
pub(super) struct Once {
    /// Its place among the unsettled ones.
    pub(super) _permit: OwnedSemaphorePermit,
}

#[async_trait]
impl Settle for Once {
    async fn ack(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn nack(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn reject(self: Box<Self>, _: u32) -> Result<()> {
        Ok(())
    }

    async fn release(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn extend(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Names and values as one line of text, in their order.
pub(super) fn line(headers: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(headers)
        .finish()
}

pub(super) fn from_line(line: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(line.as_bytes())
        .into_owned()
        .collect()
}

/// A name that stands for any text where only letters, digits, `-` and `_` are safe: other bytes are `=` and two digits.
/// Beyond 160 bytes its end is a hash.
pub(super) fn plain(text: &str) -> String {
    const LONG: usize = 160;
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            true => name.push(char::from(byte)),
            false => name.push_str(&format!("={byte:02X}")),
        }
    }
    if name.is_empty() {
        return "=".to_owned();
    }
    if name.len() > LONG {
        // FNV-1a: it only has to be the same in every process and version.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        name.truncate(LONG);
        name.push_str(&format!("={hash:016x}"));
    }
    name
}

/// Twenty letters that nobody guesses.
pub(super) fn nonce() -> String {
    let random = (
        getrandom::u64().unwrap_or_default(),
        getrandom::u64().unwrap_or_default(),
    );
    format!("{:016x}{:016x}", random.0, random.1)
}

/// One for each message of a subscription that may be unsettled, taken when it is handed over: while a server is asked for
/// messages, requests can have them.
#[derive(Debug)]
pub(super) struct Permits(Arc<Semaphore>);

impl Permits {
    pub(super) fn new(in_flight: usize) -> Self {
        let in_flight = in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(in_flight)))
    }

    /// How many more there may be, up to `most`; waits until it is one at least.
    pub(super) async fn free(&self, most: usize) -> usize {
        let waited = self.0.acquire().await;
        drop(waited);
        self.0.available_permits().clamp(1, most)
    }

    /// For one message; `None` if nobody takes it any more.
    pub(super) async fn one(
        &self,
        sender: &mpsc::Sender<Delivery>,
    ) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = sender.closed() => None,
            permit = self.0.clone().acquire_owned() => permit.ok(),
        }
    }
}

/// How many tasks still tidy up whose subscription is dropped. What is published by the same handle afterwards waits a
/// moment for them: they may be about to take it, for nobody.
#[derive(Debug)]
pub(super) struct Endings(watch::Sender<i64>);

impl Endings {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(0)))
    }

    /// A task of a subscription, and what it does as long as it lives.
    pub(super) fn task(self: &Arc<Self>) -> Ending {
        Ending(self.clone())
    }

    /// Waits for those that end.
    pub(super) async fn wait(&self) {
        let mut ending = self.0.subscribe();
        let _late = timeout(TIDYING, ending.wait_for(|ending| *ending <= 0)).await;
    }
}

/// Held by a task of a subscription.
#[derive(Debug)]
pub(super) struct Ending(Arc<Endings>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.0.send_modify(|ending| *ending -= 1);
    }
}

/// What a channel brings, as a stream. Dropping it closes the channel, and so ends its `tasks`.
pub(super) fn deliveries(
    receiver: mpsc::Receiver<Delivery>,
    endings: Arc<Endings>,
    tasks: i64,
) -> BoxStream<'static, Delivery> {
    let open = Open {
        receiver,
        endings,
        tasks,
    };
    futures::stream::unfold(open, async |mut open| {
        let delivery = open.receiver.recv().await?;
        Some((delivery, open))
    })
    .boxed()
}

struct Open {
    receiver: mpsc::Receiver<Delivery>,
    endings: Arc<Endings>,
    tasks: i64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let tasks = self.tasks;
        self.endings.0.send_modify(|ending| *ending += tasks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_their_order_and_every_character() {
        let headers = vec![
            ("b".to_owned(), "1\r\nNats-Rollup: all".to_owned()),
            ("a &=".to_owned(), "\u{e9}".to_owned()),
            ("b".to_owned(), String::new()),
        ];
        let line = line(&headers);
        assert!(line.bytes().all(|byte| byte.is_ascii_graphic()), "{line}");
        assert_eq!(from_line(&line), headers);
    }

    #[test]
    fn names_are_plain_and_different() {
        assert_eq!(plain("orders.*"), "orders=2E=2A");
        assert_eq!(plain(""), "=");
        assert_ne!(plain("a=2E"), plain("a."));
        let (long, other) = ("x".repeat(500), "x".repeat(501));
        assert!(plain(&long).len() < 200);
        assert_ne!(plain(&long), plain(&other));
    }
}
