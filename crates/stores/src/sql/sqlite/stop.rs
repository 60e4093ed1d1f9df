//! [`Stop`]: when one statement has to end, and [`Gauge`]: how SQLite learns of it.
//!
//! SQLite asks its progress handler every thousand instructions. What it is told depends on the statement that runs at that
//! moment, so the handler looks into a cell that the connection's thread fills.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Ends one statement: at its deadline, when its caller is gone, or when it has written too much to temporary files.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) deadline: Instant,
    /// What the deadline was made of, for the message.
    pub(super) timeout: Duration,
    abandoned: AtomicBool,
    crowded: AtomicBool,
    notify: Notify,
}

impl Stop {
    pub(super) fn after(timeout: Duration) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            // A time-out beyond what a clock can tell is none.
            deadline: now
                .checked_add(timeout)
                .unwrap_or_else(|| now + Duration::from_secs(86_400)),
            timeout,
            abandoned: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            notify: Notify::new(),
        })
    }

    /// Nobody waits for this statement any more.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, SeqCst);
        // The permit is kept for a thread that is just about to wait.
        self.notify.notify_one();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(SeqCst)
    }

    /// Whether it was stopped because of its temporary files.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(SeqCst)
    }

    pub(super) fn is_due(&self) -> bool {
        self.is_abandoned() || Instant::now() >= self.deadline
    }

    /// Ready when it is abandoned or its time is over.
    pub(super) async fn due(&self) {
        if self.is_abandoned() {
            return;
        }
        let _either = tokio::time::timeout_at(self.deadline.into(), self.notify.notified()).await;
    }
}

/// Abandons a statement when its caller is gone.
#[derive(Debug)]
pub(super) struct Caller(pub(super) Arc<Stop>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// How often a running statement's writes are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What the progress handler of one connection looks at.
#[derive(Debug, Default)]
pub(super) struct Gauge(Mutex<Running>);

#[derive(Debug, Default)]
struct Running {
    stop: Option<Arc<Stop>>,
    /// What this thread may have written when the statement is stopped.
    written_max: u64,
    look: Option<Instant>,
}

impl Gauge {
    /// From now on `stop` decides; it may write so many bytes, which is what sorting and temporary tables need.
    pub(super) fn arm(&self, stop: &Arc<Stop>, bytes: u64) {
        *self.running() = Running {
            stop: Some(stop.clone()),
            written_max: written().map_or(u64::MAX, |before| before.saturating_add(bytes)),
            look: Some(Instant::now()),
        };
    }

    /// What runs now is the driver's own and is never stopped.
    pub(super) fn disarm(&self) {
        *self.running() = Running::default();
    }

    /// Asked by SQLite: whether the running statement must end.
    pub(super) fn must_end(&self) -> bool {
        let mut running = self.running();
        let Some(stop) = running.stop.clone() else {
            return false;
        };
        let now = Instant::now();
        if stop.is_abandoned() || now >= stop.deadline {
            return true;
        }
        if running.look.is_some_and(|look| now >= look + LOOK) {
            running.look = Some(now);
            if written().is_some_and(|bytes| bytes > running.written_max) {
                stop.crowded.store(true, SeqCst);
                return true;
            }
        }
        false
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that the calling thread has written to files so far. SQLite itself has no bound for the temporary files of a
/// statement, and they have no name to look at; `None` where the kernel does not count.
fn written() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    let line = counters
        .lines()
        .find_map(|line| line.strip_prefix("wchar: "))?;
    line.trim().parse().ok()
}
