//! Key-value in an app's embedded engine.
//!
//! A read that finds its key in memory is answered on the calling thread; `cache` says why that is never old. All others go to
//! the engine. A value's version is the number of its row, which is never used twice: the table numbers its rows upwards and
//! every write makes a new row.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::runtime::Handle;

use super::cache::{Cache, FOREVER, Known};
use super::{Bounds, Cursor, Entry, Kv, Page, Result, SetOptions, When};
use crate::clock::Clock;
use crate::embedded::{Durability, Engine};

/// The first of the engine's schema steps.
pub(crate) const TABLES: &str = "
CREATE TABLE kv (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    label TEXT NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    expires_ms INTEGER,
    UNIQUE (label, key)
) STRICT;
CREATE INDEX kv_expiring ON kv (expires_ms) WHERE expires_ms IS NOT NULL;
";

/// Rows that one step of the sweep removes.
const SWEEP_ROWS: i64 = 256;
/// How long it waits before the next.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// And at most, where the next end of a time to live is far away: clocks are set.
const SWEEP_PAUSE_MAX: Duration = Duration::from_secs(60);

/// What all key-value labels of one app share.
#[derive(Debug)]
pub(crate) struct Table {
    engine: Arc<Engine>,
    bounds: Bounds,
    cache: Cache,
    labels: Mutex<Vec<String>>,
    clock: Clock,
    /// Where the sweep runs.
    handle: Handle,
    sweeping: AtomicBool,
    /// Writes with a time to live, so that a sweep that is about to end sees one that came meanwhile.
    mortal: AtomicU64,
}

/// One label.
#[derive(Debug, Clone)]
pub(crate) struct EmbeddedKv {
    table: Arc<Table>,
    label: Arc<str>,
    number: u32,
    durability: Durability,
}

impl Table {
    pub(crate) fn new(engine: Arc<Engine>, bounds: Bounds, clock: Clock, handle: Handle) -> Self {
        Self {
            engine,
            bounds,
            cache: Cache::new(bounds.cache_bytes),
            labels: Mutex::default(),
            clock,
            handle,
            sweeping: AtomicBool::new(false),
            mortal: AtomicU64::new(0),
        }
    }

    pub(crate) fn label(self: &Arc<Self>, label: &str, durability: Durability) -> EmbeddedKv {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        let known = labels.iter().position(|known| known == label);
        let number = known.unwrap_or_else(|| {
            labels.push(label.to_owned());
            labels.len() - 1
        });
        EmbeddedKv {
            table: self.clone(),
            label: label.into(),
            number: u32::try_from(number).unwrap_or(u32::MAX),
            durability,
        }
    }

    /// Sees to it that values whose time is over leave the file.
    fn sweep(self: &Arc<Self>) {
        self.mortal.fetch_add(1, Ordering::AcqRel);
        if !self.sweeping.swap(true, Ordering::AcqRel) {
            self.handle.spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// What came between may have a time to live that the sweep did not see.
    fn sweep_is_over(&self, mortal: u64) -> bool {
        self.sweeping.store(false, Ordering::Release);
        self.mortal.load(Ordering::Acquire) == mortal || self.sweeping.swap(true, Ordering::AcqRel)
    }

    fn visible(&self, known: Known) -> Option<Entry> {
        match known {
            Known::Present { entry, expires_ms } if self.is_alive(expires_ms) => Some(entry),
            Known::Present { .. } | Known::Absent => None,
        }
    }

    fn is_alive(&self, expires_ms: u64) -> bool {
        expires_ms == FOREVER || expires_ms > self.clock.now_ms()
    }
}

/// Removes what is over, a few rows at a time, until nothing in the file has an end any more or nobody has the table.
async fn sweep(table: Weak<Table>) {
    let mut pause = SWEEP_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let Some(table) = table.upgrade() else {
            return;
        };
        let (now, mortal) = (table.clock.now_ms(), table.mortal.load(Ordering::Acquire));
        let step = table.engine.write_as(
            Durability::Buffered,
            move |connection| sweep_step(connection, now),
            |_| (),
        );
        pause = match step.await {
            Ok(None) if table.sweep_is_over(mortal) => return,
            Ok(None) => SWEEP_PAUSE,
            Ok(Some(next_ms)) => Duration::from_millis(next_ms.saturating_sub(now))
                .clamp(SWEEP_PAUSE, SWEEP_PAUSE_MAX),
            Err(_) => SWEEP_PAUSE_MAX,
        };
    }
}

/// One step; when the next value's time is over.
fn sweep_step(connection: &Connection, now_ms: u64) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached(
            "DELETE FROM kv WHERE version IN (SELECT version FROM kv WHERE expires_ms IS NOT NULL
             AND expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2)",
        )?
        .execute(params![signed(now_ms), SWEEP_ROWS])?;
    connection
        .prepare_cached("SELECT min(expires_ms) FROM kv WHERE expires_ms IS NOT NULL")?
        .query_row([], |row| row.get::<_, Option<i64>>(0))
        .map(|next| next.map(i64::cast_unsigned))
}

