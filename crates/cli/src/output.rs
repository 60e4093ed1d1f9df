//! Everything that is printed: data on standard output, errors, notices and progress on standard error.
//!
//! Colour and progress appear on a terminal only (and no colour where `NO_COLOR` is set). Names come from hostile files, so
//! text for people has its control characters escaped. A reader that goes away ends the output, not the program.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use hostel_host::Progress;
use hostel_server::Draining;
use serde::Serialize;

use crate::args::Format;
use crate::failure::{Failure, Kind, Problem};

/// Prints a command's result: `value` as one line of JSON, or `text`.
pub(crate) fn data<T: Serialize>(
    format: Format,
    value: &T,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let line = match format {
        Format::Human => clean(&text()),
        Format::Json => json(value)?,
    };
    to_stdout(line.as_bytes())
}

fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map(|line| line + "\n")
        .map_err(|error| {
            Failure::new(
                Kind::Host,
                format!("the result cannot be written as JSON: {error}"),
                "use --format human",
            )
        })
}

/// Writes bytes to standard output as they are.
pub(crate) fn to_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Kind::Host,
            format!("standard output cannot be written: {error}"),
            "check where it leads: a full disk, a closed terminal",
        )),
        _ => Ok(()),
    }
}

/// Prints why the command failed.
pub(crate) fn failure(format: Format, failure: &Failure) {
    #[derive(Serialize)]
    struct Line<'a> {
        error: &'a Failure,
    }
    let text = match format {
        Format::Json => serde_json::to_string(&Line { error: failure }).unwrap_or_default() + "\n",
        Format::Human => {
            let problems = failure
                .problems
                .iter()
                .map(|problem| in_words(problem, Paint::of_stderr()));
            problems.collect::<Vec<_>>().join("\n")
        }
    };
    to_stderr(&text);
}

/// Tells the operator something that is not an error.
pub(crate) fn notice(text: &str) {
    let paint = Paint::of_stderr();
    to_stderr(&format!(
        "{}note:{} {}\n",
        paint.code(BOLD),
        paint.code(RESET),
        clean(text)
    ));
}

/// A line of standard error that programs read.
pub(crate) fn status(line: &str) {
    to_stderr(&format!("{line}\n"));
}

/// On a terminal: what a shutdown still waits for.
pub(crate) fn draining(left: Draining) {
    if io::stderr().is_terminal() {
        let Draining {
            calls,
            connections,
            services,
        } = left;
        let services = match services {
            0 => String::new(),
            count => format!(", {count} guests of services run"),
        };
        to_stderr(&format!(
            "stopping: {calls} requests and {connections} connections are open{services}; a second signal ends them\n"
        ));
    }
}

fn to_stderr(text: &str) {
    // Nobody is left to be told that standard error is closed.
    let _closed = io::stderr().lock().write_all(text.as_bytes());
}

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
const RESET: &str = "\x1b[0m";

/// Whether colour is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Plain,
    Colour,
}

impl Paint {
    fn of_stderr() -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stderr().is_terminal() && !forbidden {
            Self::Colour
        } else {
            Self::Plain
        }
    }

    fn code(self, code: &'static str) -> &'static str {
        if self == Self::Colour { code } else { "" }
    }
}

fn in_words(problem: &Problem, paint: Paint) -> String {
    let text = problem.laid_out.clone().unwrap_or_else(|| lay_out(problem));
    let text = clean(&text);
    let rest = text.strip_prefix("error:").unwrap_or(&text);
    format!("{}error:{}{rest}\n", paint.code(RED), paint.code(RESET))
}

/// Lays a problem out as `hostel_app` does those of a manifest.
fn lay_out(problem: &Problem) -> String {
    let mut text = String::from("error: ");
    if let Some(component) = &problem.component {
        text.push_str(&format!("component \"{component}\": "));
    }
    text.push_str(&problem.what);
    if let Some(file) = &problem.file {
        let line = problem
            .line
            .map_or(String::new(), |line| format!(":{line}"));
        text.push_str(&format!("\n  --> {file}{line}"));
    }
    if let Some(help) = &problem.help {
        text.push_str(&format!("\n   = help: {help}"));
    }
    text
}

