//! The embedded key-value store where things end badly. `kill -9` while entries are written: every acknowledged write is there,
//! none is torn, several at once are all or none, and the file opens at once. A file that cannot grow: writes fail with a
//! reason, all that was acknowledged is read, and they succeed again when there is room, without a restart.
//!
//! The program starts itself again as the writer, which says each acknowledgement on its standard output, and kills it at a
//! random moment; then it opens the same folder and looks. The folder is the same for all rounds.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test, though not one of the harness: what goes wrong has to fail it"
)]

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use hostel_stores::kv::{self, Kv, SetOptions, When};
use hostel_stores::place::Kind;
use hostel_stores::{Failure, Place, Scope, Stores, StoresOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

const ROUNDS: u32 = 30;
const WRITERS: u32 = 16;
/// In the environment of the program that was started again: the folder, and the round or `full`.
const FOLDER: &str = "CRASH_FOLDER";
const PART: &str = "CRASH_PART";

fn main() {
    let child = env::var(FOLDER).ok().zip(env::var(PART).ok());
    match child {
        Some((folder, part)) if part == "full" => fill(Path::new(&folder)),
        Some((folder, round)) => write_until_killed(Path::new(&folder), round.parse().unwrap()),
        None => {
            let tests: [(&str, fn()); 2] = [
                (
                    "no_acknowledged_write_is_lost_when_the_process_is_killed",
                    no_acknowledged_write_is_lost_when_the_process_is_killed,
                ),
                (
                    "a_file_that_cannot_grow_is_said_and_over_when_it_can",
                    a_file_that_cannot_grow_is_said_and_over_when_it_can,
                ),
            ];
            // As with any test, those are left out of which no part was asked for.
            let asked: Vec<_> = env::args()
                .skip(1)
                .filter(|arg| !arg.starts_with('-'))
                .collect();
            for (name, test) in tests {
                if asked.is_empty() || asked.iter().any(|asked| name.contains(asked)) {
                    test();
                    println!("test {name} ... ok");
                }
            }
        }
    }
}

// A test of its own.
fn a_file_that_cannot_grow_is_said_and_over_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    // The signal that comes with the limit would end the process.
    let ended = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\""])
        .arg(env::current_exe().unwrap())
        .env(FOLDER, folder.path())
        .env(PART, "full")
        .status();
    assert!(ended.unwrap().success());
}

/// With a bound for the size of files, which is a full disk that needs no rights.
fn fill(folder: &Path) {
    let bound = |bytes: Option<u64>| {
        let before = getrlimit(Resource::Fsize);
        let limit = Rlimit {
            current: bytes.or(before.maximum),
            ..before
        };
        setrlimit(Resource::Fsize, limit).unwrap();
    };
    runtime().block_on(async {
        let (_stores, kv) = open(folder, true);
        let mut written = Vec::new();
        for round in 0..3 {
            bound(Some((round + 1) << 20));
            for number in 0.. {
                let key = format!("{round}-{number}");
                match kv.set(&key, value(&key), SetOptions::default()).await {
                    Ok(_) => written.push(key),
                    Err(kv::Error::Failed(Failure::Unavailable(text))) => {
                        assert!(text.contains("shop cannot be used"), "{text}");
                        break;
                    }
                    Err(kv::Error::Failed(Failure::Full(_))) => break,
                    Err(other) => panic!("{other:?}"),
                }
                assert!(number < 10_000, "it never fails");
            }
            bound(None);
            set(&*kv, "room", "again".into()).await;
            for key in &written {
                let entry = kv.get(key).await.unwrap().unwrap();
                assert!(entry.value == value(key), "{key}");
            }
        }
        drop((_stores, kv));
        let (_stores, kv) = open(folder, true);
        for key in &written {
            let entry = kv.get(key).await.unwrap().unwrap();
            assert!(entry.value == value(key), "{key}");
        }
    });
}

// A test of its own.
fn no_acknowledged_write_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    let (mut writes, mut opened) = (0, Vec::new());
    for round in 0..ROUNDS {
        let said = kill_a_writer(folder.path(), round);
        writes += said.len();
        for line in &said {
            acknowledged.hear(line);
        }
        let began = Instant::now();
        runtime().block_on(async {
            let (_stores, kv) = open(folder.path(), true);
            kv.check().await.unwrap();
            opened.push(began.elapsed());
            look(&*kv, round, &mut acknowledged).await;
        });
    }
    opened.sort();
    let usual = *opened.get(opened.len() / 2).unwrap();
    let slowest = *opened.last().unwrap();
    println!(
        "{ROUNDS} kills, {writes} acknowledged writes, none lost; opened within {usual:?}, at the most {slowest:?}"
    );
    // Once in a while a busy machine does something else first.
    assert!(usual <= Duration::from_secs(2), "{opened:?}");
    assert!(slowest <= Duration::from_secs(20), "{opened:?}");
    assert!(writes > 10 * ROUNDS as usize, "only {writes} writes");
}

