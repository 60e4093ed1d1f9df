//! What one call or instance uses, and the moment at which it has used too much.
//!
//! [`Meter`] sits in the store and says no when memory or tables would outgrow their limit; the sum counts, not the
//! single memory. [`Clock`] wraps every poll of a running guest and ends it at its deadline or when its CPU is spent.
//! Handles, host calls, header and random sizes are bounded by the library that owns them: `state` sets those.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hostel_app::limits::Limits;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Sleep, sleep_until};
use wasmtime::{ResourceLimiter, Result};

use crate::fault::Fault;

/// Sums the memories and tables of one store.
#[derive(Debug)]
pub(crate) struct Meter {
    memory_bytes: usize,
    memory_bytes_max: usize,
    memory_refused: bool,
    table_elements: usize,
    table_elements_max: usize,
}

impl Meter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes: 0,
            memory_bytes_max: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
            memory_refused: false,
            table_elements: 0,
            table_elements_max: limits.table_elements as usize,
        }
    }

    /// Whether the guest was ever told no: a trap after that is called a memory fault.
    pub(crate) fn memory_refused(&self) -> bool {
        self.memory_refused
    }

    /// The limit that refused it, in bytes.
    pub(crate) fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes_max as u64
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let total = self
            .memory_bytes
            .saturating_add(desired.saturating_sub(current));
        let within_own_maximum = maximum.is_none_or(|maximum| desired <= maximum);
        if total > self.memory_bytes_max {
            self.memory_refused = true;
            return Ok(false);
        }
        if within_own_maximum {
            self.memory_bytes = total;
        }
        Ok(within_own_maximum)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let total = self
            .table_elements
            .saturating_add(desired.saturating_sub(current));
        let allowed =
            total <= self.table_elements_max && maximum.is_none_or(|maximum| desired <= maximum);
        if allowed {
            self.table_elements = total;
        }
        Ok(allowed)
    }
}

/// The wall clock and the CPU time of one call.
///
/// A guest that never waits is interrupted at every epoch tick, so a loop is noticed within one tick after its
/// budget ends. The first few polls are charged by the wall clock, which is exact enough for a few ticks and saves two
/// system calls per poll on every short request; later polls are charged by the thread's CPU clock.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    deadline: Option<Duration>,
    cpu: Option<Duration>,
    cpu_used: Duration,
    polls: u32,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    /// Starts the clock of one call.
    pub(crate) fn start(limits: &Limits) -> Self {
        Self {
            started: Instant::now(),
            deadline: limits.deadline_ms.map(Duration::from_millis),
            cpu: limits.cpu_ms.map(Duration::from_millis),
            cpu_used: Duration::ZERO,
            polls: 0,
            alarm: None,
        }
    }

    /// Polls the guest and charges for it; `Err` once the budget is spent. After an error the guest must be dropped.
    pub(crate) fn poll<F: Future + ?Sized>(
        &mut self,
        guest: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Fault>> {
        self.polls = self.polls.saturating_add(1);
        let outcome = if self.polls > WALL_POLLS {
            let before = thread_cpu();
            let outcome = guest.poll(cx);
            self.cpu_used += thread_cpu().saturating_sub(before);
            outcome
        } else {
            let before = if self.polls == 1 {
                self.started
            } else {
                Instant::now()
            };
            let outcome = guest.poll(cx);
            if outcome.is_pending() {
                self.cpu_used += before.elapsed();
            }
            outcome
        };
        match outcome {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self
                .spent()
                .map_or(Poll::Pending, |fault| Poll::Ready(Err(fault))),
        }
    }

    /// The fault, once the call is over budget.
    fn spent(&self) -> Option<Fault> {
        if let Some(cpu) = self.cpu.filter(|cpu| self.cpu_used >= *cpu) {
            return Some(Fault::Cpu(millis(cpu)));
        }
        let deadline = self
            .deadline
            .filter(|deadline| self.started.elapsed() >= *deadline)?;
        Some(Fault::Deadline(millis(deadline)))
    }

    /// Makes sure that the deadline wakes the caller; to be called whenever it is about to wait. Arming a timer costs
    /// a system call, so a call that never waits never does.
    pub(crate) fn alarm(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let at = self.started + deadline;
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(at.into())));
        alarm
            .as_mut()
            .poll(cx)
            .map(|()| Fault::Deadline(millis(deadline)))
    }
}

/// The CPU of an instance that several calls share: together they may use as much as each of them alone.
#[derive(Debug, Clone)]
pub(crate) struct CpuBudget {
    per_call_ms: Option<u64>,
    calls: Arc<AtomicU64>,
    used_ns: Arc<AtomicU64>,
}

