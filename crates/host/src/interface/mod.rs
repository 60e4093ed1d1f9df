//! What a guest imports: each file is one WIT package, translated to a capability and back. No file here decides what is
//! allowed or where data is.

mod core_abi;
pub(crate) mod env;
mod hostel_keyvalue;
mod hostel_sql;
pub(crate) mod hostobservability;
mod wasi_blobstore;
mod wasi_config;
pub(crate) mod wasi_experimental_http;
mod wasi_keyvalue;
mod wasi_logging;
mod wasi_messaging;
mod wasmcloud_messaging;
mod wasmcloud_messaging_p3;

pub(crate) use core_abi::REALLOC;
pub(crate) use wasi_messaging::{Handler, HandlerPre, handler_error};
pub(crate) use wasmcloud_messaging::{WasmcloudHandler, WasmcloudHandlerPre};
pub(crate) use wasmcloud_messaging_p3::{
    HandleMessageError, WasmcloudHandlerP3, WasmcloudHandlerP3Pre, give_broker_message,
};

use wasmtime::Result;
use wasmtime::component::Linker;

use crate::engine::Flavor;
use crate::state::Host;

/// Puts every interface beyond WASI's own releases into the linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>, flavor: Flavor) -> Result<()> {
    hostel_keyvalue::add_to_linker(linker)?;
    hostel_sql::add_to_linker(linker)?;
    wasi_blobstore::add_to_linker(linker)?;
    wasi_config::add_to_linker(linker)?;
    wasi_keyvalue::add_to_linker(linker)?;
    wasi_logging::add_to_linker(linker)?;
    wasi_messaging::add_to_linker(linker)?;
    wasmcloud_messaging::add_to_linker(linker)?;
    if flavor == Flavor::Async {
        wasmcloud_messaging_p3::add_to_linker(linker)?;
    }
    Ok(())
}

/// The same for core modules, beyond preview 1.
pub(crate) fn add_to_modules(linker: &mut wasmtime::Linker<Host>) -> Result<()> {
    env::add_to_linker(linker)?;
    hostobservability::add_to_linker(linker)?;
    wasi_experimental_http::add_to_linker(linker)
}
