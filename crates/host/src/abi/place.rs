//! One request in an instance that it shares: how far it is, when its time is over, and who waits for it.

use std::task::Waker;
use std::time::Instant;

use crate::guest::RequestId;
use crate::pool::Permit;

/// One request in an instance.
pub(super) struct Place {
    pub(super) request: RequestId,
    pub(super) due: Option<Instant>,
    pub(super) answered: bool,
    /// Its time is over, or the instance is gone.
    pub(super) over: bool,
    pub(super) permit: Option<Permit>,
    /// Whoever waits for its answer or reads it.
    pub(super) reader: Option<Waker>,
}

impl Place {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.over && self.due.is_some_and(|due| due <= now)
    }

    /// Its time is over. The request's name, if the operator is not told by whoever waits for the answer.
    pub(super) fn expire(&mut self) -> Option<RequestId> {
        self.end();
        self.answered.then_some(self.request)
    }

    pub(super) fn end(&mut self) {
        self.over = true;
        self.permit = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