/// Times are stored as SQLite's signed integers.
fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

impl EmbeddedKv {
    fn cached(&self, key: &str) -> Option<Known> {
        self.table.cache.get(self.number, key)
    }

    /// From the file, and into memory.
    async fn look_up(&self, keys: Vec<String>) -> Result<Vec<Known>> {
        let table = &self.table;
        let ticket = |key: &String| table.cache.ticket(self.number, key);
        let tickets: Vec<_> = keys.iter().map(ticket).collect();
        let label = self.label.clone();
        let read = table.engine.read(move |connection| {
            let found: rusqlite::Result<Vec<Known>> = keys
                .iter()
                .map(|key| row(connection, &label, key))
                .collect();
            found.map(|found| (keys, found))
        });
        let (keys, found) = read.await?;
        for ((key, known), ticket) in keys.iter().zip(&found).zip(tickets) {
            table.cache.found(self.number, key, known.clone(), ticket);
        }
        Ok(found)
    }

    /// Runs `work` in the writer; it gives its answer and what it changed.
    async fn change<T, W>(&self, keys: Vec<String>, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Connection, &Row, &[String]) -> rusqlite::Result<(T, Changes)> + Send + 'static,
    {
        let row = Row {
            label: self.label.clone(),
            clock: self.table.clock.clone(),
        };
        let keys: Arc<[String]> = keys.into();
        let (table, number, named) = (self.table.clone(), self.number, keys.clone());
        let then = move |done: Option<&(T, Changes)>| match done {
            Some((_, changes)) => {
                for (key, known) in named.iter().zip(changes) {
                    if let Some(known) = known {
                        table.cache.changed(number, key, Some(known.clone()));
                    }
                }
            }
            None => named
                .iter()
                .for_each(|key| table.cache.changed(number, key, None)),
        };
        let work = move |connection: &Connection| work(connection, &row, &keys);
        let write = self.table.engine.write_as(self.durability, work, then);
        Ok(write.await?.0)
    }
}

/// For each key in the order in which they were given, what it is now; `None` where nothing was done.
type Changes = Vec<Option<Known>>;

/// What the writer needs to know besides the keys.
struct Row {
    label: Arc<str>,
    clock: Clock,
}

impl Row {
    /// The value that is there now.
    fn live(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<(Entry, u64)>> {
        Ok(match row(connection, &self.label, key)? {
            Known::Present { entry, expires_ms }
                if expires_ms == FOREVER || expires_ms > self.clock.now_ms() =>
            {
                Some((entry, expires_ms))
            }
            Known::Present { .. } | Known::Absent => None,
        })
    }

    fn holds(&self, connection: &Connection, key: &str, when: &When) -> rusqlite::Result<bool> {
        Ok(match when {
            When::Always => true,
            When::Absent => self.live(connection, key)?.is_none(),
            When::Unchanged(then) => self
                .live(connection, key)?
                .is_some_and(|(now, _)| now.version == then.version),
        })
    }

    fn put(
        &self,
        connection: &Connection,
        key: &str,
        value: Bytes,
        expires_ms: u64,
    ) -> rusqlite::Result<Known> {
        let end = (expires_ms != FOREVER).then(|| signed(expires_ms));
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO kv (label, key, value, expires_ms) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![&*self.label, key.as_bytes(), &*value, end])?;
        let version = connection.last_insert_rowid().cast_unsigned();
        Ok(Known::Present {
            entry: Entry { value, version },
            expires_ms,
        })
    }

