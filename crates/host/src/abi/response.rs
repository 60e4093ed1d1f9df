//! A guest's answer on its way out: the frames taken ahead, and the body. The guest that may still be writing it is
//! `detached`'s business, or `shared`'s.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

use crate::abi::detached::Detached;
use crate::abi::http::Answered;
use crate::abi::shared;
use crate::guest::{BodyError, RequestId};

/// Frames taken from a guest before its answer leaves; enough for a small body and its end.
const AHEAD_FRAMES: usize = 2;

/// The answer's head and the first frames of its body.
pub(crate) struct Ahead {
    head: http::response::Parts,
    body: WasiBody,
    until_read: Option<oneshot::Sender<Infallible>>,
    frames: VecDeque<Result<Frame<Bytes>, BodyError>>,
    ended: bool,
    declared: Option<u64>,
    limit: u64,
}

impl Ahead {
    /// The beginning of an answer whose body may have `limit` bytes; a sentence for the log if it announces more.
    pub(super) fn new(answered: Answered, limit: u64) -> Result<Self, String> {
        let (head, body) = answered.response.into_parts();
        let length = head.headers.get(CONTENT_LENGTH);
        let declared = length.and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(declared) = declared.filter(|declared| *declared > limit) {
            return Err(format!(
                "it announced a body of {declared} bytes; its limit `response_body` is {limit}"
            ));
        }
        Ok(Self {
            head,
            body,
            until_read: answered.until_read,
            frames: VecDeque::new(),
            ended: false,
            declared,
            limit,
        })
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
        let body = ResponseBody {
            frames: self.frames,
            rest: (!self.ended).then_some(self.body),
            until_read: self.until_read,
            declared: self.declared,
            sent: 0,
            limit: self.limit,
            closed: false,
            late,
        };
        Response::from_parts(self.head, body)
    }
}

