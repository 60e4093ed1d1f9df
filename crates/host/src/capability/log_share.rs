//! One app's part of the log: how fast it may write, how much of the queue it may hold, how many of its faults are
//! told, and what of it was lost and has not been reported yet. Whatever one app does with its part, the other apps
//! and the host keep theirs.
//!
//! Nothing here waits or allocates: a line that has no place is refused, and who refuses it counts it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hostel_app::limits;

use super::fault_log::FaultWindow;
use crate::lock::lock;

/// What a line costs besides its bytes, so that empty lines have a price too.
pub(super) const LINE_COST: usize = 32;

/// So much of its rate may an app save up and use at once.
const BURST: Duration = Duration::from_secs(1);

/// Why a line was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its app wrote more than its rate.
    Rate,
    /// The log is not read as fast as it is written.
    Unread,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Share {
    /// The app's name; `None` is the host itself, whose rate is bounded by what it has to say.
    app: Option<Arc<str>>,
    clock: Instant,
    /// The moment at which everything written so far is paid for, in nanoseconds of `clock`.
    paid_at: AtomicU64,
    lines: AtomicUsize,
    bytes: AtomicUsize,
    over_rate: AtomicU64,
    unread: AtomicU64,
    faults: Mutex<FaultWindow>,
    faults_left_out: AtomicU64,
    /// Whether the writer knows that something is to be reported.
    noted: AtomicBool,
}

impl Share {
    pub(super) fn new(app: Option<Arc<str>>) -> Self {
        Self {
            app,
            clock: Instant::now(),
            paid_at: AtomicU64::new(0),
            lines: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            over_rate: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            faults: Mutex::new(FaultWindow::new()),
            faults_left_out: AtomicU64::new(0),
            noted: AtomicBool::new(false),
        }
    }

    /// Whether a line of so many bytes is within the rate. It is not paid for yet: this spares the work of preparing a
    /// line that will be dropped.
    pub(super) fn affords(&self, bytes: usize) -> bool {
        self.paid_after(self.paid_at.load(Relaxed), bytes, self.now())
            .is_some()
    }

    /// Pays for a line; `false` is a line beyond the rate.
    pub(super) fn pay(&self, bytes: usize) -> bool {
        self.pay_at(bytes, self.now())
    }

    fn pay_at(&self, bytes: usize, now: u64) -> bool {
        self.paid_at
            .fetch_update(Relaxed, Relaxed, |paid_at| {
                self.paid_after(paid_at, bytes, now)
            })
            .is_ok()
    }

    fn paid_after(&self, paid_at: u64, bytes: usize, now: u64) -> Option<u64> {
        if self.app.is_none() {
            return Some(paid_at);
        }
        let bytes = bytes.saturating_add(LINE_COST) as u64;
        let cost = bytes.saturating_mul(1_000_000_000) / limits::LOG_RATE.default;
        let after = paid_at.max(now).saturating_add(cost);
        (after <= now.saturating_add(nanos(BURST))).then_some(after)
    }

    fn now(&self) -> u64 {
        nanos(self.clock.elapsed())
    }

