//! Whose turn it is: jobs by app and component, and the CPU that each has had.
//!
//! The app that has had the least is next, and within it the component that has had the least; jobs of one component
//! take turns. Whoever had nothing to do saves nothing up: it starts where the others are. Pure bookkeeping: it knows
//! neither threads nor clocks.

use std::collections::VecDeque;
use std::time::Duration;

/// To whom a job's CPU is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// The app.
    pub(crate) app: u64,
    /// The component; unique in the process.
    pub(crate) component: u64,
}

/// Jobs that wait for their turn, and what their owners have had.
#[derive(Debug)]
pub(super) struct Fair<T> {
    apps: Vec<Share<Vec<Share<VecDeque<T>>>>>,
    /// What the last one whose turn it was had had before.
    level: Duration,
}

/// One app or component, as long as it has jobs, waiting or not.
#[derive(Debug)]
struct Share<Q> {
    id: u64,
    used: Duration,
    jobs: usize,
    level: Duration,
    queue: Q,
}

impl<Q: Default> Share<Q> {
    fn new(id: u64, used: Duration) -> Self {
        Self {
            id,
            used,
            jobs: 0,
            level: Duration::ZERO,
            queue: Q::default(),
        }
    }
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self {
            apps: Vec::new(),
            level: Duration::ZERO,
        }
    }
}

impl<T> Fair<T> {
    /// A job of this owner exists from now on; it does not wait for a turn yet.
    pub(super) fn enter(&mut self, owner: Owner) {
        let Some(app) = find_or_add(&mut self.apps, owner.app, self.level) else {
            return;
        };
        app.jobs += 1;
        if let Some(component) = find_or_add(&mut app.queue, owner.component, app.level) {
            component.jobs += 1;
        }
    }

    /// A job of this owner is over.
    pub(super) fn leave(&mut self, owner: Owner) {
        let Some(app) = find(&mut self.apps, owner.app) else {
            return;
        };
        app.jobs = app.jobs.saturating_sub(1);
        if let Some(component) = find(&mut app.queue, owner.component) {
            component.jobs = component.jobs.saturating_sub(1);
        }
        app.queue.retain(|component| component.jobs > 0);
        self.apps.retain(|app| app.jobs > 0);
    }

    /// A job waits for its turn.
    pub(super) fn push(&mut self, owner: Owner, job: T) {
        let Some(app) = find(&mut self.apps, owner.app) else {
            return;
        };
        if app.queue.iter().all(|component| component.queue.is_empty()) {
            app.used = app.used.max(self.level);
        }
        let level = app.level;
        if let Some(component) = find(&mut app.queue, owner.component) {
            if component.queue.is_empty() {
                component.used = component.used.max(level);
            }
            component.queue.push_back(job);
        }
    }

    /// The job whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let app = self
            .apps
            .iter_mut()
            .filter(|app| {
                app.queue
                    .iter()
                    .any(|component| !component.queue.is_empty())
            })
            .min_by_key(|app| app.used)?;
        self.level = self.level.max(app.used);
        let component = app
            .queue
            .iter_mut()
            .filter(|component| !component.queue.is_empty())
            .min_by_key(|component| component.used)?;
        app.level = app.level.max(component.used);
        component.queue.pop_front()
    }

    /// A job of this owner has used CPU.
    pub(super) fn charge(&mut self, owner: Owner, used: Duration) {
        let Some(app) = find(&mut self.apps, owner.app) else {
            return;
        };
        app.used += used;
        if let Some(component) = find(&mut app.queue, owner.component) {
            component.used += used;
        }
    }
}

fn find<Q>(shares: &mut [Share<Q>], id: u64) -> Option<&mut Share<Q>> {
    shares.iter_mut().find(|share| share.id == id)
}

fn find_or_add<Q: Default>(
    shares: &mut Vec<Share<Q>>,
    id: u64,
    level: Duration,
) -> Option<&mut Share<Q>> {
    match shares.iter().position(|share| share.id == id) {
        Some(index) => shares.swap(index, 0),
        None => shares.insert(0, Share::new(id, level)),
    }
    shares.first_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const SLICE: Duration = Duration::from_millis(5);

    fn owner(app: u64, component: u64) -> Owner {
        Owner { app, component }
    }

    /// Gives `turns` slices to jobs that always want another one; how many each owner got.
    fn share(jobs: &[Owner], turns: usize) -> BTreeMap<(u64, u64), usize> {
        let mut fair = Fair::default();
        for job in jobs {
            fair.enter(*job);
            fair.push(*job, *job);
        }
        let mut got = BTreeMap::new();
        for _ in 0..turns {
            let job = fair.pop().unwrap();
            *got.entry((job.app, job.component)).or_default() += 1;
            fair.charge(job, SLICE);
            fair.push(job, job);
        }
        got
    }

    #[test]
    fn apps_share_equally_however_many_jobs_they_have() {
        let mut jobs = vec![owner(1, 10); 99];
        jobs.push(owner(2, 20));
        let got = share(&jobs, 1000);
        assert_eq!(got, BTreeMap::from([((1, 10), 500), ((2, 20), 500)]));
    }

    #[test]
    fn components_share_what_their_app_has() {
        let jobs = [owner(1, 10), owner(1, 10), owner(1, 11), owner(2, 20)];
        let got = share(&jobs, 400);
        assert_eq!(
            got,
            BTreeMap::from([((1, 10), 100), ((1, 11), 100), ((2, 20), 200)])
        );
    }

    #[test]
    fn jobs_of_one_component_take_turns() {
        let mut fair = Fair::default();
        for job in 0..3 {
            fair.enter(owner(1, 1));
            fair.push(owner(1, 1), job);
        }
        let order: Vec<_> = (0..6)
            .map(|_| {
                let job = fair.pop().unwrap();
                fair.charge(owner(1, 1), SLICE);
                fair.push(owner(1, 1), job);
                job
            })
            .collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn whoever_comes_late_or_was_idle_starts_where_the_others_are() {
        let (old, idle, late) = (owner(1, 1), owner(2, 2), owner(3, 3));
        let mut fair = Fair::default();
        for job in [old, idle] {
            fair.enter(job);
        }
        fair.push(old, old);
        for _ in 0..100 {
            let job = fair.pop().unwrap();
            fair.charge(job, SLICE);
            fair.push(job, job);
        }
        fair.enter(late);
        fair.push(late, late);
        fair.push(idle, idle);
        let mut turns = BTreeMap::new();
        for _ in 0..30 {
            let job = fair.pop().unwrap();
            *turns.entry(job.app).or_insert(0) += 1;
            fair.charge(job, SLICE);
            fair.push(job, job);
        }
        assert!(
            turns.values().all(|turns| (9..=11).contains(turns)),
            "nobody catches up on what it did not use: {turns:?}"
        );
    }

    #[test]
    fn nothing_remains_of_an_owner_without_jobs() {
        let mut fair = Fair::default();
        fair.enter(owner(1, 1));
        fair.push(owner(1, 1), ());
        assert!(fair.pop().is_some());
        fair.leave(owner(1, 1));
        assert!(fair.apps.is_empty());
        fair.push(owner(1, 1), ());
        fair.charge(owner(1, 1), SLICE);
        fair.leave(owner(1, 1));
        assert!(fair.pop().is_none());
    }
}
