//! Messages of guests: grant, budget, driver.
//!
//! A [`Client`] is a broker that the component was granted. Whatever is said through it is checked in this order: the topic
//! is one and no pattern, the grants allow it, the message fits, the call may still do it. Nothing here knows an interface.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use hostel_app::limits;
use hostel_stores::Failure;
use hostel_stores::messaging::{self, Message, Messaging, is_topic, matches};

use super::charge::Charge;
use super::denied::{Absent, Wanted};
use crate::state::Host;

/// A broker that the component was granted.
#[derive(Debug, Clone)]
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub struct Client {
    broker: Arc<dyn Messaging>,
}

/// A message that a guest holds.
#[derive(Debug, Clone, Default)]
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub struct Letter {
    /// Where it was published, for one that was received.
    pub(crate) topic: Option<String>,
    pub(crate) data: Bytes,
    pub(crate) content_type: Option<String>,
    pub(crate) metadata: Vec<(String, String)>,
    /// Where its answer goes, for one that was received and wants one.
    pub(crate) answer: Option<Answer>,
}

/// The way back to a requester.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    broker: Arc<dyn Messaging>,
    to: String,
}

/// How a guest asks.
#[derive(Debug, Clone, Copy)]
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub struct Asking {
    pub(crate) timeout: Duration,
    pub(crate) replies: u32,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            timeout: limits::REQUEST_TIMEOUT_MS.duration(),
            replies: 1,
        }
    }
}

/// Why an operation failed. The texts are for the guest's author and hold nothing of the backend's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Error {
    /// Nobody answered in time.
    Timeout,
    /// The broker is away.
    Connection(String),
    /// Not granted.
    Denied(String),
    /// Not a topic.
    BadTopic(String),
    /// Larger than a message may be.
    TooLarge(String),
    /// The call has had its share, or the broker is full.
    Spent(String),
    /// The rest.
    Other(String),
}

impl Error {
    /// In words, for interfaces that have nothing else.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Timeout => "nobody answered in time".to_owned(),
            Self::Connection(text)
            | Self::Denied(text)
            | Self::BadTopic(text)
            | Self::TooLarge(text)
            | Self::Spent(text)
            | Self::Other(text) => text,
        }
    }
}

/// Header of a message's content type.
const CONTENT_TYPE: &str = "content-type";
/// Header of the topic to which a message wants its answer, where that was its publisher's own idea.
const REPLY_TO: &str = "reply-to";
/// How the names begin of headers that only the host writes.
const RESERVED: &str = "hostel-";
/// The longest name of a header.
const NAME_BYTES_MAX: usize = 128;
/// What an entry of metadata costs besides its name and value.
const ENTRY_BYTES: usize = 96;

impl Letter {
    /// A message as a guest gets it.
    pub(crate) fn received(message: Message, broker: &Arc<dyn Messaging>) -> Self {
        let answer = message.reply_to.map(|to| Answer {
            broker: broker.clone(),
            to,
        });
        let mut letter = Self {
            topic: Some(message.topic),
            data: message.body,
            content_type: None,
            metadata: message.headers,
            answer,
        };
        let is_type = |(name, _): &(String, String)| name.eq_ignore_ascii_case(CONTENT_TYPE);
        if let Some(at) = letter.metadata.iter().position(is_type) {
            letter.content_type = Some(letter.metadata.remove(at).1);
        }
        letter
    }

    /// What the host keeps for it.
    pub(crate) fn kept_bytes(&self) -> usize {
        let metadata = self.metadata.iter();
        let metadata = metadata.map(|(name, value)| name.len() + value.len() + ENTRY_BYTES);
        self.data.len() + metadata.sum::<usize>()
    }

    /// As it travels.
    fn message(&self, topic: &str) -> Result<Message, Error> {
        let mut headers = self.metadata.clone();
        headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with(RESERVED));
        if let Some(kind) = &self.content_type {
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case(CONTENT_TYPE));
            headers.insert(0, (CONTENT_TYPE.to_owned(), kind.clone()));
        }
        headers.iter().try_for_each(check_header)?;
        let message = Message {
            topic: topic.to_owned(),
            body: self.data.clone(),
            headers,
            reply_to: None,
        };
        let (size, most) = (message.size(), limits::MESSAGE_BYTES_MAX.size());
        match size > most {
            true => Err(too_large(&format!("{size} bytes"))),
            false => Ok(message),
        }
    }
}

/// `size` says how large.
pub(crate) fn too_large(size: &str) -> Error {
    let most = limits::MESSAGE_BYTES_MAX.size();
    Error::TooLarge(format!(
        "a message of {size} is larger than {most}, the limit `message`"
    ))
}

