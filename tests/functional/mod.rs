//! What works, seen from outside.

mod backends;
mod blobs;
mod bodies;
mod cache;
mod chores;
mod compile;
mod config;
mod databases;
mod files;
mod framing;
mod grants;
mod headers;
mod hello;
mod http2;
mod inspect;
mod instances;
mod keyvalue;
mod log;
mod logging;
mod messages;
mod metrics;
mod network;
mod ready_line;
mod routes;
mod run;
pub(crate) mod shutdown;
mod trailers;
