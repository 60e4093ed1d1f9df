//! Values in memory in front of the file, so that a key that is read often costs no disk and no thread.
//!
//! It never shows anything older than what the file has shown. A reader that found nothing here goes to the file, and what it
//! brings back may be old by then; so each key belongs to a stripe with a count of what changed it. The reader notes the count
//! before it goes ([`Cache::ticket`]), and its value is kept only if the count is the same when it returns. The writer puts a
//! new value in, and counts, after the commit and before the acknowledgement. Two readers that bring different values have
//! seen both sides of a commit: then neither is kept.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quick_cache::{Equivalent, Weighter, sync};

use super::Entry;

/// What the file has under a key, as far as this process knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    Absent,
    /// A value that lives until then, in milliseconds since 1970.
    Present { entry: Entry, expires_ms: u64 },
}

/// A value without an end.
pub(super) const FOREVER: u64 = u64::MAX;

const STRIPES: usize = 1024;
/// What an entry costs besides its bytes.
const OVERHEAD: usize = 160;

#[derive(Debug)]
pub(super) struct Cache {
    values: sync::Cache<Key, Known, Bytewise>,
    stripes: Vec<Mutex<u64>>,
    hasher: RandomState,
    /// Larger ones are left to the file.
    value_bytes: usize,
}

/// The count of a key's stripe at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(u64);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    label: u32,
    key: Box<str>,
}

#[derive(Clone, Copy)]
struct KeyRef<'a> {
    label: u32,
    key: &'a str,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyRef {
            label: self.label,
            key: &self.key,
        }
        .hash(state);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.label);
        self.key.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, other: &Key) -> bool {
        self.label == other.label && *self.key == *other.key
    }
}

#[derive(Debug, Clone)]
struct Bytewise;

impl Weighter<Key, Known> for Bytewise {
    fn weight(&self, key: &Key, value: &Known) -> u64 {
        let bytes = match value {
            Known::Absent => 0,
            Known::Present { entry, .. } => entry.value.len(),
        };
        (key.key.len() + bytes + OVERHEAD) as u64
    }
}