/// Every broker has to be able to carry it.
fn check_header((name, value): &(String, String)) -> Result<(), Error> {
    let visible = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    if !fits || !name.bytes().all(visible) {
        return Err(Error::Other(format!(
            "{:?} cannot be a key of metadata: use up to {NAME_BYTES_MAX} visible ASCII characters without `:`",
            name.chars().take(NAME_BYTES_MAX).collect::<String>()
        )));
    }
    if value.chars().any(char::is_control) {
        return Err(Error::Other(format!(
            "the metadata of {name:?} has control characters in it"
        )));
    }
    Ok(())
}

impl Client {
    pub(super) fn broker(&self) -> &Arc<dyn Messaging> {
        &self.broker
    }
}

impl Host {
    /// The broker by this label.
    pub(crate) fn connect(&self, name: &str) -> Result<Client, Error> {
        let template = self.template();
        let name = if name.is_empty() { "default" } else { name };
        if let Some(broker) = template.granted.messaging.get(name) {
            let broker = broker.clone();
            return Ok(Client { broker });
        }
        Err(match template.no_store(Wanted::Messaging, name) {
            Absent::Denied => Error::Denied("this message broker is not granted".to_owned()),
            Absent::Unknown => Error::Other("there is no such message broker".to_owned()),
        })
    }

    /// Publishes a message.
    pub(crate) fn publish_message(
        &self,
        client: &Client,
        topic: &str,
        letter: &Letter,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let admitted = self.admit(Wanted::Publish, topic, letter);
        let (broker, charge) = (client.broker.clone(), self.charge().clone());
        async move {
            let published = broker.publish(admitted?).await;
            published.map_err(|error| failed(&charge, &error))
        }
    }

    /// Publishes a message and waits for answers.
    pub(crate) fn ask(
        &self,
        client: &Client,
        topic: &str,
        letter: &Letter,
        asking: Asking,
    ) -> impl Future<Output = Result<Vec<Letter>, Error>> + Send + use<> {
        let admitted = self.admit(Wanted::Request, topic, letter);
        let (broker, charge) = (client.broker.clone(), self.charge().clone());
        async move {
            let replies = asking.replies.clamp(1, limits::REPLIES_MAX.count());
            let replies = usize::try_from(replies).unwrap_or(1);
            let answers = broker.request(admitted?, replies, asking.timeout).await;
            let answers = answers.map_err(|error| failed(&charge, &error))?;
            let bytes = answers.iter().map(Message::size).sum();
            let charged = charge.bytes(bytes);
            charged.map_err(|refused| Error::Spent(refused.to_string()))?;
            let received = |answer| Letter::received(answer, &broker);
            Ok(answers.into_iter().map(received).collect())
        }
    }

    /// Answers a message.
    pub(crate) fn answer_message(
        &self,
        to: Option<Answer>,
        letter: &Letter,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let nobody = || Error::Other("nobody waits for an answer to this message".to_owned());
        let admitted = to.ok_or_else(nobody).and_then(|answer| {
            // The topic of an answer is nobody's.
            let message = letter.message("reply")?;
            self.charge_call(&message)?;
            Ok((answer, message))
        });
        let charge = self.charge().clone();
        async move {
            let (Answer { broker, to }, message) = admitted?;
            let answered = broker.reply(&to, message).await;
            answered.map_err(|error| failed(&charge, &error))
        }
    }

    /// What a message says of its answer, as wasmCloud's guests are told: a subject to publish to.
    pub(crate) fn reply_subject(&mut self, letter: &Letter) -> Option<String> {
        self.answer.clone_from(&letter.answer);
        let own = || {
            let mut metadata = letter.metadata.iter();
            let header = metadata.find(|(name, _)| name == REPLY_TO);
            header.map(|(_, topic)| topic.clone())
        };
        letter
            .answer
            .as_ref()
            .map(|answer| answer.to.clone())
            .or_else(own)
    }

    /// Publishes a message, or answers the one that this instance works on where the subject is what that named.
    pub(crate) fn publish_to_subject(
        &self,
        subject: &str,
        body: Bytes,
        reply_to: Option<String>,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let metadata = reply_to.map(|topic| (REPLY_TO.to_owned(), topic));
        let letter = Letter {
            data: body,
            metadata: metadata.into_iter().collect(),
            ..Letter::default()
        };
        let asked = self.answer.as_ref().filter(|answer| answer.to == subject);
        let outcome = match asked {
            Some(_) => Ok(Either::Left(self.answer_message(asked.cloned(), &letter))),
            None => self
                .connect("default")
                .map(|client| Either::Right(self.publish_message(&client, subject, &letter))),
        };
        async move { outcome?.await }
    }

