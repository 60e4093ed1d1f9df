//! Key-value in this process's memory, and gone with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Bounds, Cursor, Entry, Kv, Page, Result, SetOptions, When};
use crate::Failure;
use crate::clock::Clock;

/// What an entry counts besides its bytes.
const OVERHEAD: usize = 128;
/// Values whose time is over that one write removes.
const SWEEP: usize = 16;

/// One label. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct MemoryKv {
    rows: Arc<Mutex<Rows>>,
    clock: Clock,
    bounds: Bounds,
}

#[derive(Debug, Default)]
struct Rows {
    by_key: BTreeMap<String, Row>,
    /// Those that end, in the order of their ends.
    mortal: BTreeSet<(u64, String)>,
    bytes: usize,
    version: u64,
}

#[derive(Debug)]
struct Row {
    entry: Entry,
    ends_ms: Option<u64>,
}

impl MemoryKv {
    pub(crate) fn new(bounds: Bounds, clock: Clock) -> Self {
        Self {
            rows: Arc::default(),
            clock,
            bounds,
        }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To write: what is over goes first.
    fn rows_swept(&self, now_ms: u64) -> MutexGuard<'_, Rows> {
        let mut rows = self.rows();
        rows.sweep(now_ms);
        rows
    }
}

impl Rows {
    fn live(&self, key: &str, now_ms: u64) -> Option<&Row> {
        self.by_key.get(key).filter(|row| row.is_alive(now_ms))
    }

    fn holds(&self, key: &str, when: &When, now_ms: u64) -> bool {
        let live = self.live(key, now_ms);
        match when {
            When::Always => true,
            When::Absent => live.is_none(),
            When::Unchanged(then) => live.is_some_and(|row| row.entry.version == then.version),
        }
    }

    fn put(
        &mut self,
        key: &str,
        value: Bytes,
        ends_ms: Option<u64>,
        bounds: &Bounds,
    ) -> Result<()> {
        bounds.admit(key, &value)?;
        let most = bounds.memory_bytes;
        let old = self.by_key.get(key).map_or(0, |row| row.weight(key));
        let entry = Entry {
            // Without the larger buffer that it may be a part of.
            value: Bytes::copy_from_slice(&value),
            version: self.version + 1,
        };
        let row = Row { entry, ends_ms };
        let bytes = self.bytes - old + row.weight(key);
        if bytes > most {
            return Err(
                Failure::Full(format!("a label in memory has at most {most} bytes")).into(),
            );
        }
        self.remove(key);
        self.bytes += row.weight(key);
        self.version += 1;
        if let Some(ends_ms) = ends_ms {
            self.mortal.insert((ends_ms, key.to_owned()));
        }
        self.by_key.insert(key.to_owned(), row);
        Ok(())
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, row)) = self.by_key.remove_entry(key) {
            self.bytes -= row.weight(&key);
            if let Some(ends_ms) = row.ends_ms {
                self.mortal.remove(&(ends_ms, key));
            }
        }
    }

    fn sweep(&mut self, now_ms: u64) {
        for _ in 0..SWEEP {
            let first = self.mortal.first();
            let Some((_, key)) = first.filter(|(ends_ms, _)| *ends_ms <= now_ms).cloned() else {
                return;
            };
            self.remove(&key);
        }
    }
}

impl Row {
    fn is_alive(&self, now_ms: u64) -> bool {
        self.ends_ms.is_none_or(|ends_ms| ends_ms > now_ms)
    }

    fn weight(&self, key: &str) -> usize {
        key.len() + self.entry.value.len() + OVERHEAD
    }
}

