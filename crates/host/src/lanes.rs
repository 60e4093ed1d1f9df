//! Two lanes: every call begins on its connection's thread; one that has used more than a slice of CPU goes on here, on
//! a few threads of low priority that are shared fairly between apps, and inside an app between its components.
//!
//! So a short request never queues behind a long one. A job keeps the timers and sockets of the thread that it came
//! from; only its polls happen here. A job whose deadline is over, or that was cancelled, is dealt with before all
//! others. Who is next is `fair`'s business; who may not even begin in the fast lane is `credit`'s.

mod credit;
mod fair;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use hostel_app::limits;
use tokio::runtime::Handle;

use crate::lock::lock;
use crate::meter::thread_cpu;
use credit::Debt;
use fair::Fair;
pub(crate) use fair::Owner;

/// The CPU that a call may use in the fast lane, and that it gets at a time in the slow one.
const SLICE: Duration = limits::SLICE_MS.duration();

/// A call leaves the fast lane so much before its slice is over rather than a whole tick later: on a busy thread, where
/// one call begins when the last one was interrupted, a tick is a hair less than a slice.
const EARLY: Duration = Duration::from_millis(1);

/// Whether a call that used so much of the fast lane is long.
pub(crate) fn is_long(used: Duration) -> bool {
    used >= SLICE.saturating_sub(EARLY)
}

/// How much less important these threads are than those that serve short calls: with every core busy, they still get
/// about a quarter.
const NICENESS: i32 = 5;

/// Something to do in the slow lane.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The slow lane of one runtime. Its threads are started with the first job and end with the last clone.
#[derive(Clone)]
pub(crate) struct Lanes(Arc<Owned>);

/// Ends the threads when it is dropped; they own the rest themselves.
struct Owned(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    debts: Debt,
}

#[derive(Default)]
struct State {
    fair: Fair<u64>,
    jobs: HashMap<u64, Job>,
    /// Queued jobs by their deadlines.
    due: BTreeSet<(Instant, u64)>,
    /// What is left of cancelled jobs; to be dropped by one of the threads.
    dead: Vec<(Work, Handle)>,
    last: u64,
    threads: usize,
    stopped: bool,
}

struct Job {
    owner: Owner,
    due: Option<Instant>,
    home: Handle,
    status: Status,
}

enum Status {
    /// Until it is woken, then until it is its turn.
    Waiting { work: Work, queued: bool },
    /// One of the threads has it.
    Running { woken: bool, cancelled: bool },
}

/// A thread has just taken the job.
const RUNNING: Status = Status::Running {
    woken: false,
    cancelled: false,
};

/// What a thread does next.
enum Next {
    Run(u64, Work, Handle),
    Drop(Work, Handle),
    Stop,
}

/// One component's account: whose calls these are, and what they owe the fast lane.
#[derive(Debug)]
pub(crate) struct Account {
    owner: Owner,
    debt: Debt,
}

impl Account {
    /// The account of a component of the app with this number; see [`number`].
    pub(crate) fn new(app: u64) -> Self {
        Self {
            owner: Owner {
                app,
                component: number(),
            },
            debt: Debt::default(),
        }
    }

    /// Whose calls these are.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }
}

/// A number that no other app and no other component of this process has.
pub(crate) fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed)
}

/// A job in the slow lane; dropping this leaves the job alone.
pub(crate) struct JobHandle {
    shared: Weak<Shared>,
    id: u64,
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Owned(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            debts: Debt::default(),
        }))))
    }

    /// Whether the next call of this component must not begin in the fast lane.
    pub(crate) fn begins_slow(&self, account: &Account) -> bool {
        credit::begins_slow(&account.debt, &self.shared().debts)
    }

    /// A long call has used this much of the fast lane.
    pub(crate) fn charge_fast(&self, account: &Account, used: Duration) {
        credit::charge(&account.debt, &self.shared().debts, used);
    }

    /// Goes on with `work` in the slow lane; to be called on the thread whose timers and sockets it uses. Gives it back
    /// if there is no thread for it.
    pub(crate) fn spawn(
        &self,
        account: &Account,
        due: Option<Instant>,
        work: Work,
    ) -> Result<JobHandle, Work> {
        let shared = self.shared();
        let Ok(home) = Handle::try_current() else {
            return Err(work);
        };
        let mut state = lock(&shared.state);
        if !shared.has_threads(&mut state) {
            return Err(work);
        }
        state.last += 1;
        let id = state.last;
        let owner = account.owner;
        let job = Job {
            owner,
            due,
            home,
            status: Status::Waiting {
                work,
                queued: false,
            },
        };
        state.jobs.insert(id, job);
        state.fair.enter(owner);
        state.queue(id);
        drop(state);
        shared.changed.notify_one();
        Ok(JobHandle {
            shared: Arc::downgrade(shared),
            id,
        })
    }

    /// Jobs in the slow lane, running or waiting.
    pub(crate) fn jobs(&self) -> usize {
        lock(&self.shared().state).jobs.len()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.stopped = true;
        let jobs = std::mem::take(&mut state.jobs);
        let dead = std::mem::take(&mut state.dead);
        drop(state);
        self.0.changed.notify_all();
        drop((jobs, dead));
    }
}

