//! What happens in a bucket: a key's last message is read or written, and a scope's keys are listed.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    ConsumerErrorKind, DirectGetErrorKind, LastRawMessageErrorKind, Stream,
};
use bytes::Bytes;
use futures::StreamExt;

use super::keys::{decoded, words};
use crate::Failure;
use crate::kv::{Cursor, Entry, Error, Page, Result};
use crate::server::nats::{Connected, Nats, message_bytes_max};

/// When the value ends, in milliseconds since 1970.
const ENDS: &str = "Hostel-Ends";
/// The same for the server, in whole seconds.
const SERVER_TTL: &str = "Nats-TTL";
/// What JetStream's key-value store calls a key that was removed.
const OPERATION: &str = "KV-Operation";
/// How long the server remembers that a key was removed, where it can forget.
const REMOVED_SECONDS: u64 = 60;
/// Messages of one look into a scope, and looks of one page.
const LOOK: usize = 512;
const LOOKS: usize = 8;

/// A message that is there.
pub(super) struct Found {
    pub(super) entry: Entry,
    /// When it ends, in milliseconds since 1970.
    pub(super) ends: Option<u64>,
}

/// The last message of a key: its sequence number, and what it says unless it was removed or is over.
pub(super) struct Last {
    pub(super) sequence: u64,
    pub(super) found: Option<Found>,
}

/// Why something did not happen in a bucket.
pub(super) enum Trouble {
    /// There is no such bucket (any more).
    Gone,
    Error(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Error(failure.into())
    }
}

pub(super) type Tried<T> = std::result::Result<T, Trouble>;

/// A message to be written.
#[derive(Clone)]
pub(super) struct Write {
    value: Bytes,
    pub(super) ends: Option<u64>,
    removes: bool,
    /// The sequence number of the key's last message, 0 for none.
    pub(super) expected: Option<u64>,
}

impl Write {
    pub(super) const fn of(value: Bytes, ends: Option<u64>) -> Self {
        Self {
            value,
            ends,
            removes: false,
            expected: None,
        }
    }

    pub(super) const fn removal() -> Self {
        Self {
            value: Bytes::new(),
            ends: None,
            removes: true,
            expected: None,
        }
    }

    fn headers(&self, server_forgets: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut lives = None;
        if self.removes {
            headers.insert(OPERATION, "DEL");
            lives = Some(REMOVED_SECONDS);
        }
        if let Some(ends) = self.ends {
            headers.insert(ENDS, ends.to_string());
            lives = Some(ends.saturating_sub(now()).div_ceil(1000).max(1));
        }
        if let Some(seconds) = lives.filter(|_| server_forgets) {
            headers.insert(SERVER_TTL, seconds.to_string());
        }
        if let Some(expected) = self.expected {
            headers.insert(
                async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
                expected.to_string(),
            );
        }
        headers
    }
}

/// The bucket of one operation.
pub(super) struct Bucket {
    pub(super) nats: Arc<Nats>,
    pub(super) connected: Connected,
    pub(super) stream: Arc<Stream>,
}

/// What is looked for in a listing.
pub(super) struct Look<'a> {
    pub(super) scope: &'a str,
    pub(super) prefix: &'a str,
    pub(super) from: u64,
    pub(super) limit: usize,
}

