//! How fast a service may compute where the operator caps it.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

/// Spreads the CPU of a service over time: what it used has to be paid for at its percentage before it goes on.
pub(super) struct Pace {
    percent: u32,
    /// When all that it used so far is paid for.
    paid: Instant,
    rest: Option<Pin<Box<Sleep>>>,
}

/// What a service may use ahead of what is paid for.
const AHEAD: Duration = Duration::from_millis(100);

impl Pace {
    pub(super) fn new(percent: u32) -> Self {
        Self {
            percent: percent.max(1),
            paid: Instant::now(),
            rest: None,
        }
    }

    /// It has used so much more.
    pub(super) fn charge(&mut self, used: Duration) {
        let cost = used.saturating_mul(100) / self.percent;
        self.paid = self.paid.max(Instant::now()) + cost;
    }

    /// Whether it has to wait now; then the caller is woken when it may go on.
    pub(super) fn rests(&mut self, cx: &mut Context<'_>) -> bool {
        let until = self.paid.checked_sub(AHEAD).unwrap_or(self.paid);
        if until <= Instant::now() {
            return false;
        }
        let rest = self
            .rest
            .get_or_insert_with(|| Box::pin(sleep_until(until.into())));
        if rest.deadline() != until.into() {
            rest.as_mut().reset(until.into());
        }
        rest.as_mut().poll(cx).is_pending()
    }
}
