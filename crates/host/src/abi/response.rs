//! A guest's answer on its way out: the frames taken ahead, the body, and the guest that may still be writing it.

use std::any::Any;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

use crate::abi::http::{Answered, Broken, Running};
use crate::abi::shared;
use crate::fault::Fault;
use crate::guest::BodyError;

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

    /// Whether everything has been handed over; a guest that works on after that is left alone.
    fn is_complete(&self) -> bool {
        self.frames.is_empty() && (self.rest.is_none() || self.declared == Some(self.sent))
    }

    /// The next frame from the guest itself.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        // First, so that a guest which fails between the two looks wakes this task.
        let failed = self.late.as_mut().is_some_and(|late| late.failed(cx));
        let frame = match (&self.late, failed) {
            // Nothing of a shared instance remains, so that its death looks like the end of its bodies; and if only
            // this request's time is over, the instance writes on.
            (Some(Late::Shared(_)), true) => Poll::Pending,
            _ => Pin::new(rest).poll_frame(cx),
        };
        let last = match frame {
            Poll::Ready(Some(frame)) => return Poll::Ready(Some(frame)),
            Poll::Ready(None) => None,
            Poll::Pending if failed => Some(Err(BodyError::HttpResponseIncomplete)),
            Poll::Pending => return Poll::Pending,
        };
        self.rest = None;
        self.until_read = None;
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
        let data = self
            .frames
            .iter()
            .filter_map(|frame| frame.as_ref().ok()?.data_ref());
        SizeHint::with_exact(data.map(|data| data.len() as u64).sum())
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(late) = &self.late
            && !self.is_complete()
        {
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
    /// Whether the guest has failed; if not, its failure will wake this task.
    fn failed(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Late::Own(task) => lock(&task.end).failed(cx),
            Late::Shared(ticket) => ticket.failed(cx),
        }
    }

    fn cancel(&self) {
        match self {
            Late::Own(task) => task.cancel(),
            Late::Shared(ticket) => ticket.cancel(),
        }
    }
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
    reader: Option<Waker>,
}

impl End {
    fn failed(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.failed {
            self.reader = Some(cx.waker().clone());
        }
        self.failed
    }
}

fn lock(end: &Mutex<End>) -> std::sync::MutexGuard<'_, End> {
    end.lock().unwrap_or_else(PoisonError::into_inner)
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
        let Some(running) = &mut self.running else {
            return Poll::Ready(());
        };
        let outcome = match running.poll(cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => match running.alarm(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(fault) => Err(running.stop(fault)),
            },
        };
        match outcome {
            Ok(warm) => running.keep(warm),
            Err(broken) => {
                running.report(&broken.fault);
                self.fail(broken);
            }
        }
        self.running = None;
        Poll::Ready(())
    }

    fn fail(&self, broken: Broken) {
        let mut end = lock(&self.end);
        end.failed = true;
        end.remains = broken.remains;
        if let Some(reader) = end.reader.take() {
            reader.wake();
        }
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
