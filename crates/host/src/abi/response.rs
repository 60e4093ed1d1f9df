//! A guest's answer on its way out: the frames taken ahead, the body, and the guest that may still be writing it.

use std::any::Any;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

use crate::abi::http::{Answered, Broken, Finished, Running};
use crate::abi::shared;
use crate::fault::Fault;
use crate::guest::BodyError;
use crate::lock::lock;

/// Frames taken from a guest before its answer leaves; enough for a small body and its end.
const AHEAD_FRAMES: usize = 2;

/// The answer's head and the first frames of its body.
pub(crate) struct Ahead {
    head: http::response::Parts,
    body: WasiBody,
    until_read: Option<oneshot::Sender<Infallible>>,
    frames: VecDeque<Result<Frame<Bytes>, BodyError>>,
    ended: bool,
}

impl Ahead {
    pub(super) fn new(answered: Answered) -> Self {
        let (head, body) = answered.response.into_parts();
        Self {
            head,
            body,
            until_read: answered.until_read,
            frames: VecDeque::new(),
            ended: false,
        }
    }

    /// Takes the frames that are ready, a few at the most. True if there was one, or the end.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progressed = false;
        while !self.is_full() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(frame)) => self.frames.push_back(frame),
                Poll::Ready(None) => {
                    self.ended = true;
                    self.until_read = None;
                }
                Poll::Pending => break,
            }
            progressed = true;
        }
        progressed
    }

    /// Takes all that a guest left which has returned; the library bounds it. What is not there now never will be.
    pub(super) fn fill_up(&mut self, cx: &mut Context<'_>) {
        while !self.ended && !self.is_broken() {
            match poll_now(&mut self.body, cx) {
                Poll::Ready(Some(frame)) => self.frames.push_back(frame),
                Poll::Ready(None) => {
                    self.ended = true;
                    self.until_read = None;
                }
                Poll::Pending => break,
            }
        }
    }

    /// Whether the body broke off.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.frames.back(), Some(Err(_)))
    }

    /// Whether the whole body is here. True only where the guest ended it, provided that what remains of a guest that
    /// failed is still there.
    pub(super) fn is_complete(&self) -> bool {
        self.ended
    }

    /// Whether nothing more can be taken: the body is complete, or enough of it is here.
    pub(super) fn is_full(&self) -> bool {
        self.ended || self.frames.len() >= AHEAD_FRAMES
    }

    pub(super) fn into_response(self, late: Option<Late>) -> Response<ResponseBody> {
        let declared = self
            .head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let body = ResponseBody {
            frames: self.frames,
            rest: (!self.ended).then_some(self.body),
            until_read: self.until_read,
            declared,
            sent: 0,
            late,
        };
        Response::from_parts(self.head, body)
    }
}

/// The next frame. Pending means that there is none, never that the task had its turn.
fn poll_now(
    body: &mut WasiBody,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    let next = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    Pin::new(&mut tokio::task::unconstrained(next)).poll(cx)
}

/// The body of a guest's answer. Dropping it before its end cancels the guest.
pub struct ResponseBody {
    frames: VecDeque<Result<Frame<Bytes>, BodyError>>,
    rest: Option<WasiBody>,
    until_read: Option<oneshot::Sender<Infallible>>,
    /// The guest's own content-length; the library holds it to that.
    declared: Option<u64>,
    sent: u64,
    late: Option<Late>,
}

impl ResponseBody {
    fn count(&mut self, frame: &Result<Frame<Bytes>, BodyError>) {
        if let Ok(frame) = frame
            && let Some(data) = frame.data_ref()
        {
            self.sent += data.len() as u64;
        }
    }

    /// Ends a guest whose body nobody wants, as in the answer to `HEAD`. That is no fault of anybody's.
    pub fn discard(mut self) {
        if !self.is_complete()
            && let Some(late) = self.late.take()
        {
            late.discard();
        }
    }

