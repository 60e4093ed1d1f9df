//! One line on standard error per fault, and no more than a few per second: a guest that traps on every request must
//! not bury the other lines, nor cost more than its trap.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hostel_host::fault::Level;
use hostel_host::{Fault, LogSink, RequestId};

/// Lines per window; those beyond it are counted and reported with the next line that is written.
const LINES_PER_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// See the module's documentation. Shared by all threads of a server.
#[derive(Debug)]
pub(crate) struct FaultLog {
    sink: LogSink,
    window: Mutex<Window>,
}

#[derive(Debug, PartialEq, Eq)]
struct Window {
    begin: Instant,
    lines: u32,
    suppressed: u64,
}

impl FaultLog {
    pub(crate) fn new(sink: LogSink) -> Self {
        let window = Window {
            begin: Instant::now(),
            lines: 0,
            suppressed: 0,
        };
        Self {
            sink,
            window: Mutex::new(window),
        }
    }

    /// A guest failed before it answered.
    pub(crate) fn fault(&self, guest: &str, request: RequestId, fault: &Fault) {
        let row = fault.row();
        let level = level(row.level);
        self.line(|| {
            format!(
                "{level} guest={guest} request={request} fault={}: {fault}",
                row.name
            )
        });
    }

    /// A guest failed after its answer had begun.
    pub(crate) fn broken_off(&self, guest: &str, request: RequestId, error: &dyn Display) {
        self.line(|| format!("warn guest={guest} request={request} answer broken off: {error}"));
    }

    /// Something of the host's own.
    pub(crate) fn host(&self, what: impl Display) {
        self.line(|| format!("warn {what}"));
    }

    /// The text is made only if it is going to be written.
    fn line(&self, text: impl FnOnce() -> String) {
        let admitted = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            window.admit(Instant::now())
        };
        let Some(suppressed) = admitted else { return };
        if suppressed > 0 {
            self.sink.host_line(&format!(
                "warn {suppressed} more lines like the last ones were left out"
            ));
        }
        self.sink.host_line(&text());
    }
}

impl Window {
    /// Whether a line may be written now, and how many were left out since the last one that was.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.begin) >= WINDOW {
            self.begin = now;
            self.lines = 0;
        }
        if self.lines >= LINES_PER_WINDOW {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_a_few_lines_and_counted() {
        let begin = Instant::now();
        let mut window = Window {
            begin,
            lines: 0,
            suppressed: 0,
        };
        let written = (0..1000).filter(|_| window.admit(begin).is_some()).count();
        assert_eq!(written, LINES_PER_WINDOW as usize);
        assert_eq!(window.admit(begin + WINDOW), Some(990));
        assert_eq!(window.admit(begin + WINDOW), Some(0));
    }
}
