//! What works, seen from outside.

mod backends;
mod binds;
mod blobs;
mod bodies;
mod cache;
mod calls;
mod cgi;
mod cgi_wire;
mod chores;
mod compile;
mod compose;
mod config;
mod databases;
mod dialects;
mod experimental_http;
mod files;
mod framing;
mod grants;
mod guestbook;
mod handle;
mod headers;
mod hello;
mod http2;
mod inspect;
mod instances;
// With interpreters that are fetched: `cargo xtask test --all`.
#[cfg(feature = "languages")]
mod interpreters;
mod keyvalue;
mod log;
mod logging;
mod messages;
mod metrics;
mod neighbours;
mod network;
mod php;
// With guests that other languages' tool chains make: `cargo xtask test --all`.
#[cfg(feature = "languages")]
mod polyglot;
mod ready_line;
mod routes;
mod run;
mod schedules;
mod scripts;
pub(crate) mod services;
pub(crate) mod shutdown;
mod sockets;
mod telemetry;
mod trailers;
mod watch;
