//! A guest's standard output and standard error under `hostel up`: bytes are cut into lines for the log.
//!
//! Writing never waits: what the log cannot take it drops and counts.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use hostel_app::limits;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

use crate::abi::service::Announcement;
use crate::capability::log::{AppLog, Channel};
use crate::guest::CurrentRequest;
use crate::lock::lock;
use crate::metrics::Component;

/// Who is talking.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) component: Arc<Component>,
    pub(crate) request: CurrentRequest,
}

/// One of a guest's two standard streams: cuts bytes into lines.
#[derive(Clone)]
pub(crate) struct LineStream(Arc<Mutex<Lines>>);

struct Lines {
    log: AppLog,
    origin: Origin,
    channel: Channel,
    pending: Vec<u8>,
    /// The line that somebody waits for.
    announcement: Option<Announcement>,
}

impl LineStream {
    pub(crate) fn new(log: AppLog, origin: Origin, channel: Channel) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            log,
            origin,
            channel,
            pending: Vec::new(),
            announcement: None,
        })))
    }

    /// The same stream, of which one line is told to whoever waits for it.
    pub(crate) fn announcing(self, announcement: Option<Announcement>) -> Self {
        lock(&self.0).announcement = announcement;
        self
    }

    pub(super) fn push(&self, bytes: &[u8]) {
        lock(&self.0).push(bytes);
    }
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = limits::LOG_LINE_BYTES
                .size()
                .saturating_sub(self.pending.len());
            self.pending
                .extend_from_slice(text.get(..room).unwrap_or(text));
            if ends {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let announcement = self.announcement.as_ref();
        if announcement.is_some_and(|announcement| announcement.is_in(&self.pending)) {
            self.announcement = None;
        }
        self.log
            .guest_line(&self.origin, self.channel, &self.pending);
        self.pending.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            self.end_line();
        }
    }
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LineStream {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(limits::LOG_LINE_BYTES.size())
    }
}

impl AsyncWrite for LineStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
