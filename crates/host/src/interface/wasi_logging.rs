//! `wasi:logging`.

use wasmtime::Result;
use wasmtime::component::Linker;

use crate::state::Host;

/// Puts the package's interfaces into the linker.
pub(super) fn add_to_linker(_linker: &mut Linker<Host>) -> Result<()> {
    Ok(())
}
