//! Where a guest's standard output and standard error go under `hostel up`, and the host's own messages with them.
//!
//! Every line becomes one line of ours, tagged with the component and the request; control characters are escaped so
//! that a guest can neither forge another's line nor drive the operator's terminal. Writing never blocks a guest or
//! the host: a bounded queue feeds one thread, and what does not fit is dropped, counted and reported.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hostel_app::limits;

use super::fault_log::FaultWindow;
use crate::capability::stdio::Origin;

/// How guest output is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `[component request] line`, control characters escaped.
    Tagged,
    /// The line alone, byte for byte.
    Raw,
}

/// Which of the two standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Out,
    Err,
}

/// The bounded, non-blocking way from guests to the process's own output. Clones share one queue.
#[derive(Clone)]
pub struct LogSink(Arc<Sink>);

struct Sink {
    style: Style,
    /// `None` once the sink discards everything.
    queue: Option<SyncSender<Entry>>,
    queued_bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    faults: Mutex<FaultWindow>,
}

enum Entry {
    Line {
        channel: Channel,
        text: Vec<u8>,
    },
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

/// The longest that a shutdown waits for the log.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSink")
            .field("style", &self.0.style)
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

impl LogSink {
    /// Lines tagged with component and request id.
    pub fn tagged() -> Self {
        Self::start(Style::Tagged)
    }

    /// Lines as the guest wrote them.
    pub fn raw() -> Self {
        Self::start(Style::Raw)
    }

    /// Discards everything.
    pub fn null() -> Self {
        Self(Arc::new(Sink {
            style: Style::Raw,
            queue: None,
            queued_bytes: Arc::default(),
            lost: Arc::default(),
            faults: Mutex::new(FaultWindow::new()),
        }))
    }

    fn start(style: Style) -> Self {
        Self::with_writers(style, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    fn with_writers(style: Style, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        let (queue, entries) = sync_channel(limits::LOG_QUEUE_LINES.size());
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            entries,
            out,
            err,
            queued_bytes: queued_bytes.clone(),
            lost: lost.clone(),
            reported: 0,
        };
        let started = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || writer.run());
        // Without a thread nothing can be written; the host serves on and counts what it loses.
        let queue = started.is_ok().then_some(queue);
        Self(Arc::new(Sink {
            style,
            queue,
            queued_bytes,
            lost,
            faults: Mutex::new(FaultWindow::new()),
        }))
    }

    pub(super) fn fault_window(&self) -> &Mutex<FaultWindow> {
        &self.0.faults
    }

    /// A line of the host's own on standard error. Anything that can happen often goes through `fault_log`.
    pub(super) fn host_line(&self, text: &str) {
        let mut line = Vec::with_capacity(text.len() + 1);
        escape_into(&mut line, text.as_bytes());
        self.send(Channel::Err, line);
    }

