//! Listening sockets and connections of a service: calls that never block a thread, and what waiting for them means.
//!
//! The kernel's socket is always non-blocking; whether the guest asked for that is remembered here. Readiness comes from
//! the event loop and is checked with the kernel before a guest is told of it.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

use super::errno::Errno;
use crate::net::Accepted;

/// A socket that connections come in at. The kernel's is shared with the host and with other instances: what would change
/// it for them is not offered.
pub(super) struct Listener {
    socket: AsyncFd<TcpListener>,
    nonblocking: AtomicBool,
}

/// A connection.
pub(super) struct Stream {
    socket: AsyncFd<TcpStream>,
    nonblocking: AtomicBool,
    _place: Accepted,
}

/// What the guest waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// What one may do with a socket now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Readiness {
    /// Bytes, or connections, that are there; for writing just not none.
    pub(super) amount: u64,
    /// The other side has closed the connection.
    pub(super) hangup: bool,
}

impl Listener {
    /// Another handle of a socket that is bound and listens. To be called on a thread with an event loop.
    pub(super) fn new(listener: &TcpListener) -> io::Result<Self> {
        let listener = listener.try_clone()?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            socket: watched(listener, Interest::READABLE)?,
            nonblocking: AtomicBool::new(false),
        })
    }

    /// The next connection; waits for one unless the guest does not want that.
    pub(super) async fn accept(&self, nonblocking: bool, place: Accepted) -> Result<Stream, Errno> {
        loop {
            match self.socket.get_ref().accept() {
                Ok((stream, _)) => return Ok(Stream::new(stream, nonblocking, place)?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // That client is gone; the next one may be there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error.into()),
            }
            if self.nonblocking.load(Relaxed) {
                return Err(Errno::AGAIN);
            }
            self.wait().await?;
        }
    }

    async fn wait(&self) -> Result<(), Errno> {
        loop {
            let mut guard = self.socket.readable().await?;
            if now(&self.socket, Direction::Read)?.is_some() {
                return Ok(());
            }
            guard.clear_ready();
        }
    }
}

impl Stream {
    fn new(stream: TcpStream, nonblocking: bool, place: Accepted) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // Preview 1 has no options of sockets, so that a guest could not ask for it.
        stream.set_nodelay(true)?;
        Ok(Self {
            socket: watched(stream, Interest::READABLE | Interest::WRITABLE)?,
            nonblocking: AtomicBool::new(nonblocking),
            _place: place,
        })
    }

    /// Reads what is there; waits until there is something unless the guest does not want that. None is the end.
    pub(super) async fn receive(&self, into: &mut [u8], peek: bool) -> Result<usize, Errno> {
        let flags = match peek {
            true => RecvFlags::PEEK | RecvFlags::DONTWAIT,
            false => RecvFlags::DONTWAIT,
        };
        loop {
            match rustix::net::recv(self.socket.get_ref(), &mut *into, flags) {
                Err(rustix::io::Errno::AGAIN) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok((_, bytes)) => return Ok(bytes),
            }
            self.wait(Direction::Read).await?;
        }
    }

    /// The same without waiting; `AGAIN` where nothing is there.
    pub(super) fn receive_now(&self, into: &mut [u8]) -> Result<usize, Errno> {
        Ok(rustix::net::recv(self.socket.get_ref(), into, RecvFlags::DONTWAIT)?.1)
    }

    /// Writes what there is room for; waits until there is some unless the guest does not want that.
    pub(super) async fn send(&self, buffers: &[IoSlice<'_>]) -> Result<usize, Errno> {
        // A peer that is gone is an error here, not a signal to the process.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            let mut nothing_else = SendAncillaryBuffer::default();
            match rustix::net::sendmsg(self.socket.get_ref(), buffers, &mut nothing_else, flags) {
                Err(rustix::io::Errno::AGAIN) => {}
                Err(rustix::io::Errno::INTR) => continue,
                sent => return Ok(sent?),
            }
            self.wait(Direction::Write).await?;
        }
    }

    /// Closes one direction or both.
    pub(super) fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        Ok(self.socket.get_ref().shutdown(how)?)
    }

    pub(super) fn is_nonblocking(&self) -> bool {
        self.nonblocking.load(Relaxed)
    }

    async fn wait(&self, direction: Direction) -> Result<(), Errno> {
        if self.is_nonblocking() {
            return Err(Errno::AGAIN);
        }
        loop {
            let mut guard = match direction {
                Direction::Read => self.socket.readable().await?,
                Direction::Write => self.socket.writable().await?,
            };
            if now(&self.socket, direction)?.is_some() {
                return Ok(());
            }
            guard.clear_ready();
        }
    }
}

