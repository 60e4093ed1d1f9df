//! One run of a program on a fresh instance: what jobs and answers of programs share.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures::FutureExt;
use wasmtime::{PoolConcurrencyLimitError, Store};

use crate::abi::broken::Broken;
use crate::abi::command::{self, Command};
use crate::abi::http::panicked;
use crate::abi::{Exports, Warm};
use crate::fault::Fault;
use crate::guest::{Inner, fault_of};
use crate::state::Host;

/// What a program is called by.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) command: &'a Command,
    /// The export of a core module.
    pub(super) export: &'a str,
}

/// Runs it until it has ended; its exit code, and what remains of it. Where the engine has no place for another instance it
/// waits for one, as long as a call may wait for its turn.
pub(super) async fn run(
    guest: &Inner,
    entry: Entry<'_>,
    mut store: impl FnMut() -> wasmtime::Result<Store<Host>>,
) -> Result<(u8, Warm), Broken> {
    let since = Instant::now();
    loop {
        let mut store = store().map_err(|error| Fault::Host(format!("{error:?}")))?;
        let called = command::call(entry, &mut store);
        // A panic must leave the store alone: its end would look like the end of what the program writes.
        let outcome = match AssertUnwindSafe(called).catch_unwind().await {
            Ok(outcome) => command::exit_code(outcome),
            Err(_) => return Err(Broken::with(panicked(), spent(store))),
        };
        match outcome {
            Ok(code) => return Ok((code, spent(store))),
            // It has not begun: there was no place for an instance.
            Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                drop(store);
                guest.peers.drop_idle();
                if !guest.permits.room(since).await {
                    return Err(guest.permits.refuse().into());
                }
            }
            Err(error) => {
                let fault = fault_of(&error, &store.data().meter);
                return Err(Broken::with(fault, spent(store)));
            }
        }
    }
}

/// An instance that is never used again.
fn spent(store: Store<Host>) -> Warm {
    Warm {
        store,
        exports: Exports::Spent,
        answered: u32::MAX,
    }
}
