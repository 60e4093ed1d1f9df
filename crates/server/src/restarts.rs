//! Whether and when a worker process that has ended is started again. Rules only: it starts nothing and reads no clock.
//! Its [`BackOff`] is that of services, too.

use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use hostel_app::limits;

/// What a shell adds to the number of the signal that ended a process, to make an exit code of it.
const BY_SIGNAL: i32 = 128;

/// How one worker process ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// What the system says.
    pub(crate) end: End,
    /// How long it served; `None` if it was never ready.
    pub(crate) served: Option<Duration>,
    /// The operator had asked the server to stop.
    pub(crate) stopping: bool,
}

/// The end of a process.
#[derive(Debug)]
pub(crate) enum End {
    /// It ran.
    Status(ExitStatus),
    /// It could not even be started.
    NotStarted(io::Error),
}

impl End {
    fn code(&self) -> Option<i32> {
        match self {
            End::Status(status) => status.code(),
            End::NotStarted(_) => Some(1),
        }
    }

    fn signal(&self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        match self {
            End::Status(status) => status.signal(),
            End::NotStarted(_) => None,
        }
    }

    /// Not by an exit of its own.
    pub(crate) fn by_signal(&self) -> bool {
        self.signal().is_some()
    }

    fn exit_code(&self) -> u8 {
        let code = self
            .code()
            .or_else(|| self.signal().map(|signal| BY_SIGNAL + signal));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Status(status) => {
                // `signal: 6 (SIGABRT)`, `exit status: 1`.
                let status = status.to_string().replacen(": ", " ", 1);
                write!(f, "the worker process ended with {status}")
            }
            End::NotStarted(error) => write!(f, "the worker process cannot be started: {error}"),
        }
    }
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The supervisor ends, too.
    End {
        /// With this code.
        exit_code: u8,
    },
    /// Another worker process.
    Restart {
        /// After this pause.
        after: Duration,
    },
}

/// Pauses between an end and the next start that grow while what is started does not last.
#[derive(Debug)]
pub(crate) struct BackOff {
    /// The pause after a time of health.
    pub(crate) begin: Duration,
    /// The least pause after that.
    pub(crate) first: Duration,
    pub(crate) max: Duration,
    /// How long something has to last until the ends before it are forgotten.
    pub(crate) healthy: Duration,
    /// The next pause.
    pub(crate) pause: Duration,
}

impl BackOff {
    /// The pause after the end of something that lasted so long.
    pub(crate) fn after(&mut self, lasted: Duration) -> Duration {
        if lasted >= self.healthy {
            self.pause = self.begin;
        }
        let pause = self.pause;
        self.pause = (pause * 2).clamp(self.first, self.max);
        pause
    }
}

/// The rules, and what they remember of earlier ends.
#[derive(Debug)]
pub(crate) struct Restarts {
    back_off: BackOff,
    /// Some worker was ready once: the app can be served.
    served: bool,
}

impl Default for Restarts {
    fn default() -> Self {
        Self {
            back_off: BackOff {
                begin: Duration::ZERO,
                first: limits::RESTART_PAUSE_MS.duration(),
                max: limits::RESTART_PAUSE_MAX_MS.duration(),
                healthy: limits::RESTART_HEALTHY_MS.duration(),
                pause: Duration::ZERO,
            },
            served: false,
        }
    }
}