impl JobHandle {
    /// Drops something large that the job left, on a thread where nobody waits for that.
    pub(crate) fn discard(&self, remains: impl Send + 'static) {
        let (Some(shared), Ok(home)) = (self.shared.upgrade(), Handle::try_current()) else {
            return;
        };
        // Never polled; what it holds is dropped with it.
        let work: Work = Box::pin(async move { drop(remains) });
        lock(&shared.state).dead.push((work, home));
        shared.changed.notify_one();
    }

    /// Drops the job: at once if it does not run, at the end of its slice if it does.
    pub(crate) fn cancel(&self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        lock(&shared.state).cancel(self.id);
        shared.changed.notify_one();
    }
}

impl State {
    /// A job that does not run and is not queued wants its turn.
    fn queue(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match &mut job.status {
            Status::Running { woken, .. } => *woken = true,
            Status::Waiting { queued: true, .. } => {}
            Status::Waiting { queued, .. } => {
                *queued = true;
                self.fair.push(job.owner, id);
                self.due.extend(job.due.map(|due| (due, id)));
            }
        }
    }

    fn cancel(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if let Status::Running { cancelled, .. } = &mut job.status {
            *cancelled = true;
            return;
        }
        if let Some(job) = self.remove(id)
            && let Status::Waiting { work, .. } = job.status
        {
            self.dead.push((work, job.home));
        }
    }

    fn remove(&mut self, id: u64) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.fair.leave(job.owner);
        if let Some(due) = job.due {
            self.due.remove(&(due, id));
        }
        Some(job)
    }

    /// What is to be done now, if anything.
    fn next(&mut self, now: Instant) -> Option<Next> {
        if self.stopped {
            return Some(Next::Stop);
        }
        if let Some((work, home)) = self.dead.pop() {
            return Some(Next::Drop(work, home));
        }
        let overdue = self.due.first().filter(|(due, _)| *due <= now);
        if let Some((_, id)) = overdue.copied()
            && let Some(next) = self.run(id)
        {
            return Some(next);
        }
        while let Some(id) = self.fair.pop() {
            // Jobs that were overdue or cancelled leave their number behind.
            if let Some(next) = self.run(id) {
                return Some(next);
            }
        }
        None
    }

    fn run(&mut self, id: u64) -> Option<Next> {
        let job = self.jobs.get_mut(&id)?;
        if let Some(due) = job.due {
            self.due.remove(&(due, id));
        }
        if !matches!(job.status, Status::Waiting { queued: true, .. }) {
            return None;
        }
        match std::mem::replace(&mut job.status, RUNNING) {
            Status::Waiting { work, .. } => Some(Next::Run(id, work, job.home.clone())),
            Status::Running { .. } => None,
        }
    }

    fn charge(&mut self, id: u64, used: Duration) {
        if let Some(job) = self.jobs.get(&id) {
            self.fair.charge(job.owner, used);
        }
    }

    /// A job was polled and is not over. Gives it back if it is to be polled again at once.
    fn polled(&mut self, id: u64, work: Work, slice_is_over: bool) -> Polled {
        let Some(job) = self.jobs.get_mut(&id) else {
            return Polled::Drop(work);
        };
        match job.status {
            Status::Running {
                cancelled: true, ..
            } => Polled::Drop(work),
            Status::Running { woken: true, .. } if !slice_is_over => {
                job.status = RUNNING;
                Polled::Again(work)
            }
            Status::Running { woken, .. } => {
                job.status = Status::Waiting {
                    work,
                    queued: false,
                };
                if woken {
                    self.queue(id);
                }
                Polled::Left
            }
            // Only the thread that runs a job changes that it runs.
            Status::Waiting { .. } => Polled::Drop(work),
        }
    }
}

