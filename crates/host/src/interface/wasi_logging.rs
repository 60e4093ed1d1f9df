//! `wasi:logging`: a message is a line of the log.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use crate::state::Host;

/// Puts the package's interfaces into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    logging::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/logging",
        world: "wasi:logging/imports",
    });
}

use bindings::wasi::logging::logging::{self, Level};

impl logging::Host for Host {
    fn log(&mut self, level: Level, context: String, message: String) {
        let level = match level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Critical => "critical",
        };
        self.log_message(level, &context, &message);
    }
}
