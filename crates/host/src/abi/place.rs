//! One request in an instance that it shares: how far it is, when its time is over, and who waits for it.

use std::task::Waker;
use std::time::Instant;

use crate::chain::Chain;
use crate::guest::RequestId;
use crate::pool::Permit;

/// One request in an instance.
pub(super) struct Place {
    pub(super) request: RequestId,
    pub(super) chain: Chain,
    pub(super) answered: bool,
    /// Its time is over, or the instance is gone.
    pub(super) over: bool,
    pub(super) permit: Option<Permit>,
    /// Whoever waits for its answer or reads it.
    pub(super) reader: Option<Waker>,
}

impl Place {
    pub(super) fn new(permit: Permit, request: RequestId, chain: Chain) -> Self {
        Self {
            request,
            chain,
            answered: false,
            over: false,
            permit: Some(permit),
            reader: None,
        }
    }

    /// Whether a request may come to these, who are at most so many. All requests of an instance stand equally deep in their
    /// chains of calls: what it calls itself cannot be told apart, and has one depth.
    pub(super) fn is_room(places: &[Self], most: u32, chain: Chain) -> bool {
        let mut chains = places.iter().map(|place| place.chain);
        places.len() < most as usize && chains.all(|other| other.depth() == chain.depth())
    }

    /// What the calls of an instance with these requests are part of.
    pub(super) fn chain(places: &[Self]) -> Option<Chain> {
        let chains = places.iter().map(|place| place.chain);
        chains.reduce(Chain::beside)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.over && self.chain.due().is_some_and(|due| due <= now)
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
