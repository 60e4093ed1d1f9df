//! [`Journal`]: what a broker must still know after a restart, in the app's embedded engine.
//!
//! Steps go to one task that writes as many as have come together in one transaction. A message and the group that it
//! waits for are two rows: the second goes when the group has settled it, the first with the last of those. Reading them
//! back gives each group its place.

use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rusqlite::{Connection, params};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::broker::{Broker, Held};
use super::group::Key;
use super::{Bounds, Message, Result};
use crate::Failure;
use crate::embedded::{Durability, Engine};

/// One step.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// A group exists, and a subscriber was there at this time.
    Seen(Key, u64),
    /// A group is no more, nor is what it has not settled.
    Forget(Key),
    /// A message for these groups.
    Insert(Arc<Held>, Vec<Key>),
    /// It was handed to a subscriber of this group for the n-th time.
    Tried(Key, u64, u32),
    /// The group is done with it.
    Done(Key, u64),
}

#[derive(Debug)]
struct Entry {
    op: Op,
    written: oneshot::Sender<std::result::Result<(), Failure>>,
}

#[derive(Debug, Default)]
struct Queue {
    entries: Mutex<Vec<Entry>>,
    wake: Notify,
}

/// The way to the disk.
#[derive(Debug)]
pub(super) struct Journal {
    queue: Arc<Queue>,
    durability: Durability,
}

/// Whose journal it is, and what it promises.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) label: Arc<str>,
    pub(super) durability: Durability,
    pub(super) bounds: Bounds,
}

/// Opens the tables of a label, makes a broker of what they hold and starts the task that writes.
pub(super) async fn open(engine: Arc<Engine>, terms: Terms, tasks: &Handle) -> Result<Arc<Broker>> {
    let Terms {
        label,
        durability,
        bounds,
    } = terms;
    let of = label.clone();
    let saved = engine
        .read(move |connection| Saved::read(connection, &of))
        .await?;
    let queue = Arc::<Queue>::default();
    let journal = Journal {
        queue: queue.clone(),
        durability,
    };
    let broker = Arc::new(Broker::new(bounds, Some(journal)));
    for (key, seen_ms) in saved.groups {
        broker.restore_group(key, seen_ms);
    }
    for (id, message, groups) in saved.messages {
        broker.restore(id, message, groups);
    }
    let writer = Writer {
        queue,
        engine,
        label,
        durability,
        broker: Arc::downgrade(&broker),
    };
    tasks.spawn(writer.run());
    Ok(broker)
}

impl Journal {
    /// Whether a message is on disk before anybody sees it.
    pub(super) fn comes_first(&self) -> bool {
        self.durability == Durability::Synced
    }

    /// Appends a step; the future is ready when it is on disk. Steps are written in this order.
    pub(super) fn push(&self, op: Op) -> impl Future<Output = Result<()>> + use<> {
        let (written, waits) = oneshot::channel();
        self.queue.lock().push(Entry { op, written });
        self.queue.wake.notify_one();
        async move {
            let stopped = || Failure::Unavailable("the stores of this process ended".to_owned());
            waits.await.unwrap_or_else(|_| Err(stopped()))?;
            Ok(())
        }
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    queue: Arc<Queue>,
    engine: Arc<Engine>,
    label: Arc<str>,
    durability: Durability,
    broker: Weak<Broker>,
}

impl Writer {
    async fn run(self) {
        loop {
            self.queue.wake.notified().await;
            let entries = take(&mut *self.queue.lock());
            if entries.is_empty() {
                continue;
            }
            let (ops, waiting): (Vec<_>, Vec<_>) = entries
                .into_iter()
                .map(|entry| (entry.op, entry.written))
                .unzip();
            let (ops, label) = (Arc::new(ops), self.label.clone());
            let batch = ops.clone();
            let outcome = self
                .engine
                .write_as(
                    self.durability,
                    move |connection| Batch::new(&batch).apply(connection, &label),
                    |_| (),
                )
                .await;
            if outcome.is_ok() && self.durability == Durability::Synced {
                self.deliver(&ops);
            }
            for written in waiting {
                // Not everybody waits.
                let _waits = written.send(outcome.clone());
            }
        }
    }

