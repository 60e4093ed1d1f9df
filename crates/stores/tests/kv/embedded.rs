//! What the embedded driver promises beyond the contract: the file outlives the process, memory in front of it is never old,
//! and several writes are all or none.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hostel_stores::clock::Clock;
use hostel_stores::kv::{Error, Kv, SetOptions, When};
use hostel_stores::place::Kind;
use hostel_stores::{Failure, Place, Scope, Stores, StoresOptions};
use tokio::runtime::{Builder, Runtime};

use super::subject::{Subject, all_keys, bytes, eventually, living, put, value};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn open(folder: &Path) -> (Stores, Arc<dyn Kv>) {
    let stores = Stores::new(StoresOptions {
        data: Some(folder.to_owned()),
        ..StoresOptions::default()
    });
    let stores = stores.unwrap();
    let scope = Scope::new("shop", "default").unwrap();
    let kv = stores.kv(&Place::embedded(Kind::KeyValue), &scope).unwrap();
    (stores, kv)
}

#[test]
fn values_and_versions_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (stores, kv) = open(folder.path());
        put(&*kv, "a", "1").await;
        put(&*kv, "b", "1").await;
        kv.set("mortal", bytes("1"), living(Duration::from_secs(3600)))
            .await
            .unwrap();
        let (a, b) = (
            kv.get("a").await.unwrap(),
            kv.get("b").await.unwrap().unwrap(),
        );
        kv.delete("b", When::Always).await.unwrap();
        drop((stores, kv));

        let (_stores, kv) = open(folder.path());
        assert_eq!(kv.get("a").await, Ok(a));
        assert!(value(&*kv, "mortal").await.is_some());
        // The last version of all was deleted; it is not given again.
        put(&*kv, "b", "1").await;
        assert_ne!(kv.get("b").await.unwrap().unwrap().version, b.version);
    });
}

#[test]
fn without_a_data_directory_there_is_no_store() {
    let stores = Stores::new(StoresOptions::default()).unwrap();
    let scope = Scope::new("shop", "default").unwrap();
    let error = stores
        .kv(&Place::embedded(Kind::KeyValue), &scope)
        .unwrap_err();
    assert!(error.what.contains("there is no data directory"), "{error}");
    assert!(error.help.contains("data directory"), "{}", error.help);
}

#[test]
fn keys_and_values_are_bounded() {
    let subject = Subject::in_folder("embedded:", |options| {
        (options.kv.key_bytes, options.kv.value_bytes) = (10, 100);
    });
    let kv = subject.kv("default");
    runtime().block_on(async {
        put(&*kv, "0123456789", vec![0; 100]).await;
        let too_large = |what, bytes, most| Error::TooLarge { what, bytes, most };
        let value = kv
            .set("a", vec![0; 101].into(), SetOptions::default())
            .await;
        assert_eq!(value, Err(too_large("a value", 101, 100)));
        let key = kv.increment("0123456789a", 1).await;
        assert_eq!(key, Err(too_large("a key", 11, 10)));
        let many = kv.set_many(vec![
            ("a".into(), bytes("1")),
            ("b".into(), vec![0; 101].into()),
        ]);
        assert_eq!(many.await, Err(too_large("a value", 101, 100)));
        assert_eq!(all_keys(&*kv, "", 100).await, ["0123456789"]);
    });
}

#[test]
fn several_writes_are_all_or_none() {
    let subject = Subject::in_folder("embedded:", |options| options.engine.file_bytes = 1 << 20);
    let kv = subject.kv("default");
    runtime().block_on(async {
        let some = |count: usize, size: usize| {
            let entry = move |number| (format!("many-{number:03}"), vec![1; size].into());
            (0..count).map(entry).collect::<Vec<_>>()
        };
        let failed = kv.set_many(some(100, 30_000)).await.unwrap_err();
        assert!(
            matches!(failed, Error::Failed(Failure::Full(_))),
            "{failed:?}"
        );
        assert_eq!(all_keys(&*kv, "", 100).await, Vec::<String>::new());
        assert_eq!(value(&*kv, "many-000").await, None);
        // There is room again for what fits.
        kv.set_many(some(5, 30_000)).await.unwrap();
        assert_eq!(all_keys(&*kv, "", 100).await.len(), 5);
        // What failed did not leave anything in memory either.
        let failed = kv
            .set("many-000", vec![2; 2 << 20].into(), SetOptions::default())
            .await;
        assert!(
            matches!(failed, Err(Error::Failed(Failure::Full(_)))),
            "{failed:?}"
        );
        assert_eq!(value(&*kv, "many-000").await, Some(vec![1; 30_000].into()));
    });
}