    /// Whether there was a row; it may have been over.
    fn remove(&self, connection: &Connection, key: &str) -> rusqlite::Result<bool> {
        let removed = connection
            .prepare_cached("DELETE FROM kv WHERE label = ?1 AND key = ?2")?
            .execute(params![&*self.label, key.as_bytes()])?;
        Ok(removed > 0)
    }
}

fn row(connection: &Connection, label: &str, key: &str) -> rusqlite::Result<Known> {
    let found = connection
        .prepare_cached("SELECT value, version, expires_ms FROM kv WHERE label = ?1 AND key = ?2")?
        .query_row(params![label, key.as_bytes()], |row| {
            let value = Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?);
            let version = row.get::<_, i64>(1)?.cast_unsigned();
            let expires_ms = row.get::<_, Option<i64>>(2)?;
            Ok(Known::Present {
                entry: Entry { value, version },
                expires_ms: expires_ms.map_or(FOREVER, i64::cast_unsigned),
            })
        })
        .optional()?;
    Ok(found.unwrap_or(Known::Absent))
}

#[async_trait]
impl Kv for EmbeddedKv {
    async fn check(&self) -> Result<()> {
        Ok(self.table.engine.read(|_| Ok(())).await?)
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let known = match self.cached(key) {
            Some(known) => known,
            None => {
                self.table.bounds.admit(key, &[])?;
                let mut found = self.look_up(vec![key.to_owned()]).await?;
                found.pop().unwrap_or(Known::Absent)
            }
        };
        Ok(self.table.visible(known))
    }

    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool> {
        self.table.bounds.admit(key, &value)?;
        let SetOptions { when, ttl } = options;
        let work = move |connection: &Connection, row: &Row, keys: &[String]| {
            let Some(key) = keys.first() else {
                return Ok((false, vec![None]));
            };
            if !row.holds(connection, key, &when)? {
                return Ok((false, vec![None]));
            }
            let expires_ms = super::end_of(ttl, row.clock.now_ms());
            let known = row.put(connection, key, value, expires_ms.unwrap_or(FOREVER))?;
            Ok((true, vec![Some(known)]))
        };
        let written = self.change(vec![key.to_owned()], work).await?;
        if ttl.is_some() && written {
            self.table.sweep();
        }
        Ok(written)
    }

    async fn delete(&self, key: &str, when: When) -> Result<bool> {
        self.table.bounds.admit(key, &[])?;
        let work = move |connection: &Connection, row: &Row, keys: &[String]| {
            let Some(key) = keys.first() else {
                return Ok((false, vec![None]));
            };
            let there = row.live(connection, key)?.is_some();
            if !there || !row.holds(connection, key, &when)? {
                return Ok((false, vec![None]));
            }
            let removed = row.remove(connection, key)?;
            Ok((removed, vec![Some(Known::Absent)]))
        };
        self.change(vec![key.to_owned()], work).await
    }

