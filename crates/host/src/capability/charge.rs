//! [`Charge`]: what the calls of one instance may still do with stores, whatever kind and whichever interface.
//!
//! A call of the guest has a number of operations and of bytes, in and out together. An operation is charged before the
//! driver is asked, bytes before they are handed to either side. What was charged is not given back when the driver fails.
//! How many operations are in flight needs no bound of its own: an instance waits for one at a time, except for bodies and
//! rows that stream, which are bounded as the host objects that they are.
//!
//! An interface turns [`Refused`] into an error of its own; the text is for the guest's author.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use hostel_app::Reuse;
use hostel_app::limits::Limits;
use hostel_stores::Failure;

use crate::meter::Refill;
use crate::metrics::Component;
use crate::state::Template;

/// What one call was refused: a limit, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// More operations than `store_calls`.
    Calls(u32),
    /// More bytes than `store_bytes`.
    Bytes(u64),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Calls(most) => write!(
                f,
                "this call has made {most} store operations, its limit `store_calls`"
            ),
            Self::Bytes(most) => write!(
                f,
                "this call has moved {most} bytes to and from stores, its limit `store_bytes`"
            ),
        }
    }
}

/// The account of one instance. Clones are the same account: a body or rows that stream keep one.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    metrics: Arc<Component>,
    /// `None` where no store is granted: there is nothing to count.
    left: Option<Arc<Left>>,
}

#[derive(Debug)]
struct Left {
    calls: AtomicU32,
    bytes: AtomicU64,
    /// `None` is any number.
    calls_per_call: Option<u32>,
    bytes_per_call: Option<u64>,
    /// Calls that may share the instance, and then what they may have left.
    concurrent: u32,
    /// Where the one call does not end.
    refill: Option<Refill>,
}

impl Left {
    fn new(limits: &Limits, reuse: &Reuse, refill: Option<Refill>) -> Self {
        Self {
            refill,
            calls: AtomicU32::new(limits.store_calls.unwrap_or(0)),
            bytes: AtomicU64::new(limits.store_bytes.unwrap_or(0)),
            calls_per_call: limits.store_calls,
            bytes_per_call: limits.store_bytes,
            concurrent: reuse.concurrent,
        }
    }

    fn begin(&self) {
        let (calls, bytes) = (
            self.calls_per_call.unwrap_or(0),
            self.bytes_per_call.unwrap_or(0),
        );
        let calls_most = calls.saturating_mul(self.concurrent);
        let bytes_most = bytes.saturating_mul(self.concurrent.into());
        // Never errors: the closures always have an answer.
        let _before = self.calls.fetch_update(Relaxed, Relaxed, |left| {
            Some(left.saturating_add(calls).min(calls_most))
        });
        let _before = self.bytes.fetch_update(Relaxed, Relaxed, |left| {
            Some(left.saturating_add(bytes).min(bytes_most))
        });
    }

    /// Whether a call that does not end has its budget anew.
    fn renewed(&self) -> bool {
        let due = self.refill.as_ref().is_some_and(Refill::is_due);
        if due {
            self.begin();
        }
        due
    }

    fn call(&self) -> Result<(), Refused> {
        let Some(most) = self.calls_per_call else {
            return Ok(());
        };
        let one_less = |left: u32| left.checked_sub(1);
        let take = || self.calls.fetch_update(Relaxed, Relaxed, one_less);
        let taken = take().or_else(|left| match self.renewed() {
            true => take(),
            false => Err(left),
        });
        taken.map(|_| ()).map_err(|_| Refused::Calls(most))
    }

    fn bytes(&self, bytes: usize) -> Result<(), Refused> {
        let Some(most) = self.bytes_per_call else {
            return Ok(());
        };
        let less = |left: u64| left.checked_sub(bytes as u64);
        let take = || self.bytes.fetch_update(Relaxed, Relaxed, less);
        let taken = take().or_else(|left| match self.renewed() {
            true => take(),
            false => Err(left),
        });
        taken.map(|_| ()).map_err(|_| Refused::Bytes(most))
    }
}

