//! Whether and when a service that has ended is started again. Rules only: it starts nothing and reads no clock.
//!
//! The pause before a start grows with each end until the service has run for a while. One that keeps ending in a short
//! time is in a crash loop: it is started again with a long pause in between, and never given up.

use std::collections::VecDeque;
use std::time::Duration;

use hostel_app::{Restart, limits};

use crate::restarts::BackOff;

/// How one run of a service ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// When, on any clock that does not go back.
    pub(super) ended_at: Duration,
    /// How long it had run.
    pub(super) lasted: Duration,
    /// A fault, or an exit code other than 0.
    pub(super) failed: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It stays ended: that is how the app wants it.
    Ended,
    /// Another start.
    Restart {
        /// After this pause.
        after: Duration,
    },
    /// Another start, after a long pause: it does not last.
    CrashLoop {
        /// After this pause.
        after: Duration,
    },
}

/// The rules for one service, and what they remember of earlier ends.
#[derive(Debug)]
pub(super) struct Policy {
    rule: Restart,
    back_off: BackOff,
    /// Ends within the window, the oldest first.
    ends: VecDeque<Duration>,
    in_crash_loop: bool,
}

impl Policy {
    pub(super) fn new(rule: Restart) -> Self {
        let first = limits::SERVICE_PAUSE_MS.duration();
        Self {
            rule,
            back_off: BackOff {
                begin: first,
                first,
                max: limits::SERVICE_PAUSE_MAX_MS.duration(),
                healthy: limits::SERVICE_HEALTHY_MS.duration(),
                pause: first,
            },
            ends: VecDeque::new(),
            in_crash_loop: false,
        }
    }

    /// What follows this end.
    pub(super) fn after(&mut self, run: Run) -> Next {
        let again = match self.rule {
            Restart::Always => true,
            Restart::OnFailure => run.failed,
            Restart::Never => false,
        };
        if !again {
            return Next::Ended;
        }
        if run.lasted >= self.back_off.healthy {
            self.ends.clear();
            self.in_crash_loop = false;
        }
        let window = limits::SERVICE_CRASH_WINDOW_MS.duration();
        let is_old = |end: &Duration| run.ended_at.saturating_sub(*end) > window;
        while self.ends.front().is_some_and(is_old) {
            self.ends.pop_front();
        }
        self.ends.push_back(run.ended_at);
        let pause = self.back_off.after(run.lasted);
        self.in_crash_loop |= self.ends.len() >= limits::SERVICE_CRASHES.size();
        if !self.in_crash_loop {
            return Next::Restart { after: pause };
        }
        // Until it has run for a while, however slowly it ends now.
        self.ends.clear();
        Next::CrashLoop {
            after: limits::SERVICE_CRASH_PAUSE_MS.duration().max(pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(10);
    const HEALTHY: Duration = limits::SERVICE_HEALTHY_MS.duration();
    const WINDOW: Duration = limits::SERVICE_CRASH_WINDOW_MS.duration();
    const SLOW: Duration = limits::SERVICE_CRASH_PAUSE_MS.duration();

    /// Restarts by a policy, with the time in between.
    struct Clock {
        policy: Policy,
        now: Duration,
    }

    impl Clock {
        fn new(rule: Restart) -> Self {
            Self {
                policy: Policy::new(rule),
                now: Duration::ZERO,
            }
        }

        /// The next run lasts so long and ends so.
        fn run(&mut self, lasted: Duration, failed: bool) -> Next {
            self.now += lasted;
            let next = self.policy.after(Run {
                ended_at: self.now,
                lasted,
                failed,
            });
            if let Next::Restart { after } | Next::CrashLoop { after } = next {
                self.now += after;
            }
            next
        }

        fn fails(&mut self, lasted: Duration) -> Next {
            self.run(lasted, true)
        }
    }

    fn restart(millis: u64) -> Next {
        Next::Restart {
            after: Duration::from_millis(millis),
        }
    }

    #[test]
    fn the_pause_grows_until_the_service_has_run_for_a_while() {
        let mut clock = Clock::new(Restart::Always);
        for millis in [100, 200, 400] {
            assert_eq!(clock.fails(MOMENT), restart(millis));
        }
        assert_eq!(clock.fails(HEALTHY), restart(100));
        // One that ends too seldom for a crash loop gets to the longest pause.
        let mut clock = Clock::new(Restart::Always);
        let seldom = HEALTHY - MOMENT;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            clock.now += WINDOW;
            pauses.push(clock.fails(seldom));
        }
        let most = limits::SERVICE_PAUSE_MAX_MS.duration();
        assert_eq!(pauses[8], restart(25_600));
        assert!(
            pauses[9..]
                .iter()
                .all(|next| *next == Next::Restart { after: most })
        );
    }

    #[test]
    fn ends_in_a_short_time_are_a_crash_loop() {
        let mut clock = Clock::new(Restart::OnFailure);
        let crashes = limits::SERVICE_CRASHES.size();
        for _ in 1..crashes {
            assert!(matches!(clock.fails(MOMENT), Next::Restart { .. }));
        }
        assert_eq!(clock.fails(MOMENT), Next::CrashLoop { after: SLOW });
        // The same number in more than the window is none.
        let mut clock = Clock::new(Restart::OnFailure);
        for _ in 0..3 * crashes {
            clock.now += WINDOW / 4;
            assert!(matches!(clock.fails(MOMENT), Next::Restart { .. }));
        }
    }

    #[test]
    fn a_crash_loop_is_tried_again_slowly_and_can_be_left() {
        let mut clock = Clock::new(Restart::Always);
        while !matches!(clock.fails(MOMENT), Next::CrashLoop { .. }) {}
        for _ in 0..100 {
            assert_eq!(clock.fails(MOMENT), Next::CrashLoop { after: SLOW });
        }
        assert_eq!(clock.fails(HEALTHY), restart(100));
        assert_eq!(clock.fails(MOMENT), restart(200));
    }

    #[test]
    fn the_app_says_which_ends_are_final() {
        let after = |rule, failed| Clock::new(rule).run(MOMENT, failed);
        assert_eq!(after(Restart::Always, false), restart(100));
        assert_eq!(after(Restart::Always, true), restart(100));
        assert_eq!(after(Restart::OnFailure, false), Next::Ended);
        assert_eq!(after(Restart::OnFailure, true), restart(100));
        assert_eq!(after(Restart::Never, false), Next::Ended);
        assert_eq!(after(Restart::Never, true), Next::Ended);
    }
}
