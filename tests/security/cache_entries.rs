//! Compiled code that somebody has changed on disk: never loaded, compiled again, counted.

use std::fs;
use std::path::{Path, PathBuf};

use hostel_app::{Operator, Resolved, resolve_command};
use hostel_host::{CacheStats, LogSink, Progress, Role, Runtime, RuntimeOptions};

/// Two small commands, compiled into one cache.
struct Fixture {
    folder: tempfile::TempDir,
    runtime: Runtime,
    guests: [Resolved; 2],
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let guest = |answer: i32| {
            let file = folder.path().join(format!("answer-{answer}.wat"));
            let text = format!(
                "(module (func (export \"_start\")) (func (export \"answer\") (result i32) i32.const {answer}))"
            );
            fs::write(&file, text).expect("a file");
            resolve_command(&file, &Operator::default()).expect("an app")
        };
        let guests = [guest(42), guest(43)];
        let runtime = Runtime::new(RuntimeOptions {
            cache_dir: Some(folder.path().join("compiled")),
            ..RuntimeOptions::new(LogSink::null())
        })
        .expect("a runtime");
        Self {
            folder,
            runtime,
            guests,
        }
    }

    /// Loads a guest, and tells whether its code came from the cache.
    fn load(&self, guest: usize) -> bool {
        let Resolved { app, code, .. } = &self.guests[guest];
        let cached = std::cell::Cell::new(false);
        let progress = |event| cached.set(cached.get() || matches!(event, Progress::Cached { .. }));
        let _guest = self
            .runtime
            .app("test")
            .load(&app.components[0], &code[0], Role::Run, &progress)
            .expect("a guest");
        cached.get()
    }

    /// What is in the cache.
    fn entries(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.path().join("compiled")).expect("the cache");
        let mut entries: Vec<_> = files
            .map(|file| file.expect("a file").path())
            .filter(|path| path.extension().is_some_and(|it| it == "cwasm"))
            .collect();
        entries.sort();
        entries
    }
}

/// A sequence of numbers that looks like chance and can be repeated (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a size")
    }
}

/// The tag at the end of an entry.
const TAG_BYTES: usize = 32;

/// Spoils an entry in one of the ways in which entries are spoilt; gives the way.
fn spoil(entry: &Path, intact: &[u8], other: &[u8], chance: &mut Chance) -> &'static str {
    let mut spoilt = intact.to_vec();
    let way = match chance.below(6) {
        0 => {
            let bit = chance.below(intact.len() * 8);
            spoilt[bit / 8] ^= 1 << (bit % 8);
            "a flipped bit"
        }
        1 => {
            spoilt.truncate(chance.below(intact.len()));
            "a cut"
        }
        2 => {
            spoilt.extend_from_slice(&chance.next().to_le_bytes());
            "added bytes"
        }
        3 => {
            let at = chance.below(intact.len() - 8);
            let noise =
                (chance.next() | 1) ^ u64::from_le_bytes(intact[at..at + 8].try_into().expect("8"));
            spoilt[at..at + 8].copy_from_slice(&noise.to_le_bytes());
            "noise"
        }
        4 => {
            spoilt = other.to_vec();
            "another guest's entry"
        }
        _ => {
            let code = intact.len().min(other.len()) - TAG_BYTES;
            spoilt[..code].copy_from_slice(&other[..code]);
            "another guest's code under its own tag"
        }
    };
    assert_ne!(spoilt, intact, "{way}");
    fs::write(entry, spoilt).expect("a spoilt entry");
    way
}

/// Spoils the entry of one guest so many times, and loads it each time. `cargo xtask soak` may ask for more rounds than
/// the ordinary run; the seed repeats them.
pub(crate) fn corrupt(rounds: u32, seed: u64) -> CacheStats {
    println!("seed {seed}");
    let fixture = Fixture::new();
    assert!(!fixture.load(0), "compiled");
    let entry = fixture.entries().remove(0);
    assert!(!fixture.load(1), "compiled");
    let other = fixture
        .entries()
        .into_iter()
        .find(|path| *path != entry)
        .expect("another entry");
    let (intact, other) = (
        fs::read(&entry).expect("the entry"),
        fs::read(other).expect("the other"),
    );
    let mut chance = Chance(seed);
    for round in 0..rounds {
        let way = spoil(&entry, &intact, &other, &mut chance);
        assert!(
            !fixture.load(0),
            "round {round} of seed {seed}: {way} was loaded"
        );
        assert!(fixture.load(0), "round {round}: it was not kept again");
    }
    fixture.runtime.cache_stats()
}

#[test]
fn whatever_is_done_to_an_entry_it_is_not_loaded() {
    const ROUNDS: u32 = 300;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = now.map_or(1, |time| time.as_nanos() as u64);
    let stats = corrupt(ROUNDS, seed);
    let rounds = u64::from(ROUNDS);
    assert_eq!(
        stats,
        CacheStats {
            hits: rounds,
            misses: 2,
            rejected: rounds
        }
    );
}

#[test]
fn entries_of_two_guests_that_were_swapped_are_compiled_again() {
    let fixture = Fixture::new();
    let _compiled = (fixture.load(0), fixture.load(1));
    let [first, second] = &fixture.entries()[..] else {
        panic!("two entries")
    };
    let aside = fixture.folder.path().join("aside");
    fs::rename(first, &aside).expect("moved");
    fs::rename(second, first).expect("moved");
    fs::rename(&aside, second).expect("moved");
    assert!(!fixture.load(0) && !fixture.load(1));
    assert_eq!(fixture.runtime.cache_stats().rejected, 2);
    assert!(fixture.load(0) && fixture.load(1));
}
