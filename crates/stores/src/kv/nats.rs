//! Key-value on NATS: a bucket of JetStream's key-value store, shared by all scopes that are kept at one URL.
//!
//! A key is `APP.LABEL.KEY` in the bucket, so that a scope is a filter of subjects; [`encoded`] says how a key is written. A
//! value is the plain bytes: other clients can read and write them. The message's sequence number is the entry's version.
//! When a value ends is in the header [`ENDS`], to the millisecond, and reading heeds it; the server itself (2.11 and later)
//! removes the message up to a second later.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Config, ConsumerErrorKind, DirectGetErrorKind, DiscardPolicy, LastRawMessageErrorKind, Stream,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use super::{Cursor, Entry, Error, Kv, Page, Result, SetOptions, When};
use crate::server::nats::{Connected, Nats, Settings, message_bytes_max};
use crate::{Failure, Scope};

/// The bucket where the URL names none.
const BUCKET: &str = "hostel";
/// When the value ends, in milliseconds since 1970.
const ENDS: &str = "Hostel-Ends";
/// The same for the server, in whole seconds.
const SERVER_TTL: &str = "Nats-TTL";
/// What JetStream's key-value store calls a key that was removed.
const OPERATION: &str = "KV-Operation";
/// How long the server remembers that a key was removed, where it can forget.
const REMOVED_SECONDS: u64 = 60;
/// The longest key, as it is written: with the rest of a line it stays below the 4,096 bytes that a server reads.
const KEY_BYTES_MAX: usize = 3200;
/// Writes of one key that may get in between before an operation gives up.
const TRIES: usize = 256;
/// Requests of one batch at once.
const AT_ONCE: usize = 64;
/// Messages of one look into a scope, and looks of one page.
const LOOK: usize = 512;
const LOOKS: usize = 8;

/// One scope in a bucket.
#[derive(Debug)]
pub(crate) struct NatsKv {
    nats: Arc<Nats>,
    settings: Settings,
    /// `$KV.BUCKET.APP.LABEL.`
    prefix: String,
    /// The bucket, as it was when it was opened or made.
    bucket: Mutex<Option<Arc<Stream>>>,
    /// Increments of one process do not get in each other's way.
    turns: [Mutex<()>; 16],
    hasher: RandomState,
}

/// A message that is there.
struct Found {
    entry: Entry,
    /// When it ends, in milliseconds since 1970.
    ends: Option<u64>,
}

/// The last message of a key: its sequence number, and what it says unless it was removed or is over.
struct Last {
    sequence: u64,
    found: Option<Found>,
}