    /// Whether everything has been handed over; a guest that works on after that is left alone.
    fn is_complete(&self) -> bool {
        self.frames.is_empty() && (self.rest.is_none() || self.declared == Some(self.sent))
    }

    /// The next frame from the guest itself.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        // First, so that a guest which ends between the two looks wakes this task.
        let writer = self
            .late
            .as_mut()
            .map_or(Writer::Gone, |late| late.look(cx));
        let frame = match (&self.late, &writer) {
            // Nothing of a shared instance remains, so that its death looks like the end of its bodies; and if only
            // this request's time is over, the instance writes on.
            (Some(Late::Shared(_)), Writer::Dead) => Poll::Pending,
            (_, Writer::Runs) => Pin::new(rest).poll_frame(cx),
            _ => poll_now(rest, cx),
        };
        let incomplete = Some(Err(BodyError::HttpResponseIncomplete));
        let last = match (frame, &writer) {
            (Poll::Ready(Some(frame)), _) => return Poll::Ready(Some(frame)),
            (Poll::Pending, Writer::Runs) => return Poll::Pending,
            (Poll::Ready(None), Writer::Dead) | (Poll::Pending, _) => incomplete,
            (Poll::Ready(None), _) => None,
        };
        self.rest = None;
        self.until_read = None;
        if let Some(late) = &self.late {
            late.body_ended(last.is_none());
        }
        Poll::Ready(last)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_rest(cx),
        };
        if let Poll::Ready(Some(frame)) = &frame {
            self.count(frame);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_some() {
            let left = self
                .declared
                .map(|declared| declared.saturating_sub(self.sent));
            return left.map_or_else(SizeHint::default, SizeHint::with_exact);
        }
        let mut length = 0;
        for frame in &self.frames {
            match frame.as_ref().ok().and_then(Frame::data_ref) {
                Some(data) => length += data.len() as u64,
                // With an exact size nobody would look for trailers, or for the error, behind it.
                None => return SizeHint::default(),
            }
        }
        SizeHint::with_exact(length)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Some(late) = &self.late else { return };
        if self.is_complete() {
            late.body_ended(true);
        } else {
            late.cancel();
        }
    }
}

/// A guest that still runs after its answer's head has left.
pub(super) enum Late {
    /// In a task of its own.
    Own(LateTask),
    /// In an instance that it shares with other requests.
    Shared(shared::Ticket),
}

impl Late {
    /// Where the guest stands; if it still runs, its end will wake this task.
    fn look(&mut self, cx: &mut Context<'_>) -> Writer {
        match self {
            Late::Own(task) => lock(&task.end).look(cx),
            Late::Shared(ticket) if ticket.failed(cx) => Writer::Dead,
            Late::Shared(_) => Writer::Runs,
        }
    }

    /// Nothing more is read: the body is `whole`, or has broken off.
    fn body_ended(&self, whole: bool) {
        let Late::Own(task) = self else { return };
        let mut end = lock(&task.end);
        end.body_ended = whole;
        let (finished, remains) = (end.finished.take(), end.remains.take());
        drop(end);
        drop(remains);
        match finished {
            Some(finished) if whole => finished.keep(),
            Some(finished) => finished.report_unfinished(),
            None => {}
        }
    }

    fn cancel(&self) {
        match self {
            Late::Own(task) => task.cancel(),
            Late::Shared(ticket) => ticket.cancel(),
        }
    }

    fn discard(&self) {
        match self {
            Late::Own(task) => task.task.abort(),
            Late::Shared(ticket) => ticket.cancel(),
        }
    }
}

/// The guest that writes a body.
enum Writer {
    Runs,
    /// It has ended, but what ends a body is still there: the body's end is the guest's doing.
    Gone,
    /// It is gone with all that belongs to it: its end looks like the body's.
    Dead,
}

/// The task of a late guest.
pub(super) struct LateTask {
    task: tokio::task::AbortHandle,
    end: Arc<Mutex<End>>,
}

