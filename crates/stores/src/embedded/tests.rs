//! What the engine promises, on real files.

use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use futures::FutureExt as _;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::*;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn insert(key: &'static str) -> impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static {
    move |connection| {
        let text = "INSERT INTO kv (label, key, value) VALUES ('l', ?1, x'00')";
        connection.execute(text, [key.as_bytes()]).map(drop)
    }
}

fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM kv", [], |row| row.get(0))
}

#[test]
fn what_was_written_is_there_after_it_was_opened_again() {
    let folder = folder();
    runtime().block_on(async {
        let engine = Engine::open(&folder.path().join("new/shop")).unwrap();
        engine.write(insert("a")).await.unwrap();
        assert_eq!(engine.read(count).await, Ok(1));
        drop(engine);
        let engine = Engine::open(&folder.path().join("new/shop")).unwrap();
        assert_eq!(engine.read(count).await, Ok(1));
    });
}

#[test]
fn writes_that_wait_share_a_commit_and_fail_alone() {
    let folder = folder();
    let engine = Engine::open(folder.path()).unwrap();
    let (engine, began) = (&engine, Arc::new(Barrier::new(2)));
    let seen = Arc::new(AtomicUsize::new(0));
    runtime().block_on(async {
        let before = engine.commits();
        // Holds the writer until all others wait.
        let hold = began.clone();
        let first = engine.write(move |_| {
            hold.wait();
            Ok(())
        });
        let others = (0..100).map(|number| {
            let (engine, order) = (&engine, seen.clone());
            async move {
                let work = move |connection: &Connection| {
                    if number % 10 == 3 {
                        insert("taken")(connection)?;
                        return Err(rusqlite::Error::QueryReturnedNoRows);
                    }
                    assert!(number % 10 != 7, "this one panics");
                    let text = "INSERT INTO kv (label, key, value) VALUES ('l', ?1, x'00')";
                    connection.execute(text, [format!("{number}").as_bytes()])
                };
                let then = move |_: Option<&usize>| {
                    order.fetch_add(1, Ordering::SeqCst);
                };
                engine.write_as(Durability::Synced, work, then).await
            }
        });
        let release = async {
            while engine.0.writes.waiting() < 100 {
                tokio::task::yield_now().await;
            }
            began.wait();
        };
        let (first, others, ()) = tokio::join!(first, futures::future::join_all(others), release);
        first.unwrap();
        let failed = others.iter().filter(|other| other.is_err()).count();
        assert_eq!(
            (failed, others[3].is_err(), others[7].is_err()),
            (20, true, true)
        );
        assert_eq!(engine.read(count).await, Ok(80));
        assert_eq!(seen.load(Ordering::SeqCst), 80);
        let shared = engine.commits() - before;
        assert!((1..=3).contains(&shared), "{shared} commits");
    });
}

#[test]
fn a_panic_costs_the_operation_and_not_the_thread() {
    let folder = folder();
    let engine = Engine::open(folder.path()).unwrap();
    runtime().block_on(async {
        for _ in 0..3 {
            let broken = Err(Failure::Broken("the operation panicked".to_owned()));
            let write: Result<(), _> = engine.write(|_| panic!("a write")).await;
            assert_eq!(write, broken);
            let read: Result<(), _> = engine.read(|_| panic!("a read")).await;
            assert_eq!(read, broken);
            let hook = |_: Option<&()>| panic!("a hook");
            let then = engine.write_as(Durability::Synced, |_| Ok(()), hook).await;
            assert_eq!(then, Ok(()));
        }
        engine.write(insert("a")).await.unwrap();
        assert_eq!(engine.read(count).await, Ok(1));
    });
}

#[test]
fn a_reader_changes_nothing() {
    let folder = folder();
    let engine = Engine::open(folder.path()).unwrap();
    runtime().block_on(async {
        assert!(engine.read(insert("a")).await.is_err());
        assert_eq!(engine.read(count).await, Ok(0));
    });
}

