//! How listening sockets come from the supervisor to its worker process: over a pair of Unix sockets, one end of which
//! is the worker's standard input. The pair is their life line as well: its end tells each that the other is gone.
//!
//! The worker says where its services listen, one byte when its app is loaded and one when it accepts. In between the
//! supervisor sends the sockets, its own as one group and then one group for each place of a service: messages of one byte and
//! up to [`BATCH`] descriptors (`SCM_RIGHTS`); the byte says whether more of the group, or another group, follows. Standard
//! input is taken because a descriptor by its number could only be adopted with `unsafe`.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use hostel_app::ListenOn;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::io::Interest;

use crate::listen::Bound;

/// Descriptors in one message; the kernel takes up to 253.
const BATCH: usize = 64;

/// What stands with a batch of descriptors.
const MORE: u8 = b'+';
const NEXT: u8 = b',';
const LAST: u8 = b'.';

/// What stands in front of a place, and behind it.
const WANTS: u8 = b'w';
const END: u8 = b'\n';
/// The longest text of a place.
const PLACE_BYTES: usize = 300;

/// What a worker process says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// A service listens here.
    Wants(ListenOn),
    /// Everything is compiled and linked; only the sockets are missing.
    Loaded,
    /// Every socket is accepted on.
    Ready,
}

impl Said {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Said::Wants(place) => {
                let mut bytes = vec![WANTS];
                bytes.extend(place.to_string().bytes());
                bytes.push(END);
                bytes
            }
            Said::Loaded => b"l".to_vec(),
            Said::Ready => b"r".to_vec(),
        }
    }
}

/// Puts together what comes byte by byte.
#[derive(Debug, Default)]
struct Words {
    /// A place that has begun.
    place: Option<Vec<u8>>,
}

