//! What one call or instance uses, and the moment at which it has used too much.
//!
//! [`Meter`] sits in the store and says no when memory or tables would outgrow their limit; the sum counts, not the
//! single memory. [`Clock`] wraps every poll of a running guest and ends it at its deadline or when its CPU is spent.
//! Handles, host calls, header and random sizes are bounded by the library that owns them: `state` sets those.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hostel_app::limits::Limits;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Sleep, sleep_until};
use wasmtime::{ResourceLimiter, Result};

use crate::fault::Fault;
use crate::lock::lock;
use crate::memory::Taken;
use crate::metrics::Component;

/// Sums the memories and tables of one store.
#[derive(Debug)]
pub(crate) struct Meter {
    memory_bytes: usize,
    memory_bytes_max: usize,
    memory_refused: bool,
    /// What the process had no room for.
    room_refused: bool,
    taken: Taken,
    table_elements: usize,
    table_elements_max: usize,
    kept_bytes: usize,
    kept_bytes_max: usize,
    /// Where the one call does not end.
    refill: Option<Refill>,
}

impl Meter {
    pub(crate) fn new(limits: &Limits, taken: Taken, refill: Option<Refill>) -> Self {
        Self {
            refill,
            memory_bytes: 0,
            memory_bytes_max: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
            memory_refused: false,
            room_refused: false,
            taken,
            table_elements: 0,
            table_elements_max: limits.table_elements as usize,
            kept_bytes: 0,
            kept_bytes_max: limits.host_bytes,
        }
    }

    /// Whether the guest was ever told no: a trap after that is called a memory fault.
    pub(crate) fn memory_refused(&self) -> bool {
        self.memory_refused
    }

    /// Whether the guest was told no because all guests together have too much.
    pub(crate) fn room_refused(&self) -> bool {
        self.room_refused
    }

    /// The guest makes the host keep so many more bytes; an error once that is more than one call may.
    pub(crate) fn keep(&mut self, bytes: usize) -> Result<()> {
        self.kept_bytes = self.kept_bytes.saturating_add(bytes);
        if self.kept_bytes > self.kept_bytes_max && self.refill.as_ref().is_some_and(Refill::is_due)
        {
            self.kept_bytes = bytes;
        }
        if self.kept_bytes <= self.kept_bytes_max {
            return Ok(());
        }
        let limit = self.kept_bytes_max;
        wasmtime::bail!(
            "it made the host keep more than {limit} bytes of header fields and bodies, its limit `host_bytes`"
        )
    }

    /// The host keeps so many bytes no longer.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
    }

    /// Another request begins, with all that a call may have the host keep.
    pub(crate) fn begin_call(&mut self) {
        self.kept_bytes = 0;
    }

    /// Another request begins: what an earlier one was refused does not explain its traps.
    pub(crate) fn forget_refusal(&mut self) {
        self.memory_refused = false;
        self.room_refused = false;
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
        if !within_own_maximum {
            return Ok(false);
        }
        if !self.taken.grow_to(total as u64) {
            self.room_refused = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
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

/// When a call that does not end has the budget of a call anew: asked only once that is used up.
#[derive(Debug)]
pub(crate) struct Refill {
    every: Duration,
    last: Mutex<Instant>,
}

impl Refill {
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every,
            last: Mutex::new(Instant::now()),
        }
    }

    /// Whether a period has gone by since the last time that it had; if so the next one begins.
    pub(crate) fn is_due(&self) -> bool {
        let mut last = lock(&self.last);
        let due = last.elapsed() >= self.every;
        if due {
            *last = Instant::now();
        }
        due
    }
}

/// CPU time, measured without a system call per poll.
///
/// Short polls are charged by the wall clock. A long one is charged by what the thread has used since the last long
/// one, but never more than it lasted: so neither other tasks of the thread nor other processes are charged to the guest.
#[derive(Debug, Default)]
struct CpuMeter {
    used: Duration,
    thread: Option<Duration>,
    /// Whose CPU it is, for the metrics.
    owner: Option<Arc<Component>>,
}

/// A poll that is worth asking the kernel about; well below a tick.
const LONG_POLL: Duration = Duration::from_millis(1);

impl CpuMeter {
    /// Charges what the thread has used for a poll; the next one may be on another thread.
    fn charge_exactly(&mut self, used: Duration) {
        self.thread = None;
        self.add(used);
    }

