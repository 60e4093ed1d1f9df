//! What messages are handed to: one entry for each interface that handlers are written against, linked once and called on
//! an instance. How long that may take, and where it runs, is not decided here.

use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Result, Store};

use super::{Handled, Refusal};
use crate::capability::messaging::Letter;
use crate::detect::Abi;
use crate::interface::{
    HandleMessageError, Handler, HandlerPre, WasmcloudHandler, WasmcloudHandlerP3,
    WasmcloudHandlerP3Pre, WasmcloudHandlerPre, give_broker_message, handler_error,
};
use crate::state::Host;

/// A handler, linked.
pub(crate) enum Linked {
    Wasi(HandlerPre<Host>),
    WasmcloudP2(WasmcloudHandlerPre<Host>),
    WasmcloudP3(WasmcloudHandlerP3Pre<Host>),
}

/// An instance of it.
pub(crate) enum Handling {
    Wasi(Handler),
    WasmcloudP2(WasmcloudHandler),
    WasmcloudP3(WasmcloudHandlerP3),
}

impl Linked {
    /// A linked component, by the interface that `abi` stands for.
    pub(crate) fn new(pre: InstancePre<Host>, abi: Abi) -> Result<Self> {
        Ok(match abi {
            Abi::MessageWasmcloudP2 => Self::WasmcloudP2(WasmcloudHandlerPre::new(pre)?),
            Abi::MessageWasmcloudP3 => Self::WasmcloudP3(WasmcloudHandlerP3Pre::new(pre)?),
            _ => Self::Wasi(HandlerPre::new(pre)?),
        })
    }

    pub(crate) async fn instantiate(&self, store: &mut Store<Host>) -> Result<Handling> {
        Ok(match self {
            Self::Wasi(pre) => Handling::Wasi(pre.instantiate_async(store).await?),
            Self::WasmcloudP2(pre) => Handling::WasmcloudP2(pre.instantiate_async(store).await?),
            Self::WasmcloudP3(pre) => Handling::WasmcloudP3(pre.instantiate_async(store).await?),
        })
    }

    /// An instance that was made already.
    pub(crate) fn of(&self, store: &mut Store<Host>, instance: &Instance) -> Result<Handling> {
        Ok(match self {
            Self::Wasi(_) => Handling::Wasi(Handler::new(store, instance)?),
            Self::WasmcloudP2(_) => Handling::WasmcloudP2(WasmcloudHandler::new(store, instance)?),
            Self::WasmcloudP3(_) => {
                Handling::WasmcloudP3(WasmcloudHandlerP3::new(store, instance)?)
            }
        })
    }

    pub(crate) fn instance_pre(&self) -> &InstancePre<Host> {
        match self {
            Self::Wasi(pre) => pre.instance_pre(),
            Self::WasmcloudP2(pre) => pre.instance_pre(),
            Self::WasmcloudP3(pre) => pre.instance_pre(),
        }
    }
}

impl Handling {
    /// Hands over one message, and returns what the guest says of it.
    pub(crate) async fn call(&self, store: &mut Store<Host>, letter: Letter) -> Result<Handled> {
        match self {
            Self::Wasi(handler) => {
                let message = store.data_mut().give_letter(letter)?;
                let handler = handler.wasi_messaging_incoming_handler();
                let handled = handler.call_handle(store, message).await?;
                Ok(handled.map_err(|error| Refusal::Later(handler_error(error))))
            }
            Self::WasmcloudP2(handler) => {
                let message = store.data_mut().give_broker_message(letter);
                let handler = handler.wasmcloud_messaging_handler();
                let handled = handler.call_handle_message(store, &message).await?;
                Ok(handled.map_err(Refusal::Later))
            }
            Self::WasmcloudP3(handler) => {
                let message = give_broker_message(&mut *store, letter)?;
                let handler = handler.wasmcloud_messaging_handler();
                let handled = store.run_concurrent(async |accessor| {
                    handler.call_handle_message(accessor, message).await
                });
                Ok(handled.await??.map_err(refusal))
            }
        }
    }
}

fn refusal(error: HandleMessageError) -> Refusal {
    match error {
        HandleMessageError::Reject => Refusal::Never("rejected".to_owned()),
        HandleMessageError::Retry => Refusal::Later("to be tried again".to_owned()),
        HandleMessageError::Other(text) => Refusal::Later(text),
    }
}