/// Why something did not happen in a bucket.
enum Trouble {
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

type Tried<T> = std::result::Result<T, Trouble>;

impl NatsKv {
    /// `None` if the path of the URL is no name of a bucket.
    pub(crate) fn new(nats: Arc<Nats>, mut settings: Settings, scope: &Scope) -> Option<Self> {
        if settings.path.is_empty() {
            BUCKET.clone_into(&mut settings.path);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let bucket = &settings.path;
        let fits = bucket.len() <= 64 && bucket.bytes().all(plain);
        let prefix = format!("$KV.{bucket}.{}.{}.", scope.app(), scope.label());
        fits.then(|| Self {
            prefix,
            nats,
            settings,
            bucket: Mutex::new(None),
            turns: Default::default(),
            hasher: RandomState::new(),
        })
    }

    fn subject(&self, key: &str) -> Result<String> {
        let key = encoded(key);
        match self.prefix.len() + key.len() <= KEY_BYTES_MAX {
            true => Ok(format!("{}{key}", self.prefix)),
            false => Err(Error::TooLarge {
                what: "a key",
                bytes: key.len(),
                most: KEY_BYTES_MAX.saturating_sub(self.prefix.len()),
            }),
        }
    }

    /// Does something in the bucket, which is made if it is not there, once more if it was removed meanwhile.
    async fn within<T, W>(&self, work: impl Fn(Bucket) -> W) -> Result<T>
    where
        W: Future<Output = Tried<T>>,
    {
        let work = &work;
        self.nats
            .run(|connected| async move {
                for _ in 0..2 {
                    let bucket = Bucket {
                        nats: self.nats.clone(),
                        stream: self.open(&connected).await?,
                        connected: connected.clone(),
                    };
                    match work(bucket).await {
                        Ok(done) => return Ok(done),
                        Err(Trouble::Error(error)) => return Err(error),
                        Err(Trouble::Gone) => *self.bucket.lock().await = None,
                    }
                }
                let what = format!("the bucket {} is gone", self.settings.path);
                Err(Failure::Unavailable(what).into())
            })
            .await
    }

    async fn open(&self, connected: &Connected) -> Result<Arc<Stream>> {
        let mut open = self.bucket.lock().await;
        if let Some(bucket) = open.as_ref() {
            return Ok(bucket.clone());
        }
        let bucket = Arc::new(self.nats.stream(connected, self.config()).await?);
        fit(&bucket)?;
        *open = Some(bucket.clone());
        Ok(bucket)
    }

    fn name(&self) -> String {
        format!("KV_{}", self.settings.path)
    }

    /// The stream below the bucket, as JetStream's clients make it.
    fn config(&self) -> Config {
        Config {
            name: self.name(),
            description: Some("Key-value stores of Hostel's apps".to_owned()),
            subjects: vec![format!("$KV.{}.>", self.settings.path)],
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            allow_message_ttl: true,
            num_replicas: self.settings.replicas,
            ..Config::default()
        }
    }

    /// Changes a key depending on what it is: `change` gives `None` where nothing is to be done.
    async fn change<T>(
        &self,
        key: &str,
        change: impl Fn(Option<&Found>) -> Result<(Option<Write>, T)> + Sync,
    ) -> Result<Option<T>>
    where
        T: Send,
    {
        let (subject, change) = (&self.subject(key)?, &change);
        self.within(|bucket| async move {
            for _ in 0..TRIES {
                let last = bucket.last(subject).await?;
                let found = last.as_ref().and_then(|last| last.found.as_ref());
                let (write, result) = change(found)?;
                let Some(mut write) = write else {
                    return Ok(None);
                };
                write.expected = Some(last.as_ref().map_or(0, |last| last.sequence));
                if bucket.write(subject, write).await? {
                    return Ok(Some(result));
                }
            }
            let what = "this key is written by too many at once".to_owned();
            Err(Failure::Unavailable(what).into())
        })
        .await
    }
}

#[async_trait]
impl Kv for NatsKv {
    async fn check(&self) -> Result<()> {
        self.nats
            .run(|connected| async move {
                match self.nats.known_stream(&connected, &self.name()).await? {
                    Some(bucket) => fit(&bucket),
                    None => {
                        let account = connected.jetstream.query_account().await;
                        let _account = account.map_err(|error| self.nats.unavailable(error))?;
                        Ok(())
                    }
                }
            })
            .await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let subject = &self.subject(key)?;
        self.within(|bucket| async move {
            let last = bucket.last(subject).await?;
            Ok(last.and_then(|last| last.found).map(|found| found.entry))
        })
        .await
    }

    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool> {
        let write = Write::of(value, options.ttl.map(end));
        let written = match options.when {
            When::Always => {
                let (subject, write) = (&self.subject(key)?, &write);
                return self
                    .within(|bucket| async move { bucket.write(subject, write.clone()).await })
                    .await;
            }
            When::Absent => {
                self.change(key, |found| {
                    Ok((found.is_none().then(|| write.clone()), ()))
                })
                .await?
            }
            When::Unchanged(before) => {
                self.change(key, |found| {
                    let same = found.is_some_and(|found| found.entry == before);
                    Ok((same.then(|| write.clone()), ()))
                })
                .await?
            }
        };
        Ok(written.is_some())
    }

    async fn delete(&self, key: &str, when: When) -> Result<bool> {
        let removed = self
            .change(key, |found| {
                let meant = match &when {
                    When::Always => found.is_some(),
                    When::Absent => false,
                    When::Unchanged(before) => found.is_some_and(|found| found.entry == *before),
                };
                Ok((meant.then(Write::removal), ()))
            })
            .await?;
        Ok(removed.is_some())
    }

    async fn list(&self, prefix: &str, from: Option<&Cursor>, limit: usize) -> Result<Page> {
        let from: u64 = match from {
            None => 0,
            Some(cursor) => cursor.0.parse().map_err(|_| Error::BadCursor)?,
        };
        let look = &Look {
            scope: &self.prefix,
            prefix,
            from,
            limit: limit.max(1),
        };
        self.within(|bucket| async move { bucket.list(look).await })
            .await
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        let turn = self.hasher.hash_one(key) as usize % self.turns.len();
        let turn = self.turns.get(turn).or(self.turns.first());
        let _turn = match turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let sum = self
            .change(key, |found| {
                let sum = added(found, delta)?;
                let ends = found.and_then(|found| found.ends);
                Ok((Some(Write::of(sum.to_string().into(), ends)), sum))
            })
            .await?;
        Ok(sum.unwrap_or(delta))
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        let reads: Vec<_> = keys.iter().map(|key| self.get(key)).collect();
        stream::iter(reads).buffered(AT_ONCE).try_collect().await
    }

    async fn set_many(&self, entries: Vec<(String, Bytes)>) -> Result<()> {
        for (key, _) in &entries {
            self.subject(key)?;
        }
        // The last one of a key is meant.
        let entries: std::collections::HashMap<_, _> = entries.into_iter().collect();
        let writes = entries
            .iter()
            .map(|(key, value)| self.set(key, value.clone(), SetOptions::default()));
        let writes: Vec<_> = writes.collect();
        let mut writes = stream::iter(writes).buffer_unordered(AT_ONCE);
        while writes.try_next().await?.is_some() {}
        Ok(())
    }