impl Words {
    /// What is complete with this byte; an error where it makes no sense.
    fn push(&mut self, byte: u8) -> Result<Option<Said>, ()> {
        match (&mut self.place, byte) {
            (Some(place), END) => {
                let text = String::from_utf8(std::mem::take(place)).map_err(drop)?;
                self.place = None;
                text.parse().map(Said::Wants).map(Some).map_err(drop)
            }
            (Some(place), _) if place.len() < PLACE_BYTES => {
                place.push(byte);
                Ok(None)
            }
            (Some(_), _) => Err(()),
            (None, WANTS) => {
                self.place = Some(Vec::new());
                Ok(None)
            }
            (None, b'l') => Ok(Some(Said::Loaded)),
            (None, b'r') => Ok(Some(Said::Ready)),
            (None, _) => Err(()),
        }
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct LifeLine(UnixStream);

impl LifeLine {
    /// Takes the standard input of a process that the supervisor started. From now until the worker serves, the
    /// supervisor's death ends this process.
    ///
    /// # Errors
    ///
    /// If standard input is no life line, or the supervisor is gone.
    pub fn of_stdin() -> io::Result<Self> {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        let line = Self(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?));
        // It may have died before this process could ask to be told.
        match recv(&line.0, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => Ok(line),
            Err(error) => Err(error.into()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Asks for the listening sockets and waits for them: first the server's, then those of each of the places.
    pub(crate) fn inherit(&self, places: &[ListenOn]) -> io::Result<Vec<Vec<TcpListener>>> {
        for place in places {
            self.say(&Said::Wants(place.clone()))?;
        }
        self.say(&Said::Loaded)?;
        let (mut groups, mut group) = (Vec::new(), Vec::new());
        loop {
            let byte = receive(self.0.as_fd(), &mut group)?;
            if byte != MORE {
                groups.push(std::mem::take(&mut group));
            }
            if byte == LAST {
                return Ok(groups);
            }
        }
    }

    /// Tells the supervisor that every socket is accepted on.
    pub(crate) fn ready(&self) {
        // A supervisor that is gone is noticed by `ended`.
        let _gone = self.say(&Said::Ready);
    }

    fn say(&self, said: &Said) -> io::Result<()> {
        (&self.0).write_all(&said.bytes())
    }

    /// The wait for the supervisor's end, to be polled after [`LifeLine::inherit`] in a runtime that handles SIGTERM. From
    /// then on the supervisor's death stops the server like a signal, instead of ending the process.
    pub(crate) fn watch(&self) -> io::Result<impl Future<Output = ()> + use<>> {
        let line = self.0.try_clone()?;
        Ok(async move {
            match registered(line) {
                Ok(line) => while heard(&line).await.is_some() {},
                // The signal stays as it is and does for both.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

/// The line in the runtime, and no signal any more for what the line tells.
fn registered(line: UnixStream) -> io::Result<tokio::net::UnixStream> {
    line.set_nonblocking(true)?;
    let line = tokio::net::UnixStream::from_std(line)?;
    set_parent_process_death_signal(None)?;
    Ok(line)
}

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct WorkerLine(tokio::net::UnixStream, RefCell<Words>);

impl WorkerLine {
    /// A new life line; the other end becomes the standard input of `command`.
    pub(crate) fn to(command: &mut Command) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        command.stdin(std::os::fd::OwnedFd::from(theirs));
        ours.set_nonblocking(true)?;
        Self::new(ours)
    }

    fn new(ours: UnixStream) -> io::Result<Self> {
        let line = tokio::net::UnixStream::from_std(ours)?;
        Ok(Self(line, RefCell::default()))
    }

    /// What the worker says next; `None` when it is gone or makes no sense. Cancel safe.
    pub(crate) async fn next(&self) -> Option<Said> {
        loop {
            let byte = heard(&self.0).await?;
            let said = self.1.borrow_mut().push(byte);
            if let Some(said) = said.ok()? {
                return Some(said);
            }
        }
    }

    /// What a worker that has ended said last.
    pub(crate) fn rest(&self) -> Option<Said> {
        let (mut byte, mut last) = ([0], None);
        while let Ok((_, 1)) = recv(&self.0, &mut byte, RecvFlags::DONTWAIT) {
            last = self.1.borrow_mut().push(byte[0]).ok()?.or(last);
        }
        last
    }

    /// Sends every socket: the server's, then those of each place of a service.
    pub(crate) async fn hand_over(
        &self,
        bound: &[Bound],
        services: &[Vec<TcpListener>],
    ) -> io::Result<()> {
        let own = bound.iter().flat_map(|bound| &bound.sockets).collect();
        let services = services.iter().map(|sockets| sockets.iter().collect());
        let groups: Vec<Vec<&TcpListener>> = std::iter::once(own).chain(services).collect();
        let mut groups = groups.iter().peekable();
        while let Some(group) = groups.next() {
            let end = if groups.peek().is_some() { NEXT } else { LAST };
            let mut batches = group.chunks(BATCH).peekable();
            while let Some(batch) = batches.next() {
                let fds: Vec<_> = batch.iter().map(|socket| socket.as_fd()).collect();
                let byte = if batches.peek().is_some() { MORE } else { end };
                self.0
                    .async_io(Interest::WRITABLE, || send(self.0.as_fd(), byte, &fds))
                    .await?;
            }
        }
        Ok(())
    }
}

/// The next byte; `None` at the end.
async fn heard(line: &tokio::net::UnixStream) -> Option<u8> {
    let mut byte = [0];
    let length = line
        .async_io(Interest::READABLE, || {
            Ok(recv(line, &mut byte, RecvFlags::DONTWAIT)?.1)
        })
        .await;
    (length.ok()? == 1).then_some(byte[0])
}

fn send(line: BorrowedFd<'_>, byte: u8, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let byte = [byte];
    let bytes = [IoSlice::new(&byte)];
    sendmsg(
        line,
        &bytes,
        &mut control,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Waits for one message, takes its sockets and returns its byte.
fn receive(line: BorrowedFd<'_>, sockets: &mut Vec<TcpListener>) -> io::Result<u8> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let message = retry_on_intr(|| {
        let mut bytes = [IoSliceMut::new(&mut byte)];
        recvmsg(line, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            sockets.extend(fds.map(TcpListener::from));
        }
    }
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen;
    use std::net::{Ipv4Addr, SocketAddr};

    /// Both ends in one process.
    fn pair() -> (WorkerLine, LifeLine) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (WorkerLine::new(ours).unwrap(), LifeLine(theirs))
    }

    fn bound(count: usize) -> Bound {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (address, sockets) = listen::bind(any_port, count, 16).unwrap();
        Bound { address, sockets }
    }

    #[tokio::test]
    async fn sockets_arrive_in_order_however_many_they_are() {
        let (supervisor, worker) = pair();
        let sent = [bound(BATCH + 6), bound(BATCH + 6), bound(1)];
        let places = ["fd:broker", "127.0.0.1:0"].map(|text| text.parse::<ListenOn>().unwrap());
        let services = [bound(BATCH + 1).sockets, bound(1).sockets];
        let asked = places.clone();
        let inherits = std::thread::spawn(move || worker.inherit(&asked).unwrap());
        for place in places {
            assert_eq!(supervisor.next().await, Some(Said::Wants(place)));
        }
        assert_eq!(supervisor.next().await, Some(Said::Loaded));
        supervisor.hand_over(&sent, &services).await.unwrap();
        let mut came = inherits.join().unwrap().into_iter();
        let shape = |bound: &[Bound]| -> Vec<_> {
            bound
                .iter()
                .map(|bound| (bound.address, bound.sockets.len()))
                .collect()
        };
        let own = listen::adopt(came.next().unwrap()).unwrap();
        assert_eq!(shape(&own), shape(&sent));
        let counts: Vec<_> = came.map(|group| group.len()).collect();
        assert_eq!(counts, [BATCH + 1, 1]);
    }

    #[test]
    fn nonsense_is_not_taken_for_words() {
        let said = |text: &str| {
            let mut words = Words::default();
            text.bytes().map(|byte| words.push(byte)).last().unwrap()
        };
        assert_eq!(
            said("wfd:rl\n"),
            Ok(Some(Said::Wants("fd:rl".parse().unwrap())))
        );
        assert_eq!(said("wfd:r"), Ok(None));
        assert_eq!(said("x"), Err(()));
        assert_eq!(said("wnowhere\n"), Err(()));
        assert_eq!(said(&format!("w{}", "1".repeat(PLACE_BYTES + 1))), Err(()));
    }

    #[tokio::test]
    async fn what_a_worker_said_is_heard_after_its_end() {
        let (supervisor, worker) = pair();
        worker.ready();
        drop(worker);
        assert_eq!(supervisor.rest(), Some(Said::Ready));
        assert_eq!(supervisor.rest(), None);
        assert_eq!(supervisor.next().await, None);
    }

    #[tokio::test]
    async fn a_supervisor_that_is_gone_is_noticed() {
        let (supervisor, worker) = pair();
        let ended = worker.watch().unwrap();
        drop(supervisor);
        ended.await;
        let error = worker.inherit(&[]).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
            ),
            "{error}"
        );
    }
}