/// What a writer said before it was killed.
fn kill_a_writer(folder: &Path, round: u32) -> Vec<String> {
    let mut child = Command::new(env::current_exe().unwrap())
        .env(FOLDER, folder)
        .env(PART, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    // It has begun.
    let first = said.next().unwrap().unwrap();
    let rest = std::thread::spawn(move || said.map_while(Result::ok).collect::<Vec<_>>());
    let mut random = [0; 2];
    getrandom::fill(&mut random).unwrap();
    let alive = Duration::from_micros(u64::from(u16::from_ne_bytes(random)));
    std::thread::park_timeout(alive);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut said = rest.join().unwrap();
    said.insert(0, first);
    said
}

/// What must be there.
#[derive(Default)]
struct Acknowledged {
    /// Written, and not deleted since.
    there: Vec<String>,
    gone: Vec<String>,
    /// The last of the numbers that grow.
    hot: u64,
    sum: u64,
}

impl Acknowledged {
    fn hear(&mut self, line: &str) {
        let (what, which) = line.split_once(' ').unwrap();
        match what {
            "set" => self.there.push(which.to_owned()),
            "many" => self.there.extend(parts(which)),
            // From here on it may be gone, or not yet.
            "deleting" => self.there.retain(|key| key != which),
            "deleted" => self.gone.push(which.to_owned()),
            "hot" => self.hot = self.hot.max(which.parse().unwrap()),
            "sum" => self.sum = self.sum.max(which.parse().unwrap()),
            other => panic!("{other}"),
        }
    }
}

async fn look(kv: &dyn Kv, round: u32, acknowledged: &mut Acknowledged) {
    for key in &acknowledged.there {
        let entry = kv.get(key).await.unwrap();
        let entry = entry.unwrap_or_else(|| panic!("{key} is lost after kill {round}"));
        assert!(
            entry.value == value(key),
            "{key} is torn after kill {round}"
        );
    }
    for key in &acknowledged.gone {
        assert_eq!(kv.get(key).await, Ok(None), "{key} is back");
    }
    // Also what was not acknowledged is whole, and several at once are all or none.
    let mut from = None;
    let mut keys = Vec::new();
    loop {
        let page = kv
            .list(&format!("{round}-"), from.as_ref(), 1000)
            .await
            .unwrap();
        keys.extend(page.keys);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    for key in &keys {
        let entry = kv.get(key).await.unwrap().unwrap();
        assert!(
            entry.value == value(key),
            "{key} is torn after kill {round}"
        );
        if let Some((many, _)) = key.split_once('+') {
            assert!(
                parts(many).iter().all(|part| keys.contains(part)),
                "{many} is in part"
            );
        }
    }
    let number = async |key: &str| {
        let entry = kv.get(key).await.unwrap();
        entry.map_or(0, |entry| {
            std::str::from_utf8(&entry.value)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        })
    };
    let (hot, sum) = (number("hot").await, number("sum").await);
    assert!(hot >= acknowledged.hot, "{hot} after {}", acknowledged.hot);
    assert!(sum >= acknowledged.sum, "{sum} after {}", acknowledged.sum);
    (acknowledged.hot, acknowledged.sum) = (hot, sum);
}

fn write_until_killed(folder: &Path, round: u32) {
    runtime().block_on(async {
        // A process that ends takes nothing with it that was only not synced yet: every third round.
        let (_stores, kv) = open(folder, !round.is_multiple_of(3));
        let writers = (0..WRITERS).map(|writer| write(&*kv, round, writer));
        join_all(writers).await;
    });
}

async fn write(kv: &dyn Kv, round: u32, writer: u32) {
    for number in 0_u64.. {
        let key = format!("{round}-{writer}-{number}");
        match number % 5 {
            0 | 1 => {
                set(kv, &key, value(&key)).await;
                say(&format!("set {key}"));
            }
            2 => {
                let entries = parts(&key)
                    .into_iter()
                    .map(|key| (key.clone(), value(&key)));
                kv.set_many(entries.collect()).await.unwrap();
                say(&format!("many {key}"));
            }
            3 => {
                let old = format!("{round}-{writer}-{}", number - 3);
                say(&format!("deleting {old}"));
                assert!(kv.delete(&old, When::Always).await.unwrap());
                say(&format!("deleted {old}"));
            }
            _ if writer == 0 => {
                let hot = u64::from(round) * 1_000_000 + number;
                set(kv, "hot", hot.to_string().into()).await;
                say(&format!("hot {hot}"));
            }
            _ => {
                let sum = kv.increment("sum", 1).await.unwrap();
                say(&format!("sum {sum}"));
            }
        }
    }
}

async fn set(kv: &dyn Kv, key: &str, value: Bytes) {
    assert!(kv.set(key, value, SetOptions::default()).await.unwrap());
}

/// In one piece, so that the parent reads all of it or nothing.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The keys that are written at once.
fn parts(key: &str) -> [String; 3] {
    [0, 1, 2].map(|part| format!("{key}+{part}"))
}

/// What belongs under a key: its own text, as often as its last digits say, up to several pages of the file.
fn value(key: &str) -> Bytes {
    let digits = key.bytes().map(usize::from).sum::<usize>();
    key.repeat(1 + digits % 16 * (digits % 16) * 4).into()
}

fn open(folder: &Path, durable: bool) -> (Stores, Arc<dyn Kv>) {
    let stores = Stores::new(StoresOptions {
        data: Some(folder.to_owned()),
        ..StoresOptions::default()
    });
    let stores = stores.unwrap();
    let place = Place::parse(Kind::KeyValue, &format!("embedded:?durable={durable}"));
    let kv = stores.kv(&place.unwrap(), &Scope::new("shop", "default").unwrap());
    (stores, kv.unwrap())
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