/// What becomes of a job after a poll.
enum Polled {
    Again(Work),
    Left,
    Drop(Work),
}

impl Shared {
    /// Starts the threads if that has not been done; true if there is at least one.
    fn has_threads(self: &Arc<Self>, state: &mut State) -> bool {
        if state.threads == 0 {
            let count = std::thread::available_parallelism().map_or(1, usize::from);
            for _ in 0..count {
                let shared = self.clone();
                let thread = std::thread::Builder::new().name("slow".into());
                if thread.spawn(move || shared.serve()).is_ok() {
                    state.threads += 1;
                }
            }
        }
        state.threads > 0
    }

    /// The life of a thread.
    fn serve(self: Arc<Self>) {
        // Without a lower priority the lanes still are separate queues.
        let _quieter = rustix::process::nice(NICENESS);
        loop {
            match self.next() {
                Next::Run(id, work, home) => self.run(id, work, &home),
                Next::Drop(work, home) => discard(work, &home),
                Next::Stop => return,
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = lock(&self.state);
        loop {
            if let Some(next) = state.next(Instant::now()) {
                return next;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives a job its slice.
    fn run(self: &Arc<Self>, id: u64, mut work: Work, home: &Handle) {
        let waker = Waker::from(Arc::new(JobWaker {
            shared: Arc::downgrade(self),
            id,
        }));
        let mut cx = Context::from_waker(&waker);
        let entered = home.enter();
        let mut slice = Duration::ZERO;
        loop {
            let begin = thread_cpu();
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut cx)));
            let used = thread_cpu().saturating_sub(begin);
            slice += used;
            let mut state = lock(&self.state);
            state.charge(id, used);
            let next = match polled {
                Ok(Poll::Pending) => state.polled(id, work, slice >= SLICE),
                Ok(Poll::Ready(())) | Err(_) => Polled::Drop(work),
            };
            match next {
                Polled::Again(again) => work = again,
                Polled::Left => return,
                Polled::Drop(work) => {
                    let job = state.remove(id);
                    drop(state);
                    drop((entered, job));
                    return discard(work, home);
                }
            }
        }
    }

    fn wake(&self, id: u64) {
        lock(&self.state).queue(id);
        self.changed.notify_one();
    }
}

/// Drops what is left of a job, where its timers and sockets are known.
fn discard(work: Work, home: &Handle) {
    let _entered = home.enter();
    // A panic in a destructor must not cost the thread.
    let _dropped = catch_unwind(AssertUnwindSafe(|| drop(work)));
}

struct JobWaker {
    shared: Weak<Shared>,
    id: u64,
}

impl Wake for JobWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.wake(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use tokio::time::sleep;

    /// Uses the CPU of its thread in pieces, as a guest that is interrupted at every tick.
    async fn spin(until: Arc<AtomicBool>, turns: Arc<AtomicUsize>) {
        while !until.load(Relaxed) {
            let begin = thread_cpu();
            while thread_cpu() - begin < Duration::from_millis(2) {}
            turns.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
        }
    }

    /// Looks again and again, for a while, whether something has come true.
    async fn eventually(what: &str, mut true_now: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !true_now() {
            assert!(begin.elapsed() < Duration::from_secs(20), "never: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Tells when it is dropped.
    struct Dropped(Arc<AtomicBool>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    fn spawn(
        lanes: &Lanes,
        account: &Account,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JobHandle {
        let job = lanes.spawn(account, None, Box::pin(work));
        job.unwrap_or_else(|_| panic!("no thread"))
    }

    #[tokio::test]
    async fn an_app_with_one_job_gets_as_much_as_an_app_with_many() {
        let lanes = Lanes::new();
        let end = Arc::new(AtomicBool::new(false));
        let (many, one) = (Account::new(number()), Account::new(number()));
        let turns: [Arc<AtomicUsize>; 2] = Default::default();
        let cores = std::thread::available_parallelism().unwrap().get();
        for _ in 0..50 {
            spawn(&lanes, &many, spin(end.clone(), turns[0].clone()));
        }
        // One job cannot be on two threads at once.
        for _ in 0..cores {
            spawn(&lanes, &one, spin(end.clone(), turns[1].clone()));
        }
        eventually("a thousand turns", || turns[0].load(Relaxed) > 200).await;
        end.store(true, Relaxed);
        let [many, one] = turns.map(|turns| turns.load(Relaxed));
        assert!(one * 2 > many && many * 2 > one, "{many} and {one} turns");
        eventually("all are over", || lanes.jobs() == 0).await;
    }

    #[tokio::test]
    async fn a_job_keeps_the_timers_of_its_home() {
        let lanes = Lanes::new();
        let done = Arc::new(AtomicBool::new(false));
        let mark = done.clone();
        spawn(&lanes, &Account::new(number()), async move {
            for _ in 0..3 {
                sleep(Duration::from_millis(1)).await;
            }
            mark.store(true, Relaxed);
        });
        eventually("the job is done", || done.load(Relaxed)).await;
        assert_eq!(lanes.jobs(), 0);
    }

    #[tokio::test]
    async fn cancelled_jobs_are_dropped_whether_they_wait_or_run() {
        let lanes = Lanes::new();
        let account = Account::new(number());
        let dropped: [Arc<AtomicBool>; 2] = Default::default();
        let turns = Arc::new(AtomicUsize::new(0));
        let waits = {
            let guard = Dropped(dropped[0].clone());
            spawn(&lanes, &account, async move {
                std::future::pending::<()>().await;
                drop(guard);
            })
        };
        let runs = {
            let (guard, turns) = (Dropped(dropped[1].clone()), turns.clone());
            spawn(&lanes, &account, async move {
                spin(Arc::default(), turns).await;
                drop(guard);
            })
        };
        eventually("it runs", || turns.load(Relaxed) > 2).await;
        for job in [waits, runs] {
            job.cancel();
            job.cancel();
        }
        eventually("both are dropped", || {
            dropped.iter().all(|dropped| dropped.load(Relaxed))
        })
        .await;
        assert_eq!(lanes.jobs(), 0);
    }

    #[tokio::test]
    async fn an_overdue_job_does_not_wait_for_its_turn() {
        let (end, turns) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let lanes = Lanes::new();
        let account = Account::new(number());
        for _ in 0..200 {
            spawn(&lanes, &account, spin(end.clone(), Arc::clone(&turns)));
        }
        let seen = Arc::new(AtomicUsize::new(0));
        let (mark, count) = (seen.clone(), turns.clone());
        let work = Box::pin(async move { mark.store(count.load(Relaxed) + 1, Relaxed) });
        let job = lanes.spawn(&account, Some(Instant::now()), work);
        assert!(job.is_ok());
        eventually("it had its turn", || seen.load(Relaxed) > 0).await;
        end.store(true, Relaxed);
        assert!(seen.load(Relaxed) < 100, "after {seen:?} turns of others");
    }

    #[tokio::test]
    async fn a_panic_costs_its_job_only() {
        let lanes = Lanes::new();
        let account = Account::new(number());
        for _ in 0..8 {
            spawn(&lanes, &account, async { panic!("on purpose") });
        }
        let done = Arc::new(AtomicBool::new(false));
        let mark = done.clone();
        spawn(&lanes, &account, async move { mark.store(true, Relaxed) });
        eventually("the next job is done", || done.load(Relaxed)).await;
        eventually("nothing is left", || lanes.jobs() == 0).await;
    }

    #[tokio::test]
    async fn jobs_and_threads_end_with_the_lanes() {
        let lanes = Lanes::new();
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = Dropped(dropped.clone());
        let job = spawn(&lanes, &Account::new(number()), async move {
            std::future::pending::<()>().await;
            drop(guard);
        });
        let shared = Arc::downgrade(lanes.shared());
        drop(lanes);
        eventually("the job is dropped", || dropped.load(Relaxed)).await;
        eventually("the threads are gone", || shared.strong_count() == 0).await;
        job.cancel();
    }
}
