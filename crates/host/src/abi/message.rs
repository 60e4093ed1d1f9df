//! The ABIs of messages: `message-p2`, and `message-wasmcloud-p2` and `-p3`. What each hands over is in `handlers`.
//!
//! The guest gets one message and says whether it is done. It runs as a guest of HTTP does, on an instance that may be warm,
//! under the same clock, permit and lanes; but nobody reads an answer while it works, so that its end is all there is to
//! wait for. What becomes of the message is for whoever subscribed to decide.

pub(crate) mod handlers;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;
use wasmtime::Result;

use crate::abi::http::{self, Broken, Running, Task};
use crate::abi::{Exports, Warm};
use crate::capability::messaging::Letter;
use crate::fault::Fault;
use crate::guest::{Inner, RequestId};
use crate::lanes::{self, JobHandle};
use crate::pool::Permit;

/// What the guest says of a message: it is done, or why not.
pub type Handled = std::result::Result<(), Refusal>;

/// Why a guest did not take a message, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is to come again.
    Later(String),
    /// It need not come again: it is a dead letter.
    Never(String),
}

impl Refusal {
    /// The words.
    pub fn why(&self) -> &str {
        match self {
            Self::Later(why) | Self::Never(why) => why,
        }
    }
}

/// Runs the guest until it has returned.
pub(crate) async fn handle(
    guest: &Arc<Inner>,
    permit: Permit,
    letter: Letter,
    id: RequestId,
) -> std::result::Result<Handled, Fault> {
    let (sender, mut receiver) = oneshot::channel();
    let work = http::work(guest.clone(), id, Task::Message(letter, sender));
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

/// The guest's part: one message.
pub(super) async fn call(
    warm: &mut Warm,
    letter: Letter,
    answer: oneshot::Sender<Handled>,
) -> Result<()> {
    let Exports::Message(handler) = &warm.exports else {
        wasmtime::bail!("not an instance that handles messages")
    };
    let handled = handler.call(&mut warm.store, letter).await?;
    // Nobody listens any more if the call was cancelled.
    let _heard = answer.send(handled);
    Ok(())
}

/// How the guest ended.
type Ended = std::result::Result<Warm, Broken>;

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

fn answer(
    running: Running,
    ended: Ended,
    receiver: &mut oneshot::Receiver<Handled>,
) -> std::result::Result<Handled, Fault> {
    let warm = ended.map_err(|broken| broken.fault)?;
    drop(running.finished(warm).keep());
    receiver.try_recv().map_err(|_| http::no_answer())
}

/// Where the guest runs; it ends with this.
enum Place {
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

async fn in_slow_lane(
    mut running: Running,
    mut receiver: oneshot::Receiver<Handled>,
) -> std::result::Result<Handled, Fault> {
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