    /// What is on disk may be seen.
    fn deliver(&self, ops: &[Op]) {
        let Some(broker) = self.broker.upgrade() else {
            return;
        };
        for op in ops {
            if let Op::Insert(held, keys) = op {
                broker.written(held, keys);
            }
        }
    }
}

/// The tables that the steps are written to.
pub(crate) const TABLES: &str = "
    CREATE TABLE message_group (
        label TEXT NOT NULL, name TEXT NOT NULL, pattern TEXT NOT NULL, seen_ms INTEGER NOT NULL,
        PRIMARY KEY (label, name, pattern)
    ) WITHOUT ROWID;
    CREATE TABLE message (
        label TEXT NOT NULL, id INTEGER NOT NULL, topic TEXT NOT NULL, body BLOB NOT NULL, headers BLOB NOT NULL,
        reply_to TEXT, PRIMARY KEY (label, id)
    );
    CREATE TABLE message_waits (
        label TEXT NOT NULL, id INTEGER NOT NULL, name TEXT NOT NULL, pattern TEXT NOT NULL, attempts INTEGER NOT NULL,
        PRIMARY KEY (label, id, name, pattern)
    ) WITHOUT ROWID;";

/// Steps that are written together. What one of them makes and another undoes never reaches the disk.
struct Batch<'a> {
    ops: &'a [Op],
    done: HashSet<(&'a Key, u64)>,
    new: HashSet<u64>,
}

impl<'a> Batch<'a> {
    fn new(ops: &'a [Op]) -> Self {
        let (mut done, mut new) = (HashSet::new(), HashSet::new());
        for op in ops {
            match op {
                Op::Done(key, id) => drop(done.insert((key, *id))),
                Op::Insert(held, _) => drop(new.insert(held.id)),
                _ => {}
            }
        }
        Self { ops, done, new }
    }

    fn apply(&self, connection: &Connection, label: &str) -> rusqlite::Result<()> {
        for op in self.ops {
            match op {
                Op::Seen(key, seen_ms) => seen(connection, label, key, *seen_ms)?,
                Op::Forget(key) => forget(connection, label, key)?,
                Op::Insert(held, keys) => self.insert(connection, label, held, keys)?,
                Op::Tried(key, id, attempts) if !self.done.contains(&(key, *id)) => {
                    tried(connection, label, (key, *id), *attempts)?;
                }
                Op::Done(key, id) if !self.new.contains(id) => done(connection, label, key, *id)?,
                Op::Tried(..) | Op::Done(..) => {}
            }
        }
        Ok(())
    }

    fn insert(
        &self,
        connection: &Connection,
        label: &str,
        held: &Held,
        keys: &[Key],
    ) -> rusqlite::Result<()> {
        let mut waiting = keys
            .iter()
            .filter(|key| !self.done.contains(&(*key, held.id)))
            .peekable();
        if waiting.peek().is_none() {
            return Ok(());
        }
        let Message {
            topic,
            body,
            headers,
            reply_to,
        } = &held.message;
        connection
            .prepare_cached("INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                label,
                number(held.id),
                topic,
                body.as_ref(),
                encode(headers),
                reply_to
            ])?;
        let mut insert =
            connection.prepare_cached("INSERT INTO message_waits VALUES (?1, ?2, ?3, ?4, 0)")?;
        for Key { name, pattern } in waiting {
            insert.execute(params![label, number(held.id), name, pattern])?;
        }
        Ok(())
    }
}

fn seen(connection: &Connection, label: &str, key: &Key, seen_ms: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO message_group VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![label, key.name, key.pattern, number(seen_ms)])?;
    Ok(())
}