    /// Charges a poll that began at `begin` and is just over.
    fn charge(&mut self, begin: Instant) {
        let wall = begin.elapsed();
        if wall < LONG_POLL {
            return self.add(wall);
        }
        let now = thread_cpu();
        let since = self
            .thread
            .map_or(wall, |before| now.saturating_sub(before));
        self.thread = Some(now);
        self.add(wall.min(since));
    }

    fn add(&mut self, used: Duration) {
        self.used += used;
        if let Some(owner) = &self.owner {
            owner.cpu.add_time(used);
        }
    }
}

/// The wall clock and the CPU time of one call.
///
/// A guest that never waits is interrupted at every epoch tick, so a loop is noticed within one tick after its budget
/// ends.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    deadline: Option<Duration>,
    cpu: Option<Duration>,
    metered: bool,
    meter: CpuMeter,
    polled: bool,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    /// The clock of a call that has no budget at all.
    pub(crate) fn off(limits: &Limits) -> Self {
        Self {
            deadline: None,
            cpu: None,
            metered: false,
            ..Self::start(limits)
        }
    }

    /// Starts the clock of one call.
    pub(crate) fn start(limits: &Limits) -> Self {
        Self {
            started: Instant::now(),
            deadline: limits.deadline_ms.map(Duration::from_millis),
            cpu: limits.cpu_ms.map(Duration::from_millis),
            metered: true,
            meter: CpuMeter::default(),
            polled: false,
            alarm: None,
        }
    }

    /// Counts what is charged as this component's.
    pub(crate) fn owned_by(mut self, owner: &Arc<Component>) -> Self {
        self.meter.owner = Some(owner.clone());
        self
    }

    /// Lets its time be over then at the latest.
    pub(crate) fn until(mut self, due: Option<Instant>) -> Self {
        if let (Some(due), true) = (due, self.metered) {
            let left = due.saturating_duration_since(self.started);
            self.deadline = Some(self.deadline.map_or(left, |own| own.min(left)));
        }
        self
    }

    /// Polls the guest and charges for it; `Err` once the budget is spent. After an error the guest must be dropped.
    pub(crate) fn poll<F: Future + ?Sized>(
        &mut self,
        guest: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Fault>> {
        if !self.metered {
            return guest.poll(cx).map(Ok);
        }
        let begin = if self.polled {
            Instant::now()
        } else {
            self.started
        };
        self.polled = true;
        let polled = guest.poll(cx);
        self.meter.charge(begin);
        self.judge(polled)
    }

    /// The same where every poll may be on another thread, and may come late: a guest whose time is over is not polled.
    pub(crate) fn poll_anywhere<F: Future + ?Sized>(
        &mut self,
        guest: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Fault>> {
        if let Some(fault) = self.spent() {
            return Poll::Ready(Err(fault));
        }
        self.polled = true;
        let begin = thread_cpu();
        let polled = guest.poll(cx);
        self.meter
            .charge_exactly(thread_cpu().saturating_sub(begin));
        self.judge(polled)
    }

    fn judge<T>(&self, polled: Poll<T>) -> Poll<Result<T, Fault>> {
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self
                .spent()
                .map_or(Poll::Pending, |fault| Poll::Ready(Err(fault))),
        }
    }

    /// The CPU that the call has used.
    pub(crate) fn used(&self) -> Duration {
        self.meter.used
    }

    /// Whether it was ever polled.
    pub(crate) fn has_begun(&self) -> bool {
        self.polled
    }

    /// When its time is over.
    pub(crate) fn due(&self) -> Option<Instant> {
        Some(self.started + self.deadline?)
    }

    /// What it will have failed of then.
    pub(crate) fn late(&self) -> Fault {
        Fault::Deadline(millis(self.deadline.unwrap_or_default()))
    }

    /// The fault, once the call is over budget.
    fn spent(&self) -> Option<Fault> {
        if let Some(cpu) = self.cpu.filter(|cpu| self.meter.used >= *cpu) {
            return Some(Fault::Cpu(millis(cpu)));
        }
        self.deadline
            .filter(|deadline| self.started.elapsed() >= *deadline)
            .map(|_| self.late())
    }

    /// Makes sure that the deadline wakes the caller; to be called whenever it is about to wait. Arming a timer costs
    /// a system call, so a call that never waits never does.
    pub(crate) fn alarm(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        let Some(at) = self.due() else {
            return Poll::Pending;
        };
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(at.into())));
        alarm.as_mut().poll(cx).map(|()| self.late())
    }
}

/// The CPU of an instance that several calls share: those in flight together may use what each of them could alone.
#[derive(Debug)]
pub(crate) struct SharedCpu {
    per_call: Option<Duration>,
    meter: CpuMeter,
}