#[async_trait]
impl Kv for MemoryKv {
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let rows = self.rows();
        Ok(match rows.by_key.get(key) {
            Some(row) if row.ends_ms.is_none() || row.is_alive(self.clock.now_ms()) => {
                Some(row.entry.clone())
            }
            _ => None,
        })
    }

    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool> {
        let now = self.clock.now_ms();
        let mut rows = self.rows_swept(now);
        if !rows.holds(key, &options.when, now) {
            return Ok(false);
        }
        rows.put(key, value, super::end_of(options.ttl, now), &self.bounds)?;
        Ok(true)
    }

    async fn delete(&self, key: &str, when: When) -> Result<bool> {
        let now = self.clock.now_ms();
        let mut rows = self.rows_swept(now);
        if rows.live(key, now).is_none() || !rows.holds(key, &when, now) {
            return Ok(false);
        }
        rows.remove(key);
        Ok(true)
    }

    async fn list(&self, prefix: &str, from: Option<&Cursor>, limit: usize) -> Result<Page> {
        let after = super::after(from)?;
        let (now, limit) = (self.clock.now_ms(), limit.max(1));
        let start = match &after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let rows = self.rows();
        let mut live = rows
            .by_key
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, row)| row.is_alive(now))
            .map(|(key, _)| key.clone());
        let keys: Vec<_> = live.by_ref().take(limit).collect();
        let more = live.next().is_some();
        let next = keys
            .last()
            .filter(|_| more)
            .map(|last| super::cursor_after(last));
        Ok(Page { keys, next })
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        let now = self.clock.now_ms();
        let mut rows = self.rows_swept(now);
        let live = rows.live(key, now);
        let ends_ms = live.and_then(|row| row.ends_ms);
        let sum = super::sum(live.map(|row| &*row.entry.value), delta)?;
        rows.put(key, sum.to_string().into(), ends_ms, &self.bounds)?;
        Ok(sum)
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        let (rows, now) = (self.rows(), self.clock.now_ms());
        let entry = |key: &String| rows.live(key, now).map(|row| row.entry.clone());
        Ok(keys.iter().map(entry).collect())
    }

    async fn set_many(&self, entries: Vec<(String, Bytes)>) -> Result<()> {
        for (key, value) in &entries {
            self.bounds.admit(key, value)?;
        }
        let mut rows = self.rows_swept(self.clock.now_ms());
        for (key, value) in entries {
            rows.put(&key, value, None, &self.bounds)?;
        }
        Ok(())
    }

    async fn delete_many(&self, keys: &[String]) -> Result<()> {
        let mut rows = self.rows();
        for key in keys {
            rows.remove(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;
    use crate::kv::Error;

    #[test]
    fn a_label_in_memory_is_bounded_and_has_room_again() {
        let bounds = Bounds {
            key_bytes: 10,
            value_bytes: 1_000,
            memory_bytes: 10_000,
            ..Bounds::default()
        };
        let kv = MemoryKv::new(bounds, Clock::stopped(0));
        let put = async |key: &str, size| {
            kv.set(key, vec![0; size].into(), SetOptions::default())
                .await
        };
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut written = 0;
            let full = loop {
                match put(&written.to_string(), 1_000).await {
                    Ok(_) => written += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(written, 8);
            assert!(matches!(full, Error::Failed(Failure::Full(_))), "{full:?}");
            // What replaces something counts the difference.
            assert_eq!(put("0", 1_000).await, Ok(true));
            kv.delete("0", When::Always).await.unwrap();
            assert_eq!(put("other", 1_000).await, Ok(true));
            for key in (0..8)
                .map(|number| number.to_string())
                .chain(["other".to_owned()])
            {
                kv.delete(&key, When::Always).await.unwrap();
            }
            assert_eq!(kv.rows().bytes, 0);

            let too_large = |what, bytes, most| Err(Error::TooLarge { what, bytes, most });
            assert_eq!(put("a", 1_001).await, too_large("a value", 1_001, 1_000));
            assert_eq!(put("eleven long", 1).await, too_large("a key", 11, 10));
        });
    }

    #[test]
    fn what_is_over_makes_room_with_the_next_writes() {
        let clock = Clock::stopped(0);
        let kv = MemoryKv::new(Bounds::default(), clock.clone());
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for number in 0..100 {
                let options = SetOptions {
                    ttl: Some(std::time::Duration::from_millis(10)),
                    ..SetOptions::default()
                };
                kv.set(&number.to_string(), "x".into(), options)
                    .await
                    .unwrap();
            }
            clock.advance(10);
            for _ in 0..=100_usize.div_ceil(SWEEP) {
                kv.increment("n", 1).await.unwrap();
            }
            assert_eq!(kv.rows().by_key.len(), 1);
            assert!(kv.rows().mortal.is_empty());
        });
    }
}
