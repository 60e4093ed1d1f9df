//! WHAT to run: a manifest, validated and resolved once into an immutable [`App`].
//!
//! This room is pure: no async, no WebAssembly, no I/O beyond reading the files that the manifest names.
//! Read in this order: [`app`] (the result), [`limits`] (every bound of the product, one table),
//! [`grant`] (what a guest may reach), [`listen_on`] (where something listens), [`route`] (which component answers a request),
//! `dialect` and `manifest` (the text as written), [`server_config`] (what the operator wrote), `resolve` and `assemble` (from text to
//! [`App`]), [`error`] (what is wrong and how to mend it).
#![forbid(unsafe_code)]

pub mod app;
mod assemble;
mod budget;
mod dialect;
mod digest;
pub mod error;
mod escapes;
mod fields;
pub mod grant;
mod limit;
pub mod limits;
pub mod listen_on;
mod manifest;
mod nearest;
mod read;
mod resolve;
pub mod route;
pub mod schedule;
mod secret;
pub mod server_config;
mod text;
mod unheard;
mod unit;
mod variable;

pub use app::{
    App, CalledBy, Cgi, Component, CronRun, CronTrigger, Digest, Grants, MessageTrigger,
    MessagingGrants, Missed, OperatorGrants, OrderedBy, Overlap, Ready, Resolved, Restart, Reuse,
    ServiceTrigger, Source,
};
pub use escapes::unescaped;
pub use listen_on::ListenOn;
pub use nearest::nearest;
pub use resolve::{
    BuildStep, Operator, build_steps, files, has_manifest, listens_on, resolve, resolve_command,
};
pub use schedule::{Schedule, ScheduleError};
pub use secret::Secret;
pub use server_config::{NetworkPolicy, ServerConfig, StorePlace};
pub use text::{FillError, Text};
pub use variable::{Origin, Variable};
