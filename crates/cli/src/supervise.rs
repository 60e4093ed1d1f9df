//! `--supervise`: the command that the supervisor starts, and what it tells the operator. When it starts it, and how the
//! listening sockets pass, is `hostel_server::supervisor`.

use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use hostel_app::ListenOn;
use hostel_server::supervisor::{Event, Start};
use hostel_server::{Bounds, Inherited, LifeLine, SuperviseError, SuperviseOptions};

use crate::failure::{Failure, Kind};
use crate::output;

/// The value of the hidden flag by which a worker process knows that it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Supervised {
    /// The server starts.
    First,
    /// The worker before this one died.
    Again,
}

impl Supervised {
    fn of(start: Start) -> Self {
        match start {
            Start::First => Self::First,
            Start::Again => Self::Again,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Again => "again",
        }
    }

    /// How the line begins that says that requests are accepted.
    pub(crate) fn ready_line(self) -> &'static str {
        match self {
            Self::First => "listening",
            Self::Again => "listening again",
        }
    }
}

/// In the worker process: the way to its supervisor.
pub(crate) fn life_line() -> Result<LifeLine, Failure> {
    LifeLine::of_stdin().map_err(|error| {
        Failure::new(
            Kind::Host,
            format!("no supervisor at standard input: {error}"),
            "use `--supervise`; `--supervised` is what it says to the process that it starts",
        )
    })
}

/// Starts this very command line as the worker process, again and again.
pub(crate) fn main(
    listen: Vec<ListenOn>,
    inherited: Inherited,
    threads: Option<NonZeroUsize>,
) -> Result<ExitCode, Failure> {
    let executable = std::env::current_exe().map_err(SuperviseError::from)?;
    let command = |start| {
        let mut words = std::env::args_os();
        let mut command = Command::new(&executable);
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        // The flag follows the name of the command: behind a `--` it would not be one.
        command.args(words.next());
        command.args(["--supervised", Supervised::of(start).word()]);
        command.args(words);
        command
    };
    let exit_code = hostel_server::supervise(SuperviseOptions {
        listen,
        inherited,
        threads: threads.map(NonZeroUsize::get),
        backlog: Bounds::default().backlog,
        command: &command,
        told: &|event| output::notice(&in_words(&event)),
    })?;
    Ok(ExitCode::from(exit_code))
}

fn in_words(event: &Event) -> String {
    match event {
        Event::Ended { end } => end.clone(),
        Event::Restart { end, served, after } => {
            let when = match after.as_millis() {
                0 => "now".to_owned(),
                millis @ 1..1_000 => format!("in {millis} ms"),
                _ => format!("in {:.1} s", after.as_secs_f32()),
            };
            let lived = served.map_or_else(String::new, |served| {
                format!(" after {:.1} s", served.as_secs_f32())
            });
            format!("{end}{lived}; it is started again {when}")
        }
    }
}

impl From<SuperviseError> for Failure {
    fn from(error: SuperviseError) -> Self {
        Failure::saying(Kind::Host, &error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_flag_s_words_are_those_that_it_reads() {
        for start in [Start::First, Start::Again] {
            let said = Supervised::of(start);
            assert_eq!(Supervised::from_str(said.word(), false), Ok(said));
        }
    }

    #[test]
    fn a_restart_says_how_it_ended_and_when_the_next_start_is() {
        let told = |served, after| {
            in_words(&Event::Restart {
                end: "E".to_owned(),
                served,
                after: Duration::from_millis(after),
            })
        };
        assert_eq!(told(None, 0), "E; it is started again now");
        assert_eq!(
            told(Some(Duration::from_millis(1250)), 400),
            "E after 1.2 s; it is started again in 400 ms"
        );
        assert_eq!(told(None, 12_800), "E; it is started again in 12.8 s");
    }

    #[test]
    fn a_first_start_that_fails_says_why() {
        let error = SuperviseError::Start(std::io::Error::from_raw_os_error(11));
        let failure = Failure::from(error);
        let what = &failure.problems[0].what;
        assert!(
            what.starts_with("cannot start the worker process: "),
            "{what}"
        );
    }
}