impl CpuBudget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            per_call_ms: limits.cpu_ms,
            calls: Arc::new(AtomicU64::new(1)),
            used_ns: Arc::default(),
        }
    }

    /// One more call shares the instance.
    pub(crate) fn add_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing runs: the next call starts afresh.
    pub(crate) fn rest(&self) {
        self.calls.store(0, Ordering::Relaxed);
        self.used_ns.store(0, Ordering::Relaxed);
    }

    /// Polls the instance and charges for it; `Err` once the budget is spent.
    pub(crate) fn poll<F: Future + ?Sized>(
        &self,
        instance: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Fault>> {
        let begin = Instant::now();
        let cpu = (self.used_ns.load(Ordering::Relaxed) > 0).then(thread_cpu);
        let outcome = instance.poll(cx);
        if let Poll::Ready(output) = outcome {
            return Poll::Ready(Ok(output));
        }
        // Short polls are charged by the wall clock, as in `Clock`; whoever used more than a tick, exactly.
        let spent = match cpu {
            Some(before) => thread_cpu().saturating_sub(before),
            None => begin.elapsed(),
        };
        if spent < SHORT_POLL {
            return Poll::Pending;
        }
        let spent = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        let used = self
            .used_ns
            .fetch_add(spent, Ordering::Relaxed)
            .saturating_add(spent);
        let calls = self.calls.load(Ordering::Relaxed).max(1);
        match self.per_call_ms {
            Some(ms) if used / 1_000_000 >= ms.saturating_mul(calls) => {
                Poll::Ready(Err(Fault::Cpu(ms)))
            }
            _ => Poll::Pending,
        }
    }
}

/// A poll that is too short to be charged to a shared instance: far less than a tick.
const SHORT_POLL: Duration = Duration::from_micros(500);

/// Polls that are charged by the wall clock.
const WALL_POLLS: u32 = 8;

/// Runs a guest under its clock to the end.
pub(crate) async fn run<F: Future>(clock: &mut Clock, guest: F) -> Result<F::Output, Fault> {
    let mut guest = std::pin::pin!(guest);
    std::future::poll_fn(|cx| match clock.poll(guest.as_mut(), cx) {
        Poll::Pending => clock.alarm(cx).map(Err),
        ready => ready,
    })
    .await
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.try_into().unwrap_or(0),
        now.tv_nsec.try_into().unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            memory_bytes: 1000,
            table_elements: 10,
            ..Limits::default()
        }
    }

    #[test]
    fn memory_is_summed_over_all_memories_and_a_refusal_is_remembered() {
        let mut meter = Meter::new(&limits());
        assert!(meter.memory_growing(0, 600, None).unwrap());
        assert!(meter.memory_growing(0, 400, None).unwrap());
        assert!(!meter.memory_refused());
        assert!(!meter.memory_growing(400, 401, None).unwrap());
        assert!(meter.memory_refused());
    }

    #[test]
    fn a_memory_beyond_its_own_maximum_is_refused_without_blaming_the_budget() {
        let mut meter = Meter::new(&limits());
        assert!(!meter.memory_growing(0, 600, Some(500)).unwrap());
        assert!(!meter.memory_refused());
        assert!(
            meter.memory_growing(0, 1000, None).unwrap(),
            "the refused part is not charged"
        );
    }

    #[test]
    fn tables_are_summed() {
        let mut meter = Meter::new(&limits());
        assert!(meter.table_growing(0, 6, None).unwrap());
        assert!(!meter.table_growing(0, 5, None).unwrap());
        assert!(meter.table_growing(0, 4, None).unwrap());
    }

    /// A guest that never waits: as an endless loop looks to the host, one poll per epoch tick.
    async fn spin() {
        loop {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(1) {}
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_loop_ends_when_its_cpu_is_spent() {
        let mut clock = Clock::start(&Limits {
            cpu_ms: Some(20),
            ..limits()
        });
        assert_eq!(run(&mut clock, spin()).await, Err(Fault::Cpu(20)));
    }

    #[tokio::test]
    async fn waiting_ends_at_the_deadline_and_costs_no_cpu() {
        let mut clock = Clock::start(&Limits {
            deadline_ms: Some(20),
            cpu_ms: Some(15),
            ..limits()
        });
        assert_eq!(
            run(&mut clock, std::future::pending::<()>()).await,
            Err(Fault::Deadline(20))
        );
    }

    #[tokio::test]
    async fn without_limits_a_call_runs_to_its_end() {
        let mut clock = Clock::start(&Limits {
            deadline_ms: None,
            cpu_ms: None,
            ..limits()
        });
        assert_eq!(
            run(&mut clock, async {
                tokio::task::yield_now().await;
                7
            })
            .await,
            Ok(7)
        );
    }
}