/// Has the event loop of this thread watch a socket.
#[expect(
    deprecated,
    reason = "what replaces it needs `unsafe`, to promise that the value owns one descriptor: the standard library's sockets do"
)]
fn watched<S: AsRawFd>(socket: S, interest: Interest) -> io::Result<AsyncFd<S>> {
    AsyncFd::with_interest(socket, interest)
}

/// What both kinds of sockets have.
pub(super) trait Socket: Send + Sync {
    fn flag(&self) -> &AtomicBool;

    /// What may be done now, if anything.
    fn now(&self, direction: Direction) -> Result<Option<Readiness>, Errno>;

    /// The same as far as the event loop has heard; if it is nothing the caller is woken when that may have changed.
    fn poll(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<Result<Readiness, Errno>>;
}

macro_rules! socket {
    ($kind:ty) => {
        impl Socket for $kind {
            fn flag(&self) -> &AtomicBool {
                &self.nonblocking
            }

            fn now(&self, direction: Direction) -> Result<Option<Readiness>, Errno> {
                now(&self.socket, direction)
            }

            fn poll(
                &self,
                direction: Direction,
                cx: &mut Context<'_>,
            ) -> Poll<Result<Readiness, Errno>> {
                poll(&self.socket, direction, cx)
            }
        }
    };
}

socket!(Listener);
socket!(Stream);

fn poll<S: AsFd + AsRawFd>(
    socket: &AsyncFd<S>,
    direction: Direction,
    cx: &mut Context<'_>,
) -> Poll<Result<Readiness, Errno>> {
    loop {
        let polled = match direction {
            Direction::Read => socket.poll_read_ready(cx),
            Direction::Write => socket.poll_write_ready(cx),
        };
        let Poll::Ready(guard) = polled else {
            return Poll::Pending;
        };
        let mut guard = guard?;
        // Behind the guard: what comes after this look sets it anew.
        match now(socket, direction) {
            Ok(None) => match direction {
                Direction::Read => guard.clear_ready_matching(Ready::READABLE),
                Direction::Write => guard.clear_ready_matching(Ready::WRITABLE),
            },
            Ok(Some(readiness)) => return Poll::Ready(Ok(readiness)),
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

/// What the kernel says, without waiting.
fn now<S: AsFd + AsRawFd>(
    socket: &AsyncFd<S>,
    direction: Direction,
) -> Result<Option<Readiness>, Errno> {
    let socket = socket.get_ref();
    let wanted = match direction {
        Direction::Read => PollFlags::IN | PollFlags::RDHUP,
        Direction::Write => PollFlags::OUT,
    };
    let mut fds = [PollFd::new(socket, wanted)];
    rustix::event::poll(&mut fds, Some(&Timespec::default()))?;
    let found = fds.first().map_or(PollFlags::empty(), PollFd::revents);
    if found.is_empty() {
        return Ok(None);
    }
    let gone = found.intersects(PollFlags::HUP | PollFlags::ERR);
    Ok(Some(match direction {
        Direction::Write => Readiness {
            amount: 1,
            hangup: gone,
        },
        Direction::Read => {
            // A listening socket has connections instead of bytes, and does not count them.
            let amount = rustix::io::ioctl_fionread(socket).unwrap_or(1);
            let ended = found.contains(PollFlags::RDHUP) && amount == 0;
            Readiness {
                amount,
                hangup: gone || ended,
            }
        }
    }))
}