/// What a client is told in place of an answer: what happened, and to which request.
pub(crate) fn told(status: StatusCode, what: &str, id: RequestId) -> Response<WasiBody> {
    let text = Full::new(Bytes::from(format!("{what}: request {id}\n")));
    let mut response = Response::new(text.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// An answer that the host writes itself, under the guest's limits.
pub(super) fn of_host(
    response: Response<WasiBody>,
    limit: u64,
) -> Result<Response<ResponseBody>, String> {
    let answered = Answered {
        response,
        until_read: None,
    };
    Ok(Ahead::new(answered, limit)?.into_response(Some(Late::Host)))
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
    limit: u64,
    /// Trailers have been handed over; nothing follows them.
    closed: bool,
    late: Option<Late>,
}

impl ResponseBody {
    /// Lets a frame pass unless it is one too many: then the answer is cut off and its guest ended.
    fn count(&mut self, frame: Result<Frame<Bytes>, BodyError>) -> Result<Frame<Bytes>, BodyError> {
        let frame = frame?;
        self.closed |= frame.is_trailers();
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.sent = self.sent.saturating_add(length);
        if self.sent <= self.limit {
            return Ok(frame);
        }
        self.frames.clear();
        self.rest = None;
        if let Some(late) = self.late.take() {
            late.discard();
        }
        Err(BodyError::HttpResponseBodySize(Some(self.limit)))
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
        let all_sent = self.rest.is_none() || self.declared == Some(self.sent);
        self.closed || (self.frames.is_empty() && all_sent)
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
        // A shared instance can fail between the two looks: what it left then is no end either.
        let writer = match (&frame, &mut self.late) {
            (Poll::Ready(None), Some(late @ Late::Shared(_))) => late.look(cx),
            _ => writer,
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
        frame.map(|frame| Some(self.count(frame?)))
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
    /// Apart from its connection.
    Own(Detached),
    /// In an instance that it shares with other requests.
    Shared(shared::Ticket),
    /// No guest at all: the host reads a file.
    Host,
}

impl Late {
    /// Where the guest stands; if it still runs, its end will wake this task.
    fn look(&mut self, cx: &mut Context<'_>) -> Writer {
        match self {
            Late::Own(guest) => guest.look(cx),
            Late::Shared(ticket) if ticket.failed(cx) => Writer::Dead,
            Late::Shared(_) | Late::Host => Writer::Runs,
        }
    }

    /// Nothing more is read: the body is `whole`, or has broken off.
    fn body_ended(&self, whole: bool) {
        if let Late::Own(guest) = self {
            guest.body_ended(whole);
        }
    }

    fn cancel(&self) {
        match self {
            Late::Own(guest) => guest.cancel(),
            Late::Shared(ticket) => ticket.cancel(),
            Late::Host => {}
        }
    }

    fn discard(&self) {
        match self {
            Late::Own(guest) => guest.discard(),
            Late::Shared(ticket) => ticket.cancel(),
            Late::Host => {}
        }
    }
}

/// The guest that writes a body.
pub(super) enum Writer {
    Runs,
    /// It has ended, but what ends a body is still there: the body's end is the guest's doing.
    Gone,
    /// It is gone with all that belongs to it: its end looks like the body's.
    Dead,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::detached::tests::{failed, runs};
    use futures::StreamExt;
    use http_body_util::{BodyExt, Empty, Full, StreamBody};
    use std::any::Any;

    fn body(late: Option<Late>, rest: WasiBody, limit: u64) -> ResponseBody {
        ResponseBody {
            frames: VecDeque::new(),
            rest: Some(rest),
            until_read: None,
            declared: None,
            sent: 0,
            limit,
            closed: false,
            late,
        }
    }

    /// What a reader gets next of a body whose detached guest stands like this, and whether the guest learns that its
    /// body was whole.
    async fn next(guest: Detached, rest: WasiBody) -> (Option<Result<(), String>>, bool) {
        let told = guest.watch();
        let mut body = body(Some(Late::Own(guest)), rest, u64::MAX);
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Pending => Poll::Ready(Some(Err("pending".into()))),
            Poll::Ready(frame) => Poll::Ready(
                frame.map(|frame| frame.map(drop).map_err(|error| format!("{error:?}"))),
            ),
        })
        .await;
        (frame, told())
    }

    fn ended() -> WasiBody {
        Empty::new().map_err(|never| match never {}).boxed_unsync()
    }

    fn open() -> WasiBody {
        StreamBody::new(futures::stream::pending()).boxed_unsync()
    }

    #[tokio::test]
    async fn an_end_is_only_an_end_if_the_guest_can_have_meant_it() {
        let incomplete = || Some(Err("HttpResponseIncomplete".to_string()));
        let remains = || Some(Box::new(()) as Box<dyn Any + Send>);
        assert_eq!(next(runs(), ended()).await, (None, true));
        assert_eq!(next(failed(remains()), ended()).await, (None, true));
        assert_eq!(next(failed(None), ended()).await, (incomplete(), false));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_guest_that_has_ended() {
        let pending = Some(Err("pending".to_string()));
        assert_eq!(next(runs(), open()).await, (pending, false));
        for remains in [None, Some(Box::new(()) as Box<dyn Any + Send>)] {
            let (frame, whole) = next(failed(remains), open()).await;
            assert_eq!(frame, Some(Err("HttpResponseIncomplete".into())));
            assert!(!whole);
        }
    }

    fn full(text: &'static str) -> WasiBody {
        let full = Full::new(Bytes::from_static(text.as_bytes()));
        full.map_err(|never| match never {}).boxed_unsync()
    }

    #[tokio::test]
    async fn nothing_follows_trailers_so_nobody_asks_for_more() {
        let frames = [Ok(Frame::trailers(http::HeaderMap::new()))];
        let stream = futures::stream::iter(frames).chain(futures::stream::pending());
        let guest = runs();
        let told = guest.watch();
        let rest = StreamBody::new(stream).boxed_unsync();
        let mut body = body(Some(Late::Own(guest)), rest, 5);
        assert!(body.frame().await.unwrap().unwrap().is_trailers());
        drop(body);
        assert!(told(), "its guest learns that all was taken");
    }

    #[tokio::test]
    async fn a_body_beyond_its_limit_is_cut_off() {
        assert!(body(None, full("12345"), 5).collect().await.is_ok());
        let cut = body(None, full("123456"), 5).collect().await.unwrap_err();
        assert_eq!(format!("{cut:?}"), "HttpResponseBodySize(Some(5))");
    }

    #[test]
    fn a_body_that_is_announced_beyond_its_limit_is_not_begun() {
        let answered = |length: &str| {
            let response = Response::builder().header(CONTENT_LENGTH, length);
            Answered {
                response: response.body(full("12345")).unwrap(),
                until_read: None,
            }
        };
        assert!(Ahead::new(answered("5"), 5).is_ok());
        let told = Ahead::new(answered("6"), 5).err().unwrap();
        assert!(told.contains("`response_body` is 5"), "{told}");
    }
}
