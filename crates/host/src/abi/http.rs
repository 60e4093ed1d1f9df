//! What the two HTTP ABIs share: driving a guest until it has answered, and the body of its answer.
//!
//! The guest's future is polled in the connection's own task. Most guests finish within the first poll: then head and
//! body leave together and no task, timer or wake-up was involved. Only a guest that still runs after it answered
//! (it streams its body, or works on) is moved to a task of its own.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

use crate::abi::{Callable, Exports, Warm, http_p2, http_p3, shared};
use crate::fault::Fault;
use crate::guest::{BodyError, Call, Inner, RequestBody, RequestId, fault_of};
use crate::meter::Clock;
use crate::pool::Permit;
use crate::state::Host;
use crate::ticker;

/// What a guest hands over as its answer; an error is a sentence for the log.
pub(crate) type Answer = Result<Response<WasiBody>, String>;
/// A guest at work. It ends with the instance, if that may be used again.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Warm, Fault>> + Send>>;

/// Frames taken from a guest before its answer leaves; enough for a small body and its end.
const AHEAD_FRAMES: usize = 2;

/// Runs the guest until its answer can leave.
pub(crate) async fn answer(
    guest: &Arc<Inner>,
    permit: Permit,
    request: Request<RequestBody>,
    call: Call,
) -> Result<Response<ResponseBody>, Fault> {
    if guest.reuse.concurrent > 1 && matches!(guest.callable, Callable::HttpP3(_)) {
        return shared::answer(guest, permit, request, call).await;
    }
    let (sender, mut receiver) = oneshot::channel();
    let id = call.id;
    let mut running = Running::new(
        guest,
        permit,
        work(guest.clone(), request, call, sender),
        id,
    );
    let mut ahead: Option<Ahead> = None;
    let outcome = poll_fn(|cx| {
        loop {
            let state = running.poll(cx);
            if ahead.is_none() {
                match receiver.try_recv() {
                    Ok(Ok(response)) => ahead = Some(Ahead::new(response)),
                    Ok(Err(reason)) => return Poll::Ready(Err(Fault::BadGuest(reason))),
                    Err(_) => {}
                }
            }
            match (state, ahead.as_mut()) {
                (Poll::Ready(outcome), None) => {
                    return Poll::Ready(Err(outcome.err().unwrap_or_else(no_answer)));
                }
                (Poll::Pending, None) => return running.clock.alarm(cx).map(Err),
                (Poll::Ready(outcome), Some(ahead)) => {
                    ahead.fill(cx);
                    return Poll::Ready(Ok(Some(outcome)));
                }
                // Taking a frame may be what the guest waits for.
                (Poll::Pending, Some(ahead)) => {
                    if !ahead.fill(cx) {
                        return Poll::Ready(Ok(None));
                    }
                }
            }
        }
    })
    .await?;
    let Some(ahead) = ahead else {
        return Err(no_answer());
    };
    match outcome {
        Some(Ok(warm)) => {
            running.keep(warm);
            Ok(ahead.into_response(None))
        }
        // The answer was complete before the guest failed: the client has its answer, the operator the fault.
        Some(Err(fault)) if ahead.ended => {
            guest.report(id, &fault);
            Ok(ahead.into_response(None))
        }
        Some(Err(fault)) => Err(fault),
        None => {
            let task = LateTask::spawn(running);
            Ok(ahead.into_response(Some(Late::Own(task))))
        }
    }
}

/// The guest's work on one request: on a warm instance if one is idle, else on a fresh one.
fn work(
    guest: Arc<Inner>,
    request: Request<RequestBody>,
    call: Call,
    answer: oneshot::Sender<Answer>,
) -> Work {
    Box::pin(async move {
        let mut warm = match guest.idle.take() {
            Some(warm) => warm,
            None => instantiate(&guest, call.id).await?,
        };
        let outcome = match &warm.exports {
            Exports::P2(_) => http_p2::handle(&mut warm, request, &call, answer).await,
            Exports::P3(_) => http_p3::handle(&mut warm, request, &call, answer).await,
        };
        match outcome {
            Ok(()) => {
                warm.answered += 1;
                Ok(warm)
            }
            Err(error) => {
                Err(guest.blame_reuse(fault_of(&error, &warm.store.data().meter), warm.answered))
            }
        }
    })
}

pub(super) async fn instantiate(guest: &Inner, request: RequestId) -> Result<Warm, Fault> {
    let host_fault = |error: wasmtime::Error| Fault::Host(format!("{error:?}"));
    let mut store = Host::store(&guest.engine, &guest.template, request).map_err(host_fault)?;
    let exports = match &guest.callable {
        Callable::HttpP2(pre) => pre.instantiate_async(&mut store).await.map(Exports::P2),
        Callable::HttpP3(pre) => pre.instantiate_async(&mut store).await.map(Exports::P3),
        Callable::Command(_) => {
            return Err(Fault::BadGuest(
                "a command does not answer HTTP requests".into(),
            ));
        }
    };
    match exports {
        Ok(exports) => Ok(Warm {
            store,
            exports,
            answered: 0,
        }),
        Err(error) => Err(fault_of(&error, &store.data().meter)),
    }
}

