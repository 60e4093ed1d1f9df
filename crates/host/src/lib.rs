//! HOW a guest runs: from bytes to a call, on wasmtime. Opens no listening socket and reads no manifest.
//!
//! Read in this order: [`runtime`] (the process-wide part: engines, cache, clock tick), [`guest`] (one component, ready
//! to be called), [`fault`] (how a call fails), then the rooms behind them: `engine`, `compile`, `cache`, `detect`,
//! `pool` (who may run), `lanes` (where), `meter` and `memory` (how much), `state`, `net`, and one file per ABI under
//! `abi/`.

mod abi;
mod bind;
mod cache;
mod capability;
mod chain;
mod compile;
mod compose;
pub mod detect;
mod engine;
pub mod fault;
pub mod guest;
pub mod imports;
#[cfg(debug_assertions)]
mod inject;
mod interface;
mod kept;
mod lanes;
mod lock;
mod lookup;
mod memory;
mod meter;
pub mod metrics;
#[cfg(test)]
mod mutants;
mod net;
mod p1;
mod pool;
pub mod runtime;
mod state;
#[cfg(test)]
mod testing;
mod ticker;
mod turn;

pub use abi::export::{Argument, Arguments, ExportInfo, Prepared, Returned};
pub use abi::job::Job;
pub use abi::message::{Handled, Refusal};
pub use abi::response::ResponseBody;
pub use abi::service::ServiceStart;
pub use cache::CacheStats;
pub use capability::log::LogSink;
pub use capability::log_writer::Held;
pub use capability::places::{LabelledPlace, places};
pub use chain::Chain;
pub use compile::{CompileCaps, Compiler, CompilerProcess, LoadError, compile_guest};
pub use compose::{Part, compose};
pub use detect::Abi;
pub use fault::{Fault, Level, Row};
pub use guest::{BodyError, Call, Guest, Origin, RequestBody, RequestId};
pub use hostel_stores::{kv, messaging};
pub use net::narrowed::{Narrowed, narrowed};
pub use runtime::{AppScope, Progress, Role, Runtime, RuntimeOptions};
pub use turn::{SCHEDULE_FIELD, SCHEDULE_TIME_FIELD, Turn};
