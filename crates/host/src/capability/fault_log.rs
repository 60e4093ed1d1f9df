//! Lines that tell the operator what failed, and no more than a few per second: a guest that traps on every request must
//! not bury the other lines, nor cost more than its trap.
//!
//! Each app has a window of its own, whoever noticed the failure: the server that has to answer for it, or the host
//! after the answer had begun. So has the host for what fails of its own. What is left out is counted, and reported
//! within a second or so by the thread that writes the log.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostel_app::limits;

use super::log::{AppLog, LogSink};
use super::log_share::Share;
use crate::fault::{Fault, Row};
use crate::guest::RequestId;

/// The time in which at most [`limits::FAULT_LINES`] are written.
const WINDOW: Duration = Duration::from_secs(1);

/// What the current window has seen.
#[derive(Debug)]
pub(super) struct FaultWindow {
    begin: Instant,
    lines: u32,
}

impl FaultWindow {
    pub(super) fn new() -> Self {
        Self {
            begin: Instant::now(),
            lines: 0,
        }
    }

    /// Whether a line may be written now.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        if now.duration_since(self.begin) >= WINDOW {
            self.begin = now;
            self.lines = 0;
        }
        let admitted = self.lines < limits::FAULT_LINES.count();
        self.lines += u32::from(admitted);
        admitted
    }
}

impl AppLog {
    /// A call of a guest failed, and its client is told no more than that. `component` is the guest's name.
    pub(crate) fn fault(&self, component: &str, request: RequestId, fault: &Fault) {
        self.fault_of(component, request, fault, "");
    }

    /// The same with words in front that say what the call was for.
    pub(crate) fn fault_of(&self, component: &str, request: RequestId, fault: &Fault, of: &str) {
        let Row { name, level, .. } = fault.row();
        self.sink.limited(
            &self.share,
            format_args!(
                "level={level} fault={name} component={component} request={request} {of}{fault}"
            ),
        );
    }
}

impl AppLog {
    /// Something of this app that the operator should know, other than a fault; counted with the faults.
    pub(crate) fn notice(&self, what: &str) {
        self.sink.limited(&self.share, what);
    }
}

impl LogSink {
    /// Something of the host's own failed; the host goes on.
    pub fn host_fault(&self, what: impl Display) {
        self.limited(self.host(), what);
    }

    /// What the operator should know that cannot happen often.
    pub fn host_notice(&self, what: impl Display) {
        self.host_line(&format!("hostel: {what}"));
    }

    /// Lines about faults wait in the host's part of the queue, so that no flood of the guest's own output hides them.
    fn limited(&self, share: &Arc<Share>, what: impl Display) {
        if share.admits_fault() {
            // Some of it may be the guest's own words, and those have no end.
            let line = format!("hostel: {what}");
            let most = line.floor_char_boundary(limits::LOG_LINE_BYTES.size());
            self.host_line(line.get(..most).unwrap_or(&line));
        } else {
            self.note(share);
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
        let written =
            |window: &mut FaultWindow, now| (0..1000).filter(|_| window.admit(now)).count();
        assert_eq!(written(&mut window, begin), limits::FAULT_LINES.size());
        let next = begin + WINDOW;
        assert_eq!(written(&mut window, next), limits::FAULT_LINES.size());
    }

    /// The number of faults that a line says were left out.
    fn left_out(line: &str, of: &str) -> Option<usize> {
        let rest = line.strip_suffix(&format!(" more faults of {of} were not logged"))?;
        rest.strip_prefix("hostel: ")?.parse().ok()
    }

    #[test]
    fn a_guest_s_words_are_no_longer_than_one_of_its_lines() {
        let (sink, _, err) = tagged();
        let app = sink.app(&"shop".into());
        app.notice(&"\u{e9}".repeat(limits::LOG_LINE_BYTES.size()));
        app.notice("short");
        sink.flush();
        let text = err.text();
        let lengths: Vec<usize> = text.lines().map(str::len).collect();
        let most = limits::LOG_LINE_BYTES.size();
        assert!(matches!(lengths.as_slice(), [long, 13] if (most - 1..=most).contains(long)));
    }

    #[test]
    fn every_fault_is_told_or_counted_whoever_noticed_it() {
        let (sink, _, err) = tagged();
        let app = sink.app(&"shop".into());
        for number in 0..500 {
            app.fault("web", RequestId(number), &Fault::Trap("a\nb".into()));
            sink.host_fault("out of descriptors");
        }
        sink.flush();
        let text = err.text();
        let first = Fault::Trap("a\\x0ab".into());
        let first =
            format!("hostel: level=warn fault=trap component=web request=0000000000000000 {first}");
        for (of, part, begin) in [
            ("app shop", " fault=trap ", first.as_str()),
            (
                "the host",
                " out of descriptors",
                "hostel: out of descriptors",
            ),
        ] {
            let lines: Vec<_> = text.lines().filter(|line| line.contains(part)).collect();
            let counted: usize = text.lines().filter_map(|line| left_out(line, of)).sum();
            assert_eq!(lines.len() + counted, 500, "{of}: {text}");
            assert!(counted > 0, "{of}: nothing was left out");
            assert_eq!(lines[0], begin);
        }
        sink.flush();
        assert_eq!(err.text(), text, "told once");
    }

    #[test]
    fn one_app_s_storm_does_not_hide_the_faults_of_another() {
        let (sink, _, err) = tagged();
        let (storm, calm) = (sink.app(&"storm".into()), sink.app(&"calm".into()));
        for number in 0..1000 {
            storm.fault("a", RequestId(number), &Fault::Cancelled);
        }
        calm.fault("b", RequestId(7), &Fault::Cancelled);
        sink.flush();
        let text = err.text();
        assert!(
            text.contains("component=b request=0000000000000007"),
            "{text}"
        );
        assert!(text.contains("more faults of app storm were"), "{text}");
        assert!(!text.contains("more faults of app calm"), "{text}");
    }
}
