//! How much of the network guests may use: what a call may start, and what an app may have open and dial in a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hostel_app::Reuse;
use hostel_app::limits::{self, Limits};

use super::pool::Pool;
use super::{Names, Neighbours, Network};
use crate::bind::Callees;
use crate::meter::Refill;
use crate::state::Template;

/// What the calls of one instance may still start on the network.
#[derive(Debug)]
pub(crate) struct Outbound {
    left: AtomicU32,
    /// `None` is any number.
    per_call: Option<u32>,
    /// What calls that share the instance may have left together.
    most: u32,
    /// Where the one call does not end.
    refill: Option<Refill>,
}

impl Outbound {
    pub(super) fn new(limits: &Limits, reuse: &Reuse, refill: Option<Refill>) -> Self {
        let per_call = limits.outbound.unwrap_or(0);
        Self {
            refill,
            left: AtomicU32::new(per_call),
            per_call: limits.outbound,
            most: per_call.saturating_mul(reuse.concurrent),
        }
    }

    /// Another call begins. Alone in its instance it has exactly its own budget; calls that share one share theirs.
    pub(super) fn begin(&self) {
        let per_call = self.per_call.unwrap_or(0);
        let add = |left: u32| Some(left.saturating_add(per_call).min(self.most));
        // Never an error: the closure always has an answer.
        let _before = self.left.fetch_update(Relaxed, Relaxed, add);
    }

    /// Whether one more may be started; it is counted.
    pub(super) fn start(&self) -> bool {
        if self.per_call.is_none() || self.take() {
            return true;
        }
        let due = self.refill.as_ref().is_some_and(Refill::is_due);
        if due {
            self.begin();
        }
        due && self.take()
    }

    fn take(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.left.fetch_update(Relaxed, Relaxed, one_less).is_ok()
    }
}

/// What the guests of one app share on the network.
#[derive(Debug)]
pub(crate) struct AppNetwork {
    pub(super) network: Arc<Network>,
    pub(super) names: Names,
    pub(super) pool: Arc<Pool>,
    pub(crate) neighbours: Neighbours,
    pub(crate) callees: Callees,
    open: AtomicU32,
    dialled: Rate,
}

impl AppNetwork {
    pub(crate) fn new(network: &Arc<Network>) -> Self {
        Self {
            names: network.names.for_another(),
            pool: Pool::new(network),
            neighbours: Neighbours::default(),
            callees: Callees::default(),
            network: network.clone(),
            open: AtomicU32::new(0),
            dialled: Rate::default(),
        }
    }

    /// Takes the turn of one more connection for a component with these limits: how long to wait for it. `None` where
    /// that is longer than a connection may take.
    pub(super) fn turn(&self, limits: &Limits) -> Option<Duration> {
        match limits.outbound_rate {
            None => Some(Duration::ZERO),
            Some(rate) => self
                .dialled
                .reserve(rate, self.network.times.connect, Instant::now()),
        }
    }
}

impl Default for AppNetwork {
    fn default() -> Self {
        Self::new(&Arc::default())
    }
}

/// Something of an app's that is open, a request or a socket, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Template>);

impl Lease {
    /// One more, if the component's limit allows it.
    pub(super) fn open(template: &Arc<Template>) -> Option<Self> {
        let most = template.limits.outbound_open.unwrap_or(u32::MAX);
        let enter = |open: u32| (open < most).then(|| open.saturating_add(1));
        let open = &template.network.open;
        if open.fetch_update(Relaxed, Relaxed, enter).is_err() {
            template.metrics.outbound_refused.add(1);
            return None;
        }
        template.metrics.outbound_open.add(1);
        Some(Self(template.clone()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.network.open.fetch_sub(1, Relaxed);
        self.0.metrics.outbound_open.sub(1);
    }
}

/// A connection that a service has accepted, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Accepted(Arc<Network>);

impl Accepted {
    /// One more, if the process may have it.
    pub(crate) fn open(app: &AppNetwork) -> Option<Self> {
        let most = limits::SERVICE_CONNECTIONS.count();
        let enter = |open: u32| (open < most).then(|| open.saturating_add(1));
        let accepted = &app.network.accepted;
        accepted.fetch_update(Relaxed, Relaxed, enter).ok()?;
        Some(Self(app.network.clone()))
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.0.accepted.fetch_sub(1, Relaxed);
    }
}

/// So many in a second, a second's worth at once, then one after the other.
#[derive(Debug)]
struct Rate {
    begin: Instant,
    /// When what was let go would have gone at an even pace, in nanoseconds.
    paced: AtomicU64,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            paced: AtomicU64::new(0),
        }
    }
}

