//! The integration tests: the real executable, with real guests, as a user and an attacker meet it.
//!
//! `functional` shows what works, `security` one attack each, `faults` what happens when a guest, a client or a file
//! fails, `limits` one file per bound of `hostel_app::limits`. `harness` holds what they share: a server that ends with
//! its test, a client that can also send what no honest client would, and golden files. No test waits longer than
//! [`harness::PATIENCE`] for anything. The guests come from `cargo xtask guests`.
//!
//! One test: `cargo test -p hostel --test integration limits::memory`.

// The rooms are marked as tests one by one, because clippy's exceptions for tests look for exactly that.
#[cfg(test)]
mod faults;
#[cfg(test)]
mod functional;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod security;
