//! What leaves the host: a guest's answer without what belongs to a connection, framed so that its end cannot be
//! mistaken, or the host's own answer for a fault or a refusal.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hostel_host::{BodyError, Fault, RequestId};
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::fields::{self, ConnectionFields};
use crate::http::Callee;
use crate::request::{Asked, Own, Refusal};
use crate::wire::Wire;

/// One request between its head's arrival and the last byte of its answer: counted for the drain and for the watchdog.
pub(crate) struct Flight<C> {
    pub(crate) wire: Arc<Wire<C>>,
    pub(crate) id: RequestId,
    pub(crate) asked: Asked,
    /// The guest that answers, once there is one. It stays this one when another build takes its place meanwhile.
    pub(crate) guest: Option<C>,
}

impl<C: Callee> Flight<C> {
    /// Tells the operator.
    pub(crate) fn log(&self, fault: &Fault) {
        match &self.guest {
            Some(guest) => guest.report(self.id, fault),
            None => self.wire.worker.log.host_fault(fault),
        }
    }
}

impl<C> Drop for Flight<C> {
    fn drop(&mut self) {
        self.wire.end();
        self.wire.worker.call_ended();
    }
}

/// The body of every answer.
pub(crate) struct Outgoing<C: Callee> {
    content: Content<C::Body>,
    flight: Flight<C>,
    /// Bytes still owed of what `Content-Length` promised.
    owed: Option<u64>,
    /// HTTP/2: a piece was handed out and hyper has not come back for the next.
    offered: bool,
}

enum Content<B> {
    Guest(B),
    Text(Bytes),
    /// Nothing, or nothing more.
    Empty,
}

/// A guest's answer.
pub(crate) fn from_guest<C: Callee>(
    response: Response<C::Body>,
    flight: Flight<C>,
) -> Result<Response<Outgoing<C>>, (Fault, Flight<C>)> {
    let (mut parts, body) = response.into_parts();
    let size = body.size_hint().exact();
    match clean(&mut parts, size, flight.asked.head) {
        Ok(Framing::NoBody) => {
            C::discard(body);
            Ok(answer(parts, Content::Empty, None, flight))
        }
        Ok(Framing::Body { owed }) => Ok(answer(parts, Content::Guest(body), owed, flight)),
        Err(fault) => Err((fault, flight)),
    }
}

fn answer<C: Callee>(
    mut parts: Parts,
    content: Content<C::Body>,
    owed: Option<u64>,
    flight: Flight<C>,
) -> Response<Outgoing<C>> {
    flight.wire.worker.traffic.answered(parts.status);
    // hyper learns of a drain only between two polls; this way no answer given after its begin invites another request.
    if flight.wire.worker.is_draining() && !flight.wire.h2 {
        let close = HeaderValue::from_static("close");
        parts.headers.insert(header::CONNECTION, close);
    }
    Response::from_parts(
        parts,
        Outgoing {
            content,
            flight,
            owed,
            offered: false,
        },
    )
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    NoBody,
    Body { owed: Option<u64> },
}

/// Takes out connection fields and settles the framing. `size` is the body's exact size where it is known.
fn clean(parts: &mut Parts, size: Option<u64>, head: bool) -> Result<Framing, Fault> {
    if parts.status.is_informational() {
        let what = format!(
            "it answered {}, which is no final answer",
            parts.status.as_u16()
        );
        return Err(Fault::BadGuest(what));
    }
    let mut connection = ConnectionFields::default();
    let mut promises = false;
    for name in parts.headers.keys() {
        promises |= *name == header::CONTENT_LENGTH;
        connection.note(name);
    }
    if connection != ConnectionFields::default() {
        connection.strip(&mut parts.headers);
        // `TE: trailers` is for a server; `Trailer` is what stays in an answer.
        parts.headers.remove(header::TE);
    }
    let promised = if promises {
        promised_length(&mut parts.headers)?
    } else {
        None
    };
    if has_no_body(parts.status) {
        if parts.status != StatusCode::NOT_MODIFIED {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        return Ok(Framing::NoBody);
    }
    if head {
        if let (None, Some(size @ 1..)) = (promised, size) {
            parts
                .headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        }
        return Ok(Framing::NoBody);
    }
    match (promised, size) {
        (Some(promised), Some(size)) if promised != size => Err(Fault::BadGuest(format!(
            "it promised a body of {promised} bytes and wrote {size}"
        ))),
        (owed, _) => Ok(Framing::Body { owed }),
    }
}

/// RFC 9110 section 6.4.1; 205 is asked to have none (section 15.3.6).
fn has_no_body(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    )
}

