//! Where a guest's standard output and standard error go under `hostel up`, and the host's own messages with them.
//!
//! Every line becomes one line of ours, tagged with the component and the request; control characters are escaped so
//! that a guest can neither forge another's line nor drive the operator's terminal. Writing never blocks a guest or
//! the host: a bounded queue feeds one thread, and what does not fit is dropped, counted and reported. How much of the
//! log one app may use is `log_share`'s business.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use hostel_app::limits;

use super::escape::escape_into;
use super::log_share::{Backlog, Cause, Share};
use super::log_writer::Writer;
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
pub struct LogSink(pub(super) Arc<Sink>);

pub(super) struct Sink {
    style: Style,
    /// `None` once the sink discards everything.
    pub(super) queue: Option<SyncSender<Entry>>,
    backlog: Arc<Backlog>,
    host: Arc<Share>,
}

/// The log as the guests of one app have it. Clones are the same app.
#[derive(Debug, Clone)]
pub(crate) struct AppLog {
    pub(super) sink: LogSink,
    pub(super) share: Arc<Share>,
}

/// What goes through the queue.
pub(super) enum Entry {
    Line {
        channel: Channel,
        text: Vec<u8>,
        share: Arc<Share>,
    },
    /// Something was lost that no other entry will tell of.
    Loss,
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
    /// Nothing is written until the other end is gone.
    Hold(Receiver<()>),
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

    /// Tagged lines, all of them on standard error: standard output is for something else.
    pub fn tagged_apart() -> Self {
        Self::with_writers(
            Style::Tagged,
            Box::new(io::stderr()),
            Box::new(io::stderr()),
        )
    }

    /// Discards everything.
    pub fn null() -> Self {
        Self::new(Style::Raw, None, Arc::default())
    }

    fn new(style: Style, queue: Option<SyncSender<Entry>>, backlog: Arc<Backlog>) -> Self {
        Self(Arc::new(Sink {
            style,
            queue,
            backlog,
            host: Arc::new(Share::new(None)),
        }))
    }

