//! Key-value on NATS: a bucket of JetStream's key-value store, shared by all scopes that are kept at one URL.
//!
//! A key is `APP.LABEL.KEY` in the bucket, so that a scope is a filter of subjects; `keys` says how a key is written. A
//! value is the plain bytes: other clients can read and write them. The message's sequence number is the entry's version.
//! When a value ends is in the header `Hostel-Ends`, to the millisecond, and reading heeds it; the server itself (2.11 and later)
//! removes the message up to a second later.

mod bucket;
mod keys;

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use async_nats::jetstream::stream::{Config, DiscardPolicy, Stream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use self::bucket::{Bucket, Found, Look, Tried, Trouble, Write, end, fit};
use self::keys::encoded;
use super::{Cursor, Entry, Error, Kv, Page, Result, SetOptions, When};
use crate::server::nats::{Connected, Nats, Settings};
use crate::{Failure, Scope};

/// The bucket where the URL names none.
const BUCKET: &str = "hostel";
/// The longest key, as it is written: with the rest of a line it stays below the 4,096 bytes that a server reads.
const KEY_BYTES_MAX: usize = 3200;
/// Writes of one key that may get in between before an operation gives up.
const TRIES: usize = 256;
/// Requests of one batch at once.
const AT_ONCE: usize = 64;

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
