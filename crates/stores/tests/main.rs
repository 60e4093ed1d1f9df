//! The contract suites: what every driver of a kind must do, run against each of them with real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "the lints' exception for tests misses helpers"
)]

mod blob;
mod guard;
mod kv;
mod messaging;
mod servers;
mod shared;
mod sql;
