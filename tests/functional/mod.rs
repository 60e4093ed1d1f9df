//! What works, seen from outside.

mod backends;
mod blobs;
mod bodies;
mod cache;
mod chores;
mod compile;
mod config;
mod files;
mod framing;
mod grants;
mod headers;
mod hello;
mod http2;
mod inspect;
mod instances;
mod log;
mod messages;
mod metrics;
mod network;
mod ready_line;
mod routes;
mod run;
pub(crate) mod shutdown;
mod trailers;
