//! What holds when many do the same at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use futures::FutureExt as _;
use futures::future::join_all;
use hostel_stores::kv::{Kv, SetOptions, When};
use tokio::runtime::Builder;

use super::subject::{Subject, bytes, if_absent, put, value};

/// Runs something on a thread with an event loop of its own, as the serving threads have.
fn on_thread<F>(work: impl FnOnce() -> F + Send + 'static) -> thread::JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static>,
{
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work())
    })
}

async fn joined<T>(thread: thread::JoinHandle<T>) -> T {
    while !thread.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    thread.join().unwrap()
}

pub(crate) async fn every_increment_counts(subject: &Subject) {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let kv = subject.kv("default");
            on_thread(move || async move {
                let tasks = (0..25).map(|_| async {
                    for _ in 0..10 {
                        kv.increment("n", 1).await.unwrap();
                    }
                });
                join_all(tasks).await;
            })
        })
        .collect();
    for thread in threads {
        joined(thread).await;
    }
    let kv = subject.kv("default");
    assert_eq!(value(&*kv, "n").await, Some(bytes("1000")));
}

pub(crate) async fn one_of_many_wins(subject: &Subject) {
    let kv = subject.kv("default");
    for round in 0..5 {
        let key = format!("race-{round}");
        let tries = (0..32).map(|number| kv.set(&key, bytes(format!("{number}")), if_absent()));
        let won = join_all(tries).await;
        let winners: Vec<_> = (0..32).filter(|number| won[*number] == Ok(true)).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(value(&*kv, &key).await, Some(bytes(winners[0].to_string())));

        let then = kv.get(&key).await.unwrap().unwrap();
        let unchanged = || SetOptions {
            when: When::Unchanged(then.clone()),
            ttl: None,
        };
        let tries = (100..132).map(|number| kv.set(&key, bytes(format!("{number}")), unchanged()));
        let won = join_all(tries).await;
        assert_eq!(won.iter().filter(|won| **won == Ok(true)).count(), 1);

        let then = kv.get(&key).await.unwrap().unwrap();
        let deletes = (0..16).map(|_| kv.delete(&key, When::Unchanged(then.clone())));
        let won = join_all(deletes).await;
        assert_eq!(won.iter().filter(|won| **won == Ok(true)).count(), 1);
    }
}

pub(crate) async fn compare_and_swap_loses_nothing(subject: &Subject) {
    put(&*subject.kv("default"), "n", "0").await;
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let kv = subject.kv("default");
            on_thread(move || async move {
                for _ in 0..25 {
                    while !add_one(&*kv).await {}
                }
            })
        })
        .collect();
    for thread in threads {
        joined(thread).await;
    }
    let kv = subject.kv("default");
    assert_eq!(value(&*kv, "n").await, Some(bytes("100")));
}

async fn add_one(kv: &dyn Kv) -> bool {
    let entry = kv.get("n").await.unwrap().unwrap();
    let number: u32 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
    let unchanged = SetOptions {
        when: When::Unchanged(entry),
        ttl: None,
    };
    kv.set("n", bytes((number + 1).to_string()), unchanged)
        .await
        .unwrap()
}

/// One writes numbers that grow and says how far it got; the others never read less.
pub(crate) async fn a_write_is_seen_by_all_handles(subject: &Subject) {
    const LAST: u64 = 300;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (kv, acknowledged) = (subject.kv("default"), acknowledged.clone());
            on_thread(move || async move {
                let mut before = 0;
                while before < LAST {
                    let least = acknowledged.load(Ordering::SeqCst).max(before);
                    let read = value(&*kv, "n").await;
                    let read = read.map_or(0, |read| {
                        std::str::from_utf8(&read).unwrap().parse::<u64>().unwrap()
                    });
                    assert!(read >= least, "{read} after {least}");
                    before = read;
                }
            })
        })
        .collect();
    let kv = subject.kv("default");
    for number in 1..=LAST {
        put(&*kv, "n", number.to_string()).await;
        acknowledged.store(number, Ordering::SeqCst);
    }
    for reader in readers {
        joined(reader).await;
    }
}

pub(crate) async fn values_are_never_torn(subject: &Subject) {
    let done = Arc::new(AtomicBool::new(false));
    put(&*subject.kv("default"), "a", vec![0; 50_000]).await;
    let reader = {
        let (kv, done) = (subject.kv("default"), done.clone());
        on_thread(move || async move {
            let mut reads = 0;
            while !done.load(Ordering::SeqCst) || reads == 0 {
                let read = value(&*kv, "a").await.unwrap();
                assert!(read.iter().all(|byte| *byte == read[0]), "torn");
                assert_eq!(read.len(), 50_000 + usize::from(read[0]));
                reads += 1;
            }
        })
    };
    let kv = subject.kv("default");
    let writers = (0..4u8).map(|writer| {
        let kv = &kv;
        async move {
            for round in 0..15u8 {
                let byte = writer * 15 + round;
                put(&**kv, "a", vec![byte; 50_000 + usize::from(byte)]).await;
            }
        }
    });
    join_all(writers).await;
    done.store(true, Ordering::SeqCst);
    joined(reader).await;
}

pub(crate) async fn dropped_calls_leave_whole_values(subject: &Subject) {
    let kv = subject.kv("default");
    put(&*kv, "a", vec![b'0'; 10_000]).await;
    for round in 0..20u8 {
        let byte = b'a' + round;
        {
            // Polled once, and left.
            let mut write = kv.set("a", vec![byte; 10_000].into(), SetOptions::default());
            let _ = (&mut write).now_or_never();
            let mut sum = kv.increment("n", 1);
            let _ = (&mut sum).now_or_never();
            let mut read = kv.get("a");
            let _ = (&mut read).now_or_never();
        }
        let read = value(&*kv, "a").await.unwrap();
        assert!(
            read.len() == 10_000 && read.iter().all(|other| *other == read[0]),
            "torn"
        );
    }
    put(&*kv, "a", "last").await;
    put(&*kv, "n", "0").await;
    assert_eq!(kv.increment("n", 1).await, Ok(1));
    assert_eq!(value(&*kv, "a").await, Some(bytes("last")));
}
