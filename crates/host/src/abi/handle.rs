//! `handle`: a core module of serverless-wasm. It imports the functions of the module `env` (`interface::env`), and often its
//! memory too (`own_memory`), and is called by an export that takes and returns nothing: the route's `entrypoint`, or `handle`.
//!
//! Every request has a fresh instance. Its answer is what it has said when it returns; one that has said no status or no body
//! answers 500, and so does one that traps.

mod own_memory;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use http::{Request, StatusCode};
use tokio::sync::oneshot;
use wasmtime::{InstancePre, Module, Result, Store};

use crate::abi::broken::Broken;
use crate::abi::http::{Answer, Answered, Work, instantiate, panicked};
use crate::abi::{Exports, Warm, response, start};
use crate::fault::Fault;
use crate::guest::{Call, Inner, RequestBody, fault_of};
use crate::imports::PREVIEW1;
use crate::interface::env::Asked;
use crate::state::Host;

pub(crate) use own_memory::with_own_memory;

/// What is called where the route names nothing else.
pub(crate) const HANDLE: &str = "handle";

/// What a reactor of WASI wants to be called first.
const INITIALIZE: &str = "_initialize";

/// A module that was linked.
pub(crate) struct Linked {
    pre: InstancePre<Host>,
    /// It imports functions of WASI as well.
    wasi: bool,
}

impl Linked {
    pub(crate) fn new(pre: InstancePre<Host>) -> Self {
        let mut imports = pre.module().imports();
        let wasi = imports.any(|import| import.module() == PREVIEW1);
        drop(imports);
        Self { pre, wasi }
    }

    pub(crate) fn module(&self) -> &Module {
        self.pre.module()
    }

    /// A fresh instance, started.
    pub(super) async fn instantiate(&self, store: &mut Store<Host>) -> Result<Exports> {
        if self.wasi {
            store.data_mut().enable_p1()?;
        }
        let instance = self.pre.instantiate_async(&mut *store).await?;
        if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut *store, INITIALIZE) {
            initialize.call_async(&mut *store, ()).await?;
        }
        start::module(&instance, store).await?;
        Ok(Exports::Module(instance))
    }
}

/// The guest's work on one request.
pub(super) fn work(
    guest: Arc<Inner>,
    request: Request<RequestBody>,
    call: Call,
    answer: oneshot::Sender<Answer>,
) -> Work {
    Box::pin(async move {
        let mut warm = instantiate(&guest, call.id).await?;
        let (head, body) = request.into_parts();
        let method = head.method.clone();
        let host = warm.store.data_mut();
        host.is_part_of(call.chain);
        host.exchange().asks(Asked::new(head, body));
        let called = AssertUnwindSafe(called(&mut warm, &call))
            .catch_unwind()
            .await;
        // Whatever becomes of it, it is never used again.
        warm.answered = u32::MAX;
        match called {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let fault = fault_of(&error, &warm.store.data().meter);
                return Err(Broken::with(fault, warm));
            }
            Err(_) => return Err(Broken::with(panicked(), warm)),
        }
        let said = std::mem::take(warm.store.data_mut().exchange()).into_said();
        let response = match said.into_response(&method, &guest.template) {
            Ok(response) => response,
            Err(unset) => {
                let fault = Fault::BadGuest(unset.to_string());
                guest.report(call.id, &fault);
                response::told(StatusCode::INTERNAL_SERVER_ERROR, fault.row().name, call.id)
            }
        };
        // Nobody listens any more if the request was cancelled.
        let _heard = answer.send(Ok(Answered {
            response,
            until_read: None,
        }));
        Ok(warm)
    })
}

async fn called(warm: &mut Warm, call: &Call) -> Result<()> {
    let Exports::Module(instance) = &warm.exports else {
        wasmtime::bail!("it is no module")
    };
    let name = call.entrypoint().unwrap_or(HANDLE);
    let function = instance.get_typed_func::<(), ()>(&mut warm.store, name)?;
    function.call_async(&mut warm.store, ()).await
}
