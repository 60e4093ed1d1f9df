//! `http-p2`: a component that exports `wasi:http/incoming-handler@0.2`.
//!
//! The guest gets the request and an out-parameter for its answer; it may go on after it has set that, writing the
//! body. An instance answers one request at a time.

use http::uri::Scheme;
use http::{Request, Response};
use tokio::sync::oneshot;
use wasmtime::Result;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme as WasiScheme;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::abi::http::{Answer, Answered};
use crate::abi::{Exports, Warm};
use crate::guest::{Call, RequestBody};

/// One request and its answer. Returns when the guest has returned.
pub(crate) async fn handle(
    warm: &mut Warm,
    request: Request<RequestBody>,
    call: &Call,
    answer: oneshot::Sender<Answer>,
) -> Result<()> {
    let Exports::P2(proxy) = &warm.exports else {
        wasmtime::bail!("not an http-p2 instance")
    };
    let scheme = if call.scheme == Scheme::HTTPS {
        WasiScheme::Https
    } else {
        WasiScheme::Http
    };
    warm.store.data_mut().is_part_of(call.chain);
    let mut http = warm.store.data_mut().http();
    let request = http.new_incoming_request(scheme, request)?;
    let out = http.new_response_outparam_from_callback(move |outcome| {
        // Nobody listens any more if the client is gone.
        let _heard = answer.send(
            outcome
                .map(answered)
                .map_err(|code| format!("it answered with the error {code:?}")),
        );
    })?;
    proxy
        .wasi_http_incoming_handler()
        .call_handle(&mut warm.store, request, out)
        .await
}

/// The body's frames wait in a channel that outlives the guest's call, so nothing is kept for them.
fn answered(response: Response<WasiBody>) -> Answered {
    Answered {
        response,
        until_read: None,
    }
}
