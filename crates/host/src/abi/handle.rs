//! `handle`: a core module of serverless-wasm. It imports its memory and the functions of the module `env`, and is called by an
//! export that takes and returns nothing.

use std::sync::Arc;

use http::Request;
use tokio::sync::oneshot;
use wasmtime::InstancePre;

use crate::abi::http::{Answer, Work};
use crate::fault::Fault;
use crate::guest::{Call, Inner, RequestBody};
use crate::state::Host;

/// A module that was linked.
pub(crate) struct Linked {
    pre: InstancePre<Host>,
}

impl Linked {
    pub(crate) fn new(pre: InstancePre<Host>) -> Self {
        Self { pre }
    }
}

/// The guest's work on one request.
pub(super) fn work(
    _guest: Arc<Inner>,
    _request: Request<RequestBody>,
    _call: Call,
    _answer: oneshot::Sender<Answer>,
) -> Work {
    Box::pin(async move { Err(Fault::BadGuest("it cannot be called yet".into()).into()) })
}
