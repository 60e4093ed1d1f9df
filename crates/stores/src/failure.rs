//! [`Failure`]: what can go wrong between a driver and the place where its data is.

use std::time::Duration;

/// Trouble with the backend. Each kind of store has an error of its own that has this as one of its cases; what the caller
/// did wrong is a case there, not here. Texts never hold passwords: a driver takes them out of what a library says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It cannot be reached, or the connection broke before the answer was complete. A write may have happened.
    #[error("the backend cannot be reached: {0}")]
    Unavailable(String),
    /// No answer in time. A write may have happened.
    #[error("the backend did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// It failed often in a row and is given a rest: nothing was sent.
    #[error("the backend failed before and is tried again in {} ms", .0.as_millis())]
    Resting(Duration),
    /// It refuses the operator's credentials or this operation.
    #[error("the backend refuses: {0}")]
    Refused(String),
    /// It answered something that the driver does not understand, or an error of its own.
    #[error("the backend answered with an error: {0}")]
    Broken(String),
    /// There is no room for more.
    #[error("the backend is full: {0}")]
    Full(String),
}

impl Failure {
    /// Whether it speaks against the backend's health, so that the circuit breaker counts it.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::TimedOut(_))
    }
}