    /// Publishes a message and waits for one answer: its subject, and what it says.
    pub(crate) fn ask_subject(
        &self,
        subject: &str,
        body: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send + use<> {
        let letter = Letter {
            data: body,
            ..Letter::default()
        };
        let asking = Asking {
            timeout,
            replies: 1,
        };
        let asked = self
            .connect("default")
            .map(|client| self.ask(&client, subject, &letter, asking));
        async move {
            let answer = asked?.await?.pop().ok_or(Error::Timeout)?;
            Ok(answer.data)
        }
    }

    fn admit(&self, wanted: Wanted, topic: &str, letter: &Letter) -> Result<Message, Error> {
        if !is_topic(topic) {
            let shown: String = topic.chars().take(64).collect();
            return Err(Error::BadTopic(format!(
                "{shown:?} is not a topic: write words of letters, digits, `-` and `_` with dots between them"
            )));
        }
        let granted = &self.template().granted.topics;
        let patterns = match wanted {
            Wanted::Request => &granted.request,
            _ => &granted.publish,
        };
        if !patterns.iter().any(|pattern| matches(pattern, topic)) {
            self.template().denied(wanted, topic);
            return Err(Error::Denied(format!("the topic {topic} is not granted")));
        }
        let message = letter.message(topic)?;
        self.charge_call(&message)?;
        Ok(message)
    }

    fn charge_call(&self, message: &Message) -> Result<(), Error> {
        self.charge_store_call(message.size())
    }

    /// One operation that moves so many bytes.
    pub(super) fn charge_store_call(&self, bytes: usize) -> Result<(), Error> {
        let charged = self.charge().call(bytes);
        charged.map_err(|refused| Error::Spent(refused.to_string()))
    }
}

pub(super) fn failed(charge: &Charge, error: &messaging::Error) -> Error {
    use messaging::Error as Of;
    match error {
        Of::NoReply(_) => Error::Timeout,
        Of::NoRequester => Error::Other(error.to_string()),
        Of::TooLarge { .. } => Error::TooLarge(error.to_string()),
        Of::BadTopic(_) => Error::BadTopic(error.to_string()),
        Of::Failed(failure) => {
            charge.failed(failure);
            plain(failure)
        }
    }
}

/// What a guest is told of a backend in trouble.
fn plain(failure: &Failure) -> Error {
    match failure {
        Failure::Unavailable(_) | Failure::Resting(_) => {
            Error::Connection("the message broker cannot be reached".to_owned())
        }
        Failure::TimedOut(_) => {
            Error::Connection("the message broker did not answer in time".to_owned())
        }
        Failure::Full(_) => Error::Spent("the message broker has no room for more".to_owned()),
        Failure::Refused(_) | Failure::Broken(_) => {
            Error::Other("the message broker answered with an error".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(metadata: &[(&str, &str)]) -> Letter {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Letter {
            data: Bytes::from_static(b"body"),
            content_type: Some("text/plain".to_owned()),
            metadata: metadata.iter().map(pair).collect(),
            ..Letter::default()
        }
    }

    #[test]
    fn the_content_type_travels_as_a_header_and_the_host_s_names_stay_here() {
        let metadata = [
            ("a", "1"),
            ("Hostel-Topic", "forged"),
            ("Content-Type", "forged"),
            ("a", "2"),
        ];
        let message = letter(&metadata).message("t").unwrap();
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [
            header("content-type", "text/plain"),
            header("a", "1"),
            header("a", "2"),
        ];
        assert_eq!(message.headers, expected);
    }

    #[test]
    fn metadata_that_a_broker_could_misread_is_refused() {
        for (name, value, what) in [
            ("", "x", "cannot be a key"),
            ("a:b", "x", "cannot be a key"),
            ("a b", "x", "cannot be a key"),
            ("\u{e9}", "x", "cannot be a key"),
            ("a", "x\r\nb: y", "control characters"),
            ("a", "\0", "control characters"),
        ] {
            let refused = letter(&[(name, value)]).message("t").unwrap_err();
            assert!(
                matches!(&refused, Error::Other(text) if text.contains(what)),
                "{refused:?}"
            );
        }
        assert!(letter(&[(&"a".repeat(129), "x")]).message("t").is_err());
        assert!(letter(&[("a", "\u{e9}")]).message("t").is_ok());
    }

    #[test]
    fn a_guest_is_told_of_trouble_in_plain_words() {
        let secret = "redis://u:hunter2@db".to_owned();
        for failure in [
            Failure::Unavailable(secret.clone()),
            Failure::Refused(secret.clone()),
            Failure::Broken(secret.clone()),
            Failure::Full(secret),
            Failure::TimedOut(Duration::ZERO),
            Failure::Resting(Duration::ZERO),
        ] {
            let told = format!("{:?}", plain(&failure));
            assert!(!told.contains("hunter2"), "{told}");
            let away = told.starts_with("Connection");
            let is_away = failure.is_outage() || matches!(failure, Failure::Resting(_));
            assert_eq!(away, is_away, "{told}");
        }
    }
}
