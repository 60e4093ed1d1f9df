//! The output of a child process, read in the background as it comes.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::PATIENCE;

/// What one stream of a child has said so far. Clones see the same.
#[derive(Clone, Default)]
pub(crate) struct Capture(Arc<Page>);

#[derive(Default)]
struct Page {
    content: Mutex<Content>,
    changed: Condvar,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    ended: bool,
    held: bool,
}

impl Capture {
    /// Reads `source` to its end on a thread of its own.
    pub(crate) fn of(mut source: impl Read + Send + 'static) -> Self {
        let capture = Self::default();
        let page = capture.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 16 << 10];
            loop {
                page.wait_while_held();
                let length = source.read(&mut piece).unwrap_or(0);
                let mut content = page.lock();
                content.bytes.extend_from_slice(&piece[..length]);
                content.ended = length == 0;
                page.0.changed.notify_all();
                if length == 0 {
                    return;
                }
            }
        });
        capture
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0
            .content
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops reading, as a reader that hangs would: after one more piece the stream's pipe fills up.
    pub(crate) fn hold(&self) {
        self.lock().held = true;
    }

    /// Reads on.
    pub(crate) fn release(&self) {
        self.lock().held = false;
        self.0.changed.notify_all();
    }

    fn wait_while_held(&self) {
        let content = self.lock();
        let released = self.0.changed.wait_while(content, |content| content.held);
        drop(released.unwrap_or_else(PoisonError::into_inner));
    }

    /// Everything so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Everything so far, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until the stream has ended, and returns all of it.
    pub(crate) fn to_the_end(&self) -> Vec<u8> {
        self.wait("it never ended", |content| {
            content.ended.then(|| content.bytes.clone())
        })
    }

    /// Waits until `pick` finds what it looks for in the text so far. Fails at the end of the stream or of the patience.
    pub(crate) fn find<T>(&self, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        let found = self.wait(what, |content| {
            let found = pick(&String::from_utf8_lossy(&content.bytes));
            if found.is_none() && content.ended {
                Some(None)
            } else {
                found.map(Some)
            }
        });
        found
            .unwrap_or_else(|| panic!("the stream ended without {what}; it said:\n{}", self.text()))
    }

    /// Waits until this text has come.
    pub(crate) fn wait_for(&self, text: &str) {
        self.find(&format!("{text:?}"), |all| all.contains(text).then_some(()));
    }

    fn wait<T>(&self, what: &str, pick: impl Fn(&Content) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut content = self.lock();
        loop {
            if let Some(found) = pick(&content) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited in vain: {what}; at last:\n{}",
                last_lines(&String::from_utf8_lossy(&content.bytes))
            );
            content = self
                .0
                .changed
                .wait_timeout(content, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// The end of a text, short enough for a report.
pub(crate) fn last_lines(text: &str) -> String {
    const LINES: usize = 30;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
