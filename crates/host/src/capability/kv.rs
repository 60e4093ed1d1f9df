//! Key-value stores of guests: grant, budget, driver.
//!
//! A [`Bucket`] is an open store. Each of its operations checks sizes, charges the call ([`Charge`]), asks the driver, and
//! charges what was found. Nothing here knows an interface: three of them open the same buckets.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hostel_app::limits;
use hostel_stores::Failure;
use hostel_stores::kv::{self, Cursor, Entry, Kv, Page, SetOptions, When};
use wasmtime::component::Resource;

use super::charge::{Charge, Refused};
use super::denied::{Absent, Wanted, plain};
use crate::state::{Host, Template};

/// Why an operation failed. The text is for the guest's author and holds nothing of the backend's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Error {
    /// The label is not granted, or cannot be.
    Absent(Absent),
    /// The guest holds as many host objects as it may.
    Crowded,
    /// A key, value or batch beyond its limit.
    TooLarge {
        what: &'static str,
        size: usize,
        most: usize,
        /// The limit's name; none where it is the backend's own.
        limit: Option<&'static str>,
    },
    /// The call has used up a limit.
    Refused(Refused),
    /// The value is no number, or the sum would be none.
    NotANumber,
    /// The cursor belongs to no listing.
    BadCursor,
    /// The backend is in trouble.
    Failed(Failure),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(Absent::Denied) => f.write_str("the store is not granted"),
            Self::Absent(Absent::Unknown) => f.write_str("there is no such store"),
            Self::Crowded => {
                f.write_str("the guest holds as many host objects as its limit `resources` allows")
            }
            Self::TooLarge {
                what,
                size,
                most,
                limit,
            } => {
                write!(f, "{what} of {size} is larger than {most}, ")?;
                match limit {
                    Some(limit) => write!(f, "the limit `{limit}`"),
                    None => f.write_str("which is what the store takes"),
                }
            }
            Self::Refused(refused) => refused.fmt(f),
            Self::NotANumber => f.write_str(
                "the value is not a number of 64 bits in decimal digits, or the sum would not be",
            ),
            Self::BadCursor => f.write_str("the cursor belongs to no listing of this bucket"),
            Self::Failed(failure) => f.write_str(plain(failure)),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// What operations return.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// The longest time to live; a longer one is this.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// An open store.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings export it again")]
pub struct Bucket {
    kv: Arc<dyn Kv>,
    label: String,
    template: Arc<Template>,
    charge: Charge,
    cursors: Cursors,
}

/// A value as it was read, to be replaced if it is still that.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings export it again")]
pub struct Swap {
    bucket: Bucket,
    key: String,
    /// What was read.
    seen: Option<Entry>,
}

impl Host {
    /// Opens a store by its label and keeps it for the guest.
    pub(crate) fn open_bucket(&mut self, label: &str) -> Result<Resource<Bucket>> {
        let bucket = self.find_bucket(label)?;
        self.table().push(bucket).map_err(|_| Error::Crowded)
    }

    pub(crate) fn find_bucket(&self, label: &str) -> Result<Bucket> {
        let template = self.template();
        self.charge().call(label.len())?;
        let Some(kv) = template.granted.kv.get(label) else {
            let absent = template.no_store(Wanted::KeyValue, label);
            return Err(Error::Absent(absent));
        };
        Ok(Bucket {
            kv: kv.clone(),
            label: label.to_owned(),
            template: template.clone(),
            charge: self.charge().clone(),
            cursors: Cursors::default(),
        })
    }
}

