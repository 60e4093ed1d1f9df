//! Key-value on Redis.
//!
//! A key is the Redis key `hostel:APP:LABEL:KEY`, its value the plain bytes, its time to live the key's own: other clients can
//! read and write them. Redis counts no writes, so [`When::Unchanged`] compares the value, in a script.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Script, cmd};

use super::{Cursor, Entry, Error, Kv, Page, Result, SetOptions, When};
use crate::server::redis::{Redis, STRING_BYTES_MAX};
use crate::{Failure, Scope};

/// Round trips of one [`Kv::list`]: among many keys of others a page may be empty.
const ROUNDS: usize = 8;
/// The longest time to live that a Redis computes with.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Writes the value if the key has the expected one.
static SWAP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
         else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
         return 1",
    )
});

/// Removes the key if it has the expected value.
static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         return redis.call('UNLINK', KEYS[1])",
    )
});

/// One scope on a Redis.
#[derive(Debug)]
pub(crate) struct RedisKv {
    redis: Arc<Redis>,
    /// Before each key.
    prefix: String,
}

impl RedisKv {
    pub(crate) fn new(redis: Arc<Redis>, scope: &Scope) -> Self {
        Self {
            redis,
            prefix: format!("hostel:{}:{}:", scope.app(), scope.label()),
        }
    }

    fn key(&self, key: &str) -> Result<String> {
        let bytes = self.prefix.len() + key.len();
        fits("a key", bytes)?;
        Ok(format!("{}{key}", self.prefix))
    }

    fn keys(&self, keys: &[String]) -> Result<Vec<String>> {
        keys.iter().map(|key| self.key(key)).collect()
    }
}

#[async_trait]
impl Kv for RedisKv {
    async fn check(&self) -> Result<()> {
        // A read asks for the permission that matters too.
        let _known: bool = self.redis.query(&Cmd::exists(self.key("")?)).await?;
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let value: Option<Vec<u8>> = self.redis.query(&Cmd::get(self.key(key)?)).await?;
        Ok(value.map(entry))
    }

    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool> {
        let key = self.key(key)?;
        fits("a value", value.len())?;
        let ttl = options.ttl.map(milliseconds);
        if let When::Unchanged(before) = options.when {
            let mut call = SWAP.key(key);
            call.arg(before.value.as_ref()).arg(value.as_ref());
            call.arg(ttl.map_or_else(String::new, |ms| ms.to_string()));
            return Ok(self.redis.script(&call).await?);
        }
        let mut set = cmd("SET");
        set.arg(key).arg(value.as_ref());
        if let Some(ms) = ttl {
            set.arg("PX").arg(ms);
        }
        if options.when == When::Absent {
            set.arg("NX");
        }
        let written: Option<String> = self.redis.query(&set).await?;
        Ok(written.is_some())
    }

    async fn delete(&self, key: &str, when: When) -> Result<bool> {
        let key = self.key(key)?;
        match when {
            When::Always => Ok(self.redis.query(&Cmd::unlink(key)).await?),
            When::Absent => Ok(false),
            When::Unchanged(before) => {
                let mut call = REMOVE.key(key);
                call.arg(before.value.as_ref());
                Ok(self.redis.script(&call).await?)
            }
        }
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.redis.query(&Cmd::exists(self.key(key)?)).await?)
    }

    async fn list(&self, prefix: &str, from: Option<&Cursor>, limit: usize) -> Result<Page> {
        let limit = limit.max(1);
        let Place { mut at, kept } = from.map_or(Ok(Place::start()), Place::read)?;
        if kept.iter().any(|key| !key.starts_with(prefix)) {
            return Err(Error::BadCursor);
        }
        let pattern = format!("{}{}*", globbed(&self.prefix), globbed(prefix));
        let mut keys = kept;
        let mut rounds = 0;
        let mut over = at.is_none();
        while !over && keys.len() < limit && rounds < ROUNDS {
            let mut scan = cmd("SCAN");
            scan.arg(at.unwrap_or(0)).arg("MATCH").arg(&pattern);
            scan.arg("COUNT").arg(limit);
            let (next, found): (u64, Vec<Vec<u8>>) = self.redis.query(&scan).await?;
            // A key that is no text is another client's.
            let found = found
                .into_iter()
                .filter_map(|key| String::from_utf8(key).ok());
            keys.extend(found.filter_map(|key| key.strip_prefix(&self.prefix).map(str::to_owned)));
            (at, over) = (Some(next), next == 0);
            rounds += 1;
        }
        let kept = keys.split_off(keys.len().min(limit * 2));
        let at = at.filter(|_| !over);
        let next = (at.is_some() || !kept.is_empty()).then(|| Place { at, kept }.write());
        Ok(Page { keys, next })
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        let sum = self.redis.query(&Cmd::incr(self.key(key)?, delta)).await;
        sum.map_err(|failure| match &failure {
            Failure::Broken(text) if text.contains("would overflow") => {
                Error::NotANumber("the sum is beyond the numbers of 64 bits")
            }
            Failure::Broken(text) if text.contains("not an integer") => {
                Error::NotANumber("the value is no decimal number of 64 bits")
            }
            _ => Error::Failed(failure),
        })
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.keys(keys)?;
        let values: Vec<Option<Vec<u8>>> = self.redis.query(cmd("MGET").arg(keys)).await?;
        Ok(values.into_iter().map(|value| value.map(entry)).collect())
    }

    async fn set_many(&self, entries: Vec<(String, Bytes)>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut set = cmd("MSET");
        for (key, value) in &entries {
            fits("a value", value.len())?;
            set.arg(self.key(key)?).arg(value.as_ref());
        }
        let () = self.redis.query(&set).await?;
        Ok(())
    }

    async fn delete_many(&self, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let _removed: u64 = self.redis.query(&Cmd::unlink(self.keys(keys)?)).await?;
        Ok(())
    }
}

