//! Permits: how many calls of one component run at once, how many wait, and for how long.
//!
//! The surplus waits in arrival order; past the queue's depth or the wait it is a `busy` fault, never an error page
//! of the engine. Instances themselves come from the engine's own pool; `guest` keeps those that are used again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hostel_app::limits::{self, Limits};
use tokio::sync::{Semaphore, TryAcquireError};

use crate::fault::Fault;
use crate::lock::lock;

/// The permits of one component.
#[derive(Debug)]
pub(crate) struct Pool {
    permits: Arc<Semaphore>,
    waiting: AtomicU32,
    waiting_max: u32,
    wait: Duration,
}

/// The right to run one call; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Semaphore>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

impl Pool {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limits.concurrency as usize)),
            waiting: AtomicU32::new(0),
            waiting_max: limits.queue_depth,
            wait: Duration::from_millis(limits.queue_wait_ms),
        }
    }

    /// A permit at once if one is free, else after a bounded wait in a bounded queue.
    pub(crate) async fn acquire(&self) -> Result<Permit, Fault> {
        match self.permits.try_acquire() {
            Ok(permit) => {
                permit.forget();
                Ok(Permit(self.permits.clone()))
            }
            Err(TryAcquireError::NoPermits) => self.queue().await,
            Err(TryAcquireError::Closed) => Err(Fault::Cancelled),
        }
    }

    async fn queue(&self) -> Result<Permit, Fault> {
        let place = Place::take(&self.waiting, self.waiting_max).ok_or_else(|| self.busy())?;
        let turn = tokio::time::timeout(self.wait, self.permits.acquire()).await;
        drop(place);
        match turn {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(Permit(self.permits.clone()))
            }
            Ok(Err(_)) => Err(Fault::Cancelled),
            Err(_) => Err(self.busy()),
        }
    }

    fn busy(&self) -> Fault {
        Fault::Busy(
            u32::try_from(self.wait.as_secs())
                .unwrap_or(u32::MAX)
                .max(1),
        )
    }
}

/// One place in the queue; left on drop, also when the waiting client goes away.
struct Place<'a>(&'a AtomicU32);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicU32, max: u32) -> Option<Self> {
        if waiting.fetch_add(1, Ordering::Relaxed) >= max {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Instances that answered and may answer again; as many as permits at the most, the warmest first, none for long: they
/// occupy places that other components may need.
#[derive(Debug)]
pub(crate) struct Idle<T> {
    /// With the moment at which each became idle, the oldest first.
    instances: Mutex<Vec<(Instant, T)>>,
    max: usize,
}

impl<T> Idle<T> {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            instances: Mutex::new(Vec::new()),
            max: limits.concurrency as usize,
        }
    }

    /// The instance used last, if one is idle.
    pub(crate) fn take(&self) -> Option<T> {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> Option<T> {
        let mut instances = self.lock();
        let old = stale(&mut instances, now);
        let taken = instances.pop();
        drop(instances);
        drop(old); // it takes a moment, which nobody else has to wait for
        taken.map(|(_, instance)| instance)
    }

    /// Keeps an instance for the next call; drops it when enough are idle.
    pub(crate) fn put(&self, instance: T) {
        let now = Instant::now();
        let mut instances = self.lock();
        let old = stale(&mut instances, now);
        if instances.len() < self.max {
            instances.push((now, instance));
        }
        drop(instances);
        drop(old);
    }

    /// Drops all of them: their places are needed.
    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, T)>> {
        lock(&self.instances)
    }
}

/// Takes out the instances that have been idle for too long.
fn stale<T>(instances: &mut Vec<(Instant, T)>, now: Instant) -> Vec<(Instant, T)> {
    let limit = limits::IDLE_INSTANCE_MS.duration();
    let old = instances.partition_point(|(since, _)| now.saturating_duration_since(*since) > limit);
    instances.drain(..old).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(concurrency: u32, queue_depth: u32, queue_wait_ms: u64) -> Pool {
        Pool::new(&Limits {
            concurrency,
            queue_depth,
            queue_wait_ms,
            ..Limits::default()
        })
    }

    #[tokio::test]
    async fn a_call_beyond_the_permits_waits_and_then_is_refused_with_a_time() {
        let pool = pool(1, 10, 20);
        let held = pool.acquire().await.unwrap();
        let begin = std::time::Instant::now();
        assert_eq!(pool.acquire().await.unwrap_err(), Fault::Busy(1));
        assert!(begin.elapsed() >= Duration::from_millis(20));
        drop(held);
        pool.acquire().await.unwrap();
    }

    #[tokio::test]
    async fn a_waiting_call_gets_the_permit_that_is_given_back() {
        let pool = Arc::new(pool(1, 10, 1000));
        let held = pool.acquire().await.unwrap();
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.acquire().await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_a_client_that_leaves_frees_its_place() {
        let pool = Arc::new(pool(1, 1, 60_000));
        let _held = pool.acquire().await.unwrap();
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.acquire().await.map(drop) }
        });
        tokio::task::yield_now().await;
        let refused = tokio::time::timeout(Duration::from_secs(10), pool.acquire()).await;
        assert!(
            matches!(refused, Ok(Err(Fault::Busy(60)))),
            "refused without waiting for the minute"
        );
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!(pool.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn idle_instances_are_bounded_and_come_back_warmest_first() {
        let idle = Idle::new(&Limits {
            concurrency: 2,
            ..Limits::default()
        });
        idle.put(1);
        idle.put(2);
        idle.put(3);
        assert_eq!(
            (idle.take(), idle.take(), idle.take()),
            (Some(2), Some(1), None)
        );
    }

    #[test]
    fn an_instance_that_was_idle_for_too_long_is_not_used_again() {
        let idle = Idle::new(&Limits::default());
        idle.put(1);
        let limit = limits::IDLE_INSTANCE_MS.duration();
        let now = Instant::now();
        assert_eq!(idle.take_at(now + limit / 2), Some(1));
        idle.put(2);
        assert_eq!(idle.take_at(now + limit * 2), None);
        assert_eq!(idle.take(), None, "it is gone");
        idle.put(3);
        idle.clear();
        assert_eq!(idle.take(), None);
    }
}