impl Bucket {
    /// The value of a key.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.begin(key, 0)?;
        let found = self.said(self.kv.get(key).await)?;
        if let Some(entry) = &found {
            self.charge.bytes(entry.value.len())?;
        }
        Ok(found)
    }

    /// Writes a value; whether it was written.
    pub(crate) async fn set(&self, key: &str, value: Vec<u8>, options: SetOptions) -> Result<bool> {
        self.fits(value.len())?;
        self.begin(key, value.len() + size_of_condition(&options.when))?;
        let ttl = options
            .ttl
            .map(|ttl| ttl.clamp(Duration::from_millis(1), TTL_MAX));
        let options = SetOptions { ttl, ..options };
        self.said(self.kv.set(key, value.into(), options).await)
    }

    /// Removes a key; whether it was there and is gone.
    pub(crate) async fn delete(&self, key: &str, when: When) -> Result<bool> {
        self.begin(key, size_of_condition(&when))?;
        self.said(self.kv.delete(key, when).await)
    }

    /// Whether there is a value.
    pub(crate) async fn exists(&self, key: &str) -> Result<bool> {
        self.begin(key, 0)?;
        self.said(self.kv.exists(key).await)
    }

    /// Adds to a number; the sum.
    pub(crate) async fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        self.begin(key, 0)?;
        self.said(self.kv.increment(key, delta).await)
    }

    /// Some of the keys with this prefix, about `limit` of them.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        from: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page> {
        self.begin(prefix, from.map_or(0, |cursor| cursor.0.len()))?;
        let limit = limit.clamp(1, limits::STORE_PAGE.size());
        let page = self.said(self.kv.list(prefix, from, limit).await)?;
        self.charge.bytes(page.keys.iter().map(String::len).sum())?;
        Ok(page)
    }

    /// The page that a number stands for, with the number of the next one; for an interface whose cursors are numbers.
    pub(crate) async fn list_numbered(
        &mut self,
        from: Option<u64>,
    ) -> Result<(Vec<String>, Option<u64>)> {
        let from = match from {
            Some(number) => Some(self.cursors.get(number).ok_or(Error::BadCursor)?),
            None => None,
        };
        let page = self.list("", from, usize::MAX).await?;
        Ok((page.keys, page.next.map(|next| self.cursors.keep(next))))
    }

    /// Several values, in the order of the keys. They are fetched in pieces, so that what one call makes the host hold is
    /// bounded as what it can hand in.
    pub(crate) async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        self.begin_many(keys.len(), keys.iter().map(String::len))?;
        let limits = &self.template.limits;
        let piece = (4 * limits.host_call_bytes / limits.store_value_bytes.max(1)).max(1);
        let mut found = Vec::with_capacity(keys.len());
        let mut total = 0_usize;
        for keys in keys.chunks(piece) {
            let entries = self.said(self.kv.get_many(keys).await)?;
            let values = entries.iter().flatten();
            let bytes = values.map(|entry| entry.value.len()).sum();
            self.charge.bytes(bytes)?;
            total = total.saturating_add(bytes);
            at_most("the answer", total, limits.host_call_bytes, "host_call")?;
            found.extend(entries);
        }
        Ok(found)
    }

    /// Writes several values.
    pub(crate) async fn set_many(&self, entries: Vec<(String, Vec<u8>)>) -> Result<()> {
        for (_, value) in &entries {
            self.fits(value.len())?;
        }
        self.begin_many(entries.len(), entries.iter().map(|(key, _)| key.len()))?;
        self.charge
            .bytes(entries.iter().map(|(_, value)| value.len()).sum())?;
        let entries = entries.into_iter().map(|(key, value)| (key, value.into()));
        self.said(self.kv.set_many(entries.collect()).await)
    }

    /// Removes several keys.
    pub(crate) async fn delete_many(&self, keys: &[String]) -> Result<()> {
        self.begin_many(keys.len(), keys.iter().map(String::len))?;
        self.said(self.kv.delete_many(keys).await)
    }

    /// Reads a key in order to replace its value.
    pub(crate) async fn swap(&self, key: String) -> Result<Swap> {
        let seen = self.get(&key).await?;
        Ok(Swap {
            bucket: self.same(),
            key,
            seen,
        })
    }

    /// The same store, open a second time.
    fn same(&self) -> Self {
        Self {
            kv: self.kv.clone(),
            label: self.label.clone(),
            template: self.template.clone(),
            charge: self.charge.clone(),
            cursors: Cursors::default(),
        }
    }

    /// Checks a key and charges an operation with it.
    fn begin(&self, key: &str, bytes: usize) -> Result<()> {
        self.key_fits(key.len())?;
        Ok(self.charge.call(key.len().saturating_add(bytes))?)
    }

    fn begin_many(&self, count: usize, keys: impl Iterator<Item = usize>) -> Result<()> {
        at_most("a batch", count, limits::STORE_BATCH.size(), "store_batch")?;
        let mut bytes = 0_usize;
        for key in keys {
            self.key_fits(key)?;
            bytes = bytes.saturating_add(key);
        }
        Ok(self.charge.call(bytes)?)
    }

    fn key_fits(&self, bytes: usize) -> Result<()> {
        let most = self.template.limits.store_key_bytes;
        at_most("a key", bytes, most, "store_key")
    }

    fn fits(&self, bytes: usize) -> Result<()> {
        let most = self.template.limits.store_value_bytes;
        at_most("a value", bytes, most, "store_value")
    }

    /// What the driver said; trouble is counted and told.
    fn said<T>(&self, result: kv::Result<T>) -> Result<T> {
        result.map_err(|error| match error {
            kv::Error::NotANumber(_) => Error::NotANumber,
            kv::Error::BadCursor => Error::BadCursor,
            kv::Error::TooLarge { what, bytes, most } => Error::TooLarge {
                what,
                size: bytes,
                most,
                limit: None,
            },
            kv::Error::Failed(failure) => {
                self.charge.failed(&failure);
                self.template
                    .store_failed(Wanted::KeyValue, &self.label, &failure);
                Error::Failed(failure)
            }
        })
    }
}

