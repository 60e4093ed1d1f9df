//! Requests to components of the guest's own app: `http://NAME.app.internal/`.
//!
//! They never leave the process and no name of that zone is ever resolved. Who is called follows from the URI that was
//! checked, as for every other request; the registry is the app's own, so that no name leads into another app. The callee
//! has its own grants, permits and budget, and never more time than its caller has left. What it fails of becomes the
//! status that a client from outside would get.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hostel_app::grant::{NEIGHBOURS, is_neighbour};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use tokio::task::JoinHandle;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::Outgoing;
use super::message::{self, Outward};
use super::pool::Server;
use super::resolve::Host;
use crate::abi::response::told;
use crate::chain::Chain;
use crate::fault::Fault;
use crate::guest::{Call, Guest, Inner, RequestBody, RequestId};
use crate::lock::lock;
use crate::turn::{SCHEDULE_FIELD, SCHEDULE_TIME_FIELD};

/// Fields by which the host tells a guest what it is called for, which no other guest is to say.
const OF_HOST: [HeaderName; 2] = [
    HeaderName::from_static(SCHEDULE_FIELD),
    HeaderName::from_static(SCHEDULE_TIME_FIELD),
];

/// The components of one app that answer requests of the others, by their names in lower case. They are not kept alive by
/// this: whoever serves the app has them.
#[derive(Default)]
pub(crate) struct Neighbours(Mutex<HashMap<String, Named>>);

/// A component that answers, by its own name.
type Named = (Arc<str>, Weak<Inner>);

impl std::fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(lock(&self.0).keys()).finish()
    }
}

impl Neighbours {
    /// From now on requests to this name are for this guest. Of two names that differ in nothing but their case, the one in
    /// lower case has it.
    pub(crate) fn put(&self, name: &Arc<str>, guest: &Arc<Inner>) {
        let key = name.to_ascii_lowercase();
        let mut all = lock(&self.0);
        let is_taken =
            |(other, held): &Named| other != name && **other == *key && held.strong_count() > 0;
        if !all.get(&key).is_some_and(is_taken) {
            all.insert(key, (name.clone(), Arc::downgrade(guest)));
        }
    }

    fn find(&self, name: &str) -> Option<Guest> {
        let all = lock(&self.0);
        let (_, guest) = all.get(name)?;
        guest.upgrade().map(Guest)
    }

    fn names(&self) -> String {
        let all = lock(&self.0);
        let there = all.values().filter(|(_, held)| held.strong_count() > 0);
        let mut names: Vec<&str> = there.map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names.join(", ")
    }
}

impl Server {
    /// The component of the own app that this is; empty for what is in the zone and can be none.
    pub(super) fn neighbour(&self) -> Option<&str> {
        let Host::Name(name) = &self.host else {
            return None;
        };
        if !is_neighbour(name) {
            return None;
        }
        let bare = name.strip_suffix('.').unwrap_or(name);
        let label = bare.strip_suffix(NEIGHBOURS)?.strip_suffix('.');
        Some(label.filter(|label| !label.contains('.')).unwrap_or(""))
    }
}

/// A request that may be made of a neighbour.
pub(super) struct Visit {
    callee: Guest,
    server: Server,
    chain: Chain,
}

impl Outgoing {
    /// Whom the request is for, if it may be made now; it is counted.
    pub(super) fn visit(&self, server: Server) -> Result<Visit, Error> {
        let name = server.neighbour().unwrap_or("");
        let Some(callee) = self.template.network.neighbours.find(name) else {
            self.template
                .no_neighbour(name, &self.template.network.neighbours.names());
            return Err(Error::DnsError {
                rcode: Some("NXDOMAIN".into()),
                info_code: None,
            });
        };
        let Some(chain) = self.chain.deeper() else {
            self.template.too_deep(callee.name());
            return Err(Error::LoopDetected);
        };
        if !self.start() {
            return Err(Error::ConnectionLimitReached);
        }
        Ok(Visit {
            callee,
            server,
            chain,
        })
    }
}