fn no_answer() -> Fault {
    Fault::BadGuest("it returned without answering the request".into())
}

/// A guest at work under its clock, holding its permit.
struct Running {
    guest: Arc<Inner>,
    work: Work,
    clock: Clock,
    id: RequestId,
    _permit: Permit,
    _ticking: ticker::Running,
}

impl Running {
    fn new(guest: &Arc<Inner>, permit: Permit, work: Work, id: RequestId) -> Self {
        Self {
            guest: guest.clone(),
            work,
            clock: Clock::start(&guest.template.limits),
            id,
            _permit: permit,
            _ticking: guest.ticker.enter(),
        }
    }

    /// Polls the guest. A panic of ours inside a host function costs this call only.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Warm, Fault>> {
        let (clock, work) = (&mut self.clock, self.work.as_mut());
        match catch_unwind(AssertUnwindSafe(|| clock.poll(work, cx))) {
            Ok(poll) => poll.map(Result::flatten),
            Err(_) => Poll::Ready(Err(Fault::Host(
                "a host function panicked; see the message above".into(),
            ))),
        }
    }

    /// Keeps an instance that may answer again.
    fn keep(&self, warm: Warm) {
        if warm.answered < self.guest.reuse.requests {
            self.guest.idle.put(warm);
        }
    }
}

/// The answer's head and the first frames of its body.
pub(super) struct Ahead {
    head: http::response::Parts,
    body: WasiBody,
    frames: VecDeque<Result<Frame<Bytes>, BodyError>>,
    /// Whether the body is complete.
    ended: bool,
}

impl Ahead {
    pub(super) fn new(response: Response<WasiBody>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            head,
            body,
            frames: VecDeque::new(),
            ended: false,
        }
    }

    /// Takes the frames that are ready, a few at the most. True if there was one.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.frames.len();
        while !self.ended && self.frames.len() < AHEAD_FRAMES {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(frame)) => self.frames.push_back(frame),
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => break,
            }
        }
        self.frames.len() > before
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
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.frames.pop_front() {
            self.count(&frame);
            return Poll::Ready(Some(frame));
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let frame = match Pin::new(rest).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        match frame {
            Some(frame) => {
                self.count(&frame);
                Poll::Ready(Some(frame))
            }
            None => {
                self.rest = None;
                // The library ends the body of a guest that trapped as if it were complete; the client must know.
                match &self.late {
                    Some(late) if late.failed() => {
                        Poll::Ready(Some(Err(BodyError::HttpResponseIncomplete)))
                    }
                    _ => Poll::Ready(None),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_some() {
            return self.declared.map_or_else(SizeHint::default, |declared| {
                SizeHint::with_exact(declared.saturating_sub(self.sent))
            });
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
    fn failed(&self) -> bool {
        match self {
            Late::Own(task) => task.failed(),
            Late::Shared(ticket) => ticket.failed(),
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
    failed: Arc<AtomicBool>,
    cancelled: Arc<AtomicBool>,
}

impl LateTask {
    fn spawn(running: Running) -> Self {
        let failed = Arc::new(AtomicBool::new(false));
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut watched = Watched {
            running: Some(running),
            failed: failed.clone(),
            cancelled: cancelled.clone(),
        };
        let task = tokio::spawn(async move { poll_fn(|cx| watched.poll(cx)).await });
        Self {
            task: task.abort_handle(),
            failed,
            cancelled,
        }
    }

    fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.task.abort();
    }
}

/// Sees a late guest to its end, and says so if it did not end well.
struct Watched {
    running: Option<Running>,
    failed: Arc<AtomicBool>,
    cancelled: Arc<AtomicBool>,
}

impl Watched {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(running) = &mut self.running else {
            return Poll::Ready(());
        };
        let outcome = match running.poll(cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => match running.clock.alarm(cx) {
                Poll::Ready(fault) => Err(fault),
                Poll::Pending => return Poll::Pending,
            },
        };
        match outcome {
            Ok(warm) => running.keep(warm),
            Err(fault) => {
                // Before the body's other end can notice that the guest is gone.
                self.failed.store(true, Ordering::Release);
                running.guest.report(running.id, &fault);
            }
        }
        self.running = None;
        Poll::Ready(())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(running) = &self.running
            && self.cancelled.load(Ordering::Acquire)
        {
            running.guest.report(running.id, &Fault::Cancelled);
        }
    }
}
