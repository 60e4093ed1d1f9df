//! Permits: how many calls run at once, of one component and of the whole process, how many wait, and for how long.
//!
//! The surplus waits in arrival order per app and apps take turns; past the queue's depth or the wait it is a `busy`
//! fault, never an error page of the engine. The order is `line`'s business; instances that are used again are `idle`'s.

mod idle;
mod line;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hostel_app::limits::{self, Limits};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout_at;

use crate::fault::Fault;
use crate::lanes::Owner;
use crate::lock::lock;
use crate::metrics::Component;
pub(crate) use idle::Idle;
use line::{Line, Place, Verdict};

/// How long a call without room waits at the most before it tries again.
const ROOM_RETRY: Duration = Duration::from_millis(10);

/// The permits of the whole process, and the line of those who wait for one.
#[derive(Debug)]
pub(crate) struct Pool {
    seats: Seats,
    line: Mutex<Line<Waiter>>,
    /// Calls in line, of all components.
    waiting: AtomicU32,
    /// Calls that have a permit and wait for room in the engine.
    starving: AtomicU32,
    released: Notify,
}

/// The permits of one component.
#[derive(Debug)]
pub(crate) struct Permits {
    pool: Arc<Pool>,
    owner: Owner,
    seats: Seats,
    waiting: AtomicU32,
    waiting_max: u32,
    wait: Duration,
    metrics: Arc<Component>,
}

/// The right to run one call; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit(Option<Arc<Permits>>);

/// A call in line.
#[derive(Debug)]
struct Waiter {
    permits: Arc<Permits>,
    turn: oneshot::Sender<Permit>,
}

/// So many and no more.
#[derive(Debug)]
struct Seats {
    taken: AtomicU32,
    max: u32,
}

impl Seats {
    fn new(max: u32) -> Self {
        Self {
            taken: AtomicU32::new(0),
            max,
        }
    }

    fn take(&self) -> bool {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(SeqCst, SeqCst, one_more).is_ok()
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, SeqCst);
    }
}

impl Pool {
    /// As many calls at once as there can be instances.
    pub(crate) fn new() -> Arc<Self> {
        Self::with(limits::INSTANCES_MAX.count())
    }

    fn with(max: u32) -> Arc<Self> {
        Arc::new(Self {
            seats: Seats::new(max),
            line: Mutex::default(),
            waiting: AtomicU32::new(0),
            starving: AtomicU32::new(0),
            released: Notify::new(),
        })
    }

    /// The permits of one component.
    pub(crate) fn permits(
        self: &Arc<Self>,
        owner: Owner,
        limits: &Limits,
        metrics: Arc<Component>,
    ) -> Arc<Permits> {
        Arc::new(Permits {
            pool: self.clone(),
            owner,
            seats: Seats::new(limits.concurrency),
            waiting: AtomicU32::new(0),
            waiting_max: limits.queue_depth,
            wait: Duration::from_millis(limits.queue_wait_ms),
            metrics,
        })
    }

    /// A permit was given back: whoever waits for one is called.
    fn call(&self) {
        // Order matters: a permit is given back before this look, a call is in line before it tries again.
        if self.waiting.load(SeqCst) > 0 {
            self.call_all();
        }
        if self.starving.load(SeqCst) > 0 {
            self.released.notify_waiters();
        }
    }

    fn call_all(&self) {
        loop {
            let mut line = lock(&self.line);
            let called = line.call(|waiter| waiter.permits.try_take());
            drop(line);
            let Some(Waiter { permits, turn }) = called else {
                return;
            };
            permits.left_line();
            if turn.send(Permit(Some(permits.clone()))).is_ok() {
                continue;
            }
            // It left meanwhile. What could not be sent was dropped, and with it the permit was given back.
        }
    }
}