    async fn delete_many(&self, keys: &[String]) -> Result<()> {
        let removals = keys.iter().map(|key| self.delete(key, When::Always));
        let removals: Vec<_> = removals.collect();
        let mut removals = stream::iter(removals).buffer_unordered(AT_ONCE);
        while removals.try_next().await?.is_some() {}
        Ok(())
    }
}

/// A message to be written.
#[derive(Clone)]
struct Write {
    value: Bytes,
    ends: Option<u64>,
    removes: bool,
    /// The sequence number of the key's last message, 0 for none.
    expected: Option<u64>,
}

impl Write {
    const fn of(value: Bytes, ends: Option<u64>) -> Self {
        Self {
            value,
            ends,
            removes: false,
            expected: None,
        }
    }

    const fn removal() -> Self {
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
struct Bucket {
    nats: Arc<Nats>,
    connected: Connected,
    stream: Arc<Stream>,
}

/// What is looked for in a listing.
struct Look<'a> {
    scope: &'a str,
    prefix: &'a str,
    from: u64,
    limit: usize,
}

impl Bucket {
    /// The last message of a subject. Only the leader has it for certain: a copy may be behind.
    async fn last(&self, subject: &str) -> Tried<Option<Last>> {
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
    async fn write(&self, subject: &str, write: Write) -> Tried<bool> {
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
    async fn list(&self, look: &Look<'_>) -> Tried<Page> {
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
fn fit(bucket: &Stream) -> Result<()> {
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

fn added(found: Option<&Found>, delta: i64) -> Result<i64> {
    let before = match found {
        None => 0,
        Some(found) => std::str::from_utf8(&found.entry.value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or(Error::NotANumber(
                "the value is no decimal number of 64 bits",
            ))?,
    };
    before.checked_add(delta).ok_or(Error::NotANumber(
        "the sum is beyond the numbers of 64 bits",
    ))
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

fn end(ttl: Duration) -> u64 {
    let ms = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    now().saturating_add(ms)
}

/// A key as it is written in a bucket. Letters, digits, `-`, `_` and `/` stand for themselves, and so does a dot between two
/// other characters; every other byte of the key is `=` and two digits, and an empty key is `=`. So no key has an empty word,
/// a wildcard or white space, and no two keys are written alike.
fn encoded(key: &str) -> String {
    if key.is_empty() {
        return "=".to_owned();
    }
    let bytes = key.as_bytes();
    let mut text = String::with_capacity(key.len());
    let mut dotted = true;
    for (at, byte) in bytes.iter().enumerate() {
        let dot = *byte == b'.' && !dotted && at + 1 < bytes.len();
        if dot || byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/') {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("={byte:02X}"));
        }
        dotted = dot;
    }
    text
}

/// The key that is written so; `None` for what [`encoded`] never writes: it is another client's.
fn decoded(text: &str) -> Option<String> {
    if text == "=" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = match (first, more) {
            (b'=', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                after
            }
            (plain, after) => {
                bytes.push(*plain);
                after
            }
        };
    }
    let key = String::from_utf8(bytes).ok()?;
    (encoded(&key) == text).then_some(key)
}

/// The whole words with which every key begins that has this prefix, each with its dot: they narrow the search.
fn words(prefix: &str) -> String {
    let prefix = encoded(prefix);
    let words = prefix.rsplit_once('.');
    words.map_or_else(String::new, |(words, _)| format!("{words}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_in_one_way_and_without_what_a_server_would_heed() {
        for (key, written) in [
            ("user.42", "user.42"),
            ("a/b-c_D", "a/b-c_D"),
            ("", "="),
            (".", "=2E"),
            ("..", "=2E=2E"),
            ("a..b", "a.=2Eb"),
            (".a.", "=2Ea=2E"),
            ("*", "=2A"),
            ("a.>", "a.=3E"),
            ("a b\r\n", "a=20b=0D=0A"),
            ("=", "=3D"),
            ("\u{e9}", "=C3=A9"),
            ("\0", "=00"),
        ] {
            assert_eq!(encoded(key), written);
            assert_eq!(decoded(written).as_deref(), Some(key));
        }
        for other in [
            "=2", "=2e", "=41", "a..b", ".a", "a.", "=FF", "a b", "=+1", "a=",
        ] {
            assert_eq!(decoded(other), None, "{other}");
        }
    }

    #[test]
    fn a_prefix_narrows_the_search_to_its_whole_words() {
        for (prefix, narrowed) in [
            ("", ""),
            ("user", ""),
            ("user.", ""),
            ("user.4", "user."),
            ("a.b.c", "a.b."),
            ("a..b", "a."),
            ("*.x", "=2A."),
        ] {
            assert_eq!(words(prefix), narrowed, "{prefix}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_key_comes_back_and_its_prefixes_find_it(key in ".{0,24}", at in 0_usize..24) {
            let written = encoded(&key);
            proptest::prop_assert_eq!(decoded(&written), Some(key.clone()));
            proptest::prop_assert!(written.split('.').all(|word| !word.is_empty()));
            let prefix: String = key.chars().take(at).collect();
            proptest::prop_assert!(written.starts_with(&words(&prefix)));
        }
    }
}
