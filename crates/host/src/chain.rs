//! [`Chain`]: where a call stands among guests that call each other. It travels in the host, never in a message: a client or
//! a guest can neither set nor see it.

use std::time::{Duration, Instant};

use hostel_app::limits;

/// Where a call stands. The default is a call by a trigger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chain {
    /// Calls of guests by guests that lead here.
    depth: u32,
    /// When the time of whoever waits for this call is over.
    due: Option<Instant>,
}

impl Chain {
    /// One call further, unless that is one too many.
    pub(crate) fn deeper(self) -> Option<Self> {
        let depth = self.depth + 1;
        (depth <= limits::CALL_DEPTH.count()).then_some(Self { depth, ..self })
    }

    /// The same call, which has a deadline of its own from now on.
    pub(crate) fn within(self, deadline_ms: Option<u64>) -> Self {
        let own = deadline_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        let due = match (self.due, own) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { due, ..self }
    }

    /// What an instance is part of that has several calls in flight, all of them as deep as this one: which of them calls
    /// further nobody can tell, so it has the time of the one with most.
    pub(crate) fn beside(self, other: Self) -> Self {
        let due = self.due.zip(other.due).map(|(one, other)| one.max(other));
        Self { due, ..self }
    }

    /// How many calls of guests by guests lead here.
    pub(crate) fn depth(self) -> u32 {
        self.depth
    }

    /// When its time is over.
    pub(crate) fn due(self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_has_an_end() {
        let mut chain = Chain::default();
        for _ in 0..8 {
            chain = chain.deeper().unwrap();
        }
        assert_eq!(chain.deeper(), None);
    }

    #[test]
    fn calls_side_by_side_have_the_time_of_the_one_with_most() {
        let [long, short] = [60_000, 10].map(|ms| Chain::default().within(Some(ms)));
        assert_eq!(long.beside(short).due(), long.due());
        assert_eq!(short.beside(long).due(), long.due());
        assert_eq!(short.beside(Chain::default()).due(), None);
    }

    #[test]
    fn no_call_has_more_time_than_its_caller() {
        let caller = Chain::default().within(Some(1_000));
        let due = caller.due().unwrap();
        assert_eq!(caller.within(Some(60_000)).due(), Some(due));
        assert_eq!(caller.within(None).due(), Some(due));
        assert!(caller.within(Some(10)).due().unwrap() < due);
        assert_eq!(Chain::default().within(None).due(), None);
    }
}