/// How a late guest ended, shared by its task and its body.
#[derive(Default)]
struct End {
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
    fn look(&mut self, cx: &mut Context<'_>) -> Writer {
        if self.finished.is_some() || self.remains.is_some() {
            return Writer::Gone;
        }
        if self.failed {
            return Writer::Dead;
        }
        self.reader = Some(cx.waker().clone());
        Writer::Runs
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl LateTask {
    pub(super) fn spawn(running: Running) -> Self {
        let end = Arc::new(Mutex::new(End::default()));
        let mut watched = Watched {
            running: Some(running),
            end: end.clone(),
        };
        let task = tokio::spawn(async move { poll_fn(|cx| watched.poll(cx)).await });
        Self {
            task: task.abort_handle(),
            end,
        }
    }

    fn cancel(&self) {
        lock(&self.end).cancelled = true;
        self.task.abort();
    }
}

/// Sees a late guest to its end, and says so if it did not end well.
struct Watched {
    running: Option<Running>,
    end: Arc<Mutex<End>>,
}

impl Watched {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut running) = self.running.take() else {
            return Poll::Ready(());
        };
        let outcome = match running.poll(cx) {
            Poll::Ready(outcome) => outcome,
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
            Err(broken) => {
                running.report(&broken.fault);
                self.fail(broken);
            }
        }
        Poll::Ready(())
    }

    fn finish(&self, finished: Finished) {
        let mut end = lock(&self.end);
        if end.body_ended {
            drop(end);
            finished.keep();
        } else {
            end.finished = Some(finished);
            end.wake();
        }
    }

    fn fail(&self, broken: Broken) {
        let mut end = lock(&self.end);
        end.failed = true;
        // Whoever has the whole body needs nothing of it.
        end.remains = broken.remains.filter(|_| !end.body_ended);
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
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Empty, StreamBody};

    /// What a reader gets next of a body whose late guest stands like this.
    async fn next(end: End, rest: WasiBody) -> (Option<Result<(), String>>, bool) {
        let end = Arc::new(Mutex::new(end));
        let mut body = ResponseBody {
            frames: VecDeque::new(),
            rest: Some(rest),
            until_read: None,
            declared: None,
            sent: 0,
            late: Some(Late::Own(LateTask {
                task: tokio::spawn(async {}).abort_handle(),
                end: end.clone(),
            })),
        };
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Pending => Poll::Ready(Some(Err("pending".into()))),
            Poll::Ready(frame) => Poll::Ready(
                frame.map(|frame| frame.map(drop).map_err(|error| format!("{error:?}"))),
            ),
        })
        .await;
        let ended = lock(&end).body_ended;
        (frame, ended)
    }

    fn ended() -> WasiBody {
        Empty::new().map_err(|never| match never {}).boxed_unsync()
    }

    fn open() -> WasiBody {
        StreamBody::new(futures::stream::pending()).boxed_unsync()
    }

    fn failed(remains: Option<Box<dyn Any + Send>>) -> End {
        End {
            failed: true,
            remains,
            ..End::default()
        }
    }

    #[tokio::test]
    async fn an_end_is_only_an_end_if_the_guest_can_have_meant_it() {
        let incomplete = || Some(Err("HttpResponseIncomplete".to_string()));
        let remains = || Some(Box::new(()) as Box<dyn Any + Send>);
        assert_eq!(next(End::default(), ended()).await, (None, true));
        assert_eq!(next(failed(remains()), ended()).await, (None, true));
        assert_eq!(next(failed(None), ended()).await, (incomplete(), false));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_guest_that_has_ended() {
        let pending = Some(Err("pending".to_string()));
        assert_eq!(next(End::default(), open()).await, (pending, false));
        for remains in [None, Some(Box::new(()) as Box<dyn Any + Send>)] {
            let (frame, whole) = next(failed(remains), open()).await;
            assert_eq!(frame, Some(Err("HttpResponseIncomplete".into())));
            assert!(!whole);
        }
    }
}