impl Rate {
    const SECOND: u64 = 1_000_000_000;

    fn reserve(&self, rate: u32, patience: Duration, now: Instant) -> Option<Duration> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(self.begin));
        let step = Self::SECOND / u64::from(rate.max(1));
        let patience = nanos(patience);
        let after = |paced: u64| paced.max(now).saturating_add(step);
        let wait = |paced: u64| after(paced).saturating_sub(now.saturating_add(Self::SECOND));
        let take = |paced: u64| (wait(paced) <= patience).then(|| after(paced));
        let before = self.paced.fetch_update(Relaxed, Relaxed, take).ok()?;
        Some(Duration::from_nanos(wait(before)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{grants, template};
    use super::*;

    fn started(budget: &Outbound) -> usize {
        (0..100_000).take_while(|_| budget.start()).count()
    }

    #[test]
    fn each_call_may_start_as_much_as_its_limit_says() {
        let limits = Limits {
            outbound: Some(3),
            ..Limits::default()
        };
        let alone = Outbound::new(&limits, &Reuse::default(), None);
        for _ in 0..3 {
            assert_eq!(started(&alone), 3);
            alone.begin();
        }
        alone.begin();
        assert_eq!(started(&alone), 3, "nothing is saved for a later call");
        let shared = Reuse {
            requests: 100,
            concurrent: 4,
        };
        let shared = Outbound::new(&limits, &shared, None);
        assert_eq!(started(&shared), 3);
        shared.begin();
        shared.begin();
        assert_eq!(started(&shared), 6, "two calls have twice as much");
        (0..100).for_each(|_| shared.begin());
        assert_eq!(started(&shared), 12, "as much as four may have at once");
        let endless = Outbound::new(&Limits::for_command(), &Reuse::default(), None);
        assert_eq!(started(&endless), 100_000);
    }

    #[test]
    fn what_ends_makes_room_for_another() {
        let network = Arc::<AppNetwork>::default();
        let component = |most| {
            let mut template = template(grants("", ""));
            template.network = network.clone();
            template.limits.outbound_open = most;
            Arc::new(template)
        };
        let (one, two) = (component(Some(1)), component(Some(2)));
        let first = Lease::open(&one).unwrap();
        assert!(Lease::open(&one).is_none());
        let second = Lease::open(&two).unwrap();
        assert!(Lease::open(&two).is_none(), "the app has two open");
        assert!(Lease::open(&component(None)).is_some());
        drop((first, second));
        assert!(Lease::open(&one).is_some());
        assert!(Lease::open(&component(Some(0))).is_none());
    }

    #[test]
    fn a_second_s_worth_at_once_then_one_after_the_other() {
        let rate = Rate::default();
        let (start, patience) = (rate.begin, Duration::from_millis(500));
        let at = |millis: u64| start + Duration::from_millis(millis);
        for _ in 0..10 {
            assert_eq!(rate.reserve(10, patience, start), Some(Duration::ZERO));
        }
        let waits: Vec<_> = (0..7).map(|_| rate.reserve(10, patience, start)).collect();
        let expected = [100, 200, 300, 400, 500].map(|millis| Some(Duration::from_millis(millis)));
        assert_eq!(waits[..5], expected);
        assert_eq!(waits[5..], [None, None], "refused, and it costs no turn");
        assert_eq!(rate.reserve(10, patience, at(600)), Some(Duration::ZERO));
        let later = at(60_000);
        let free = (0..100).take_while(|_| rate.reserve(10, Duration::ZERO, later).is_some());
        assert_eq!(free.count(), 10, "no more is saved than for a second");
    }
}