    fn start(style: Style) -> Self {
        Self::with_writers(style, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    fn with_writers(style: Style, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        let (queue, entries) = sync_channel(limits::LOG_QUEUE_LINES.size());
        let backlog = Arc::<Backlog>::default();
        let writer = Writer::new(entries, out, err, backlog.clone());
        let started = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || writer.run());
        // Without a thread nothing can be written; the host serves on without a log.
        Self::new(style, started.is_ok().then_some(queue), backlog)
    }

    /// A share of this log for the guests of one app.
    pub(crate) fn app(&self, name: &Arc<str>) -> AppLog {
        AppLog {
            sink: self.clone(),
            share: Arc::new(Share::new(Some(name.clone()))),
        }
    }

    /// What the host itself has of this log.
    pub(super) fn host(&self) -> &Arc<Share> {
        &self.0.host
    }

    /// A line of the host's own on standard error. Anything that can happen often goes through `fault_log`. What a guest said
    /// of its failure may be in it, so that it is cut like a guest's own.
    pub(super) fn host_line(&self, text: &str) {
        let whole = text.as_bytes();
        let cut = whole.get(..limits::LOG_LINE_BYTES.size());
        let mut line = Vec::with_capacity(cut.unwrap_or(whole).len() + 1);
        escape_into(&mut line, cut.unwrap_or(whole));
        if cut.is_some_and(|cut| cut.len() < whole.len()) {
            line.extend_from_slice("…".as_bytes());
        }
        self.send(&self.0.host, Channel::Err, line);
    }

    /// Lines that were dropped: beyond their app's rate, or because nobody read fast enough.
    pub fn lost(&self) -> u64 {
        self.0.backlog.lost_so_far()
    }

    /// Waits until what was logged so far is written, or a second has passed.
    pub fn flush(&self) {
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

    fn send(&self, share: &Arc<Share>, channel: Channel, mut text: Vec<u8>) -> bool {
        let Some(queue) = &self.0.queue else {
            return false;
        };
        text.push(b'\n');
        let length = text.len();
        let mut sent = self.0.backlog.enter(share, length);
        if sent {
            let share = share.clone();
            if let Err(TrySendError::Full(Entry::Line { share, .. })) =
                queue.try_send(Entry::Line {
                    channel,
                    text,
                    share,
                })
            {
                self.0.backlog.leave(&share, length);
                sent = false;
            }
        }
        if !sent {
            self.lose(share, Cause::Unread);
        }
        sent
    }

    fn lose(&self, share: &Arc<Share>, cause: Cause) {
        if self.0.queue.is_some() && self.0.backlog.lost(share, cause) {
            self.wake();
        }
    }

    /// Has a share's counts reported.
    pub(super) fn note(&self, share: &Arc<Share>) {
        if self.0.queue.is_some() && self.0.backlog.note(share) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(queue) = &self.0.queue {
            // A queue that is full has a writer that is awake, or will be.
            let _told = queue.try_send(Entry::Loss);
        }
    }
}

impl AppLog {
    /// One line that a guest wrote.
    pub(super) fn guest_line(&self, origin: &Origin, channel: Channel, line: &[u8]) {
        self.guest_message(origin, channel, line.len(), || line);
    }

    /// The same, for a line of about so many bytes that has yet to be made.
    pub(super) fn guest_message<L: AsRef<[u8]>>(
        &self,
        origin: &Origin,
        channel: Channel,
        bytes: usize,
        line: impl FnOnce() -> L,
    ) {
        let counts = &origin.component;
        // A flood is refused before anything is prepared for it.
        if !self.share.affords(bytes) {
            counts.log_lines_lost.add(1);
            return self.sink.lose(&self.share, Cause::Rate);
        }
        let line = line();
        let line = line.as_ref();
        let mut text = Vec::with_capacity(line.len() + 40);
        match self.sink.0.style {
            Style::Raw => text.extend_from_slice(line),
            Style::Tagged => {
                text.extend_from_slice(
                    format!("[{} {}] ", counts.name, origin.request.get()).as_bytes(),
                );
                escape_into(&mut text, line);
            }
        }
        let bytes = text.len();
        let paid = self.share.pay(bytes);
        if !paid {
            self.sink.lose(&self.share, Cause::Rate);
        }
        if paid && self.sink.send(&self.share, channel, text) {
            counts.log_lines.add(1);
            counts.log_bytes.add(bytes as u64 + 1);
        } else {
            counts.log_lines_lost.add(1);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::capability::log_share::LINE_COST;
    use crate::capability::stdio::LineStream;
    use crate::guest::CurrentRequest;
    use crate::guest::RequestId;
    use crate::metrics::Component;

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
        app_stream(&sink.app(&"shop".into()), channel)
    }

    fn app_stream(app: &AppLog, channel: Channel) -> LineStream {
        LineStream::new(
            app.clone(),
            Origin {
                component: Arc::new(Component::new("shop".into(), "web".into())),
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

    #[test]
    fn a_line_of_the_host_s_is_cut_as_well() {
        let (sink, _, err) = sink(Style::Tagged);
        let most = limits::LOG_LINE_BYTES.size();
        for length in [most, most + 1, 64 * most] {
            sink.host_line(&"x".repeat(length));
        }
        sink.flush();
        let shown = |cut: bool| "x".repeat(most) + if cut { "…" } else { "" };
        let text = err.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, [shown(false), shown(true), shown(true)]);
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

    /// A sink whose standard output is not read until the test lets go of it.
    fn stuck() -> (LogSink, SyncSender<()>, Page) {
        let (release, stuck) = sync_channel(1);
        let err = Page::default();
        let sink = LogSink::with_writers(Style::Raw, Box::new(Stuck(stuck)), Box::new(err.clone()));
        (sink, release, err)
    }

    #[test]
    fn a_log_that_nobody_reads_never_blocks_and_losses_are_counted_and_reported() {
        let (sink, release, err) = stuck();
        let stream = stream(&sink, Channel::Out);
        let fit = limits::LOG_QUEUE_LINES.size() / 2;
        for _ in 0..fit + 1000 {
            stream.push(b"x\n");
        }
        // The writer may have taken one line out of the queue before it got stuck.
        assert!((999..=1000).contains(&sink.lost()), "lost {}", sink.lost());
        drop(release); // the writer's reads fail from now on, so it drains
        sink.flush();
        sink.flush();
        let lost = sink.lost();
        let told = format!(
            "hostel: {lost} log lines of app shop were lost: {lost} because the log is not read fast enough\n"
        );
        assert_eq!(err.text(), told);
    }

    #[test]
    fn few_long_lines_are_bounded_by_bytes() {
        let (sink, release, err) = stuck();
        let mut line = vec![b'x'; limits::LOG_LINE_BYTES.size() - 1];
        line.push(b'\n');
        let burst = limits::LOG_RATE.size() / (line.len() + LINE_COST);
        let fit = limits::LOG_QUEUE_BYTES.size() / line.len();
        let apps = 2 * fit / burst;
        for _ in 0..apps {
            let stream = stream(&sink, Channel::Out);
            (0..burst).for_each(|_| stream.push(&line));
        }
        let kept = (apps * burst) as u64 - sink.lost();
        assert!(
            (fit as u64 / 2..=fit as u64 + 1).contains(&kept),
            "{kept} of {fit} lines were kept"
        );
        drop(release);
        sink.flush();
        assert!(
            err.text().contains("not read fast enough"),
            "{}",
            err.text()
        );
    }

    #[test]
    fn what_is_beyond_an_app_s_rate_is_dropped_counted_and_told_with_its_name() {
        for style in [Style::Raw, Style::Tagged] {
            let (sink, out, err) = sink(style);
            let flood = stream(&sink, Channel::Out);
            let line = [[b'x'; 999].as_slice(), b"\n"].concat();
            let lines = 5 * limits::LOG_RATE.size() / line.len();
            for _ in 0..lines {
                flood.push(&line);
            }
            app_stream(&sink.app(&"calm".into()), Channel::Out).push(b"still here\n");
            sink.flush();
            let lost = sink.lost();
            assert!(lost > 0, "nothing was lost");
            let text = out.text();
            assert_eq!(text.lines().count() as u64 + lost, lines as u64 + 1);
            assert!(
                text.ends_with("still here\n"),
                "the other app's line is lost"
            );
            let told: u64 = err
                .text()
                .lines()
                .map(|line| {
                    assert!(
                        line.contains(" log lines of app shop were lost: "),
                        "{line}"
                    );
                    line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
                })
                .sum();
            assert_eq!(told, lost, "{}", err.text());
        }
    }

    #[test]
    fn a_flood_that_nobody_reads_leaves_room_for_another_app() {
        let (sink, release, _) = stuck();
        let flood = stream(&sink, Channel::Out);
        for _ in 0..2 * limits::LOG_QUEUE_LINES.size() {
            flood.push(b"x\n");
        }
        let lost = sink.lost();
        assert!(lost > 0, "the queue has no bound");
        let calm = app_stream(&sink.app(&"calm".into()), Channel::Out);
        for _ in 0..500 {
            calm.push(b"y\n");
        }
        assert_eq!(sink.lost(), lost, "the other app lost lines");
        drop(release);
    }

    #[test]
    fn a_loss_is_told_though_nothing_else_is_logged() {
        let (sink, _, err) = sink(Style::Tagged);
        let app = sink.app(&"shop".into());
        for number in 0..100 {
            app.fault("web", RequestId(number), &crate::Fault::Cancelled);
        }
        // No flush: the report comes by itself.
        let begin = Instant::now();
        while !err.text().contains("more faults of app shop") {
            assert!(begin.elapsed() < Duration::from_secs(20), "{}", err.text());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}