/// The guest's one `Content-Length`; equal repetitions become one.
fn promised_length(headers: &mut HeaderMap) -> Result<Option<u64>, Fault> {
    let mut promised = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let length = decimal(value.as_bytes());
        if length.is_none() || promised.is_some_and(|earlier| Some(earlier) != length) {
            return Err(Fault::BadGuest(
                "its Content-Length is not one number".into(),
            ));
        }
        promised = length;
    }
    if let Some(length) = promised {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(promised)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    let only_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| only_digits)
}

/// The host's answer for a guest that failed: the fault's name and the request's id, never a detail.
pub(crate) fn from_fault<C: Callee>(fault: &Fault, flight: Flight<C>) -> Response<Outgoing<C>> {
    let row = fault.row();
    let mut response = text(row.status, row.name, flight);
    if let Some(seconds) = fault.retry_after() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The host's answer for a request that no guest has seen.
pub(crate) fn from_refusal<C: Callee>(
    refusal: Refusal,
    flight: Flight<C>,
) -> Response<Outgoing<C>> {
    let close = refusal.close && !flight.wire.h2;
    let mut response = text(refusal.status, refusal.reason, flight);
    if let Some(allow) = refusal.allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    if close {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An answer of the host that is none of a guest, and no refusal.
pub(crate) fn from_host<C: Callee>(own: Own, flight: Flight<C>) -> Response<Outgoing<C>> {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = own.status;
    if let Some(allow) = own.allow {
        parts.headers.insert(header::ALLOW, allow);
    }
    if has_no_body(own.status) {
        return answer(parts, Content::Empty, None, flight);
    }
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    parts.headers.insert(header::CONTENT_TYPE, kind);
    let content = match flight.asked.head {
        true => {
            let length = HeaderValue::from(own.text.len());
            parts.headers.insert(header::CONTENT_LENGTH, length);
            Content::Empty
        }
        false => Content::Text(Bytes::from_static(own.text.as_bytes())),
    };
    answer(parts, content, None, flight)
}

/// An answer of one line. `what` is the host's own text and needs no escaping.
fn text<C: Callee>(status: StatusCode, what: &str, flight: Flight<C>) -> Response<Outgoing<C>> {
    let (kind, line) = if flight.asked.json {
        (
            "application/json",
            format!("{{\"error\":\"{what}\",\"request\":\"{}\"}}\n", flight.id),
        )
    } else {
        (
            "text/plain; charset=utf-8",
            format!("{what}: request {}\n", flight.id),
        )
    };
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let content = if flight.asked.head {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(line.len()));
        Content::Empty
    } else {
        Content::Text(Bytes::from(line))
    };
    answer(parts, content, None, flight)
}

impl<C: Callee> Outgoing<C> {
    /// hyper is given a piece, which it keeps until the client has room for it.
    fn offer(&mut self) {
        if self.flight.wire.h2 {
            self.offered = true;
            self.flight.wire.offered(false);
        }
    }

    /// hyper is back for more, or has dropped the body.
    fn taken(&mut self) {
        if std::mem::take(&mut self.offered) {
            self.flight.wire.offered(true);
        }
    }

    /// The answer has begun and cannot be completed: the connection must not end as if it were.
    fn break_off(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Content::Guest(body) = std::mem::replace(&mut self.content, Content::Empty) {
            C::discard(body);
        }
        self.owed = None;
        if self.flight.asked.http10 {
            self.flight.wire.must_reset();
        }
        Poll::Ready(Some(Err(error)))
    }

    /// As above, where only this file knows that the guest is at fault.
    fn blame(
        &mut self,
        what: &str,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.flight.log(&Fault::BadGuest(what.into()));
        self.break_off(error)
    }

    fn poll_guest(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Content::Guest(body) = &mut self.content else {
            return Poll::Ready(None);
        };
        let frame = match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            // The host has logged a fault of the guest already; what is left is the guest's own doing.
            Some(Err(error @ BodyError::HttpResponseIncomplete)) => return self.break_off(error),
            Some(Err(error)) => {
                let what = format!("its answer broke off: {error}");
                return self.blame(&what, error);
            }
            None => return self.end(),
        };
        match frame.into_data() {
            Ok(data) => self.data(data),
            Err(frame) => {
                let Ok(mut trailers) = frame.into_trailers() else {
                    return Poll::Ready(None);
                };
                fields::strip_trailers(&mut trailers);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn data(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(owed) = self.owed {
            let Some(left) = owed.checked_sub(data.len() as u64) else {
                let what = "its body is longer than its Content-Length";
                return self.blame(what, BodyError::HttpResponseBodySize(None));
            };
            self.owed = Some(left);
        }
        self.offer();
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.owed.is_some_and(|owed| owed > 0) {
            let what = "its body is shorter than its Content-Length";
            return self.blame(what, BodyError::HttpResponseIncomplete);
        }
        self.content = Content::Empty;
        Poll::Ready(None)
    }
}

impl<C: Callee> Drop for Outgoing<C> {
    fn drop(&mut self) {
        self.taken();
    }
}

impl<C: Callee> Body for Outgoing<C> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        this.taken();
        match &mut this.content {
            Content::Guest(_) => this.poll_guest(cx),
            Content::Text(text) => {
                let text = std::mem::take(text);
                this.content = Content::Empty;
                this.offer();
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Content::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Guest(body) => body.is_end_stream() && self.owed.is_none_or(|owed| owed == 0),
            Content::Text(text) => text.is_empty(),
            Content::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Guest(body) => body.size_hint(),
            Content::Text(text) => SizeHint::with_exact(text.len() as u64),
            Content::Empty => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(
        status: u16,
        fields: &[(&'static str, &'static str)],
        size: Option<u64>,
        head: bool,
    ) -> (Result<Framing, Fault>, Vec<String>) {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            parts.headers.append(*name, HeaderValue::from_static(value));
        }
        let framing = clean(&mut parts, size, head);
        let line =
            |(name, value): (&_, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut left: Vec<_> = parts.headers.iter().map(line).collect();
        left.sort();
        (framing, left)
    }

    fn bad(fields: &[(&'static str, &'static str)], size: Option<u64>) {
        let (framing, _) = cleaned(200, fields, size, false);
        assert!(
            matches!(framing, Err(Fault::BadGuest(_))),
            "{fields:?} {size:?}: {framing:?}"
        );
    }

    #[test]
    fn connection_fields_do_not_leave_but_trailer_does() {
        let fields = [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("proxy-authenticate", "Basic"),
            ("trailer", "x-sum"),
        ];
        let (framing, left) = cleaned(200, &fields, None, false);
        assert_eq!(framing, Ok(Framing::Body { owed: None }));
        assert_eq!(left, ["trailer: x-sum"]);
    }

    #[test]
    fn a_promised_length_is_kept_or_the_guest_is_at_fault() {
        let (framing, left) = cleaned(200, &[("content-length", "5")], Some(5), false);
        assert_eq!(
            (framing, left),
            (
                Ok(Framing::Body { owed: Some(5) }),
                vec!["content-length: 5".into()]
            )
        );
        let (framing, _) = cleaned(200, &[("content-length", "5")], None, false);
        assert_eq!(framing, Ok(Framing::Body { owed: Some(5) }));
        bad(&[("content-length", "5")], Some(4));
        bad(&[("content-length", "5")], Some(0));
        bad(&[("content-length", "+5")], None);
        bad(&[("content-length", "5, 5")], None);
        bad(&[("content-length", "")], None);
        bad(&[("content-length", "5"), ("content-length", "6")], None);
    }

    #[test]
    fn repeated_equal_lengths_become_one() {
        let (_, left) = cleaned(
            200,
            &[("content-length", "5"), ("content-length", "5")],
            None,
            false,
        );
        assert_eq!(left, ["content-length: 5"]);
    }

    #[test]
    fn some_answers_have_no_body() {
        for status in [204, 205] {
            let (framing, left) = cleaned(status, &[("content-length", "5")], None, false);
            assert_eq!((framing, left), (Ok(Framing::NoBody), vec![]), "{status}");
        }
        let (framing, left) = cleaned(304, &[("content-length", "5")], Some(0), false);
        assert_eq!(
            (framing, left),
            (Ok(Framing::NoBody), vec!["content-length: 5".into()])
        );
        for status in [100, 101, 103] {
            assert!(
                matches!(
                    cleaned(status, &[], Some(0), false).0,
                    Err(Fault::BadGuest(_))
                ),
                "{status}"
            );
        }
    }

    #[test]
    fn head_tells_the_length_without_the_body() {
        let (framing, left) = cleaned(200, &[], Some(5), true);
        assert_eq!(
            (framing, left),
            (Ok(Framing::NoBody), vec!["content-length: 5".into()])
        );
        let (_, left) = cleaned(200, &[("content-length", "7")], Some(0), true);
        assert_eq!(left, ["content-length: 7"]);
        let (_, left) = cleaned(200, &[], None, true);
        assert!(left.is_empty());
    }
}
