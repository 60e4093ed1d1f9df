//! The contract suites: what every driver of a kind must do, run against each of them with real servers.

mod blob;
mod guard;
mod kv;
mod messaging;
mod servers;
mod shared;
mod sql;
