//! WHEN a guest runs: listeners, the HTTP trigger, the live app, and the life of the server. The only room that
//! opens a listening socket. It knows nothing of manifests or of wasm.
//!
//! Read in this order: [`serve`] (a server from start to end), `descriptors` (how many connections it can have), `worker`
//! (one thread of it), [`listen`] and `activation` (sockets), `seats` (who may hold a connection), `connection` (one client), `stream` with
//! `head_guard` and `frame_guard` (its bytes), `streams` (one stream of HTTP/2), `wire` (what the parts of a connection
//! know of each other), `http` (one request: the trigger), `request` and `upload` (what a guest gets), [`router`] (which guest),
//! `response` (what the client gets), `fields` (what neither gets), `alarm` (a timer), [`bounds`]; `messages`, `cron` and
//! `service` (the other triggers). Beside them: [`metrics`]
//! (what the operator asks), and [`supervisor`] (a parent process that starts a server again), with `restarts` (when) and
//! `handover` (how its sockets pass), `notify` (what a service manager is told), and `control` (calls from the command line).
#![forbid(unsafe_code)]

mod activation;
mod alarm;
pub mod bounds;
mod connection;
mod control;
mod cron;
mod deploy;
mod descriptors;
mod discovery;
mod fields;
mod frame_guard;
mod handover;
mod head_guard;
mod http;
pub mod listen;
pub mod live;
mod messages;
pub mod metrics;
mod notify;
mod replace;
mod request;
mod response;
mod restarts;
pub mod router;
mod seats;
pub mod serve;
mod service;
mod slot;
mod stream;
mod streams;
pub mod supervisor;
#[cfg(test)]
mod tests;
mod upload;
pub mod watch;
mod wire;
mod worker;

pub use activation::{ActivationError, Inherited};
pub use bounds::Bounds;
pub use control::{Control, ControlError, Revision, Revisions, control_socket};
pub use cron::Crontab;
pub use deploy::{DeployError, Deployed, check_guest, deploy, load_callees, roles};
pub use handover::LifeLine;
pub use live::Live;
pub use messages::Consumer;
pub use metrics::MetricsOptions;
pub use replace::{Changes, ReplaceError, Replaced};
pub use serve::{Draining, Outcome, ServeError, ServeOptions, serve};
pub use service::{Service, ServiceListenError, check as check_services};
pub use supervisor::{SuperviseError, SuperviseOptions, supervise};