impl SharedCpu {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            per_call: limits.cpu_ms.map(Duration::from_millis),
            meter: CpuMeter::default(),
        }
    }

    /// Counts what is charged as this component's.
    pub(crate) fn owned_by(mut self, owner: &Arc<Component>) -> Self {
        self.meter.owner = Some(owner.clone());
        self
    }

    /// Charges a poll of the instance that began at `begin`, exactly `cpu` if that is known; the fault once its calls in
    /// flight have used up what they may.
    pub(crate) fn charge(
        &mut self,
        begin: Instant,
        cpu: Option<Duration>,
        in_flight: u32,
    ) -> Option<Fault> {
        match cpu {
            Some(used) => self.meter.charge_exactly(used),
            None => self.meter.charge(begin),
        }
        let per_call = self.per_call?;
        (self.meter.used >= per_call.saturating_mul(in_flight.max(1)))
            .then(|| Fault::Cpu(millis(per_call)))
    }

    /// What the calls in flight have used.
    pub(crate) fn used(&self) -> Duration {
        self.meter.used
    }

    /// One of `in_flight` calls is over and takes its share of the bill with it.
    pub(crate) fn call_ended(&mut self, in_flight: u32) {
        self.meter.used -= self.meter.used / in_flight.max(1);
    }
}

/// Runs a guest under its clock to the end.
pub(crate) async fn run<F: Future>(clock: &mut Clock, guest: F) -> Result<F::Output, Fault> {
    let mut guest = std::pin::pin!(guest);
    std::future::poll_fn(|cx| match clock.poll(guest.as_mut(), cx) {
        Poll::Pending => clock.alarm(cx).map(Err),
        ready => ready,
    })
    .await
}

/// Whole milliseconds, as limits and messages count time.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
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

    fn room() -> Taken {
        crate::memory::Budget::new(None).share().open()
    }

    #[test]
    fn what_the_process_has_no_room_for_is_not_the_guest_s_fault() {
        let none = crate::memory::Budget::new(Some(0)).share().open();
        let mut meter = Meter::new(&Limits::default(), none, None);
        assert!(!meter.memory_growing(0, 64 << 20, None).unwrap());
        assert!(meter.room_refused() && !meter.memory_refused());
        assert!(meter.memory_growing(0, 1 << 20, None).unwrap());
        meter.forget_refusal();
        assert!(!meter.room_refused());
    }

    #[test]
    fn memory_is_summed_over_all_memories_and_a_refusal_is_remembered() {
        let mut meter = Meter::new(&limits(), room(), None);
        assert!(meter.memory_growing(0, 600, None).unwrap());
        assert!(meter.memory_growing(0, 400, None).unwrap());
        assert!(!meter.memory_refused());
        assert!(!meter.memory_growing(400, 401, None).unwrap());
        assert!(meter.memory_refused());
        meter.forget_refusal();
        assert!(!meter.memory_refused());
        assert!(!meter.memory_growing(400, 401, None).unwrap());
        assert!(meter.memory_refused(), "what is in use still counts");
    }

    #[test]
    fn a_memory_beyond_its_own_maximum_is_refused_without_blaming_the_budget() {
        let mut meter = Meter::new(&limits(), room(), None);
        assert!(!meter.memory_growing(0, 600, Some(500)).unwrap());
        assert!(!meter.memory_refused());
        assert!(
            meter.memory_growing(0, 1000, None).unwrap(),
            "the refused part is not charged"
        );
    }

    #[test]
    fn tables_are_summed() {
        let mut meter = Meter::new(&limits(), room(), None);
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

    #[test]
    fn calls_that_share_an_instance_pay_for_those_in_flight_only() {
        let mut cpu = SharedCpu::new(&Limits {
            cpu_ms: Some(1000),
            ..limits()
        });
        cpu.meter.used = Duration::from_millis(1500);
        assert_eq!(cpu.charge(Instant::now(), None, 2), None);
        // Calls that come and go leave no credit behind.
        cpu.call_ended(2);
        assert_eq!(
            cpu.meter.used / 10_000_000,
            Duration::from_millis(750) / 10_000_000
        );
        cpu.meter.used = Duration::from_millis(1000);
        assert_eq!(cpu.charge(Instant::now(), None, 1), Some(Fault::Cpu(1000)));
        cpu.call_ended(1);
        assert_eq!(cpu.meter.used, Duration::ZERO);
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
