//! A guest that runs apart from its connection: because it goes on after its answer has begun to leave, or because it has
//! used a slice of CPU and left the fast lane, answered or not.
//!
//! [`Detached`] is the connection's end of it: it learns there of the answer, of faults and of the guest's end, and
//! cancels it when the client goes away. `Watched` is the guest's end: it sees the guest through, on the connection's
//! thread until it has used a slice there, in the slow lane from then on.

use std::any::Any;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http::Response;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Sleep, sleep_until};

use crate::abi::broken::Broken;
use crate::abi::http::{Answer, Answered, Finished, Running, no_answer};
use crate::abi::response::{Ahead, Late, ResponseBody, Writer};
use crate::fault::Fault;
use crate::guest::{Inner, RequestId};
use crate::lanes::{JobHandle, Work};
use crate::lock::lock;

/// A guest apart from its connection.
pub(super) struct Detached {
    end: Arc<Mutex<End>>,
}

/// Where the guest runs.
#[derive(Default)]
enum Place {
    #[default]
    Nowhere,
    /// In a task of its own on the connection's thread.
    Task(AbortHandle),
    SlowLane(JobHandle),
}

/// How the guest ended, shared by both ends.
#[derive(Default)]
struct End {
    place: Place,
    /// Somebody waits for the answer: a fault is told there.
    awaited: bool,
    fault: Option<Fault>,
    cancelled: bool,
    failed: bool,
    /// See [`Broken::remains`].
    remains: Option<Box<dyn Any + Send>>,
    /// The guest has returned, and waits for its body to be read.
    finished: Option<Finished>,
    /// The body was whole: a guest that returns now may answer again.
    body_ended: bool,
    reader: Option<Waker>,
}

impl End {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Detached {
    /// Goes on with a guest whose answer begins to leave.
    pub(super) fn late(running: Running) -> Self {
        Self::start(running, false)
    }

    fn start(running: Running, awaited: bool) -> Self {
        let end = Arc::new(Mutex::new(End {
            awaited,
            ..End::default()
        }));
        let detached = Self { end: end.clone() };
        let mut guard = lock(&detached.end);
        guard.place = place(running, end);
        drop(guard);
        detached
    }

    /// Where the guest stands; if it still runs, its end will wake this task.
    pub(super) fn look(&self, cx: &mut Context<'_>) -> Writer {
        let mut end = lock(&self.end);
        if end.finished.is_some() || end.remains.is_some() {
            return Writer::Gone;
        }
        if end.failed {
            return Writer::Dead;
        }
        end.reader = Some(cx.waker().clone());
        Writer::Runs
    }

    /// Nothing more is read: the body is `whole`, or has broken off.
    pub(super) fn body_ended(&self, whole: bool) {
        let mut end = lock(&self.end);
        end.body_ended = whole;
        let finished = end.finished.take();
        drop(end);
        let left = match finished {
            Some(finished) if whole => finished.keep(),
            Some(finished) => Some(finished.report_unfinished()),
            None => None,
        };
        self.clear_away(left);
    }

    /// Drops what is left of the guest: where it ran, since a large memory takes its time.
    fn clear_away(&self, left: Option<Finished>) {
        let mut end = lock(&self.end);
        let left = (left, end.finished.take(), end.remains.take());
        if let (None, None, None) = left {
            return;
        }
        if let Place::SlowLane(job) = &end.place {
            return job.discard(left);
        }
        drop(end);
        drop(left);
    }

    /// The client is gone.
    pub(super) fn cancel(&self) {
        lock(&self.end).cancelled = true;
        self.discard();
    }

