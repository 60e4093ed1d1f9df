//! Who may begin in the fast lane: everybody, until their calls have used it for long work.
//!
//! A call is known to be long only after it has used a slice of the fast lane. Without memory a guest whose calls are
//! all long could fill that lane with first slices. So what a long call used there is a debt of its component, paid off
//! at a fixed pace; calls of a component in debt beyond its credit begin in the slow lane. All components together have
//! a credit of their own, so that many of them cannot do what one cannot.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::SLICE;

/// A debt that shrinks with time: the moment at which it will be paid, in nanoseconds; 0 = never had any.
#[derive(Debug, Default)]
pub(crate) struct Debt(AtomicU64);

/// How much fast lane may be owed, and how quickly it is paid off.
#[derive(Debug, Clone, Copy)]
struct Credit {
    most: Duration,
    /// Seconds that pay for one second of CPU.
    pace: u32,
}

/// One component may use a twentieth of a core for first slices.
const COMPONENT: Credit = Credit {
    most: Duration::from_millis(50),
    pace: 20,
};
/// All components that are in debt together, a quarter of a core.
const TOGETHER: Credit = Credit {
    most: Duration::from_millis(100),
    pace: 4,
};

/// No debt lasts longer.
const LONGEST: Duration = Duration::from_secs(20);
/// What could not be interrupted weighs no more: the first poll of a call is measured by the wall clock, and that may have
/// been the machine's doing.
const WEIGHT_MAX: u32 = 8;

impl Debt {
    /// A call used this much of the fast lane and was long. What could not be interrupted for several slices is as bad as
    /// its square: all the while nobody else had a turn.
    fn add(&self, used: Duration, credit: Credit, now: Duration) {
        let slices = used.as_millis() / SLICE.as_millis().max(1);
        let weight = u32::try_from(slices)
            .unwrap_or(u32::MAX)
            .clamp(1, WEIGHT_MAX);
        let cost = nanos(used.saturating_mul(credit.pace).saturating_mul(weight));
        let (now, end) = (nanos(now), nanos(now.saturating_add(LONGEST)));
        let paid = |until: u64| Some(until.max(now).saturating_add(cost).min(end));
        // The closure never declines.
        let _previous = self.0.fetch_update(Relaxed, Relaxed, paid);
    }

    fn is_beyond(&self, credit: Credit, now: Duration) -> bool {
        let owed = self.0.load(Relaxed).saturating_sub(nanos(now));
        owed > nanos(credit.most.saturating_mul(credit.pace))
    }

    fn is_owed(&self, now: Duration) -> bool {
        self.0.load(Relaxed) > nanos(now)
    }

    fn is_new(&self) -> bool {
        self.0.load(Relaxed) == 0
    }
}

/// Whether a call of the component that owes `own` must begin in the slow lane, while all together owe `all`.
pub(super) fn begins_slow(own: &Debt, all: &Debt) -> bool {
    // Most components never owe anything; then not even the clock is read.
    !own.is_new() && begins_slow_at(own, all, uptime())
}

fn begins_slow_at(own: &Debt, all: &Debt, now: Duration) -> bool {
    own.is_beyond(COMPONENT, now) || (own.is_owed(now) && all.is_beyond(TOGETHER, now))
}

/// A long call of a component used this much of the fast lane.
pub(super) fn charge(own: &Debt, all: &Debt, used: Duration) {
    let now = uptime();
    own.add(used, COMPONENT, now);
    all.add(used, TOGETHER, now);
}

/// Time since the first call of this function; never 0 behind it.
fn uptime() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn owe(own: &Debt, all: &Debt, calls: u32) {
        for _ in 0..calls {
            own.add(SLICE, COMPONENT, NOW);
            all.add(SLICE, TOGETHER, NOW);
        }
    }

    #[test]
    fn a_component_whose_calls_are_long_begins_slow_until_its_debt_is_paid() {
        let (own, all) = (Debt::default(), Debt::default());
        assert!(!begins_slow_at(&own, &all, NOW));
        owe(&own, &all, 10);
        assert!(!begins_slow_at(&own, &all, NOW), "50 ms are its credit");
        owe(&own, &all, 1);
        assert!(begins_slow_at(&own, &all, NOW));
        let one_call = SLICE * COMPONENT.pace;
        assert!(!begins_slow_at(&own, &all, NOW + one_call));
    }

    #[test]
    fn many_components_cannot_do_together_what_one_cannot() {
        let all = Debt::default();
        let debtors: Vec<Debt> = (0..100).map(|_| Debt::default()).collect();
        for own in &debtors {
            owe(own, &all, 1);
        }
        assert!(debtors.iter().all(|own| begins_slow_at(own, &all, NOW)));
        let innocent = Debt::default();
        assert!(!begins_slow_at(&innocent, &all, NOW));
    }

    #[test]
    fn what_could_not_be_interrupted_is_paid_for_longer() {
        let (own, all) = (Debt::default(), Debt::default());
        own.add(Duration::from_millis(60), COMPONENT, NOW);
        assert!(begins_slow_at(&own, &all, NOW));
        assert!(begins_slow_at(&own, &all, NOW + Duration::from_secs(5)));
        for _ in 0..100 {
            own.add(Duration::from_secs(10), COMPONENT, NOW);
        }
        assert!(!begins_slow_at(&own, &all, NOW + LONGEST));
    }
}
