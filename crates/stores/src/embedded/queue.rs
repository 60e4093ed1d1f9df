//! A bounded queue from async callers to a thread: whoever finds it full waits without a thread.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) struct Queue<J> {
    room: Arc<Semaphore>,
    inner: Mutex<Inner<J>>,
    arrived: Condvar,
}

struct Inner<J> {
    jobs: VecDeque<(J, OwnedSemaphorePermit)>,
    /// Threads that wait for a job: nobody is woken in vain.
    sleeping: usize,
    closed: bool,
}

/// What a thread got.
pub(super) enum Taken<J> {
    /// One job at least.
    Jobs(Vec<J>),
    /// The time was over.
    Nothing,
    /// There will be no more.
    Closed,
}

impl<J> Queue<J> {
    pub(super) fn new(room: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new(room.clamp(1, Semaphore::MAX_PERMITS))),
            inner: Mutex::new(Inner {
                jobs: VecDeque::new(),
                sleeping: 0,
                closed: false,
            }),
            arrived: Condvar::new(),
        }
    }

    /// Waits for room and hands the job over; whether there is still somebody to do it.
    pub(super) async fn push(&self, job: J) -> bool {
        let Ok(permit) = self.room.clone().acquire_owned().await else {
            return false;
        };
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        inner.jobs.push_back((job, permit));
        let wake = inner.sleeping > 0;
        drop(inner);
        if wake {
            self.arrived.notify_one();
        }
        true
    }

    /// Up to `most` jobs as soon as there is one.
    pub(super) fn take(&self, most: usize, patience: Option<Duration>) -> Taken<J> {
        let mut inner = self.lock();
        while inner.jobs.is_empty() {
            if inner.closed {
                return Taken::Closed;
            }
            inner.sleeping += 1;
            let late;
            (inner, late) = self.wait(inner, patience);
            inner.sleeping -= 1;
            if late && inner.jobs.is_empty() && !inner.closed {
                return Taken::Nothing;
            }
        }
        let count = inner.jobs.len().min(most);
        Taken::Jobs(inner.jobs.drain(..count).map(|(job, _)| job).collect())
    }

    /// The next job, if there is one now and it is wanted.
    pub(super) fn take_if(&self, wanted: impl FnOnce(&J) -> bool) -> Option<J> {
        let mut inner = self.lock();
        let (job, _) = inner.jobs.front()?;
        if !wanted(job) {
            return None;
        }
        inner.jobs.pop_front().map(|(job, _)| job)
    }

    /// Jobs that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Jobs that wait are still done; no more are taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.arrived.notify_all();
    }

    fn wait<'a>(
        &self,
        inner: MutexGuard<'a, Inner<J>>,
        patience: Option<Duration>,
    ) -> (MutexGuard<'a, Inner<J>>, bool) {
        match patience {
            None => {
                let inner = self.arrived.wait(inner);
                (inner.unwrap_or_else(PoisonError::into_inner), false)
            }
            Some(patience) => {
                let (inner, timeout) = self
                    .arrived
                    .wait_timeout(inner, patience)
                    .unwrap_or_else(PoisonError::into_inner);
                (inner, timeout.timed_out())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<J>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
