//! Instances that wait for their next request.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use hostel_app::limits::{self, Limits};

use crate::lock::lock;

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

    /// Drops those that have been idle for too long; whether any are left.
    pub(crate) fn sweep(&self) -> bool {
        self.sweep_at(Instant::now())
    }

    fn sweep_at(&self, now: Instant) -> bool {
        let mut instances = self.lock();
        let old = stale(&mut instances, now);
        let left = !instances.is_empty();
        drop(instances);
        drop(old);
        left
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
        idle.put(4);
        assert!(idle.sweep_at(now + limit / 2), "it may still be needed");
        assert!(!idle.sweep_at(now + limit * 2), "nobody came for it");
        idle.put(3);
        idle.clear();
        assert_eq!(idle.take(), None);
    }
}