fn forget(connection: &Connection, label: &str, key: &Key) -> rusqlite::Result<()> {
    for text in [
        "DELETE FROM message_group WHERE label = ?1 AND name = ?2 AND pattern = ?3",
        "DELETE FROM message_waits WHERE label = ?1 AND name = ?2 AND pattern = ?3",
    ] {
        connection.execute(text, params![label, key.name, key.pattern])?;
    }
    connection.execute(
        "DELETE FROM message WHERE label = ?1 AND id NOT IN (SELECT id FROM message_waits WHERE label = ?1)",
        [label],
    )?;
    Ok(())
}

fn tried(
    connection: &Connection,
    label: &str,
    (key, id): (&Key, u64),
    attempts: u32,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE message_waits SET attempts = ?5 WHERE label = ?1 AND id = ?2 AND name = ?3 AND pattern = ?4",
        )?
        .execute(params![label, number(id), key.name, key.pattern, attempts])?;
    Ok(())
}

fn done(connection: &Connection, label: &str, key: &Key, id: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM message_waits WHERE label = ?1 AND id = ?2 AND name = ?3 AND pattern = ?4",
        )?
        .execute(params![label, number(id), key.name, key.pattern])?;
    connection
        .prepare_cached(
            "DELETE FROM message WHERE label = ?1 AND id = ?2
             AND NOT EXISTS (SELECT 1 FROM message_waits WHERE label = ?1 AND id = ?2)",
        )?
        .execute(params![label, number(id)])?;
    Ok(())
}

/// Who has not had a message yet, and after how many attempts.
type Waiting = Vec<(Key, u32)>;

/// What the tables hold.
struct Saved {
    groups: Vec<(Key, u64)>,
    messages: Vec<(u64, Message, Waiting)>,
}

impl Saved {
    fn read(connection: &Connection, label: &str) -> rusqlite::Result<Self> {
        let mut groups = connection
            .prepare("SELECT name, pattern, seen_ms FROM message_group WHERE label = ?1")?;
        let groups = groups
            .query_map([label], |row| Ok((key(row, 0)?, whole(row.get(2)?))))?
            .collect::<rusqlite::Result<_>>()?;
        let mut waits = connection
            .prepare("SELECT name, pattern, id, attempts FROM message_waits WHERE label = ?1")?;
        let mut waiting: HashMap<u64, Waiting> = HashMap::new();
        let mut rows = waits.query([label])?;
        while let Some(row) = rows.next()? {
            let of = waiting.entry(whole(row.get(2)?)).or_default();
            of.push((key(row, 0)?, row.get(3)?));
        }
        let mut messages = connection.prepare(
            "SELECT id, topic, body, headers, reply_to FROM message WHERE label = ?1 ORDER BY id",
        )?;
        let messages = messages
            .query_map([label], |row| {
                let id = whole(row.get(0)?);
                let message = Message {
                    topic: row.get(1)?,
                    body: row.get::<_, Vec<u8>>(2)?.into(),
                    headers: decode(&row.get::<_, Vec<u8>>(3)?),
                    reply_to: row.get(4)?,
                };
                Ok((id, message, waiting.remove(&id).unwrap_or_default()))
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Self { groups, messages })
    }
}

fn key(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Key> {
    Ok(Key {
        name: row.get(column)?,
        pattern: row.get(column + 1)?,
    })
}

/// SQLite's whole numbers have a sign; ours stay far below it.
fn number(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

fn whole(of: i64) -> u64 {
    u64::try_from(of).unwrap_or_default()
}

/// Names and values, each after its length in four bytes.
fn encode(headers: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// What [`encode`] wrote; of other bytes, as much as makes sense.
fn decode(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut next = || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        String::from_utf8(text.to_vec()).ok()
    };
    let mut headers = Vec::new();
    while let (Some(name), Some(value)) = (next(), next()) {
        headers.push((name, value));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written() {
        let headers = [("a", ""), ("", "b"), ("\u{e9}", "x\0y"), ("a", "again")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let bytes = encode(&headers);
        assert_eq!(decode(&bytes), headers);
        for cut in 0..bytes.len() {
            let part = decode(&bytes[..cut]);
            assert_eq!(part, headers[..part.len()], "{cut}");
        }
        assert_eq!(decode(&[255; 9]), []);
    }
}