impl Charge {
    /// The account of a fresh instance, with what one call may.
    pub(crate) fn new(template: &Template) -> Self {
        let grants = &template.grants;
        let any = !(grants.keyvalue.is_empty()
            && grants.blobstore.is_empty()
            && grants.sql.is_empty()
            && grants.messaging.clients.is_empty());
        Self {
            metrics: template.metrics.clone(),
            left: any.then(|| {
                Arc::new(Left::new(
                    &template.limits,
                    &template.reuse,
                    template.refill(),
                ))
            }),
        }
    }

    /// Another call begins. Alone in its instance it has exactly its own budget; calls that share one share theirs.
    pub(crate) fn begin(&self) {
        if let Some(left) = &self.left {
            left.begin();
        }
    }

    /// One more operation, which takes so many bytes in.
    pub(crate) fn call(&self, bytes: usize) -> Result<(), Refused> {
        let metrics = &self.metrics;
        metrics.store_calls.add(1);
        let Some(left) = &self.left else {
            return Ok(());
        };
        left.call()
            .and_then(|()| left.bytes(bytes))
            .inspect_err(|_| metrics.store_refused.add(1))?;
        metrics.store_bytes.add(bytes as u64);
        Ok(())
    }

    /// So many more bytes of an operation that was charged: what it found, or the next piece of a stream.
    pub(crate) fn bytes(&self, bytes: usize) -> Result<(), Refused> {
        let metrics = &self.metrics;
        if let Some(left) = &self.left {
            left.bytes(bytes)
                .inspect_err(|_| metrics.store_refused.add(1))?;
        }
        metrics.store_bytes.add(bytes as u64);
        Ok(())
    }

    /// The backend was in trouble.
    pub(crate) fn failed(&self, failure: &Failure) {
        let count = match failure {
            Failure::Unavailable(_) | Failure::TimedOut(_) | Failure::Resting(_) => {
                &self.metrics.store_unavailable
            }
            Failure::Refused(_) | Failure::Broken(_) | Failure::Full(_) => {
                &self.metrics.store_failed
            }
        };
        count.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(calls: Option<u32>, bytes: Option<u64>, concurrent: u32) -> Charge {
        let limits = Limits {
            store_calls: calls,
            store_bytes: bytes,
            ..Limits::default()
        };
        let reuse = Reuse {
            requests: 100,
            concurrent,
        };
        Charge {
            metrics: Arc::new(Component::new("app".into(), "web".into())),
            left: Some(Arc::new(Left::new(&limits, &reuse, None))),
        }
    }

    #[test]
    fn a_call_has_its_operations_and_bytes_and_the_next_one_has_them_again() {
        let charge = charge(Some(2), Some(10), 1);
        for _ in 0..2 {
            assert_eq!(charge.call(4), Ok(()));
            assert_eq!(charge.call(4), Ok(()));
            assert_eq!(charge.call(0), Err(Refused::Calls(2)));
            assert_eq!(charge.bytes(3), Err(Refused::Bytes(10)));
            assert_eq!(charge.bytes(2), Ok(()), "what was refused is not charged");
            charge.begin();
            charge.begin();
        }
        let metrics = &charge.metrics;
        assert_eq!(
            (metrics.store_calls.get(), metrics.store_bytes.get()),
            (6, 20)
        );
        assert_eq!(metrics.store_refused.get(), 4);
    }

    #[test]
    fn calls_that_share_an_instance_share_their_budgets() {
        let charge = charge(Some(1), Some(1), 3);
        charge.begin();
        charge.begin();
        charge.begin();
        let made = (0..10).take_while(|_| charge.call(1).is_ok()).count();
        assert_eq!(made, 3);
    }

    #[test]
    fn a_command_of_the_operator_s_own_has_no_bound() {
        let charge = charge(None, None, 1);
        assert!((0..1000).all(|_| charge.call(usize::MAX / 2000).is_ok()));
    }

    #[test]
    fn failures_are_counted_by_who_has_to_act() {
        let charge = charge(None, None, 1);
        charge.failed(&Failure::Unavailable(String::new()));
        charge.failed(&Failure::Resting(std::time::Duration::ZERO));
        charge.failed(&Failure::Full(String::new()));
        let metrics = &charge.metrics;
        assert_eq!(
            (metrics.store_unavailable.get(), metrics.store_failed.get()),
            (2, 1)
        );
    }
}
