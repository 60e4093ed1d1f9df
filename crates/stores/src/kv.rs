//! Key-value: the contract.
//!
//! Keys are any text, values any bytes. One handle is one [`Scope`](crate::Scope): keys of other scopes on the same backend
//! are neither seen nor touched, whatever characters a key is made of. A value is never seen half written. When a write
//! returns `Ok`, every later read of any handle sees it, and it survives what the driver promises to survive: the memory
//! driver nothing, the embedded one a crash and a power failure, a server what its own configuration says.

mod cache;
pub(crate) mod embedded;
pub(crate) mod memory;
pub(crate) mod nats;
pub(crate) mod redis;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Failure;

/// A value and the mark by which a later change of it can be noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// Changes with every write of the key where the backend counts writes. A backend that does not gives 0, and compares
    /// the value instead.
    pub version: u64,
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum When {
    /// Nothing.
    #[default]
    Always,
    /// The key is not there.
    Absent,
    /// The key is as it was read then.
    Unchanged(Entry),
}

/// How a value is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetOptions {
    /// What must hold.
    pub when: When,
    /// How long it lives; `None` is until it is deleted, also where the key had a time to live before.
    pub ttl: Option<Duration>,
}

/// Where a listing goes on: what the driver gave with the page before, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// Some of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The keys, whole (with the prefix that was asked for).
    pub keys: Vec<String>,
    /// `None` when there are no more. A page may be empty and still have one.
    pub next: Option<Cursor>,
}

/// What the stores without a server may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The longest key, in bytes.
    pub key_bytes: usize,
    /// The largest value, in bytes.
    pub value_bytes: usize,
    /// How much of one app's values the embedded driver keeps in memory in front of the file, in bytes.
    pub cache_bytes: usize,
    /// The bytes of one label's keys and values in the memory driver; beyond it a write is [`Failure::Full`].
    pub memory_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            key_bytes: 64 << 10,
            value_bytes: 64 << 20,
            cache_bytes: 32 << 20,
            memory_bytes: 256 << 20,
        }
    }
}

impl Bounds {
    fn admit(&self, key: &str, value: &[u8]) -> Result<()> {
        let pairs = [
            ("a key", key.len(), self.key_bytes),
            ("a value", value.len(), self.value_bytes),
        ];
        for (what, bytes, most) in pairs {
            if bytes > most {
                return Err(Error::TooLarge { what, bytes, most });
            }
        }
        Ok(())
    }
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// [`Kv::increment`] of a value that is no decimal number of 64 bits, or beyond its ends.
    #[error("{0}")]
    NotANumber(&'static str),
    /// The cursor is none of this store's.
    #[error("this cursor does not belong to a listing of this store")]
    BadCursor,
    /// The backend cannot hold a key or value of this size.
    #[error("{what} of {bytes} bytes is larger than the {most} that the backend takes")]
    TooLarge {
        /// `a key` or `a value`.
        what: &'static str,
        /// Its size.
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

/// One scope of a key-value store. Methods may be awaited on any thread and runtime, and may be dropped at any point: a
/// write is then done or not, but never half.
#[async_trait]
pub trait Kv: fmt::Debug + Send + Sync {
    /// Reaches the backend as the operator told, and changes nothing: for `hostel check --config` and readiness.
    async fn check(&self) -> Result<()>;

    /// The value, or `None` where there is none or its time is over.
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// Writes the value if `options.when` holds; whether it was written.
    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool>;

    /// Removes the key if `when` holds; whether it was there and is now gone. ([`When::Absent`] is never both.)
    async fn delete(&self, key: &str, when: When) -> Result<bool>;

    /// Whether [`get`](Self::get) would find it.
    async fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.get(key).await?.is_some())
    }

    /// Keys that begin with `prefix`, at most about `limit` of them (never more than twice as many), in any order. A key that
    /// is there during the whole listing is in one page at least.
    async fn list(&self, prefix: &str, from: Option<&Cursor>, limit: usize) -> Result<Page>;

    /// Adds to a number written in decimal digits; a missing key counts as 0. Keeps the key's time to live. The sum.
    async fn increment(&self, key: &str, delta: i64) -> Result<i64>;

    /// Several values, in the order of the keys; not of one moment.
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>>;

    /// Writes several values without a time to live. An error may leave some written, never one in part. The embedded driver
    /// writes all or none.
    async fn set_many(&self, entries: Vec<(String, Bytes)>) -> Result<()>;

    /// Removes several keys, there or not. An error may leave some removed.
    async fn delete_many(&self, keys: &[String]) -> Result<()>;
}

/// The sum that [`Kv::increment`] stores, by the same rule in every driver: a number is what this function writes.
///
/// # Errors
/// The value is no such number, or the sum is beyond 64 bits.
pub(crate) fn sum(value: Option<&[u8]>, delta: i64) -> Result<i64> {
    let number = match value {
        None => 0,
        Some(value) => std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .filter(|number| number.to_string().as_bytes() == value)
            .ok_or(Error::NotANumber(
                "the value is not a decimal number of 64 bits",
            ))?,
    };
    number
        .checked_add(delta)
        .ok_or(Error::NotANumber("the sum is beyond 64 bits"))
}

/// When a time to live that begins now ends.
fn end_of(ttl: Option<Duration>, now_ms: u64) -> Option<u64> {
    ttl.map(|ttl| {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_add(ttl).min(i64::MAX.cast_unsigned())
    })
}

const AFTER: &str = "after:";

/// The cursor of drivers that list in the order of the keys.
fn cursor_after(key: &str) -> Cursor {
    Cursor(format!("{AFTER}{key}"))
}

/// The key that such a cursor stands for.
fn after(cursor: Option<&Cursor>) -> Result<Option<String>> {
    let Some(Cursor(cursor)) = cursor else {
        return Ok(None);
    };
    let key = cursor.strip_prefix(AFTER).ok_or(Error::BadCursor)?;
    Ok(Some(key.to_owned()))
}