#[test]
fn a_second_user_of_the_folder_is_told_and_gets_it_when_the_first_ends() {
    let folder = folder();
    let first = Engine::open(folder.path()).unwrap();
    let second = Engine::new(folder.path(), EngineOptions::default());
    runtime().block_on(async {
        let Err(Failure::Unavailable(text)) = second.write(insert("a")).await else {
            panic!("two at once");
        };
        assert!(text.contains("is in use by another process"), "{text}");
        assert!(text.contains("another data directory"), "{text}");
        drop(first);
        eventually(|| async { second.write(insert("a")).await.is_ok() }).await;
    });
}

#[test]
fn a_full_file_is_a_failure_and_over_when_there_is_room() {
    let folder = folder();
    let options = EngineOptions {
        file_bytes: 1 << 20,
        ..EngineOptions::default()
    };
    let engine = Engine::new(folder.path(), options);
    runtime().block_on(async {
        let fill = |connection: &Connection| {
            let text =
                "INSERT INTO kv (label, key, value) VALUES ('l', randomblob(16), zeroblob(65536))";
            connection.execute(text, [])
        };
        let mut written = 0;
        let full = loop {
            match engine.write(fill).await {
                Ok(_) => written += 1,
                Err(failure) => break failure,
            }
        };
        assert!(
            matches!(&full, Failure::Full(text) if text.contains("no room")),
            "{full}"
        );
        assert_eq!(engine.read(count).await, Ok(written));
        // What is small may still find room, and in any case what is there is read and deleted.
        let clear = |connection: &Connection| connection.execute("DELETE FROM kv", []);
        engine.write(clear).await.unwrap();
        engine.write(fill).await.unwrap();
        assert_eq!(engine.read(count).await, Ok(1));
    });
}

#[test]
fn a_damaged_file_is_named_and_used_again_when_it_is_mended() {
    let folder = folder();
    let path = folder.path().join("store.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let engine = Engine::new(folder.path(), EngineOptions::default());
    runtime().block_on(async {
        let Err(Failure::Broken(text)) = engine.read(count).await else {
            panic!("it was read");
        };
        assert!(text.contains("store.db is damaged"), "{text}");
        assert!(text.contains("restore it, or move it away"), "{text}");
        std::fs::remove_file(&path).unwrap();
        eventually(|| async { engine.write(insert("a")).await.is_ok() }).await;
    });
}

#[test]
fn a_file_of_a_later_release_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("store.db");
    let later = Connection::open(&path).unwrap();
    later
        .pragma_update(None, "user_version", 1_000_000)
        .unwrap();
    drop(later);
    let Err(Failure::Broken(text)) = Engine::open(folder.path()) else {
        panic!("it was opened");
    };
    assert!(text.contains("later release (format 1000000"), "{text}");
}

#[test]
fn a_folder_that_is_none_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let Err(Failure::Unavailable(text)) = Engine::open(&file.join("shop")) else {
        panic!("it was opened");
    };
    assert!(text.contains("file/shop cannot be used"), "{text}");
    assert!(text.contains("another data directory"), "{text}");
}

#[test]
fn a_dropped_caller_neither_stops_nor_breaks_anything() {
    let folder = folder();
    let engine = Engine::open(folder.path()).unwrap();
    runtime().block_on(async {
        for number in 0..50 {
            let work = move |connection: &Connection| {
                let text = "INSERT INTO kv (label, key, value) VALUES ('l', ?1, x'00')";
                connection.execute(text, [format!("{number}").as_bytes()])
            };
            let mut write = Box::pin(engine.write(work));
            assert!((&mut write).now_or_never().is_none());
        }
        engine.write(insert("last")).await.unwrap();
        assert_eq!(engine.read(count).await, Ok(51));
    });
}

#[test]
fn buffered_writes_are_seen_at_once_and_kept() {
    let folder = folder();
    let engine = Engine::open(folder.path()).unwrap();
    runtime().block_on(async {
        for (key, durability) in [
            ("a", Durability::Buffered),
            ("b", Durability::Synced),
            ("c", Durability::Buffered),
        ] {
            engine
                .write_as(durability, insert(key), |_| ())
                .await
                .unwrap();
        }
        assert_eq!(engine.read(count).await, Ok(3));
        drop(engine);
        let engine = Engine::open(folder.path()).unwrap();
        assert_eq!(engine.read(count).await, Ok(3));
    });
}

