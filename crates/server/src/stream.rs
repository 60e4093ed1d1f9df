//! The TCP stream of one connection as hyper sees it.
//!
//! It replays what was read to tell HTTP/1 from HTTP/2, shows every byte to the [`HeadGuard`] or the [`FrameGuard`], tells
//! the [`Wire`] when writing is blocked, and closes without losing the last response: a socket that is closed while the client still
//! sends answers with a reset, which can destroy a `431` or `413` before the client has read it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::frame_guard::{self, FrameGuard};
use crate::head_guard::HeadGuard;
use crate::wire::Wire;

/// How HTTP/2 starts (RFC 9113 section 3.4).
const PREFACE: &[u8; PREFACE_LENGTH] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_LENGTH: usize = 24;

/// The first bytes of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    bytes: [u8; PREFACE_LENGTH],
    start: usize,
    end: usize,
}

impl Opening {
    /// The client speaks HTTP/2 without asking first ("prior knowledge").
    pub(crate) fn is_http2(&self) -> bool {
        self.bytes == *PREFACE
    }

    fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    fn replay(&mut self, buffer: &mut ReadBuf<'_>) {
        let unread = self.unread();
        let length = unread.len().min(buffer.remaining());
        buffer.put_slice(unread.get(..length).unwrap_or_default());
        self.start += length;
    }
}

/// Reads until the client is known to speak HTTP/2 or not; a request that is not HTTP/2 differs within four bytes.
/// `None` when the client is gone before that.
pub(crate) async fn open(tcp: &mut TcpStream) -> Option<Opening> {
    use tokio::io::AsyncReadExt;
    let mut opening = Opening {
        bytes: [0; PREFACE_LENGTH],
        start: 0,
        end: 0,
    };
    loop {
        let read = tcp.read(opening.bytes.get_mut(opening.end..)?).await.ok()?;
        if read == 0 {
            // A client that half-closed within the preface gets hyper's answer to its fragment.
            return (opening.end > 0).then_some(opening);
        }
        opening.end += read;
        if opening.end == PREFACE_LENGTH || !PREFACE.starts_with(opening.unread()) {
            return Some(opening);
        }
    }
}

/// See the module's documentation.
pub(crate) struct GuardedStream<C> {
    tcp: TcpStream,
    opening: Opening,
    guard: Guard,
    wire: Arc<Wire<C>>,
    closing: Closing,
}

/// Who looks at the bytes besides hyper.
enum Guard {
    Http1(HeadGuard),
    Http2(FrameGuard),
}

enum Closing {
    No,
    /// Our side is closed; what the client still sends is thrown away.
    Lingering(Pin<Box<Sleep>>),
}

impl<C> GuardedStream<C> {
    pub(crate) fn new(tcp: TcpStream, opening: Opening, wire: Arc<Wire<C>>) -> Self {
        let guard = if wire.h2 {
            Guard::Http2(FrameGuard::new(wire.worker.bounds.h2_control_frames))
        } else {
            Guard::Http1(HeadGuard::new())
        };
        Self {
            tcp,
            opening,
            guard,
            wire,
            closing: Closing::No,
        }
    }

    /// A last answer to a client whose request never became complete; nothing else is being written.
    pub(crate) fn farewell(&self, answer: &str) {
        // Best effort: a client that has left cannot be told.
        let _sent = self.tcp.try_write(answer.as_bytes());
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset_on_close(&self) {
        // A socket that is closed already has nothing to reset.
        let _done = self.tcp.set_zero_linger();
    }

    /// The guard sees what came.
    fn scan(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.guard {
            Guard::Http1(guard) => {
                guard.scan(bytes);
                self.wire.read(guard);
            }
            Guard::Http2(guard) => {
                if !guard.receive(bytes) {
                    if guard.is_between_frames() {
                        // Best effort: it says why, where there is room for it.
                        let _sent = self.tcp.try_write(frame_guard::GOAWAY);
                    }
                    return Err(io::Error::other("too many control frames"));
                }
            }
        }
        Ok(())
    }

    fn wrote(&mut self, outcome: &Poll<io::Result<usize>>, slices: &[io::IoSlice<'_>]) {
        self.wire.wrote(outcome.is_pending());
        let (Guard::Http2(guard), Poll::Ready(Ok(written))) = (&mut self.guard, outcome) else {
            return;
        };
        let mut left = *written;
        for slice in slices {
            let part = slice.get(..left.min(slice.len())).unwrap_or_default();
            guard.send(part);
            left -= part.len();
        }
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Closing::Lingering(end) = &mut self.closing else {
            return Poll::Ready(Ok(()));
        };
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut discarded = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut discarded);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<C> AsyncRead for GuardedStream<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if matches!(&this.guard, Guard::Http1(guard) if guard.is_lost()) {
            // What else comes belongs to nothing: for hyper, this is the end.
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        this.opening.replay(buffer);
        let replayed = buffer.filled().len() > before;
        match Pin::new(&mut this.tcp).poll_read(cx, buffer) {
            Poll::Pending if replayed => {}
            // The replayed bytes come first; the error is still there for the next read.
            Poll::Ready(Err(_)) if replayed => {}
            other => ready!(other)?,
        }
        Poll::Ready(this.scan(buffer.filled().get(before..).unwrap_or_default()))
    }
}

impl<C> AsyncWrite for GuardedStream<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.tcp).poll_write(cx, bytes);
        this.wrote(&outcome, &[io::IoSlice::new(bytes)]);
        outcome
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.tcp).poll_write_vectored(cx, slices);
        this.wrote(&outcome, slices);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    /// Closes our side; if the client is in the middle of a message, reads on for a moment so that it can read ours.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Closing::No = this.closing {
            ready!(Pin::new(&mut this.tcp).poll_shutdown(cx))?;
            if !this.wire.is_mid_message() {
                return Poll::Ready(Ok(()));
            }
            let end = tokio::time::sleep_until(Instant::now() + this.wire.worker.bounds.linger);
            this.closing = Closing::Lingering(Box::pin(end));
        }
        this.poll_linger(cx)
    }
}
