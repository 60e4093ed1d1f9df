//! WHEN a guest runs: listeners, the HTTP trigger, the live app, and the life of the server. The only room that
//! opens a listening socket. It knows nothing of manifests or of wasm.
//!
//! Read in this order: [`serve`] (a server from start to end), `worker` (one thread of it), [`listen`] (sockets),
//! `connection` (one client), `stream` with `head_guard` (its bytes), `wire` (what the parts of a connection know of
//! each other), `http` (one request: the trigger), `request` and `upload` (what a guest gets), [`live`] (which guest),
//! `response` (what the client gets), `fields` (what neither gets), [`bounds`]. Beside them: [`supervisor`] (a parent
//! process that starts a server again), with `restarts` (when) and `handover` (how its sockets pass).
#![forbid(unsafe_code)]

pub mod bounds;
mod connection;
mod fields;
mod handover;
mod head_guard;
mod http;
pub mod listen;
pub mod live;
mod request;
mod response;
mod restarts;
pub mod serve;
mod stream;
pub mod supervisor;
#[cfg(test)]
mod tests;
mod upload;
mod wire;
mod worker;

pub use bounds::Bounds;
pub use handover::LifeLine;
pub use live::{DeployError, Live, deploy};
pub use serve::{Draining, Outcome, ServeError, ServeOptions, serve};
pub use supervisor::{SuperviseError, SuperviseOptions, supervise};