fn entry(value: Vec<u8>) -> Entry {
    Entry {
        value: value.into(),
        version: 0,
    }
}

fn fits(what: &'static str, bytes: usize) -> Result<()> {
    match bytes <= STRING_BYTES_MAX {
        true => Ok(()),
        false => Err(Error::TooLarge {
            what,
            bytes,
            most: STRING_BYTES_MAX,
        }),
    }
}

/// Whole milliseconds, rounded up: a value does not go before its time.
fn milliseconds(ttl: Duration) -> u64 {
    let ttl = ttl.min(TTL_MAX);
    let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    ms.saturating_add(u64::from(!ttl.subsec_nanos().is_multiple_of(1_000_000)))
        .max(1)
}

/// The text as a pattern that stands for itself only.
fn globbed(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Where a listing is: the server's own cursor (`None` at its end), and keys for which the page before had no room: a server
/// may give more at once than was asked for.
#[derive(Debug, PartialEq)]
struct Place {
    at: Option<u64>,
    kept: Vec<String>,
}

impl Place {
    const fn start() -> Self {
        Self {
            at: Some(0),
            kept: Vec::new(),
        }
    }

    fn write(&self) -> Cursor {
        let mut text = self.at.map_or_else(|| "-".to_owned(), |at| at.to_string());
        for key in &self.kept {
            text.push('.');
            key.bytes()
                .for_each(|byte| text.push_str(&format!("{byte:02x}")));
        }
        Cursor(text)
    }

    fn read(cursor: &Cursor) -> Result<Self> {
        let mut parts = cursor.0.split('.');
        let at = match parts.next() {
            Some("-") => None,
            Some(at) => Some(at.parse().map_err(|_| Error::BadCursor)?),
            None => return Err(Error::BadCursor),
        };
        let kept = parts.map(|key| unhex(key).ok_or(Error::BadCursor));
        let kept = kept.collect::<Result<_>>()?;
        Ok(Self { at, kept })
    }
}

fn unhex(text: &str) -> Option<String> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let bytes = (0..text.len()).step_by(2);
    let bytes = bytes.map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok());
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else() {
        for place in [
            Place::start(),
            Place {
                at: Some(u64::MAX),
                kept: vec![String::new(), "a.b:\u{e9}".to_owned()],
            },
            Place {
                at: None,
                kept: vec!["k".to_owned()],
            },
        ] {
            assert_eq!(Place::read(&place.write()), Ok(place));
        }
        for text in [
            "",
            "x",
            "-1",
            "1.x",
            "1.abc",
            "1.ff",
            "1.+f",
            "18446744073709551616",
        ] {
            let cursor = Cursor(text.to_owned());
            assert_eq!(Place::read(&cursor), Err(Error::BadCursor), "{text}");
        }
    }

    #[test]
    fn a_time_to_live_is_never_cut_short() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_micros(1500)), 2);
        assert_eq!(milliseconds(Duration::from_millis(3)), 3);
        assert!(milliseconds(Duration::MAX) < u64::MAX / 2);
    }
}