/// What an acknowledgement means is SQLite's to keep; this is what it was asked for.
#[test]
fn each_durability_asks_for_what_it_promises() {
    let folder = folder();
    let engine = Engine::open(folder.path()).unwrap();
    let asked = |connection: &Connection| {
        let level =
            connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?;
        let journal: String =
            connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        Ok((level, journal))
    };
    runtime().block_on(async {
        for durability in [Durability::Synced, Durability::Buffered, Durability::Synced] {
            let level = if durability == Durability::Synced {
                2
            } else {
                1
            };
            let answer = engine.write_as(durability, asked, |_| ()).await;
            assert_eq!(answer, Ok((level, "wal".to_owned())));
        }
    });
}

#[test]
fn a_group_is_bounded() {
    let folder = folder();
    let options = EngineOptions {
        group: 10,
        ..EngineOptions::default()
    };
    let engine = Engine::new(folder.path(), options);
    runtime().block_on(async {
        let writes = futures::future::join_all((0..100).map(|_| engine.write(|_| Ok(()))));
        assert!(writes.await.iter().all(Result::is_ok));
        assert!(engine.commits() >= 10, "{}", engine.commits());
    });
}

#[test]
fn readers_are_as_many_as_were_asked_for() {
    let folder = folder();
    let options = EngineOptions {
        readers: 3,
        ..EngineOptions::default()
    };
    let engine = Engine::new(folder.path(), options);
    runtime().block_on(async {
        let (held, here) = (Arc::new(Barrier::new(4)), Arc::new(AtomicUsize::new(0)));
        let reads = (0..4).map(|_| {
            let (held, here) = (held.clone(), here.clone());
            engine.read(move |_| {
                if here.fetch_add(1, Ordering::SeqCst) < 3 {
                    held.wait();
                }
                Ok(())
            })
        });
        let release = async {
            // Three are inside, and the fourth waits in the queue.
            while here.load(Ordering::SeqCst) < 3 || engine.0.reads.waiting() != 1 {
                tokio::task::yield_now().await;
            }
            held.wait();
        };
        let (reads, ()) = tokio::join!(futures::future::join_all(reads), release);
        assert!(reads.iter().all(Result::is_ok));
    });
}

#[test]
fn reads_that_wait_are_bounded_and_none_is_lost() {
    let folder = folder();
    let options = EngineOptions {
        reads_waiting: 4,
        readers: 1,
        ..EngineOptions::default()
    };
    let engine = Engine::new(folder.path(), options);
    runtime().block_on(async {
        let began = Arc::new(Barrier::new(2));
        let hold = began.clone();
        let held = engine.read(move |_| {
            hold.wait();
            Ok(0)
        });
        let reads = futures::future::join_all((0..100).map(|_| engine.read(count)));
        let release = async {
            while engine.0.reads.waiting() < 4 {
                tokio::task::yield_now().await;
            }
            assert_eq!(engine.0.reads.waiting(), 4);
            began.wait();
        };
        let (_, reads, ()) = tokio::join!(held, reads, release);
        assert!(reads.iter().all(|read| *read == Ok(0)));
    });
}

#[test]
fn a_full_queue_makes_callers_wait_and_loses_none() {
    let folder = folder();
    let options = EngineOptions {
        writes_waiting: 4,
        group: 3,
        ..EngineOptions::default()
    };
    let engine = Engine::new(folder.path(), options);
    runtime().block_on(async {
        let writes = (0..200).map(|number| {
            engine.write(move |connection| {
                let text = "INSERT INTO kv (label, key, value) VALUES ('l', ?1, x'00')";
                connection.execute(text, [format!("{number}").as_bytes()])
            })
        });
        let written = futures::future::join_all(writes).await;
        assert!(written.iter().all(Result::is_ok));
        assert!(engine.0.writes.waiting() <= 4);
        assert_eq!(engine.read(count).await, Ok(200));
    });
}

/// Until it holds, for at most ten seconds.
async fn eventually<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(10), "it never did");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
