//! `http-p3`: a component that exports `wasi:http/handler@0.3`.
//!
//! The guest returns its answer from an async function; tasks that it started go on, writing the body. The store's
//! event loop turns until all of them are done.

use std::convert::Infallible;
use std::future::poll_fn;

use http::uri::{Authority, PathAndQuery};
use http::{Request, Response};
use tokio::sync::oneshot;
use wasmtime::Result;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{FieldMap, WasiBody, WasiHttpView, p3};

use crate::abi::http::{Answer, Answered};
use crate::abi::{Exports, Warm};
use crate::guest::{Call, RequestBody};
use crate::state::Host;

/// One request and its answer. Returns when every task of the guest is done.
pub(crate) async fn handle(
    warm: &mut Warm,
    request: Request<RequestBody>,
    call: &Call,
    answer: oneshot::Sender<Answer>,
) -> Result<()> {
    let Exports::P3(service) = &warm.exports else {
        wasmtime::bail!("not an http-p3 instance")
    };
    warm.store
        .run_concurrent(async |accessor| {
            let (until_read, read) = oneshot::channel::<Infallible>();
            let answered = respond(accessor, service, request, call).await?;
            // Nobody listens any more if the client is gone.
            let _heard = answer.send(answered.map(|response| Answered {
                response,
                until_read: Some(until_read),
            }));
            // Body and trailers may come from elsewhere than the guest's own tasks: the loop turns until they are read.
            let _done = read.await;
            // Tasks that the guest started before it answered keep its instance at work.
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            Ok(())
        })
        .await?
}

/// Gives the guest a request and waits for its answer; an error is a sentence for the log.
pub(crate) async fn respond(
    accessor: &Accessor<Host>,
    service: &Service,
    request: Request<RequestBody>,
    call: &Call,
) -> Result<Result<Response<WasiBody>, String>> {
    let (request, transmitted) = accessor.with(|mut store| {
        store.data_mut().begin_call();
        store.data_mut().is_part_of(call.chain);
        let http = store.data_mut().http();
        let (request, transmitted) = incoming(http.hooks, request, call);
        wasmtime::error::Ok((http.table.push(request)?, transmitted))
    })?;
    let outcome = service
        .wasi_http_handler()
        .call_handle(accessor, request)
        .await?;
    let response = match outcome {
        Err(code) => return Ok(Err(format!("it answered with the error {code:?}"))),
        Ok(response) => response,
    };
    accessor.with(|mut store| {
        let response = store.data_mut().http().table.delete(response)?;
        Ok(Ok(response.into_http(&mut store, transmitted)?))
    })
}

/// The request as the guest sees it: the authority is where the client sent it.
fn incoming(
    hooks: &mut dyn wasmtime_wasi_http::WasiHttpHooks,
    request: Request<RequestBody>,
    call: &Call,
) -> (
    p3::Request,
    impl Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send + use<>,
) {
    let (head, body) = request.into_parts();
    let uri = head.uri.into_parts();
    let from_host = |headers: &http::HeaderMap| {
        Authority::from_maybe_shared(headers.get(http::header::HOST)?.clone()).ok()
    };
    let authority = uri.authority.or_else(|| from_host(&head.headers));
    let path = uri
        .path_and_query
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    let headers = FieldMap::new_immutable(hooks, head.headers);
    p3::Request::new(
        head.method,
        Some(call.scheme.clone()),
        authority,
        Some(path),
        headers,
        None,
        body,
    )
}