    /// Lines that were dropped because nobody read fast enough.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Waits until what was logged so far is written, or a second has passed.
    pub fn flush(&self) {
        self.settle_faults();
        let Some(queue) = &self.0.queue else { return };
        let (done, written) = sync_channel(1);
        let begin = Instant::now();
        let mut marker = Entry::Flush(done);
        // The queue may be full of lines that are still being written.
        while let Err(TrySendError::Full(back)) = queue.try_send(marker) {
            if begin.elapsed() > FLUSH_WAIT {
                return;
            }
            marker = back;
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let _in_time = written.recv_timeout(FLUSH_WAIT);
    }

    pub(super) fn guest_line(&self, origin: &Origin, channel: Channel, line: &[u8]) {
        let mut text = Vec::with_capacity(line.len() + 40);
        match self.0.style {
            Style::Raw => text.extend_from_slice(line),
            Style::Tagged => {
                text.extend_from_slice(
                    format!("[{} {}] ", origin.component, origin.request.get()).as_bytes(),
                );
                escape_into(&mut text, line);
            }
        }
        self.send(channel, text);
    }

    fn send(&self, channel: Channel, mut text: Vec<u8>) {
        let Some(queue) = &self.0.queue else { return };
        text.push(b'\n');
        let length = text.len();
        let queued = self.0.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let fits = queued + length <= limits::LOG_QUEUE_BYTES.size();
        if !fits || queue.try_send(Entry::Line { channel, text }).is_err() {
            self.0.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread that writes.
struct Writer {
    entries: Receiver<Entry>,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    queued_bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    reported: u64,
}

impl Writer {
    fn run(mut self) {
        while let Ok(entry) = self.entries.recv() {
            match entry {
                Entry::Line { channel, text } => {
                    let writer = if channel == Channel::Out {
                        &mut self.out
                    } else {
                        &mut self.err
                    };
                    // A closed pipe has nobody to tell; the next lines go the same way.
                    let _written = writer.write_all(&text).and_then(|()| writer.flush());
                    self.queued_bytes.fetch_sub(text.len(), Ordering::Relaxed);
                }
                Entry::Flush(done) => {
                    let _waiting = done.try_send(());
                }
            }
            self.report_losses();
        }
    }

    fn report_losses(&mut self) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > self.reported {
            let _written = writeln!(
                self.err,
                "hostel: {} log lines were lost: the log is not read fast enough",
                lost - self.reported
            );
            self.reported = lost;
        }
    }
}

/// Copies text with control characters written out (`\x1b`), tabs kept and bytes that are not UTF-8 as `\xff`.
pub(crate) fn escape_into(target: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() && character != '\t' {
                target.extend(format!("\\x{:02x}", u32::from(character)).bytes());
            } else {
                target.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        for byte in chunk.invalid() {
            target.extend(format!("\\x{byte:02x}").bytes());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::capability::stdio::LineStream;
    use crate::guest::CurrentRequest;
    use crate::guest::RequestId;

    /// A writer whose content the test can read.
    #[derive(Clone, Default)]
    pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn sink(style: Style) -> (LogSink, Page, Page) {
        let (out, err) = (Page::default(), Page::default());
        (
            LogSink::with_writers(style, Box::new(out.clone()), Box::new(err.clone())),
            out,
            err,
        )
    }

    /// A sink that tags its lines, its standard output and its standard error.
    pub(crate) fn tagged() -> (LogSink, Page, Page) {
        sink(Style::Tagged)
    }

    fn stream(sink: &LogSink, channel: Channel) -> LineStream {
        LineStream::new(
            sink.clone(),
            Origin {
                component: "web".into(),
                request: CurrentRequest::new(RequestId(7)),
            },
            channel,
        )
    }

    #[test]
    fn lines_are_tagged_split_escaped_and_a_partial_line_is_not_lost() {
        let (sink, out, err) = sink(Style::Tagged);
        let stream = stream(&sink, Channel::Out);
        stream.push(b"one\ntw");
        stream.push(b"o\n\x1b[31mred\xff\tend");
        drop(stream);
        sink.flush();
        let tag = "[web 0000000000000007] ";
        assert_eq!(
            out.text(),
            format!("{tag}one\n{tag}two\n{tag}\\x1b[31mred\\xff\tend\n")
        );
        assert_eq!(err.text(), "");
    }

    #[test]
    fn raw_lines_carry_no_tag_and_keep_their_channel() {
        let (sink, out, err) = sink(Style::Raw);
        stream(&sink, Channel::Err).push(b"a\x1b\n");
        sink.flush();
        assert_eq!((out.text(), err.text()), (String::new(), "a\x1b\n".into()));
    }

    #[test]
    fn an_endless_line_is_cut_at_its_limit() {
        let (sink, out, _) = sink(Style::Raw);
        let stream = stream(&sink, Channel::Out);
        for _ in 0..5 {
            stream.push(&vec![b'x'; limits::LOG_LINE_BYTES.size() / 2]);
        }
        stream.push(b"\nnext\n");
        sink.flush();
        assert_eq!(
            out.text().lines().map(str::len).collect::<Vec<_>>(),
            [limits::LOG_LINE_BYTES.size(), 4]
        );
    }

    /// A writer that never returns until the test lets it.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _released = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_never_blocks_and_losses_are_counted_and_reported() {
        let (release, stuck) = sync_channel(1);
        let err = Page::default();
        let sink = LogSink::with_writers(Style::Raw, Box::new(Stuck(stuck)), Box::new(err.clone()));
        let stream = stream(&sink, Channel::Out);
        let lines = limits::LOG_QUEUE_LINES.size() + 1000;
        for _ in 0..lines {
            stream.push(b"x\n");
        }
        assert!(sink.lost() >= 900, "lost {}", sink.lost());
        drop(release); // the writer's reads fail from now on, so it drains
        sink.flush();
        sink.flush();
        assert!(err.text().contains("log lines were lost"), "{}", err.text());
    }

    #[test]
    fn few_long_lines_are_bounded_by_bytes() {
        let (release, stuck) = sync_channel(1);
        let sink = LogSink::with_writers(Style::Raw, Box::new(Stuck(stuck)), Box::new(io::sink()));
        let stream = stream(&sink, Channel::Out);
        let mut line = vec![b'x'; limits::LOG_LINE_BYTES.size() - 1];
        line.push(b'\n');
        let fit = limits::LOG_QUEUE_BYTES.size() / line.len();
        for _ in 0..fit + 10 {
            stream.push(&line);
        }
        assert!((8..=10).contains(&sink.lost()), "lost {}", sink.lost());
        drop(release);
    }
}
