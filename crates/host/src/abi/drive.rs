//! Driving a guest whose end is all there is to wait for: it gets one thing, and what it returns is its answer.
//!
//! The guest runs as one of HTTP does, on an instance that may be warm, under the same clock, permit and lanes; but nobody reads
//! an answer while it works.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use crate::abi::Warm;
use crate::abi::broken::Broken;
use crate::abi::http::{self, Running, Task, Work};
use crate::fault::Fault;
use crate::guest::{Inner, RequestId};
use crate::lanes::{self, JobHandle};
use crate::pool::Permit;

/// Runs the guest until it has returned. `task` is given where its answer goes.
pub(super) async fn to_the_end<T: Send + 'static>(
    guest: &Arc<Inner>,
    permit: Permit,
    id: RequestId,
    task: impl FnOnce(oneshot::Sender<T>) -> Task,
) -> Result<T, Fault> {
    let (sender, receiver) = oneshot::channel();
    let work = http::work(guest.clone(), id, task(sender));
    work_to_the_end(guest, permit, id, (work, receiver)).await
}

/// The same for work that is given, with where its answer comes from.
pub(super) async fn work_to_the_end<T: Send + 'static>(
    guest: &Arc<Inner>,
    permit: Permit,
    id: RequestId,
    (work, mut receiver): (Work, oneshot::Receiver<T>),
) -> Result<T, Fault> {
    let mut running = Running::new(guest, permit, work, id);
    if guest.lanes.begins_slow(&guest.account) {
        running.leave_fast_lane();
    } else if let Some(ended) = poll_fn(|cx| in_fast_lane(&mut running, cx)).await {
        return answer(running, ended, &mut receiver);
    } else {
        running.leave_fast_lane();
    }
    in_slow_lane(running, receiver).await
}

/// How the guest ended.
type Ended = Result<Warm, Broken>;

/// `None` when it has to leave this thread.
fn in_fast_lane(running: &mut Running, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
    if running.must_go() {
        return Poll::Ready(None);
    }
    match poll(running, cx) {
        Poll::Pending if running.is_long() => Poll::Ready(None),
        polled => polled.map(Some),
    }
}

fn poll(running: &mut Running, cx: &mut Context<'_>) -> Poll<Ended> {
    match running.poll(cx) {
        Poll::Pending => running.alarm(cx).map(|fault| Err(running.stop(fault))),
        ended => ended,
    }
}

fn answer<T>(
    running: Running,
    ended: Ended,
    receiver: &mut oneshot::Receiver<T>,
) -> Result<T, Fault> {
    let warm = ended.map_err(|broken| broken.fault)?;
    drop(running.finished(warm).keep());
    receiver.try_recv().map_err(|_| http::no_answer())
}

/// Where the guest runs; it ends with this.
pub(super) enum Place {
    SlowLane(JobHandle),
    /// Without threads of its own the slow lane is this one.
    Task(AbortHandle),
}

impl Drop for Place {
    fn drop(&mut self) {
        match self {
            Self::SlowLane(job) => job.cancel(),
            Self::Task(task) => task.abort(),
        }
    }
}

async fn in_slow_lane<T: Send + 'static>(
    mut running: Running,
    mut receiver: oneshot::Receiver<T>,
) -> Result<T, Fault> {
    let guest = running.guest().clone();
    let (due, late) = (running.due(), running.late());
    let (done, outcome) = oneshot::channel();
    let work: lanes::Work = Box::pin(async move {
        let ended = poll_fn(|cx| poll(&mut running, cx)).await;
        let _waits = done.send(answer(running, ended, &mut receiver));
    });
    let _place = match guest.lanes.spawn(&guest.account, due, work) {
        Ok(job) => Place::SlowLane(job),
        Err(work) => Place::Task(tokio::spawn(work).abort_handle()),
    };
    let over = async {
        match due {
            Some(due) => sleep_until(due.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        outcome = outcome => outcome.unwrap_or(Err(Fault::Cancelled)),
        () = over => Err(late),
    }
}
