//! One line on standard error per fault, and no more than a few per second: a guest that traps on every request must
//! not bury the other lines, nor cost more than its trap.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    left_out: u64,
}

impl FaultLog {
    pub(crate) fn new(sink: LogSink) -> Self {
        let window = Window {
            begin: Instant::now(),
            lines: 0,
            left_out: 0,
        };
        Self {
            sink,
            window: Mutex::new(window),
        }
    }

    /// A guest failed and its client is told no more than that.
    pub(crate) fn fault(&self, guest: &str, request: RequestId, fault: &Fault) {
        if self.admitted() {
            self.sink.fault(guest, request, fault);
        }
    }

    /// Something of the host's own.
    pub(crate) fn host(&self, what: impl Display) {
        if self.admitted() {
            self.sink.host_line(&format!("hostel: {what}"));
        }
    }

    /// Whether a line may be written now; tells first how many were not.
    fn admitted(&self) -> bool {
        let admitted = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            window.admit(Instant::now())
        };
        if let Some(left_out @ 1..) = admitted {
            let text = format!("hostel: {left_out} more faults were not logged");
            self.sink.host_line(&text);
        }
        admitted.is_some()
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
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
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
            left_out: 0,
        };
        let written = (0..1000).filter(|_| window.admit(begin).is_some()).count();
        assert_eq!(written, LINES_PER_WINDOW as usize);
        assert_eq!(window.admit(begin + WINDOW), Some(990));
        assert_eq!(window.admit(begin + WINDOW), Some(0));
    }
}
