//! [`Guarded`]: a time-out and the circuit breaker around every driver that needs a server, with the same traits.
//!
//! An operation that takes longer than its place allows is an error, whatever the backend, the network or the driver do; of
//! what streams (an object's bytes, rows) that is said of each piece. The time in which a driver waits for the guest does not
//! count. After several outages in a row calls are refused at once, and one in a while is let through to see whether the
//! backend is back: see [`Breaker`].
//!
//! The kinds' own files say which limit holds for which operation. Nothing is tried again here: only a driver knows what may
//! be.

mod blob;
pub mod breaker;
mod kv;
mod messaging;
mod sql;
mod timed;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::Failure;
pub use breaker::Breaker;
use timed::limited;

/// A driver behind a guard.
#[derive(Debug, Clone)]
pub struct Guarded<T: ?Sized> {
    guard: Guard,
    inner: Arc<T>,
}

impl<T: ?Sized> Guarded<T> {
    /// Puts a guard before a driver.
    pub fn new(inner: Arc<T>, guard: Guard) -> Self {
        Self { guard, inner }
    }

    /// A call that has the place's time.
    async fn once<R, E: Trouble>(&self, call: impl Future<Output = Result<R, E>>) -> Result<R, E> {
        self.guard.call(self.guard.timeout, call).await
    }
}

/// Who decides whether a call is made and how long it may take.
#[derive(Clone)]
pub struct Guard {
    breaker: Arc<Breaker>,
    timeout: Duration,
    /// Whose clock wakes a call: that of the caller's thread may have none.
    handle: Handle,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("breaker", &self.breaker)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// An error that may be the backend's trouble.
pub(crate) trait Trouble: From<Failure> {
    /// The trouble, if it is one.
    fn failure(&self) -> Option<&Failure>;
}

impl Guard {
    /// With the breaker of the backend, which all that use it share.
    pub fn new(breaker: Arc<Breaker>, timeout: Duration, handle: Handle) -> Self {
        Self {
            breaker,
            timeout,
            handle,
        }
    }

    /// A call: refused while the backend rests, and otherwise over after `timeout`.
    async fn call<T, E: Trouble>(
        &self,
        timeout: Duration,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let pass = self.breaker.admit()?;
        let answer = limited(&self.handle, timeout, call).await;
        pass.settle(outage(&answer));
        answer
    }

    /// What belongs to a call that was let through: a piece of a stream, a statement of a transaction. It is not refused,
    /// and what becomes of it is remembered all the same.
    async fn step<T, E: Trouble>(
        &self,
        timeout: Duration,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let pass = self.breaker.pass();
        let answer = limited(&self.handle, timeout, step).await;
        pass.settle(outage(&answer));
        answer
    }
}

fn outage<T, E: Trouble>(answer: &Result<T, E>) -> bool {
    let failure = answer.as_ref().err().and_then(Trouble::failure);
    failure.is_some_and(Failure::is_outage)
}

macro_rules! trouble {
    ($($kind:ident)*) => {
        $(impl Trouble for crate::$kind::Error {
            fn failure(&self) -> Option<&Failure> {
                match self {
                    Self::Failed(failure) => Some(failure),
                    _ => None,
                }
            }
        })*
    };
}

trouble!(kv blob sql messaging);