impl Visit {
    /// Calls the neighbour, in a task of its own: the caller's clock is not the callee's. Dropping this cancels the callee.
    pub(super) async fn call(
        self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Response<WasiBody>, Error> {
        let (mut parts, body) = request.into_parts();
        let declared = message::clean_request(&mut parts)?;
        for name in OF_HOST {
            parts.headers.remove(name);
        }
        message::address(&mut parts, &self.server, false)?;
        let only_head = parts.method == Method::HEAD;
        let limit = self.callee.limits().request_body_bytes;
        let id = RequestId::next();
        if declared.is_some_and(|declared| declared > limit) {
            return Ok(told(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is too large",
                id,
            ));
        }
        let body = Bounded {
            body: Outward::new(body, declared),
            left: limit,
            limit,
        };
        let request = Request::from_parts(parts, body.boxed_unsync());
        let call = Call {
            id,
            scheme: Scheme::HTTP,
            chain: self.chain,
            origin: None,
        };
        let patience = options.and_then(|options| options.first_byte_timeout);
        let response = match answered(self.callee, request, call, patience).await? {
            Ok(response) => response,
            Err(fault) => return Ok(of_fault(&fault, id)),
        };
        let (mut parts, body) = response.into_parts();
        message::clean_response(&mut parts)?;
        if only_head {
            body.discard();
            return Ok(Response::from_parts(parts, empty()));
        }
        let body = body.map_frame(message::clean_trailers);
        Ok(Response::from_parts(parts, body.boxed_unsync()))
    }
}

/// What the callee says, or what it failed of, which its own log says too.
async fn answered(
    callee: Guest,
    request: Request<RequestBody>,
    call: Call,
    patience: Option<Duration>,
) -> Result<Result<Response<crate::ResponseBody>, Fault>, Error> {
    let id = call.id;
    let reporter = callee.clone();
    let mut running = Running(tokio::spawn(async move {
        let waiting = Waiting(&callee, id);
        let answer = callee.handle_http(request, call).await;
        std::mem::forget(waiting);
        // Here, where it is told also if the caller has just ended.
        answer.inspect_err(|fault| callee.report(id, fault))
    }));
    let joined = match patience {
        None => (&mut running.0).await,
        Some(patience) => match tokio::time::timeout(patience, &mut running.0).await {
            Ok(joined) => joined,
            Err(_) => return Err(Error::ConnectionReadTimeout),
        },
    };
    Ok(joined.unwrap_or_else(|_| {
        let fault = Fault::Host("a panic while a neighbour was called".into());
        reporter.report(id, &fault);
        Err(fault)
    }))
}

/// The task of a callee; it ends with this.
struct Running<T>(JoinHandle<T>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A caller that waits for its answer. Dropped only where the caller ends before: the callee ends with it.
struct Waiting<'a>(&'a Guest, RequestId);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A panic has a fault of its own.
        if !std::thread::panicking() {
            self.0.report(self.1, &Fault::Cancelled);
        }
    }
}

/// What a client from outside would get: the fault's name and the call's id, never a detail.
fn of_fault(fault: &Fault, id: RequestId) -> Response<WasiBody> {
    let row = fault.row();
    let status = match fault {
        // Whoever is answered is there.
        Fault::Cancelled => StatusCode::INTERNAL_SERVER_ERROR,
        _ => row.status,
    };
    let mut response = told(status, row.name, id);
    if let Some(seconds) = fault.retry_after() {
        let seconds = HeaderValue::from(seconds);
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

fn empty() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A request's body, as long as the callee's limit allows.
struct Bounded {
    body: Outward,
    left: u64,
    limit: u64,
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let frame = frame?;
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = self.left.checked_sub(length) else {
            return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(self.limit)))));
        };
        self.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use hostel_app::{Component, Source};

    use crate::testing::{ask, block_on, code, runtime};
    use crate::{AppScope, Guest, Role};

    fn load(scope: &AppScope, name: &str, code: &[u8]) -> Guest {
        let mut component = Component::new(name, Source::InlineWat, code);
        component.grants.http = vec!["http://*.app.internal".parse().unwrap()];
        scope.load(&component, code, Role::Serve, &|_| {}).unwrap()
    }

    #[test]
    fn a_name_is_the_newest_guest_s_of_its_app_for_as_long_as_that_is_there() {
        let runtime = runtime(None);
        let (scope, other) = (runtime.app("test"), runtime.app("test"));
        let caller = load(&scope, "web", &code("outgoing-p2"));
        let asked = |name: &str| {
            let path = format!("/?url=http://{name}.app.internal/");
            block_on(ask(&caller, &path))
        };
        let elsewhere = load(&other, "callee", &code("hello-p2"));
        elsewhere.answer_neighbours();
        assert_eq!(asked("callee"), "502", "another app of the same name");
        let first = load(&scope, "Callee", &code("hello-p2"));
        assert_eq!(asked("callee"), "502", "not yet");
        first.answer_neighbours();
        assert_eq!(asked("callee"), "200");
        let second = load(&scope, "Callee", &code("trap-p2"));
        second.answer_neighbours();
        assert_eq!(asked("callee"), "500");
        // Of two names that differ in case only, the lower one has it.
        let exact = load(&scope, "callee", &code("hello-p3"));
        exact.answer_neighbours();
        second.answer_neighbours();
        assert_eq!(asked("callee"), "200");
        drop(exact);
        assert_eq!(asked("callee"), "502");
    }
}