impl Permits {
    /// A permit at once if one is free, else after a bounded wait in a bounded queue.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<Permit, Fault> {
        if self.waiting.load(Relaxed) == 0 && self.take_now() {
            return Ok(Permit(Some(self.clone())));
        }
        self.queue().await
    }

    async fn queue(self: &Arc<Self>) -> Result<Permit, Fault> {
        let begin = Instant::now();
        let Some((in_line, turn)) = self.join() else {
            return Err(self.refuse());
        };
        // It may have been given back before this call was in line.
        self.pool.call();
        let called = timeout_at((begin + self.wait).into(), turn).await;
        drop(in_line);
        match called {
            Ok(Ok(permit)) => {
                self.metrics.waited.add(1);
                self.metrics.wait.add_time(begin.elapsed());
                Ok(permit)
            }
            Ok(Err(_)) => Err(Fault::Cancelled),
            Err(_) => Err(self.refuse()),
        }
    }

    /// A place in line, unless too many wait.
    fn join(self: &Arc<Self>) -> Option<(InLine<'_>, oneshot::Receiver<Permit>)> {
        let one_more = |waiting| (waiting < self.waiting_max).then_some(waiting + 1);
        self.waiting.fetch_update(SeqCst, SeqCst, one_more).ok()?;
        self.pool.waiting.fetch_add(1, SeqCst);
        self.metrics.waiting.add(1);
        let (turn, called) = oneshot::channel();
        let waiter = Waiter {
            permits: self.clone(),
            turn,
        };
        let Owner { app, component } = self.owner;
        let place = lock(&self.pool.line).join(app, component, waiter);
        let in_line = InLine {
            permits: self,
            place,
        };
        Some((in_line, called))
    }

    /// Waits until another call has ended, or for a moment, because the engine has no room for the instance of a call that
    /// has its permit already; false once that has lasted as long as a call may wait.
    pub(crate) async fn room(&self, since: Instant) -> bool {
        let end = since + self.wait;
        if Instant::now() >= end {
            return false;
        }
        let starving = Starving::new(&self.pool);
        let again = end.min(Instant::now() + ROOM_RETRY);
        // Either is a reason to try again: room also comes from instances that nobody has a permit for.
        let _released = timeout_at(again.into(), self.pool.released.notified()).await;
        drop(starving);
        true
    }

    /// The fault of a call that did not get its turn.
    pub(crate) fn refuse(&self) -> Fault {
        self.metrics.refused.add(1);
        let seconds = u32::try_from(self.wait.as_secs()).unwrap_or(u32::MAX);
        Fault::Busy(seconds.max(1))
    }

    /// One of its calls is not in line any more.
    fn left_line(&self) {
        self.waiting.fetch_sub(1, SeqCst);
        self.pool.waiting.fetch_sub(1, SeqCst);
        self.metrics.waiting.sub(1);
    }

    fn take_now(&self) -> bool {
        match self.try_take() {
            Verdict::Go => true,
            Verdict::ComponentFull => false,
            Verdict::Full => {
                // For a moment this component looked fuller than it is.
                self.pool.call();
                false
            }
        }
    }

    fn try_take(&self) -> Verdict {
        if !self.seats.take() {
            return Verdict::ComponentFull;
        }
        if self.pool.seats.take() {
            return Verdict::Go;
        }
        self.seats.give_back();
        Verdict::Full
    }
}

impl Permit {
    /// For calls that are not counted.
    pub(crate) fn uncounted() -> Self {
        Self(None)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(permits) = &self.0 {
            permits.seats.give_back();
            permits.pool.seats.give_back();
            permits.pool.call();
        }
    }
}

/// A place in line; left on drop, also when the waiting client goes away.
struct InLine<'a> {
    permits: &'a Arc<Permits>,
    place: Place,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let pool = &self.permits.pool;
        let left = lock(&pool.line).leave(self.place);
        if left.is_some() {
            self.permits.left_line();
        }
    }
}

/// Wants to know of every permit that is given back.
struct Starving<'a>(&'a Pool);

impl<'a> Starving<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.starving.fetch_add(1, SeqCst);
        Self(pool)
    }
}