    /// Ends the guest; that is no fault of anybody's.
    pub(super) fn discard(&self) {
        match &lock(&self.end).place {
            Place::Nowhere => {}
            Place::Task(task) => task.abort(),
            Place::SlowLane(job) => job.cancel(),
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.clear_away(None);
    }
}

/// Finds the guest a place: on this thread, or in the slow lane if it has been here for too long.
fn place(running: Running, end: Arc<Mutex<End>>) -> Place {
    let guest = running.guest().clone();
    let (slow, due) = (running.is_slow(), running.due());
    let mut watched = Watched {
        running: Some(running),
        end,
    };
    if !slow {
        let task = tokio::spawn(async move { poll_fn(|cx| watched.poll(cx)).await });
        return Place::Task(task.abort_handle());
    }
    let work: Work = Box::pin(async move { poll_fn(|cx| watched.poll(cx)).await });
    match guest.lanes.spawn(&guest.account, due, work) {
        Ok(job) => Place::SlowLane(job),
        // Without threads of its own the slow lane is this one.
        Err(work) => Place::Task(tokio::spawn(work).abort_handle()),
    }
}

/// Waits for the answer of a guest that goes on in the slow lane. Dropping this cancels the guest.
pub(super) async fn answer(
    running: Running,
    id: RequestId,
    receiver: oneshot::Receiver<Answer>,
) -> Result<Response<ResponseBody>, Fault> {
    let alarm = running.due().map(|due| Box::pin(sleep_until(due.into())));
    let mut waiting = Waiting {
        guest: running.guest().clone(),
        id,
        late: running.late(),
        detached: Some(Detached::start(running, true)),
        receiver: Some(receiver),
        alarm,
    };
    poll_fn(|cx| waiting.poll(cx)).await
}

/// Whoever waits for the answer of a detached guest.
struct Waiting {
    guest: Arc<Inner>,
    id: RequestId,
    late: Fault,
    /// Until it has answered or failed.
    detached: Option<Detached>,
    /// Until the guest cannot answer any more.
    receiver: Option<oneshot::Receiver<Answer>>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<ResponseBody>, Fault>> {
        let mut heard = self.listen(cx);
        let ended = self.has_ended(cx);
        if ended && heard.is_none() {
            // On another thread it may have answered after the look above, and before it ended.
            let receiver = self.receiver.take();
            heard = receiver.and_then(|mut receiver| receiver.try_recv().ok());
        }
        match heard {
            Some(Ok(answered)) => return Poll::Ready(self.answered(answered, cx)),
            Some(Err(reason)) => return Poll::Ready(Err(Fault::BadGuest(reason))),
            None => {}
        }
        if ended {
            let fault = self.fault();
            self.detached = None;
            return Poll::Ready(Err(fault));
        }
        let alarm = self.alarm.as_mut().map(|alarm| alarm.as_mut().poll(cx));
        if alarm.is_some_and(|alarm| alarm.is_ready()) {
            if let Some(detached) = self.detached.take() {
                detached.discard();
            }
            return Poll::Ready(Err(self.late.clone()));
        }
        Poll::Pending
    }

    /// The answer, once it is there.
    fn listen(&mut self, cx: &mut Context<'_>) -> Option<Answer> {
        let Poll::Ready(answer) = Pin::new(self.receiver.as_mut()?).poll(cx) else {
            return None;
        };
        self.receiver = None;
        // Without one it has ended; how is about to be known.
        answer.ok()
    }

    /// Whether the guest has ended; if it still runs, its end will wake this task.
    fn has_ended(&self, cx: &mut Context<'_>) -> bool {
        let Some(detached) = &self.detached else {
            return true;
        };
        let mut end = lock(&detached.end);
        let ended = end.fault.is_some() || end.finished.is_some() || end.failed;
        if !ended {
            end.reader = Some(cx.waker().clone());
        }
        ended
    }

    /// The fault of a guest that has ended without an answer.
    fn fault(&self) -> Fault {
        let Some(detached) = &self.detached else {
            return no_answer();
        };
        let mut end = lock(&detached.end);
        let fault = end.fault.take();
        let unanswered = || end.finished.as_ref().map(Finished::unanswered);
        fault.or_else(unanswered).unwrap_or_else(no_answer)
    }