/// Text that cannot drive a terminal: every control character but the line feed, and every character that turns the
/// direction of writing, is escaped.
pub(crate) fn clean(text: &str) -> String {
    let dangerous = |letter: char| {
        (letter.is_control() && letter != '\n')
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .fold(String::with_capacity(text.len()), |mut clean, letter| {
            if dangerous(letter) {
                clean.extend(letter.escape_default())
            } else {
                clean.push(letter)
            }
            clean
        })
}

/// Bytes for people: `512 B`, `95.5 kB`, `13.0 MB`.
pub(crate) fn size(bytes: usize) -> String {
    let tenths = |unit: usize| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", tenths(1_000)),
        _ => format!("{} MB", tenths(1_000_000)),
    }
}

/// Seconds for people: `3.2 s`.
pub(crate) fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1_000, millis % 1_000 / 100)
}

/// Shows slow steps on a terminal and nothing elsewhere; keeps what the operator should know for later.
#[derive(Debug, Default)]
pub(crate) struct Meanwhile {
    /// A line has been begun and not ended.
    open: Cell<bool>,
    notices: std::cell::RefCell<Vec<String>>,
}

impl Meanwhile {
    /// What `hostel_host` calls.
    pub(crate) fn show(&self, event: Progress) {
        let terminal = io::stderr().is_terminal();
        match event {
            Progress::Compiling { component, bytes } if terminal => {
                self.open.set(true);
                to_stderr(&format!(
                    "compiling {} ({}) ... ",
                    clean(&component),
                    size(bytes)
                ));
            }
            Progress::Compiled { millis, .. } if terminal => {
                self.open.set(false);
                to_stderr(&format!("{}\n", seconds(millis)));
            }
            Progress::OnDemand => {
                let notice = "the address space is too small for the pool of instances (see `ulimit -v`): each call maps its own, which is slower";
                if !self.notices.borrow().iter().any(|known| known == notice) {
                    self.later(notice.to_owned());
                }
            }
            Progress::NotCached { component, cause } => {
                self.later(format!("the compiled code of {component} was not kept ({cause}); the next start compiles again"));
            }
            _ => {}
        }
    }

    /// Keeps a notice until [`Meanwhile::tell`].
    pub(crate) fn later(&self, notice: String) {
        self.notices.borrow_mut().push(notice);
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Vec<String> {
        self.notices.borrow().clone()
    }

    /// Ends a line that an error left open.
    pub(crate) fn end(&self) {
        if self.open.replace(false) {
            to_stderr("\n");
        }
    }

    /// For a program whose standard error is its own: prints the notices on a terminal only.
    pub(crate) fn tell_people(&self) {
        if io::stderr().is_terminal() {
            self.tell()
        }
    }

    /// Prints the notices; after the ready line, which must come first.
    pub(crate) fn tell(&self) {
        self.end();
        for text in self.notices.take() {
            notice(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (95_499, "95.4 kB"),
            (13_049_000, "13.0 MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(
            (seconds(0), seconds(3_249)),
            ("0.0 s".to_owned(), "3.2 s".to_owned())
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\nc\\u{202e}d");
        assert_eq!(clean("Grüße"), "Grüße");
    }

    #[test]
    fn an_error_has_a_place_and_a_way_out() {
        let problem = Problem {
            file: Some("web.wasm".into()),
            component: Some("web".into()),
            what: "w".into(),
            help: Some("h".into()),
            ..Problem::default()
        };
        assert_eq!(
            in_words(&problem, Paint::Plain),
            "error: component \"web\": w\n  --> web.wasm\n   = help: h\n"
        );
        let bare = Problem {
            what: "w".into(),
            ..Problem::default()
        };
        assert_eq!(in_words(&bare, Paint::Plain), "error: w\n");
        assert_eq!(
            in_words(&bare, Paint::Colour),
            "\x1b[1;31merror:\x1b[0m w\n"
        );
        let laid_out = Problem {
            laid_out: Some("error: x\x07\n  --> y".into()),
            ..bare
        };
        assert_eq!(
            in_words(&laid_out, Paint::Plain),
            "error: x\\u{7}\n  --> y\n"
        );
    }
}
