//! What the host can do for a guest behind a grant: each file is one capability (grant, then budget, then driver).

pub(crate) mod blob;
pub(crate) mod charge;
pub(crate) mod config;
pub(crate) mod denied;
mod escape;
mod fault_log;
pub(crate) mod granted;
pub(crate) mod inbox;
pub(crate) mod kv;
pub(crate) mod log;
mod log_share;
pub(crate) mod log_writer;
mod logging;
pub(crate) mod messaging;
pub(crate) mod places;
pub(crate) mod sql;
pub(crate) mod stdio;
pub(crate) mod until_stop;
pub(crate) mod variables;