impl Drop for Starving<'_> {
    fn drop(&mut self) {
        self.0.starving.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(pool: &Arc<Pool>, app: u64, concurrency: u32, queue_wait_ms: u64) -> Arc<Permits> {
        bounded(pool, app, concurrency, (queue_wait_ms, 10))
    }

    fn bounded(
        pool: &Arc<Pool>,
        app: u64,
        concurrency: u32,
        (queue_wait_ms, queue_depth): (u64, u32),
    ) -> Arc<Permits> {
        let owner = Owner {
            app,
            component: app * 10,
        };
        let limits = Limits {
            concurrency,
            queue_depth,
            queue_wait_ms,
            ..Limits::default()
        };
        let name = || "test".into();
        pool.permits(owner, &limits, Arc::new(Component::new(name(), name())))
    }

    fn one(concurrency: u32, queue_depth: u32, queue_wait_ms: u64) -> Arc<Permits> {
        bounded(
            &Pool::with(100),
            1,
            concurrency,
            (queue_wait_ms, queue_depth),
        )
    }

    fn queued(permits: &Permits) -> u64 {
        permits.metrics.waiting.get()
    }

    fn running(permits: &Permits) -> u32 {
        permits.seats.taken.load(Relaxed)
    }

    /// Takes a permit in a task of its own; ends with the permit.
    fn wait(permits: &Arc<Permits>) -> tokio::task::JoinHandle<Result<Permit, Fault>> {
        let permits = permits.clone();
        tokio::spawn(async move { permits.acquire().await })
    }

    async fn in_line(permits: &Permits, count: u64) {
        while permits.metrics.waiting.get() != count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_call_beyond_the_permits_waits_and_then_is_refused_with_a_time() {
        let permits = one(1, 10, 20);
        let held = permits.acquire().await.unwrap();
        let begin = Instant::now();
        assert_eq!(permits.acquire().await.unwrap_err(), Fault::Busy(1));
        assert!(begin.elapsed() >= Duration::from_millis(20));
        drop(held);
        permits.acquire().await.unwrap();
        assert_eq!(
            (
                permits.metrics.refused.get(),
                queued(&permits),
                running(&permits)
            ),
            (1, 0, 0)
        );
    }

    #[tokio::test]
    async fn a_waiting_call_gets_the_permit_that_is_given_back() {
        let permits = one(1, 10, 10_000);
        let held = permits.acquire().await.unwrap();
        let waiting = wait(&permits);
        in_line(&permits, 1).await;
        drop(held);
        let permit = waiting.await.unwrap().unwrap();
        assert_eq!(permits.metrics.waited.get(), 1);
        assert!(permits.metrics.wait.get() > 0);
        drop(permit);
        assert_eq!(running(&permits), 0);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_a_client_that_leaves_frees_its_place() {
        let permits = one(1, 1, 60_000);
        let held = permits.acquire().await.unwrap();
        let waiting = wait(&permits);
        in_line(&permits, 1).await;
        let refused = tokio::time::timeout(Duration::from_secs(10), permits.acquire()).await;
        assert!(
            matches!(refused, Ok(Err(Fault::Busy(60)))),
            "refused without waiting for the minute"
        );
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!(queued(&permits), 0);
        drop(held);
        assert_eq!(running(&permits), 0);
        assert_eq!(permits.pool.waiting.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn the_process_has_a_bound_of_its_own_and_apps_take_turns_at_it() {
        let pool = Pool::with(1);
        let (greedy, modest) = (
            permits(&pool, 1, 100, 10_000),
            permits(&pool, 2, 100, 10_000),
        );
        let held = greedy.acquire().await.unwrap();
        let mut many: Vec<_> = (0..5).map(|_| wait(&greedy)).collect();
        in_line(&greedy, 5).await;
        let few = wait(&modest);
        in_line(&modest, 1).await;
        drop(held);
        drop(many.remove(0).await.unwrap().unwrap());
        let permit = few.await.unwrap().unwrap();
        assert!(
            queued(&greedy) > 0,
            "the modest app did not wait for all of the greedy one's calls"
        );
        drop(permit);
        for call in many {
            drop(call.await.unwrap().unwrap());
        }
        assert_eq!(pool.seats.taken.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn a_full_component_does_not_hold_up_another() {
        let pool = Pool::with(10);
        let (full, free) = (permits(&pool, 1, 1, 10_000), permits(&pool, 1, 10, 10_000));
        let held = full.acquire().await.unwrap();
        let waiting = wait(&full);
        in_line(&full, 1).await;
        free.acquire().await.unwrap();
        drop(held);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn permits_come_back_whoever_leaves_when() {
        let pool = Pool::with(2);
        let permits = bounded(&pool, 1, 2, (10_000, 1000));
        for round in 0..200 {
            let held = [permits.acquire().await, permits.acquire().await];
            let calls: Vec<_> = (0..5).map(|_| wait(&permits)).collect();
            in_line(&permits, 5).await;
            for call in calls.iter().skip(round % 3) {
                call.abort();
            }
            drop(held);
            for call in calls {
                drop(call.await);
            }
        }
        assert_eq!(pool.seats.taken.load(Relaxed), 0);
        assert_eq!(pool.waiting.load(Relaxed), 0);
        assert_eq!(running(&permits), 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_hears_of_a_permit_that_is_given_back() {
        let permits = one(2, 10, 10_000);
        let held = permits.acquire().await.unwrap();
        let begin = Instant::now();
        let waits = tokio::spawn({
            let permits = permits.clone();
            async move { permits.room(begin).await }
        });
        while permits.pool.starving.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        drop(held);
        assert!(waits.await.unwrap());
        let over = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        assert!(!permits.room(over).await, "it has waited long enough");
    }
}
