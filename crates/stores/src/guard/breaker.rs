//! [`Breaker`]: spares a backend that is down, and its callers the wait.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Failure;

/// Outages in a row after which calls are refused.
pub const OUTAGES: u32 = 5;
/// How long they are refused then; doubled with every call that is let through in vain.
pub const REST: Duration = Duration::from_millis(50);
/// And at the most, so that a backend which is back is noticed.
pub const REST_MAX: Duration = Duration::from_secs(1);

/// Counts outages of one backend, whoever calls it.
///
/// **Closed**: calls pass. **Open**, after [`OUTAGES`] in a row: calls are refused without being made. When the rest is over
/// one call passes, and the next rest begins at once, twice as long: so another passes after that even if the first still hangs
/// in a dead connection. The first answer of any kind closes it.
///
/// A call that began before the breaker last changed says nothing any more: the late victims of an outage do not open it
/// again.
#[derive(Default)]
pub struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    /// In a row.
    outages: u32,
    open: Option<Open>,
    /// How often it was closed: what began before is out of date.
    era: u64,
}

struct Open {
    until: Instant,
    rest: Duration,
}

/// A call that was let through, to say what became of it. One that is dropped says nothing.
#[derive(Debug)]
pub struct Pass<'a> {
    breaker: &'a Breaker,
    era: u64,
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Breaker")
            .field("outages", &state.outages)
            .field("open", &state.open.is_some())
            .finish()
    }
}

impl Breaker {
    /// Lets a call through, or says how long it is until the next one is.
    ///
    /// # Errors
    /// [`Failure::Resting`].
    pub fn admit(&self) -> Result<Pass<'_>, Failure> {
        self.admit_at(Instant::now())
    }

    /// Lets a call through in any case.
    pub fn pass(&self) -> Pass<'_> {
        Pass {
            breaker: self,
            era: self.state().era,
        }
    }

    /// Whether calls are refused.
    pub fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    fn admit_at(&self, now: Instant) -> Result<Pass<'_>, Failure> {
        let mut state = self.state();
        if let Some(open) = &mut state.open {
            if now < open.until {
                return Err(Failure::Resting(open.until - now));
            }
            open.rest = (open.rest * 2).min(REST_MAX);
            open.until = now + open.rest;
        }
        Ok(Pass {
            breaker: self,
            era: state.era,
        })
    }

    fn settle_at(&self, era: u64, outage: bool, now: Instant) {
        let mut state = self.state();
        if state.era != era {
            return;
        }
        if !outage {
            state.outages = 0;
            if state.open.take().is_some() {
                state.era += 1;
            }
            return;
        }
        state.outages = state.outages.saturating_add(1);
        if state.outages >= OUTAGES && state.open.is_none() {
            state.open = Some(Open {
                until: now + REST,
                rest: REST,
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// What became of the call: no answer, or an answer of any kind.
    pub fn settle(self, outage: bool) {
        self.breaker.settle_at(self.era, outage, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A breaker and a clock of its own.
    struct Timed {
        breaker: Breaker,
        now: Instant,
    }

    impl Timed {
        fn new() -> Self {
            Self {
                breaker: Breaker::default(),
                now: Instant::now(),
            }
        }

        fn admit(&self) -> Result<u64, Failure> {
            self.breaker.admit_at(self.now).map(|pass| pass.era)
        }

        fn settle(&self, era: u64, outage: bool) {
            self.breaker.settle_at(era, outage, self.now);
        }

        fn open(&self) {
            for _ in 0..OUTAGES {
                let era = self.admit().unwrap();
                self.settle(era, true);
            }
            assert!(self.breaker.is_open());
        }
    }

    #[test]
    fn it_opens_after_outages_in_a_row_only() {
        let timed = Timed::new();
        for _ in 0..3 {
            for outage in [true, true, true, true, false] {
                let era = timed.admit().unwrap();
                timed.settle(era, outage);
                assert!(!timed.breaker.is_open());
            }
        }
        timed.open();
        assert_eq!(timed.admit(), Err(Failure::Resting(REST)));
    }

    #[test]
    fn while_it_is_open_one_call_passes_per_rest_and_the_rests_grow_to_a_second() {
        let mut timed = Timed::new();
        timed.open();
        let mut rests = Vec::new();
        for _ in 0..8 {
            let Err(Failure::Resting(rest)) = timed.admit() else {
                panic!("it is open");
            };
            rests.push(rest.as_millis());
            timed.now += rest;
            // This one hangs: the next passes all the same, after the next rest.
            timed.admit().unwrap();
            assert!(timed.admit().is_err());
        }
        assert_eq!(rests, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
    }

    #[test]
    fn the_first_answer_closes_it_and_late_victims_do_not_open_it_again() {
        let mut timed = Timed::new();
        let early = timed.admit().unwrap();
        timed.open();
        timed.now += REST;
        let (lost, era) = (timed.admit().unwrap(), early);
        timed.now += 2 * REST;
        let probe = timed.admit().unwrap();
        timed.settle(probe, false);
        assert!(!timed.breaker.is_open());
        for _ in 0..2 * OUTAGES {
            timed.settle(lost, true);
            timed.settle(era, true);
        }
        assert!(!timed.breaker.is_open());
        timed.open();
    }

    #[test]
    fn a_call_that_is_dropped_says_nothing() {
        let breaker = Breaker::default();
        for _ in 0..2 * OUTAGES {
            let _ = breaker.admit().unwrap();
        }
        assert!(!breaker.is_open());
    }
}