impl Swap {
    /// The value that was read.
    pub(crate) fn current(&self) -> Result<Option<Bytes>> {
        let Some(entry) = &self.seen else {
            return Ok(None);
        };
        self.bucket.charge.bytes(entry.value.len())?;
        Ok(Some(entry.value.clone()))
    }

    /// Writes the value if the key is still as it was read; otherwise what it is now, for another attempt.
    pub(crate) async fn write(self, value: Vec<u8>) -> Result<std::result::Result<(), Swap>> {
        let Self { bucket, key, seen } = self;
        let options = SetOptions {
            when: seen.map_or(When::Absent, When::Unchanged),
            ttl: None,
        };
        if bucket.set(&key, value, options).await? {
            return Ok(Ok(()));
        }
        let seen = bucket.get(&key).await?;
        Ok(Err(Self { bucket, key, seen }))
    }
}

fn at_most(what: &'static str, size: usize, most: usize, limit: &'static str) -> Result<()> {
    if size <= most {
        return Ok(());
    }
    Err(Error::TooLarge {
        what,
        size,
        most,
        limit: Some(limit),
    })
}

fn size_of_condition(when: &When) -> usize {
    match when {
        When::Always | When::Absent => 0,
        When::Unchanged(entry) => entry.value.len(),
    }
}

/// The bytes of a value as the engine wants them; a copy unless nobody else has it.
pub(crate) fn owned(value: Bytes) -> Vec<u8> {
    value.into()
}

/// Numbers for the newest cursors of one bucket.
#[derive(Debug, Default)]
struct Cursors {
    kept: VecDeque<(u64, Cursor)>,
    last: u64,
}

impl Cursors {
    fn keep(&mut self, cursor: Cursor) -> u64 {
        if self.kept.len() >= limits::STORE_CURSORS.size() {
            self.kept.pop_front();
        }
        self.last += 1;
        self.kept.push_back((self.last, cursor));
        self.last
    }

    fn get(&self, number: u64) -> Option<&Cursor> {
        let found = self.kept.iter().find(|(kept, _)| *kept == number);
        found.map(|(_, cursor)| cursor)
    }
}