    /// Counts a line that was lost.
    pub(super) fn lost(&self, cause: Cause) {
        let counter = match cause {
            Cause::Rate => &self.over_rate,
            Cause::Unread => &self.unread,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Whether a line about a fault may be written now; if not, it is counted.
    pub(super) fn admits_fault(&self) -> bool {
        let admitted = lock(&self.faults).admit(Instant::now());
        if !admitted {
            self.faults_left_out.fetch_add(1, Relaxed);
        }
        admitted
    }

    /// Marks that there is something to report; `true` for who marked it first.
    fn note(&self) -> bool {
        !self.noted.swap(true, SeqCst)
    }

    /// What has been lost since the last time, as sentences for the operator.
    fn settle(&self) -> Vec<String> {
        // First: what is lost from here on is noted again.
        self.noted.store(false, SeqCst);
        let (rate, unread) = (
            self.over_rate.swap(0, Relaxed),
            self.unread.swap(0, Relaxed),
        );
        let faults = self.faults_left_out.swap(0, Relaxed);
        let mut lines = Vec::new();
        let beyond = format!("{rate} beyond {}", limits::LOG_RATE.shown());
        let slow = format!("{unread} because the log is not read fast enough");
        match (rate, unread) {
            (0, 0) => {}
            (0, lost) => lines.push(format!("{lost} log lines of {self} were lost: {slow}")),
            (lost, 0) => lines.push(format!("{lost} log lines of {self} were lost: {beyond}")),
            (rate, unread) => {
                let lost = rate.saturating_add(unread);
                lines.push(format!(
                    "{lost} log lines of {self} were lost: {beyond}, {slow}"
                ));
            }
        }
        if faults > 0 {
            lines.push(format!("{faults} more faults of {self} were not logged"));
        }
        lines
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.app {
            Some(app) => write!(f, "app {app}"),
            None => f.write_str("the host"),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What waits to be written, over all shares, and who has lost something since the last report.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    lines: AtomicUsize,
    bytes: AtomicUsize,
    lost: AtomicU64,
    losers: Mutex<Vec<Arc<Share>>>,
}

impl Backlog {
    /// Takes a place for one line. A share may hold no more than what is still free for the others: alone it gets one
    /// half, and however many flood the log, a newcomer finds room.
    pub(super) fn enter(&self, share: &Share, bytes: usize) -> bool {
        let lines = self.lines.fetch_add(1, Relaxed) + share.lines.fetch_add(1, Relaxed);
        let waiting = self.bytes.fetch_add(bytes, Relaxed)
            + share.bytes.fetch_add(bytes, Relaxed)
            + 2 * bytes;
        let fits =
            lines < limits::LOG_QUEUE_LINES.size() && waiting <= limits::LOG_QUEUE_BYTES.size();
        if !fits {
            self.leave(share, bytes);
        }
        fits
    }

    /// Gives the place back.
    pub(super) fn leave(&self, share: &Share, bytes: usize) {
        self.lines.fetch_sub(1, Relaxed);
        share.lines.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
        share.bytes.fetch_sub(bytes, Relaxed);
    }

    /// Counts a lost line; `true` where the writer has to be told that there is something to report.
    pub(super) fn lost(&self, share: &Arc<Share>, cause: Cause) -> bool {
        self.lost.fetch_add(1, Relaxed);
        share.lost(cause);
        self.note(share)
    }

    /// Lines lost so far, of all shares.
    pub(super) fn lost_so_far(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Puts a share on the list of those that have something to report; `true` if it was not there.
    pub(super) fn note(&self, share: &Arc<Share>) -> bool {
        let first = share.note();
        if first {
            lock(&self.losers).push(share.clone());
        }
        first
    }

    /// Whether anybody has something to report.
    pub(super) fn has_losers(&self) -> bool {
        !lock(&self.losers).is_empty()
    }

    /// What is to be reported, a line each.
    pub(super) fn settle(&self) -> Vec<String> {
        let losers = std::mem::take(&mut *lock(&self.losers));
        losers.iter().flat_map(|share| share.settle()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(app: &str) -> Share {
        Share::new(Some(app.into()))
    }

    /// Lines of this length that are paid for at once.
    fn burst(share: &Share, bytes: usize, now: u64) -> usize {
        (0..1_000_000)
            .take_while(|_| share.pay_at(bytes, now))
            .count()
    }

    #[test]
    fn an_app_may_write_a_second_s_worth_at_once_and_then_its_rate() {
        let (share, second) = (share("a"), nanos(BURST));
        let bytes = 1000;
        let per_second = limits::LOG_RATE.size() / (bytes + LINE_COST);
        assert_eq!(burst(&share, bytes, 0), per_second);
        assert_eq!(burst(&share, bytes, second / 2), per_second / 2);
        // What was not used is not saved for longer than a second.
        assert_eq!(burst(&share, bytes, 100 * second), per_second);
    }

    #[test]
    fn empty_lines_have_a_price() {
        let lines = burst(&share("a"), 0, 0);
        assert_eq!(lines, limits::LOG_RATE.size() / LINE_COST);
    }

    #[test]
    fn one_share_leaves_half_of_the_queue_and_many_leave_room_for_one_more() {
        let backlog = Backlog::default();
        let flood = |share: &Share, bytes: usize| {
            (0..)
                .take_while(|_| backlog.enter(share, bytes))
                .take(1_000_000)
                .count()
        };
        let first = share("first");
        assert_eq!(flood(&first, 1), limits::LOG_QUEUE_LINES.size() / 2);
        let others: Vec<Share> = (0..4).map(|_| share("other")).collect();
        for other in &others {
            assert!(flood(other, 1) > 0, "nothing was left");
        }
        for _ in 0..limits::LOG_QUEUE_LINES.size() / 2 {
            backlog.leave(&first, 1);
        }
        assert!(backlog.enter(&first, 1));
        let long = share("long");
        let half = limits::LOG_QUEUE_BYTES.size() / 2;
        assert!(!backlog.enter(&long, half + 1));
        assert!(flood(&long, half / 4) >= 3);
    }

    #[test]
    fn what_was_lost_is_told_once_with_its_causes() {
        let backlog = Backlog::default();
        let shop = Arc::new(share("shop"));
        assert!(backlog.lost(&shop, Cause::Rate));
        assert!(!backlog.lost(&shop, Cause::Rate), "told twice");
        assert!(!backlog.lost(&shop, Cause::Unread));
        let host = Arc::new(Share::new(None));
        assert!(backlog.lost(&host, Cause::Unread));
        assert_eq!(
            backlog.settle(),
            [
                "3 log lines of app shop were lost: 2 beyond 1MiB/s, 1 because the log is not read fast enough",
                "1 log lines of the host were lost: 1 because the log is not read fast enough"
            ]
        );
        assert!(!backlog.has_losers());
        assert_eq!((backlog.settle().len(), backlog.lost_so_far()), (0, 4));
        assert!(backlog.lost(&shop, Cause::Rate), "a later loss is told too");
    }
}
