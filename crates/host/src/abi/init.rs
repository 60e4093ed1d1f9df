//! `init`: a core module of the system `server-side-wasm`, which the host starts by its export `init` and which then runs all
//! the time.
//!
//! It gets the path of its configuration file, and, where it takes a third number, the descriptor of its listening socket: the
//! first behind its pre-opened directories. Its bindings are those of wit-bindgen 0.2 (`interface::core_abi`).

use wasmtime::{ExternType, InstancePre, Module, Result, Store, ValType};

use crate::abi::start;
use crate::interface::REALLOC;
use crate::p1::Descriptors;
use crate::state::Host;

/// The export.
pub(crate) const INIT: &str = "init";

/// Whether its `init` is one that the host can call.
pub(crate) fn fits(module: &Module) -> bool {
    let Some(ExternType::Func(ty)) = module.get_export(INIT) else {
        return false;
    };
    let whole = |ty: ValType| matches!(ty, ValType::I32);
    matches!(ty.params().len(), 2 | 3) && ty.params().all(whole) && ty.results().len() == 0
}

/// Starts it; returns when it does.
pub(crate) async fn call(pre: &InstancePre<Host>, store: &mut Store<Host>) -> Result<()> {
    let (path, descriptor) = arguments(store.data());
    let instance = pre.instantiate_async(&mut *store).await?;
    if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut *store, "_initialize") {
        initialize.call_async(&mut *store, ()).await?;
    }
    start::module(&instance, store).await?;
    let allocate = instance.get_typed_func::<(i32, i32, i32, i32), i32>(&mut *store, REALLOC)?;
    let length = i32::try_from(path.len())?;
    let at = allocate.call_async(&mut *store, (0, 0, 1, length)).await?;
    let Some(memory) = instance.get_memory(&mut *store, "memory") else {
        wasmtime::bail!("it exports no memory")
    };
    memory.write(
        &mut *store,
        usize::try_from(at.cast_unsigned())?,
        path.as_bytes(),
    )?;
    if let Ok(init) = instance.get_typed_func::<(i32, i32), ()>(&mut *store, INIT) {
        return init.call_async(store, (at, length)).await;
    }
    let init = instance.get_typed_func::<(i32, i32, i32), ()>(&mut *store, INIT)?;
    init.call_async(store, (at, length, descriptor)).await
}

/// The path of its configuration: its first argument, or where the original had it; and the descriptor of its socket.
fn arguments(host: &Host) -> (String, i32) {
    let template = host.template();
    let path = template.args().into_iter().next();
    let path = path.unwrap_or_else(|| format!("./{}/config.toml", template.component));
    let descriptor = Descriptors::first_socket(template.grants.files.len());
    (path, descriptor.cast_signed())
}
