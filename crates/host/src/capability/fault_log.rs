//! Lines that tell the operator what failed, and no more than a few per second: a guest that traps on every request must
//! not bury the other lines, nor cost more than its trap.
//!
//! One window for everything that shares a [`LogSink`], whoever noticed the failure: the server that has to answer for
//! it, or the host after the answer had begun. What is left out is counted, and reported with the next line or flush.

use std::fmt::Display;
use std::time::{Duration, Instant};

use hostel_app::limits;

use super::log::LogSink;
use crate::fault::{Fault, Row};
use crate::guest::RequestId;
use crate::lock::lock;

/// The time in which at most [`limits::FAULT_LINES`] are written.
const WINDOW: Duration = Duration::from_secs(1);

/// What the current window has seen.
#[derive(Debug)]
pub(super) struct FaultWindow {
    begin: Instant,
    lines: u32,
    left_out: u64,
}

impl FaultWindow {
    pub(super) fn new() -> Self {
        Self {
            begin: Instant::now(),
            lines: 0,
            left_out: 0,
        }
    }

    /// Whether a line may be written now, and how many were left out since the last one that was.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.begin) >= WINDOW {
            self.begin = now;
            self.lines = 0;
        }
        if self.lines >= limits::FAULT_LINES.count() {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl LogSink {
    /// A call of a guest failed, and its client is told no more than that. `component` is the guest's name.
    pub fn fault(&self, component: &str, request: RequestId, fault: &Fault) {
        let Row { name, level, .. } = fault.row();
        self.limited(format_args!(
            "level={level} fault={name} component={component} request={request} {fault}"
        ));
    }

    /// Something of the host's own failed; the host goes on.
    pub fn host_fault(&self, what: impl Display) {
        self.limited(what);
    }

    fn limited(&self, what: impl Display) {
        let admitted = {
            let window = self.fault_window();
            let mut window = lock(window);
            window.admit(Instant::now())
        };
        if let Some(left_out) = admitted {
            self.tell_left_out(left_out);
            self.host_line(&format!("hostel: {what}"));
        }
    }

    /// Reports what was left out and has not been reported.
    pub(super) fn settle_faults(&self) {
        let left_out = {
            let window = self.fault_window();
            let mut window = lock(window);
            std::mem::take(&mut window.left_out)
        };
        self.tell_left_out(left_out);
    }

    fn tell_left_out(&self, left_out: u64) {
        if left_out > 0 {
            self.host_line(&format!("hostel: {left_out} more faults were not logged"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::log::tests::tagged;

    #[test]
    fn a_flood_is_cut_to_a_few_lines_and_counted() {
        let mut window = FaultWindow::new();
        let begin = window.begin;
        let written = (0..1000).filter(|_| window.admit(begin).is_some()).count();
        assert_eq!(written, limits::FAULT_LINES.size());
        let left_out = 1000 - limits::FAULT_LINES.default;
        assert_eq!(window.admit(begin + WINDOW), Some(left_out));
        assert_eq!(window.admit(begin + WINDOW), Some(0));
    }

    #[test]
    fn every_fault_is_told_or_counted_whoever_noticed_it() {
        let (sink, _, err) = tagged();
        let other = sink.clone();
        for number in 0..500 {
            sink.fault("web", RequestId(number), &Fault::Trap("a\nb".into()));
            other.host_fault("out of descriptors");
        }
        sink.flush();
        let text = err.text();
        let (counts, lines): (Vec<_>, Vec<_>) = text
            .lines()
            .partition(|line| line.ends_with(" more faults were not logged"));
        let counted: usize = counts
            .iter()
            .map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!(lines.len() + counted, 1000);
        assert!(lines.len() < 1000, "nothing was left out");
        let first = Fault::Trap("a\\x0ab".into());
        assert_eq!(
            lines[..2],
            [
                format!(
                    "hostel: level=warn fault=trap component=web request=0000000000000000 {first}"
                ),
                "hostel: out of descriptors".to_owned()
            ]
        );
        sink.flush();
        assert_eq!(err.text(), text, "told once");
    }
}