impl Cache {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            values: sync::Cache::with_weighter(bytes / 512, bytes as u64, Bytewise),
            stripes: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
            hasher: RandomState::new(),
            value_bytes: bytes / 64,
        }
    }

    /// What is known of a key.
    pub(super) fn get(&self, label: u32, key: &str) -> Option<Known> {
        self.values.get(&KeyRef { label, key })
    }

    /// To be taken before the file is read.
    pub(super) fn ticket(&self, label: u32, key: &str) -> Ticket {
        Ticket(*self.stripe(KeyRef { label, key }))
    }

    /// What the file had some time after the ticket was taken.
    pub(super) fn found(&self, label: u32, key: &str, known: Known, ticket: Ticket) {
        let key = KeyRef { label, key };
        let mut count = self.stripe(key);
        if *count == ticket.0 {
            self.keep(key, known);
        } else if self.values.peek(&key).is_some_and(|other| other != known) {
            self.values.remove(&key);
        }
        *count = count.wrapping_add(1);
    }

    /// What was committed; `None` where that is not certain.
    pub(super) fn changed(&self, label: u32, key: &str, known: Option<Known>) {
        let key = KeyRef { label, key };
        let mut count = self.stripe(key);
        *count = count.wrapping_add(1);
        match known {
            Some(known) => self.keep(key, known),
            None => {
                self.values.remove(&key);
            }
        }
    }

    /// Bytes that are in use.
    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.values.weight()
    }

    fn keep(&self, key: KeyRef<'_>, mut known: Known) {
        if let Known::Present { entry, .. } = &mut known {
            if entry.value.len() > self.value_bytes {
                self.values.remove(&key);
                return;
            }
            // Without the larger buffer that it may be a part of.
            entry.value = Bytes::copy_from_slice(&entry.value);
        }
        let key = Key {
            label: key.label,
            key: key.key.into(),
        };
        self.values.insert(key, known);
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder")]
    fn stripe(&self, key: KeyRef<'_>) -> MutexGuard<'_, u64> {
        let index = self.hasher.hash_one(key) as usize % STRIPES;
        self.stripes[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn value(text: &'static str, version: u64) -> Known {
        Known::Present {
            entry: Entry {
                value: Bytes::from_static(text.as_bytes()),
                version,
            },
            expires_ms: FOREVER,
        }
    }

    #[test]
    fn a_reader_that_is_late_leaves_nothing_old() {
        let cache = Cache::new(1 << 20);
        let ticket = cache.ticket(0, "a");
        cache.changed(0, "a", Some(value("new", 2)));
        cache.found(0, "a", value("old", 1), ticket);
        assert_ne!(cache.get(0, "a"), Some(value("old", 1)));

        let (one, two) = (cache.ticket(0, "b"), cache.ticket(0, "b"));
        cache.found(0, "b", value("old", 1), one);
        assert_eq!(cache.get(0, "b"), Some(value("old", 1)));
        // This one has seen a commit that the writer has not told yet.
        cache.found(0, "b", value("new", 2), two);
        assert_eq!(cache.get(0, "b"), None);
    }

    #[test]
    fn labels_are_apart_and_uncertainty_forgets() {
        let cache = Cache::new(1 << 20);
        cache.changed(0, "a", Some(value("zero", 1)));
        cache.changed(1, "a", Some(Known::Absent));
        assert_eq!(cache.get(0, "a"), Some(value("zero", 1)));
        assert_eq!(cache.get(1, "a"), Some(Known::Absent));
        cache.changed(0, "a", None);
        assert_eq!(cache.get(0, "a"), None);
    }

    /// A writer that commits and then tells, readers that look here first: nobody goes back behind what anybody has seen.
    #[test]
    fn nobody_sees_anything_older_than_what_was_seen() {
        const LAST: u64 = 20_000;
        let (cache, file, seen) = (Cache::new(1 << 20), AtomicU64::new(0), AtomicU64::new(0));
        // On a busy machine each turn of a thread takes long: then there are fewer.
        let (began, over) = (Instant::now(), AtomicBool::new(false));
        let number = |known: &Known| match known {
            Known::Present { entry, .. } => entry.version,
            Known::Absent => 0,
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        let least = seen.load(Ordering::SeqCst);
                        let known = cache.get(0, "a").unwrap_or_else(|| {
                            let ticket = cache.ticket(0, "a");
                            let read = value("", file.load(Ordering::SeqCst));
                            thread::yield_now();
                            cache.found(0, "a", read.clone(), ticket);
                            read
                        });
                        assert!(number(&known) >= least, "{known:?} after {least}");
                        seen.fetch_max(number(&known), Ordering::SeqCst);
                    }
                });
            }
            let in_time = |_: &u64| began.elapsed() < Duration::from_secs(3);
            for version in (1..=LAST).take_while(in_time) {
                file.store(version, Ordering::SeqCst);
                thread::yield_now();
                // Now and then nothing is certain, and the readers go to the file.
                let told = (version % 3 != 0).then(|| value("", version));
                cache.changed(0, "a", told);
                seen.fetch_max(version, Ordering::SeqCst);
            }
            over.store(true, Ordering::SeqCst);
        });
    }

    #[test]
    fn its_bytes_are_bounded() {
        let cache = Cache::new(1 << 20);
        for number in 0..10_000 {
            let entry = Entry {
                value: Bytes::from(vec![0; 1000]),
                version: number,
            };
            let known = Known::Present {
                entry,
                expires_ms: FOREVER,
            };
            cache.changed(0, &number.to_string(), Some(known));
            assert!(cache.weight() <= 1 << 20);
        }
        let large = Entry {
            value: Bytes::from(vec![0; 1 << 16]),
            version: 1,
        };
        let known = Known::Present {
            entry: large,
            expires_ms: FOREVER,
        };
        cache.changed(0, "large", Some(known));
        assert_eq!(cache.get(0, "large"), None);
    }
}
