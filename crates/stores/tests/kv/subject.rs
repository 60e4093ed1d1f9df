//! A backend under test, and the helpers that the cases share.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hostel_stores::clock::Clock;
use hostel_stores::kv::{Cursor, Kv, Page, SetOptions, When};
use hostel_stores::place::Kind;
use hostel_stores::{Place, Scope, Stores, StoresOptions};
use tokio::runtime::Builder;

/// One backend. Every subject has an app of its own, so that tests may share a server.
pub(crate) struct Subject {
    pub(crate) stores: Stores,
    place: Place,
    app: String,
    /// Drivers that keep the time themselves are told it; with a server it passes.
    clock: Option<Clock>,
    /// How many random histories are tried: a server takes longer.
    pub(crate) histories: u32,
    /// What has to live as long.
    _keep: Box<dyn Any>,
}

/// A case on an event loop of its own.
pub(crate) fn run(make: impl AsyncFnOnce() -> Subject, case: impl AsyncFnOnce(&Subject)) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let subject = make().await;
        case(&subject).await;
    });
}

impl Subject {
    pub(crate) async fn memory() -> Self {
        Self::timed("memory:", StoresOptions::default(), Box::new(()))
    }

    pub(crate) async fn embedded() -> Self {
        Self::in_folder("embedded:", |_| ())
    }

    pub(crate) async fn embedded_buffered() -> Self {
        Self::in_folder("embedded:?durable=false", |_| ())
    }

    /// Embedded, in a new folder, with other options.
    pub(crate) fn in_folder(url: &str, change: impl FnOnce(&mut StoresOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = StoresOptions {
            data: Some(folder.path().to_owned()),
            ..StoresOptions::default()
        };
        change(&mut options);
        Self::timed(url, options, Box::new(folder))
    }

    fn timed(url: &str, mut options: StoresOptions, keep: Box<dyn Any>) -> Self {
        let clock = Clock::stopped(1_700_000_000_000);
        options.clock = clock.clone();
        Self {
            clock: Some(clock),
            histories: 64,
            ..Self::new(url, options, keep)
        }
    }

    pub(crate) async fn redis() -> Self {
        let server = crate::shared::redis();
        Self::server(&server.url(), server)
    }

    pub(crate) async fn nats() -> Self {
        let server = crate::shared::nats();
        Self::server(&server.url(), server)
    }

    /// A server at this URL; `keep` is what runs it.
    pub(crate) fn server(url: &str, keep: impl Any) -> Self {
        let mut subject = Self::new(url, StoresOptions::default(), Box::new(keep));
        // The machine may be busy with other tests.
        subject.place.timeout = Duration::from_secs(30);
        subject
    }

    fn new(url: &str, options: StoresOptions, keep: Box<dyn Any>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            stores: Stores::new(options).unwrap(),
            place: Place::parse(Kind::KeyValue, url).unwrap(),
            app: format!("t{}-{number}", std::process::id()),
            clock: None,
            histories: 8,
            _keep: keep,
        }
    }

    /// The store of a label of this subject's app.
    pub(crate) fn kv(&self, label: &str) -> Arc<dyn Kv> {
        self.kv_of("", label)
    }

    /// The store of another app: this subject's with something appended.
    pub(crate) fn kv_of(&self, app: &str, label: &str) -> Arc<dyn Kv> {
        let scope = Scope::new(&format!("{}{app}", self.app), label).unwrap();
        self.stores.kv(&self.place, &scope).unwrap()
    }

    /// Lets time pass. With a server's own clock it is a little more.
    pub(crate) async fn elapse(&self, time: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(u64::try_from(time.as_millis()).unwrap()),
            None => {
                let began = Instant::now();
                while began.elapsed() < time + Duration::from_millis(100) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// Waits for what a server may do a little later, for at most ten seconds.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

pub(crate) fn if_absent() -> SetOptions {
    SetOptions {
        when: When::Absent,
        ttl: None,
    }
}

pub(crate) fn living(ttl: Duration) -> SetOptions {
    SetOptions {
        when: When::Always,
        ttl: Some(ttl),
    }
}

/// Writes without conditions.
pub(crate) async fn put(kv: &dyn Kv, key: &str, value: impl AsRef<[u8]>) {
    let written = kv.set(key, bytes(value), SetOptions::default()).await;
    assert!(written.unwrap(), "{key:?}");
}

/// The value alone.
pub(crate) async fn value(kv: &dyn Kv, key: &str) -> Option<Bytes> {
    kv.get(key).await.unwrap().map(|entry| entry.value)
}

/// All keys with a prefix, sorted and each once, in pages of this size.
pub(crate) async fn all_keys(kv: &dyn Kv, prefix: &str, limit: usize) -> Vec<String> {
    let mut keys = Vec::new();
    let mut from: Option<Cursor> = None;
    for _ in 0..10_000 {
        let Page { keys: some, next } = kv.list(prefix, from.as_ref(), limit).await.unwrap();
        assert!(some.len() <= 2 * limit, "{} keys for {limit}", some.len());
        keys.extend(some);
        from = next;
        if from.is_none() {
            keys.sort();
            keys.dedup();
            return keys;
        }
    }
    panic!("the listing does not end");
}

pub(crate) fn sorted<T: Ord + Debug>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort();
    items
}
