//! Real servers for the tests: Redis, PostgreSQL, NATS and S3, each on a free port of this machine, and a proxy that makes
//! any of them fail.
//!
//! Nothing here stands in for a server: `redis-server`, `postgres` and `nats-server` are what `cargo xtask test` installs, the
//! S3 server is the crate `s3s-fs`. A server ends with the value that started it, and with the test's process whatever
//! happens to that. Everything blocks: a test that runs on an event loop may do so too, its servers are processes of their
//! own.
//!
//! Read in this order: `process` (how a server is started and found), one file per server, `proxy`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "this is a part of the tests: what goes wrong here has to fail them, and waiting blocks nobody"
)]

mod nats;
mod postgres;
mod process;
mod proxy;
mod redis;
mod s3;
#[cfg(test)]
mod tests;

pub use nats::Nats;
pub use postgres::Postgres;
pub use proxy::{Mode, Proxy};
pub use redis::Redis;
pub use s3::S3;
