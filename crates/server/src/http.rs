//! The HTTP trigger: one request from its head to the answer. It is the only file that a reader of a request's
//! journey needs in this room: it checks the request (`request`), finds the guest (`live`), calls it (the host room)
//! and turns what comes back into an answer (`response`).

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use hostel_app::limits::Limits;
use hostel_app::route::Route;
use hostel_host::{
    BodyError, Call, Chain, Fault, Guest, Origin, RequestBody, RequestId, ResponseBody,
};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;

use crate::bounds::Bounds;
use crate::request::{self, Asked, Own, Refusal};
use crate::response::{self, Flight, Outgoing};
use crate::router::Routed;
use crate::upload::{self, Trouble, Upload};
use crate::wire::Wire;

/// What a request ends in: a [`Guest`], or in this room's tests something that answers on command.
pub(crate) trait Callee: Clone + Send + Sync + Unpin + 'static {
    /// The body of its answers.
    type Body: Body<Data = Bytes, Error = BodyError> + Send + Unpin + 'static;
    /// Tells the operator of a fault, in the name of its app.
    fn report(&self, request: RequestId, fault: &Fault);
    /// Its budget.
    fn limits(&self) -> &Limits;
    /// Calls it; dropping the future cancels the call.
    fn call(
        &self,
        request: Request<RequestBody>,
        call: Call,
    ) -> impl Future<Output = Result<Response<Self::Body>, Fault>> + Send;
    /// Ends an answer whose body does not belong on the wire.
    fn discard(body: Self::Body) {
        drop(body);
    }
}

impl Callee for Guest {
    type Body = ResponseBody;

    fn report(&self, request: RequestId, fault: &Fault) {
        Guest::report(self, request, fault);
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

    fn discard(body: ResponseBody) {
        body.discard();
    }
}

/// A request on its way to its guest.
struct Admitted {
    request: Request<RequestBody>,
    /// What led to its guest.
    route: Arc<Route>,
    /// Tells afterwards whether the body was cut off; `None` without a body.
    trouble: Option<Arc<Trouble>>,
}

/// Why there is no answer of a guest.
enum Failure {
    /// The host has one.
    Own(Own),
    Refused(Refusal),
    Fault(Fault),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Answers one request; whatever goes wrong becomes an answer too. All that comes before the call is done at once, so
/// that the future, which hyper moves into place for every request, holds little besides the call.
pub(crate) fn answer<C: Callee>(
    wire: Arc<Wire<C>>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Outgoing<C>>, Infallible>> + Send {
    let offence = wire.begin();
    wire.worker.call_began();
    let (parts, incoming) = request.into_parts();
    let mut flight = Flight {
        wire,
        id: RequestId::next(),
        asked: Asked::of(&parts),
        guest: None,
    };
    let admitted = match offence {
        None => admit(&mut flight, parts, incoming),
        Some(offence) => Err(Refusal::closing(StatusCode::BAD_REQUEST, offence.reason()).into()),
    };
    async move {
        let called = match admitted {
            Ok(admitted) => call(&flight, admitted).await,
            Err(failure) => Err(failure),
        };
        Ok(respond(called, flight))
    }
}

/// Checks and routes.
fn admit<C: Callee>(
    flight: &mut Flight<C>,
    mut parts: Parts,
    incoming: Incoming,
) -> Result<Admitted, Failure> {
    let worker = &*flight.wire.worker;
    request::admit(&mut parts, &worker.authority)?;
    let (guest, route) = route(worker.routed(&parts), worker.is_draining())?;
    let limit = guest.limits().request_body_bytes;
    let (body, trouble) = body(incoming, limit, &worker.bounds)?;
    flight.guest = Some(guest);
    Ok(Admitted {
        request: Request::from_parts(parts, body),
        route,
        trouble,
    })
}

/// Calls the guest. A panic in host code costs this request only: it becomes a fault, and what panicked is dropped
/// without being polled again.
async fn call<C: Callee>(
    flight: &Flight<C>,
    admitted: Admitted,
) -> Result<Response<C::Body>, Failure> {
    let Some(guest) = &flight.guest else {
        let what = "the route leads to no guest".to_owned();
        return Err(Failure::Fault(Fault::Host(what)));
    };
    let call = Call {
        id: flight.id,
        scheme: Scheme::HTTP,
        chain: Chain::default(),
        origin: Some(Origin {
            client: flight.wire.client,
            route: admitted.route,
        }),
    };
    let mut call = pin!(guest.call(admitted.request, call));
    let waiting = Waiting(flight);
    let outcome = poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))).unwrap_or_else(|_| {
            let what = "a panic while the guest was called".to_owned();
            Poll::Ready(Err(Fault::Host(what)))
        })
    })
    .await;
    std::mem::forget(waiting);
    outcome.map_err(
        |fault| match admitted.trouble.and_then(|trouble| trouble.refusal()) {
            // The guest failed because its client did.
            Some(refusal) => Failure::Refused(refusal),
            None => Failure::Fault(fault),
        },
    )
}

/// A client that waits for its answer. Dropped only where the client leaves before the guest has answered: it is never
/// answered then, so the operator is told; unless it is this server that leaves, which says so itself.
struct Waiting<'a, C: Callee>(&'a Flight<C>);

impl<C: Callee> Drop for Waiting<'_, C> {
    fn drop(&mut self) {
        if !self.0.wire.worker.is_over() {
            self.0.log(&Fault::Cancelled);
        }
    }
}

fn respond<C: Callee>(
    called: Result<Response<C::Body>, Failure>,
    flight: Flight<C>,
) -> Response<Outgoing<C>> {
    let (failure, flight) = match called {
        Ok(response) => match response::from_guest(response, flight) {
            Ok(response) => return response,
            Err((fault, flight)) => (Failure::Fault(fault), flight),
        },
        Err(failure) => (failure, flight),
    };
    match failure {
        Failure::Own(own) => response::from_host(own, flight),
        Failure::Refused(refusal) => response::from_refusal(refusal, flight),
        Failure::Fault(fault) => {
            let fault = match fault {
                // Whoever is answered is there: 499 is for logs.
                Fault::Cancelled => Fault::Host("a call was cancelled under its client".into()),
                fault => fault,
            };
            flight.log(&fault);
            response::from_fault(&fault, flight)
        }
    }
}

fn route<C>(routed: Routed<C>, draining: bool) -> Result<(C, Arc<Route>), Failure> {
    let refusal = match routed {
        Routed::Guest(guest, route) => return Ok((guest, route)),
        Routed::Health => return Err(Failure::Own(Own::health(draining))),
        Routed::Methods(methods) => return Err(Failure::Own(Own::methods(&methods))),
        Routed::NotFound => Refusal::plain(StatusCode::NOT_FOUND, "no route has this path"),
        Routed::MethodNotAllowed(methods) => Refusal {
            allow: HeaderValue::from_str(&methods).ok(),
            ..Refusal::plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "the route does not have this method",
            )
        },
    };
    Err(refusal.into())
}

/// The request's body for the guest. The usual request has none, and then nothing is allocated for it.
fn body(
    incoming: Incoming,
    limit: u64,
    bounds: &Bounds,
) -> Result<(RequestBody, Option<Arc<Trouble>>), Refusal> {
    if incoming.is_end_stream() {
        let empty = Empty::new().map_err(|never: Infallible| match never {});
        return Ok((empty.boxed_unsync(), None));
    }
    if incoming.size_hint().lower() > limit {
        return Err(upload::too_large());
    }
    let upload = Upload::new(incoming, limit, bounds);
    let trouble = upload.trouble();
    Ok((upload.boxed_unsync(), Some(trouble)))
}