impl Bucket {
    /// The last message of a subject. Only the leader has it for certain: a copy may be behind.
    pub(super) async fn last(&self, subject: &str) -> Tried<Option<Last>> {
        let config = &self.stream.cached_info().config;
        let read = if config.allow_direct && config.num_replicas <= 1 {
            let read = self.stream.direct_get_last_for_subject(subject).await;
            read.map_err(|error| match error.kind() {
                DirectGetErrorKind::NotFound => None,
                DirectGetErrorKind::TimedOut => Some(Failure::TimedOut(self.nats.timeout()).into()),
                // Nobody answers for a stream that is not there.
                _ => Some(Trouble::Gone),
            })
        } else {
            let read = self.stream.get_last_raw_message_by_subject(subject).await;
            read.map_err(|error| match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => None,
                LastRawMessageErrorKind::JetStream(error) => {
                    Some(self.nats.jetstream(error.error_code(), error).into())
                }
                _ => Some(Trouble::Gone),
            })
        };
        let message = match read {
            Ok(message) => message,
            Err(None) => return Ok(None),
            Err(Some(trouble)) => return Err(trouble),
        };
        let entry = Entry {
            value: message.payload,
            version: message.sequence,
        };
        let ends = ends(&message.headers);
        Ok(Some(Last {
            sequence: message.sequence,
            found: is_there(&message.headers, ends).then_some(Found { entry, ends }),
        }))
    }

    /// Whether it was written: it is not if the key's last message is not the expected one.
    pub(super) async fn write(&self, subject: &str, write: Write) -> Tried<bool> {
        let config = &self.stream.cached_info().config;
        let headers = write.headers(config.allow_message_ttl);
        self.fits(&headers, write.value.len())?;
        let mut message = PublishMessage::build().payload(write.value);
        if !headers.is_empty() {
            message = message.headers(headers);
        }
        let sent = self
            .connected
            .jetstream
            .send_publish(subject.to_owned(), message);
        let acknowledged = match sent.await {
            Ok(sent) => sent.await,
            Err(error) => Err(error),
        };
        match acknowledged {
            Ok(_) => Ok(true),
            Err(error) => match error.kind() {
                PublishErrorKind::WrongLastSequence => Ok(false),
                PublishErrorKind::StreamNotFound => Err(Trouble::Gone),
                _ => Err(self.nats.publication(&error).into()),
            },
        }
    }

    fn fits(&self, headers: &HeaderMap, bytes: usize) -> Result<()> {
        let headers = headers.iter();
        let headers = headers.flat_map(|(name, values)| values.iter().map(move |v| (name, v)));
        let headers = headers.map(|(name, value)| {
            let name: &str = name.as_ref();
            name.len() + value.as_str().len() + 4
        });
        // The frame of the headers: a first line of 10 bytes and an empty one.
        let around = headers.sum::<usize>() + 12;
        let server = message_bytes_max(&self.connected);
        let stream = usize::try_from(self.stream.cached_info().config.max_message_size);
        let stream = stream.ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        let most = server.min(stream).saturating_sub(around);
        match bytes <= most {
            true => Ok(()),
            false => Err(Error::TooLarge {
                what: "a value",
                bytes,
                most,
            }),
        }
    }

    /// Keys in the order of their last writes: one that is written meanwhile comes again later.
    pub(super) async fn list(&self, look: &Look<'_>) -> Tried<Page> {
        let consumer = self.consumer(look).await?;
        let mut page = Page::default();
        let mut at = look.from;
        let mut pending = consumer.cached_info().num_pending;
        let mut looks = 0;
        while pending > 0 && page.keys.len() < look.limit && looks < LOOKS {
            let messages = consumer.fetch().max_messages(LOOK).messages().await;
            let mut messages = messages.map_err(|error| self.nats.unavailable(error))?;
            while let Some(message) = messages.next().await {
                let message = message.map_err(|error| self.nats.unavailable(error))?;
                let info = message.info().map_err(|error| self.nats.broken(error))?;
                (at, pending) = (info.stream_sequence, info.pending);
                let key = message.subject.strip_prefix(look.scope).and_then(decoded);
                let there = match &message.headers {
                    Some(headers) => is_there(headers, ends(headers)),
                    None => true,
                };
                page.keys
                    .extend(key.filter(|key| there && key.starts_with(look.prefix)));
                if page.keys.len() == look.limit {
                    break;
                }
            }
            looks += 1;
        }
        page.next = (pending > 0).then(|| Cursor(at.to_string()));
        // The server removes it by itself, only later.
        let name = consumer.cached_info().name.clone();
        let _removed = self.stream.delete_consumer(&name).await;
        Ok(page)
    }

    async fn consumer(&self, look: &Look<'_>) -> Tried<PullConsumer> {
        let deliver_policy = match look.from {
            0 => DeliverPolicy::All,
            from => DeliverPolicy::ByStartSequence {
                start_sequence: from.saturating_add(1),
            },
        };
        let consumer = self.stream.create_consumer(pull::Config {
            deliver_policy,
            ack_policy: AckPolicy::None,
            filter_subject: format!("{}{}>", look.scope, words(look.prefix)),
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: self.nats.timeout() * 2,
            ..pull::Config::default()
        });
        consumer.await.map_err(|error| match error.kind() {
            ConsumerErrorKind::JetStream(error)
                if error.error_code() == async_nats::jetstream::ErrorCode::STREAM_NOT_FOUND =>
            {
                Trouble::Gone
            }
            ConsumerErrorKind::JetStream(error) => {
                self.nats.jetstream(error.error_code(), error).into()
            }
            _ => self.nats.unavailable(error).into(),
        })
    }
}

/// A bucket that somebody else made may not do.
pub(super) fn fit(bucket: &Stream) -> Result<()> {
    let config = &bucket.cached_info().config;
    match config.max_messages_per_subject {
        1 => Ok(()),
        kept => {
            let what = format!(
                "the stream {} keeps {kept} revisions of a key; Hostel needs a bucket with a history of 1",
                config.name
            );
            Err(Failure::Refused(what).into())
        }
    }
}

fn ends(headers: &HeaderMap) -> Option<u64> {
    headers.get(ENDS)?.as_str().parse().ok()
}

/// Whether a message is a value, and not over.
fn is_there(headers: &HeaderMap, ends: Option<u64>) -> bool {
    let removed = headers
        .get(OPERATION)
        .is_some_and(|said| said.as_str() != "PUT")
        || headers.get("Nats-Marker-Reason").is_some();
    !removed && ends.is_none_or(|ends| now() < ends)
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn end(ttl: Duration) -> u64 {
    let ms = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    now().saturating_add(ms)
}