    fn answered(
        &mut self,
        answered: Answered,
        cx: &mut Context<'_>,
    ) -> Result<Response<ResponseBody>, Fault> {
        let limit = self.guest.template.limits.response_body_bytes;
        let mut ahead = Ahead::new(answered, limit).map_err(Fault::BadGuest)?;
        let Some(detached) = self.detached.take() else {
            return Err(no_answer());
        };
        let mut end = lock(&detached.end);
        end.awaited = false;
        let (fault, remains) = (end.fault.take(), end.remains.is_some());
        drop(end);
        let Some(fault) = fault else {
            ahead.fill(cx);
            return Ok(ahead.into_response(Some(Late::Own(detached))));
        };
        // It failed behind its answer. The client has that if it is whole, and the operator the fault.
        ahead.fill_up(cx);
        if !ahead.is_complete() || !remains {
            return Err(fault);
        }
        self.guest.report(self.id, &fault);
        Ok(ahead.into_response(None))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(detached) = &self.detached {
            detached.discard();
        }
    }
}

/// Sees a detached guest to its end, and says so if it did not end well and nobody waits for it.
struct Watched {
    running: Option<Running>,
    end: Arc<Mutex<End>>,
}

impl Watched {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut running) = self.running.take() else {
            return Poll::Ready(());
        };
        if running.must_go() {
            self.change_lanes(running);
            return Poll::Ready(());
        }
        let outcome = match running.poll(cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending if running.is_long() => {
                self.change_lanes(running);
                return Poll::Ready(());
            }
            Poll::Pending => match running.alarm(cx) {
                Poll::Pending => {
                    self.running = Some(running);
                    return Poll::Pending;
                }
                Poll::Ready(fault) => Err(running.stop(fault)),
            },
        };
        match outcome {
            Ok(warm) => self.finish(running.finished(warm)),
            Err(broken) => self.fail(&running, broken),
        }
        Poll::Ready(())
    }

    fn change_lanes(&self, mut running: Running) {
        running.leave_fast_lane();
        // The lock is held until the place is known, so that a client which leaves meanwhile finds it.
        let mut end = lock(&self.end);
        end.place = place(running, self.end.clone());
    }

    fn finish(&self, finished: Finished) {
        let mut end = lock(&self.end);
        if end.body_ended {
            drop(end);
            drop(finished.keep());
        } else {
            end.finished = Some(finished);
            end.wake();
        }
    }

    fn fail(&self, running: &Running, broken: Broken) {
        let mut end = lock(&self.end);
        end.failed = true;
        // Whoever has the whole body needs nothing of it.
        end.remains = broken.remains.filter(|_| !end.body_ended);
        if end.awaited {
            end.fault = Some(broken.fault);
        } else {
            running.report(&broken.fault);
        }
        end.wake();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(running) = &self.running
            && lock(&self.end).cancelled
        {
            running.report(&Fault::Cancelled);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty};

    use super::*;
    use crate::{Role, testing};

    /// A guest that runs.
    pub(in crate::abi) fn runs() -> Detached {
        with(End::default())
    }

    /// A guest that failed.
    pub(in crate::abi) fn failed(remains: Option<Box<dyn Any + Send>>) -> Detached {
        with(End {
            failed: true,
            remains,
            ..End::default()
        })
    }

    fn with(end: End) -> Detached {
        Detached {
            end: Arc::new(Mutex::new(end)),
        }
    }

    impl Detached {
        /// Tells later whether the guest was told that its body was whole.
        pub(in crate::abi) fn watch(&self) -> impl FnOnce() -> bool + use<> {
            let end = self.end.clone();
            move || lock(&end).body_ended
        }
    }

    /// Where nothing of tokio's that may be ready says so any more, in this poll.
    fn use_up_the_turn(cx: &mut Context<'_>) {
        while let Poll::Ready(turn) = tokio::task::coop::poll_proceed(cx) {
            turn.made_progress();
        }
    }

    #[tokio::test]
    async fn an_answer_that_came_just_before_the_end_is_heard() {
        let text = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
        let component = testing::component(text.as_bytes());
        let app = testing::runtime(None).app("test");
        let guest = app.load(&component, text.as_bytes(), Role::Run, &|_| {});
        let (sender, receiver) = oneshot::channel();
        let body = Empty::<Bytes>::new().map_err(|never| match never {});
        let answer = Answered {
            response: Response::new(body.boxed_unsync()),
            until_read: None,
        };
        assert!(sender.send(Ok(answer)).is_ok());
        let mut waiting = Waiting {
            guest: guest.unwrap().0,
            id: RequestId(1),
            late: Fault::Deadline(1),
            detached: Some(failed(Some(Box::new(())))),
            receiver: Some(receiver),
            alarm: None,
        };
        // The answer is there, and is not seen at the first look, as if it had come behind that.
        let answered = poll_fn(|cx| {
            use_up_the_turn(cx);
            Poll::Ready(waiting.poll(cx))
        });
        assert!(matches!(answered.await, Poll::Ready(Ok(_))));
    }
}
