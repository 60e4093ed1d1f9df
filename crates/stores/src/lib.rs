//! Where data lives: key-value, blobs, SQL and messaging, one trait each and its drivers beside it.
//!
//! A driver keeps the data of one [`Scope`]: one app's label. It has never heard of guests, grants or manifests, and a
//! handle that is bound to one scope has no way to name another: that is what keeps apps apart. What a driver must do is
//! said at its trait, and proven by the contract suite in `tests/`, which every driver passes.
//!
//! Read in this order: the four traits ([`kv`], [`blob`], [`sql`], [`messaging`]), [`place`] (where a label's data is kept),
//! [`stores`] (from a place to a driver), [`guard`] (time-outs and the circuit breaker around every call), then the drivers.
//! `embedded` is the one engine below everything that must survive without a server.

pub mod blob;
pub mod clock;
pub mod embedded;
pub mod failure;
pub mod faulty;
pub mod guard;
pub mod kv;
pub mod messaging;
pub mod place;
pub mod scope;
mod server;
pub mod sql;
pub mod stores;

pub use failure::Failure;
pub use place::Place;
pub use scope::Scope;
pub use stores::{Stores, StoresOptions};
