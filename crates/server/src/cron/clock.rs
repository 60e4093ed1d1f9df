//! [`Clock`]: the time of day, which may be set at any moment, beside time that only ever goes on. Schedules go by the first;
//! how long somebody waits goes by the second.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How far the two may drift apart until the clock counts as set back.
const DRIFT_MS: i64 = 1000;
/// How long the first may not move until it counts as standing still.
const STILL_MS: i64 = 50;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Clock {
    source: Source,
    /// Both at one moment, in milliseconds: since 1970, and since whenever.
    together: Option<(i64, i64)>,
    /// The same for the moment when the first of them last moved.
    moved: (i64, i64),
    begin: Instant,
}

#[derive(Debug)]
enum Source {
    System,
    /// Debug builds only: a file that says how far the clock is off, so that a test can set it.
    #[cfg(debug_assertions)]
    Shifted(std::path::PathBuf),
    #[cfg(test)]
    Test(std::sync::Arc<TestClock>),
}

/// Both, in milliseconds, set by a test.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct TestClock {
    pub(super) wall: std::sync::atomic::AtomicI64,
    pub(super) steady: std::sync::atomic::AtomicI64,
}

/// What a look at the clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Milliseconds since 1970.
    pub(super) now_ms: i64,
    /// Whether the clock was set back since the last look.
    pub(super) set_back: bool,
    /// Whether the clock stands still while time goes on.
    pub(super) stands: bool,
}

impl Look {
    /// Whole seconds since 1970.
    pub(super) fn now(self) -> i64 {
        self.now_ms.div_euclid(1000)
    }
}

impl Clock {
    /// The system's. In builds with debug assertions `HOSTEL_CLOCK` may name a file with a number of milliseconds to add, or
    /// with `=` in front the time at which the clock stands still.
    pub(super) fn system() -> Self {
        #[cfg(debug_assertions)]
        if let Some(file) = std::env::var_os("HOSTEL_CLOCK") {
            return Self::of(Source::Shifted(file.into()));
        }
        Self::of(Source::System)
    }

    #[cfg(test)]
    pub(super) fn test(clock: std::sync::Arc<TestClock>) -> Self {
        Self::of(Source::Test(clock))
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            together: None,
            moved: (i64::MIN, 0),
            begin: Instant::now(),
        }
    }

    /// The time of now.
    pub(super) fn look(&mut self) -> Look {
        let (wall, steady) = self.read();
        let (first_wall, first_steady) = *self.together.get_or_insert((wall, steady));
        if wall != self.moved.0 {
            self.moved = (wall, steady);
        }
        let gone = steady.saturating_sub(first_steady);
        let ahead = wall.saturating_sub(first_wall).saturating_sub(gone);
        if ahead.unsigned_abs() >= DRIFT_MS.unsigned_abs() {
            self.together = Some((wall, steady));
        }
        Look {
            now_ms: wall,
            set_back: ahead <= -DRIFT_MS,
            stands: steady.saturating_sub(self.moved.1) >= STILL_MS,
        }
    }

    fn read(&self) -> (i64, i64) {
        let steady = i64::try_from(self.begin.elapsed().as_millis()).unwrap_or(i64::MAX);
        match &self.source {
            Source::System => (system_ms(), steady),
            #[cfg(debug_assertions)]
            Source::Shifted(file) => (shifted_ms(file), steady),
            #[cfg(test)]
            Source::Test(clock) => {
                use std::sync::atomic::Ordering::SeqCst;
                (clock.wall.load(SeqCst), clock.steady.load(SeqCst))
            }
        }
    }
}

fn system_ms() -> i64 {
    let millis = |millis: u128| i64::try_from(millis).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since.as_millis()),
        Err(before) => -millis(before.duration().as_millis()),
    }
}

#[cfg(debug_assertions)]
fn shifted_ms(file: &std::path::Path) -> i64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    match text.trim().strip_prefix('=') {
        Some(stands) => stands.parse().unwrap_or(0),
        None => system_ms().saturating_add(text.trim().parse().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    #[test]
    fn a_clock_that_is_set_back_is_noticed_once_and_one_that_drifts_is_not() {
        let hands = Arc::new(TestClock::default());
        let mut clock = Clock::test(hands.clone());
        let mut look = |wall: i64, steady: i64| {
            hands.wall.fetch_add(wall, SeqCst);
            hands.steady.fetch_add(steady, SeqCst);
            clock.look().set_back
        };
        assert!(!look(1_000_000, 0));
        assert!(!look(1000, 1000));
        assert!(!look(500, 1000));
        assert!(look(400, 1000), "little by little counts, too");
        assert!(!look(1000, 1000));
        assert!(!look(3_600_000, 1000), "forward is not back");
        assert!(look(-3_600_000, 1000));
        assert!(!look(1000, 1000));
        assert!(look(i64::MIN / 2, 0));
        assert!(!look(0, 1));
    }

    #[test]
    fn the_system_s_clock_goes_on() {
        let mut clock = Clock::of(Source::System);
        let look = clock.look();
        assert!(look.now() > 1_700_000_000 && !look.set_back);
    }
}