impl Restarts {
    /// What follows this end.
    pub(crate) fn after(&mut self, run: &Run) -> Next {
        self.served |= run.served.is_some();
        let exit_code = run.end.exit_code();
        if run.stopping && run.served.is_none() && run.end.by_signal() {
            // The signal to stop met a process that did not handle it yet, and had nothing to finish.
            return Next::End { exit_code: 0 };
        }
        // What could not be served from the begin will not be served by trying again.
        if run.stopping || exit_code == 0 || !self.served {
            return Next::End { exit_code };
        }
        Next::Restart {
            after: self.back_off.after(run.served.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    const ABORT: i32 = 6;
    const TERMINATE: i32 = 15;
    const MOMENT: Duration = Duration::from_millis(10);

    fn signal(signal: i32) -> End {
        End::Status(ExitStatus::from_raw(signal))
    }

    fn code(code: i32) -> End {
        End::Status(ExitStatus::from_raw(code << 8))
    }

    fn run(end: End, served: Option<Duration>) -> Run {
        Run {
            end,
            served,
            stopping: false,
        }
    }

    fn stopped(end: End, served: Option<Duration>) -> Run {
        Run {
            stopping: true,
            ..run(end, served)
        }
    }

    fn pause(restarts: &mut Restarts, served: Option<Duration>) -> Duration {
        match restarts.after(&run(signal(ABORT), served)) {
            Next::Restart { after } => after,
            end => panic!("{end:?}"),
        }
    }

    fn exit_code(run: &Run) -> u8 {
        match Restarts::default().after(run) {
            Next::End { exit_code } => exit_code,
            restart => panic!("{restart:?}"),
        }
    }

    #[test]
    fn the_pause_grows_to_its_bound() {
        let mut restarts = Restarts::default();
        // Also a worker that dies before it is ready again counts.
        let pauses: Vec<_> = [Some(MOMENT), None]
            .into_iter()
            .cycle()
            .take(12)
            .map(|served| pause(&mut restarts, served).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [
                0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000
            ]
        );
    }

    #[test]
    fn deaths_are_forgotten_after_a_time_of_health() {
        let mut restarts = Restarts::default();
        let health = restarts.back_off.healthy;
        for _ in 0..5 {
            pause(&mut restarts, Some(MOMENT));
        }
        assert!(pause(&mut restarts, Some(health - MOMENT)) > Duration::ZERO);
        assert_eq!(pause(&mut restarts, Some(health)), Duration::ZERO);
        let first = restarts.back_off.first;
        assert_eq!(pause(&mut restarts, Some(MOMENT)), first);
    }

    #[test]
    fn what_never_served_is_not_tried_again() {
        assert_eq!(exit_code(&run(code(1), None)), 1);
        assert_eq!(exit_code(&run(code(2), None)), 2);
        assert_eq!(exit_code(&run(signal(ABORT), None)), 134);
        let error = io::Error::from(io::ErrorKind::OutOfMemory);
        assert_eq!(exit_code(&run(End::NotStarted(error), None)), 1);
    }

    #[test]
    fn what_served_once_is_tried_again_whatever_happens() {
        let mut restarts = Restarts::default();
        assert_eq!(pause(&mut restarts, Some(MOMENT)), Duration::ZERO);
        for end in [
            code(1),
            signal(ABORT),
            End::NotStarted(io::ErrorKind::OutOfMemory.into()),
        ] {
            assert!(matches!(
                restarts.after(&run(end, None)),
                Next::Restart { .. }
            ));
        }
    }

    #[test]
    fn success_and_the_operator_s_signal_end_it() {
        let served = Some(MOMENT);
        assert_eq!(exit_code(&run(code(0), served)), 0);
        assert_eq!(exit_code(&stopped(code(0), served)), 0);
        assert_eq!(exit_code(&stopped(code(1), served)), 1, "cut off");
        assert_eq!(exit_code(&stopped(signal(ABORT), served)), 134);
        assert_eq!(exit_code(&stopped(signal(TERMINATE), None)), 0);
    }

    #[test]
    fn ends_are_told_in_words() {
        assert_eq!(
            signal(ABORT).to_string(),
            "the worker process ended with signal 6 (SIGABRT)"
        );
        assert_eq!(
            code(3).to_string(),
            "the worker process ended with exit status 3"
        );
        let error = End::NotStarted(io::Error::from_raw_os_error(12));
        assert!(error.to_string().contains("cannot be started: "), "{error}");
    }
}