    async fn list(&self, prefix: &str, from: Option<&Cursor>, limit: usize) -> Result<Page> {
        let after = super::after(from)?;
        let (label, prefix) = (self.label.clone(), prefix.to_owned());
        let (now, limit) = (self.table.clock.now_ms(), limit.max(1));
        let read = move |connection: &Connection| {
            let most = limit.saturating_add(1);
            keys_after(connection, &label, (&prefix, after.as_deref()), (now, most))
        };
        let mut keys = self.table.engine.read(read).await?;
        let more = keys.len() > limit;
        keys.truncate(limit);
        let next = more.then(|| keys.last().map(|last| super::cursor_after(last)));
        Ok(Page {
            next: next.flatten(),
            keys,
        })
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        self.table.bounds.admit(key, &[])?;
        let work = move |connection: &Connection, row: &Row, keys: &[String]| {
            let key = keys.first().map_or("", String::as_str);
            let live = row.live(connection, key)?;
            let value = live.as_ref().map(|(entry, _)| &*entry.value);
            Ok(match super::sum(value, delta) {
                Ok(sum) => {
                    let end = live.map_or(FOREVER, |(_, end)| end);
                    let known = row.put(connection, key, sum.to_string().into(), end)?;
                    (Ok(sum), vec![Some(known)])
                }
                Err(error) => (Err(error), vec![None]),
            })
        };
        self.change(vec![key.to_owned()], work).await?
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        for key in keys {
            self.table.bounds.admit(key, &[])?;
        }
        let cached: Vec<_> = keys.iter().map(|key| self.cached(key)).collect();
        let missing = keys
            .iter()
            .zip(&cached)
            .filter(|(_, known)| known.is_none());
        let missing: Vec<_> = missing.map(|(key, _)| key.clone()).collect();
        let mut found = Vec::new().into_iter();
        if !missing.is_empty() {
            found = self.look_up(missing).await?.into_iter();
        }
        let known = cached
            .into_iter()
            .map(|known| known.or_else(|| found.next()).unwrap_or(Known::Absent));
        Ok(known.map(|known| self.table.visible(known)).collect())
    }

    async fn set_many(&self, entries: Vec<(String, Bytes)>) -> Result<()> {
        for (key, value) in &entries {
            self.table.bounds.admit(key, value)?;
        }
        let (keys, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let work = move |connection: &Connection, row: &Row, keys: &[String]| {
            let put = |(key, value): (&String, Bytes)| row.put(connection, key, value, FOREVER);
            let pairs = keys.iter().zip(values);
            let changes = pairs
                .map(|pair| put(pair).map(Some))
                .collect::<rusqlite::Result<_>>()?;
            Ok(((), changes))
        };
        self.change(keys, work).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<()> {
        let work = |connection: &Connection, row: &Row, keys: &[String]| {
            for key in keys {
                row.remove(connection, key)?;
            }
            Ok(((), vec![Some(Known::Absent); keys.len()]))
        };
        self.change(keys.to_vec(), work).await
    }
}

/// Keys of a label in the order of their bytes. No pattern: any character of a prefix stands for itself.
fn keys_after(
    connection: &Connection,
    label: &str,
    (prefix, after): (&str, Option<&str>),
    (now_ms, most): (u64, usize),
) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT key FROM kv WHERE label = ?1 AND key >= ?2 AND key < ?3
         AND (expires_ms IS NULL OR expires_ms > ?4) ORDER BY key LIMIT ?5",
    )?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = statement.query_map(
        params![
            label,
            from(prefix, after),
            beyond(prefix),
            signed(now_ms),
            most
        ],
        |row| {
            let bytes = row.get_ref(0)?.as_blob()?;
            Ok(String::from_utf8_lossy(bytes).into_owned())
        },
    )?;
    rows.collect()
}

/// The least that a page may begin with.
fn from(prefix: &str, after: Option<&str>) -> Vec<u8> {
    match after {
        // The least that comes after it is itself and a zero.
        Some(after) if after >= prefix => [after.as_bytes(), &[0]].concat(),
        _ => prefix.as_bytes().to_vec(),
    }
}

/// What comes after all keys with this prefix. No byte of UTF-8 is the largest byte.
fn beyond(prefix: &str) -> Vec<u8> {
    let mut bytes = prefix.as_bytes().to_vec();
    match bytes.last_mut() {
        Some(last) => *last = last.saturating_add(1),
        None => bytes.push(u8::MAX),
    }
    bytes
}
