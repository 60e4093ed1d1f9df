//! The HTTP trigger: one request from its head to the answer. It is the only file that a reader of a request's
//! journey needs in this room: it checks the request (`request`), finds the guest (`live`), calls it (the host room)
//! and turns what comes back into an answer (`response`).

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use hostel_app::limits::Limits;
use hostel_host::{BodyError, Call, Fault, Guest, RequestBody, RequestId, ResponseBody};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;

use crate::live::Routed;
use crate::request::{self, Asked, Refusal};
use crate::response::{self, Flight, Outgoing};
use crate::upload::{self, Trouble, Upload};
use crate::wire::Wire;

/// What a request ends in: a [`Guest`], or in this room's tests something that answers on command.
pub(crate) trait Callee: Send + Sync + 'static {
    /// The body of its answers.
    type Body: Body<Data = Bytes, Error = BodyError> + Send + Unpin + 'static;
    /// Its name in the log.
    fn name(&self) -> &str;
    /// Its budget.
    fn limits(&self) -> &Limits;
    /// Calls it; dropping the future cancels the call.
    fn call(
        &self,
        request: Request<RequestBody>,
        call: Call,
    ) -> impl Future<Output = Result<Response<Self::Body>, Fault>> + Send;
}

impl Callee for Guest {
    type Body = ResponseBody;

    fn name(&self) -> &str {
        Guest::name(self)
    }

    fn limits(&self) -> &Limits {
        Guest::limits(self)
    }

    fn call(
        &self,
        request: Request<RequestBody>,
        call: Call,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Fault>> + Send {
        self.handle_http(request, call)
    }
}

/// Why there is no answer of a guest.
enum Failure {
    Refused(Refusal),
    Fault(Fault),
}

/// Answers one request; whatever goes wrong becomes an answer too.
pub(crate) async fn answer<C: Callee>(
    wire: Arc<Wire<C>>,
    request: Request<Incoming>,
) -> Result<Response<Outgoing<C>>, Infallible> {
    let offence = wire.begin();
    wire.worker.call_began();
    let (parts, incoming) = request.into_parts();
    let mut flight = Flight {
        wire,
        id: RequestId::next(),
        asked: Asked::of(&parts),
        guest: None,
    };
    let called = match offence {
        None => call(&mut flight, parts, incoming).await,
        Some(offence) => Err(Failure::Refused(Refusal::closing(
            StatusCode::BAD_REQUEST,
            offence.reason(),
        ))),
    };
    let (failure, flight) = match called {
        Ok(response) => match response::from_guest(response, flight) {
            Ok(response) => return Ok(response),
            Err((fault, flight)) => (Failure::Fault(fault), flight),
        },
        Err(failure) => (failure, flight),
    };
    Ok(match failure {
        Failure::Refused(refusal) => response::from_refusal(refusal, flight),
        Failure::Fault(fault) => {
            flight
                .wire
                .worker
                .log
                .fault(flight.guest_name(), flight.id, &fault);
            response::from_fault(&fault, flight)
        }
    })
}

/// Checks, routes and calls.
async fn call<C: Callee>(
    flight: &mut Flight<C>,
    mut parts: Parts,
    incoming: Incoming,
) -> Result<Response<C::Body>, Failure> {
    let worker = &*flight.wire.worker;
    request::admit(&mut parts, &worker.authority).map_err(Failure::Refused)?;
    let (index, guest) = route(worker.live.route(&parts)).map_err(Failure::Refused)?;
    flight.guest = Some(index);
    let limit = guest.limits().request_body_bytes;
    let (body, trouble) = body(incoming, limit, flight).map_err(Failure::Refused)?;
    let call = Call {
        id: flight.id,
        scheme: Scheme::HTTP,
    };
    let outcome = contain(guest.call(Request::from_parts(parts, body), call)).await;
    outcome.map_err(
        |fault| match trouble.and_then(|trouble| trouble.refusal()) {
            // The guest failed because its client did.
            Some(refusal) => Failure::Refused(refusal),
            None => Failure::Fault(fault),
        },
    )
}

fn route<C>(routed: Routed<'_, C>) -> Result<(usize, &C), Refusal> {
    match routed {
        Routed::Guest(index, guest) => Ok((index, guest)),
        Routed::NotFound => Err(Refusal::plain(
            StatusCode::NOT_FOUND,
            "no route has this path",
        )),
        Routed::MethodNotAllowed(methods) => Err(Refusal {
            allow: HeaderValue::from_str(&methods).ok(),
            ..Refusal::plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "the route does not have this method",
            )
        }),
    }
}

/// The request's body for the guest. The usual request has none, and then nothing is allocated for it.
fn body<C>(
    incoming: Incoming,
    limit: u64,
    flight: &Flight<C>,
) -> Result<(RequestBody, Option<Arc<Trouble>>), Refusal> {
    if incoming.is_end_stream() {
        let empty = Empty::new().map_err(|never: Infallible| match never {});
        return Ok((empty.boxed_unsync(), None));
    }
    if incoming.size_hint().lower() > limit {
        return Err(upload::too_large());
    }
    let upload = Upload::new(incoming, limit, &flight.wire.worker.bounds);
    let trouble = upload.trouble();
    Ok((upload.boxed_unsync(), Some(trouble)))
}

/// Awaits a call so that a panic in host code costs this request only: it becomes a fault, and what panicked is not
/// polled again but dropped.
async fn contain<T>(call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let mut call = pin!(call);
    std::future::poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))).unwrap_or_else(|_| {
            Err(Fault::Host("a panic while the guest was called".into())).into()
        })
    })
    .await
}
