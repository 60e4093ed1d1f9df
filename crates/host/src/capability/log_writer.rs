//! The thread that writes the log: the only one that waits for whoever reads it. What was lost on the way to it, it
//! reports, once a second at most. It can be held, so that lines of somebody else are the first.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::escape::escape_into;
use super::log::{Channel, Entry, LogSink};
use super::log_share::{Backlog, Share};

/// What was lost is reported no more often.
const REPORT: Duration = Duration::from_secs(1);

/// As long as it is there, what is logged waits.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "its end is what counts")] SyncSender<()>);

impl LogSink {
    /// Keeps what is logged from now on until the result is dropped: for lines that have to be the first.
    pub fn hold(&self) -> Held {
        let (held, waits) = sync_channel(0);
        if let Some(queue) = &self.0.queue {
            // A full queue means that nobody reads; then the order is the least of it.
            let _told = queue.try_send(Entry::Hold(waits));
        }
        Held(held)
    }
}

/// The thread that writes.
pub(super) struct Writer {
    entries: Receiver<Entry>,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    backlog: Arc<Backlog>,
    reported: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        entries: Receiver<Entry>,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        backlog: Arc<Backlog>,
    ) -> Self {
        Self {
            entries,
            out,
            err,
            backlog,
            reported: None,
        }
    }

    /// Writes until every sink is gone.
    pub(super) fn run(mut self) {
        while let Ok(entry) = self.next() {
            match entry {
                Some(Entry::Line {
                    channel,
                    text,
                    share,
                }) => self.write(channel, &text, &share),
                Some(Entry::Flush(done)) => {
                    self.report();
                    let _waiting = done.try_send(());
                }
                Some(Entry::Hold(released)) => {
                    // Nothing is ever sent.
                    let _released = released.recv();
                }
                Some(Entry::Loss) | None => {}
            }
            if self.until_report().is_some_and(|wait| wait.is_zero()) {
                self.report();
            }
        }
        self.report();
    }

    /// The next entry, or `None` when it is time to report.
    fn next(&mut self) -> Result<Option<Entry>, RecvTimeoutError> {
        let received = match self.until_report() {
            Some(wait) => self.entries.recv_timeout(wait),
            None => self.entries.recv().map_err(RecvTimeoutError::from),
        };
        match received {
            Err(RecvTimeoutError::Timeout) => Ok(None),
            received => received.map(Some),
        }
    }

    fn write(&mut self, channel: Channel, text: &[u8], share: &Share) {
        let writer = match channel {
            Channel::Out => &mut self.out,
            Channel::Err => &mut self.err,
        };
        // A closed pipe has nobody to tell; the next lines go the same way.
        let _written = writer.write_all(text).and_then(|()| writer.flush());
        self.backlog.leave(share, text.len());
    }

    /// How long until what was lost is reported; `None` if nothing was.
    fn until_report(&self) -> Option<Duration> {
        let since = self.reported.map_or(REPORT, |reported| reported.elapsed());
        self.backlog
            .has_losers()
            .then(|| REPORT.saturating_sub(since))
    }

    fn report(&mut self) {
        for line in self.backlog.settle() {
            let mut text = Vec::with_capacity(line.len() + 9);
            escape_into(&mut text, format!("hostel: {line}").as_bytes());
            text.push(b'\n');
            let _written = self.err.write_all(&text).and_then(|()| self.err.flush());
            self.reported = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::log::tests::tagged;

    #[test]
    fn what_is_held_is_written_once_it_is_released() {
        let (sink, _, err) = tagged();
        let held = sink.hold();
        sink.host_notice("one");
        // The writer has the hold and does not get further.
        let (done, written) = sync_channel(1);
        let queue = sink.0.queue.as_ref().unwrap();
        queue.try_send(Entry::Flush(done)).unwrap();
        assert!(written.recv_timeout(Duration::from_millis(30)).is_err());
        assert_eq!(err.text(), "");
        drop(held);
        written.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(err.text(), "hostel: one\n");
    }
}