#[test]
fn what_is_over_leaves_the_file_in_the_background() {
    let clock = Clock::stopped(1_700_000_000_000);
    let (told, folder) = (clock.clone(), tempfile::tempdir().unwrap());
    let options = StoresOptions {
        data: Some(folder.path().to_owned()),
        clock: told,
        ..StoresOptions::default()
    };
    let stores = Stores::new(options).unwrap();
    let scope = Scope::new("shop", "default").unwrap();
    let kv = stores.kv(&Place::embedded(Kind::KeyValue), &scope).unwrap();
    let rows = async || {
        let count = |connection: &rusqlite::Connection| {
            connection.query_row("SELECT count(*) FROM kv", [], |row| row.get::<_, i64>(0))
        };
        stores.engine("shop").unwrap().read(count).await.unwrap()
    };
    runtime().block_on(async {
        put(&*kv, "stays", "1").await;
        let sets = (0..600).map(|number| {
            let (kv, key) = (&kv, format!("mortal-{number}"));
            async move {
                kv.set(&key, bytes("1"), living(Duration::from_secs(5)))
                    .await
            }
        });
        futures::future::join_all(sets).await;
        assert_eq!(rows().await, 601);
        clock.advance(5_000);
        assert_eq!(all_keys(&*kv, "", 1000).await, ["stays"]);
        eventually("the rows are gone", async || rows().await == 1).await;
        // A second time, after the sweep had nothing more to do.
        kv.set("mortal", bytes("1"), living(Duration::from_secs(5)))
            .await
            .unwrap();
        clock.advance(5_000);
        eventually("and again", async || rows().await == 1).await;
    });
}

/// Few keys, little memory, readers that miss all the time: nobody ever reads less than what was acknowledged before.
#[test]
fn memory_in_front_of_the_file_is_never_old() {
    const KEYS: usize = 8;
    let subject = Subject::in_folder("embedded:?durable=false", |options| {
        options.kv.cache_bytes = 4 << 10;
    });
    let acknowledged: Arc<[AtomicU64]> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|reader| {
            let (kv, over) = (subject.kv("default"), over.clone());
            let acknowledged = acknowledged.clone();
            thread::spawn(move || {
                runtime().block_on(async move {
                    let mut reads = 0_usize;
                    let mut seen = [0; KEYS];
                    while !over.load(Ordering::SeqCst) {
                        let key = (reads + reader) % KEYS;
                        let least = acknowledged[key].load(Ordering::SeqCst).max(seen[key]);
                        let read = value(&*kv, &format!("key-{key}")).await;
                        let read = read.map_or(0, |read| number(&read));
                        assert!(read >= least, "{read} after {least}");
                        seen[key] = read;
                        // Others push the keys out of memory.
                        let _ = kv.get(&format!("filler-{}", reads % 100)).await;
                        reads += 1;
                    }
                    reads
                })
            })
        })
        .collect();
    let kv = subject.kv("default");
    runtime().block_on(async {
        for round in 1..=5000_u64 {
            let key = usize::try_from(round).unwrap() % KEYS;
            match round % 5 {
                0 => {
                    let entries = vec![(format!("key-{key}"), bytes(round.to_string()))];
                    kv.set_many(entries).await.unwrap();
                }
                _ => put(&*kv, &format!("key-{key}"), round.to_string()).await,
            }
            acknowledged[key].store(round, Ordering::SeqCst);
        }
    });
    over.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
    // And what stays in memory at the end is the last.
    runtime().block_on(async {
        for (key, last) in acknowledged.iter().enumerate() {
            let read = value(&*kv, &format!("key-{key}")).await.unwrap();
            assert_eq!(number(&read), last.load(Ordering::SeqCst));
        }
    });
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}
