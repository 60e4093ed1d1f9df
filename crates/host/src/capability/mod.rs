//! What the host can do for a guest behind a grant: each file is one capability (grant, then budget, then driver).

mod fault_log;
pub(crate) mod log;
mod log_share;
mod log_writer;
pub(crate) mod stdio;
