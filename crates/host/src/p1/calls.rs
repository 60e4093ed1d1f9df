//! The functions of preview 1 that sockets have, and those that open, close or move a descriptor.
//!
//! Each returns the number that the guest gets: zero, or why not. A call that has to wait suspends the guest, not a thread.

use std::io::IoSlice;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::task::yield_now;
use wasmtime::Result;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;
use wiggle::GuestMemory;

use super::descriptors::Descriptor;
use super::errno::Errno;
use super::memory::{Buffer, Memory};
use super::socket::{Socket, Stream};
use crate::state::Host;

/// The type of a socket's descriptor.
const SOCKET_STREAM: u8 = 6;
/// The one flag of descriptors that means something for sockets.
const NONBLOCK: i32 = 1 << 2;

// What a guest may do with a descriptor, as bits of its rights.
const FD_READ: u64 = 1 << 1;
const FD_SET_FLAGS: u64 = 1 << 3;
const FD_WRITE: u64 = 1 << 6;
const FD_FILESTAT_GET: u64 = 1 << 21;
const POLL: u64 = 1 << 27;
const SHUTDOWN: u64 = 1 << 28;
const ACCEPT: u64 = 1 << 29;

const OF_BOTH: u64 = FD_SET_FLAGS | FD_FILESTAT_GET | POLL;
const OF_STREAMS: u64 = OF_BOTH | FD_READ | FD_WRITE | SHUTDOWN;

/// What a call comes to.
fn code(outcome: Result<(), Errno>) -> Result<i32> {
    Ok(outcome.map_or_else(Errno::code, |()| 0))
}

/// What a guest's number stands for, where it is for us to deal with.
enum Found {
    /// A file, under the library's number.
    File(i32),
    Listener(Arc<super::socket::Listener>),
    Stream(Arc<Stream>),
}

fn find(host: &mut Host, fd: i32) -> Result<Found, Errno> {
    let Some(table) = host.descriptors() else {
        return Ok(Found::File(fd));
    };
    Ok(match table.get(fd.cast_unsigned())? {
        Descriptor::Library(number) => Found::File(number.cast_signed()),
        Descriptor::Listener(listener) => Found::Listener(listener.clone()),
        Descriptor::Stream(stream) => Found::Stream(stream.clone()),
    })
}

/// Finds it or returns why not.
macro_rules! find {
    ($host:ident, $fd:ident) => {
        match find($host, $fd) {
            Ok(found) => found,
            Err(error) => return Ok(error.code()),
        }
    };
}

pub(super) async fn fd_close(memory: &mut [u8], host: &mut Host, fd: i32) -> Result<i32> {
    let number = match host.descriptors() {
        None => fd,
        Some(table) => match table.remove(fd.cast_unsigned()) {
            Ok(closed) => return give_back(memory, host, closed).await,
            Err(error) => return Ok(error.code()),
        },
    };
    preview1::fd_close(host.p1(), &mut GuestMemory::Unshared(memory), number).await
}

/// Closes what is in the table no more.
async fn give_back(memory: &mut [u8], host: &mut Host, closed: Descriptor) -> Result<i32> {
    match closed {
        // The library would give the number of a standard stream to the next file.
        Descriptor::Library(0..=2) | Descriptor::Listener(_) | Descriptor::Stream(_) => Ok(0),
        Descriptor::Library(number) => {
            let mut memory = GuestMemory::Unshared(memory);
            preview1::fd_close(host.p1(), &mut memory, number.cast_signed()).await
        }
    }
}

pub(super) async fn fd_renumber(
    memory: &mut [u8],
    host: &mut Host,
    (from, to): (i32, i32),
) -> Result<i32> {
    let Some(table) = host.descriptors() else {
        let mut memory = GuestMemory::Unshared(memory);
        return preview1::fd_renumber(host.p1(), &mut memory, from, to).await;
    };
    match table.renumber(from.cast_unsigned(), to.cast_unsigned()) {
        Ok(Some(closed)) => give_back(memory, host, closed).await,
        Ok(None) => Ok(0),
        Err(error) => Ok(error.code()),
    }
}

/// What `path_open` takes.
pub(super) type PathOpen = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

pub(super) async fn path_open(memory: &mut [u8], host: &mut Host, args: PathOpen) -> Result<i32> {
    let (fd, lookup, path, len, open, base, inheriting, flags, out) = args;
    let number = match super::file(host, fd, Errno::NOTDIR) {
        Ok(number) => number,
        Err(error) => return Ok(error.code()),
    };
    if host.descriptors().is_some_and(|table| !table.has_room()) {
        return Ok(Errno::MFILE.code());
    }
    let mut guest = GuestMemory::Unshared(&mut *memory);
    let p1 = host.p1();
    let opened = preview1::path_open(
        p1, &mut guest, number, lookup, path, len, open, base, inheriting, flags, out,
    )
    .await?;
    let Some(table) = host.descriptors().filter(|_| opened == 0) else {
        return Ok(opened);
    };
    let mut memory = Memory(memory);
    let out = out.cast_unsigned();
    let number = memory
        .read_u32(out)
        .and_then(|number| table.add(Descriptor::Library(number)));
    code(number.and_then(|number| memory.write_u32(out, number)))
}

pub(super) async fn fd_fdstat_get(
    memory: &mut [u8],
    host: &mut Host,
    (fd, out): (i32, i32),
) -> Result<i32> {
    let (socket, base, inheriting): (Arc<dyn Socket>, _, _) = match find!(host, fd) {
        Found::File(number) => {
            let mut memory = GuestMemory::Unshared(memory);
            return preview1::fd_fdstat_get(host.p1(), &mut memory, number, out).await;
        }
        Found::Listener(listener) => (listener, OF_BOTH | ACCEPT, OF_STREAMS),
        Found::Stream(stream) => (stream, OF_STREAMS, 0),
    };
    let flags = match socket.flag().load(Relaxed) {
        true => NONBLOCK.to_le_bytes()[0],
        false => 0,
    };
    let mut stat = vec![SOCKET_STREAM, 0, flags, 0, 0, 0, 0, 0];
    stat.extend(base.to_le_bytes());
    stat.extend(inheriting.to_le_bytes());
    code(Memory(memory).write(out.cast_unsigned(), &stat))
}

pub(super) async fn fd_fdstat_set_flags(
    memory: &mut [u8],
    host: &mut Host,
    (fd, flags): (i32, i32),
) -> Result<i32> {
    let socket: Arc<dyn Socket> = match find!(host, fd) {
        Found::File(number) => {
            let mut memory = GuestMemory::Unshared(memory);
            return preview1::fd_fdstat_set_flags(host.p1(), &mut memory, number, flags);
        }
        Found::Listener(listener) => listener,
        Found::Stream(stream) => stream,
    };
    code(match flags & !NONBLOCK {
        0 => {
            socket.flag().store(flags == NONBLOCK, Relaxed);
            Ok(())
        }
        _ => Err(Errno::INVAL),
    })
}

pub(super) async fn fd_filestat_get(
    memory: &mut [u8],
    host: &mut Host,
    (fd, out): (i32, i32),
) -> Result<i32> {
    if let Found::File(number) = find!(host, fd) {
        let mut memory = GuestMemory::Unshared(memory);
        return preview1::fd_filestat_get(host.p1(), &mut memory, number, out).await;
    }
    // Neither device nor number, size nor times; one link.
    let mut stat = [0; 64];
    for (index, value) in [(16, SOCKET_STREAM), (24, 1)] {
        if let Some(byte) = stat.get_mut(index) {
            *byte = value;
        }
    }
    code(Memory(memory).write(out.cast_unsigned(), &stat))
}

pub(super) async fn fd_read(
    memory: &mut [u8],
    host: &mut Host,
    (fd, buffers, count, out): (i32, i32, i32, i32),
) -> Result<i32> {
    match find!(host, fd) {
        Found::File(number) => {
            let mut memory = GuestMemory::Unshared(memory);
            preview1::fd_read(host.p1(), &mut memory, number, buffers, count, out).await
        }
        Found::Listener(_) => Ok(Errno::NOTCONN.code()),
        Found::Stream(stream) => {
            let mut memory = Memory(memory);
            let place = (buffers.cast_unsigned(), count.cast_unsigned());
            let received = receive(&mut memory, &stream, place, HowToReceive::default()).await;
            code(received.and_then(|bytes| memory.write_u32(out.cast_unsigned(), bytes)))
        }
    }
}

pub(super) async fn fd_write(
    memory: &mut [u8],
    host: &mut Host,
    (fd, buffers, count, out): (i32, i32, i32, i32),
) -> Result<i32> {
    match find!(host, fd) {
        Found::File(number) => {
            let mut memory = GuestMemory::Unshared(memory);
            preview1::fd_write(host.p1(), &mut memory, number, buffers, count, out).await
        }
        Found::Listener(_) => Ok(Errno::NOTCONN.code()),
        Found::Stream(stream) => {
            let mut memory = Memory(memory);
            let place = (buffers.cast_unsigned(), count.cast_unsigned());
            let sent = send(&mut memory, &stream, place).await;
            code(sent.and_then(|bytes| memory.write_u32(out.cast_unsigned(), bytes)))
        }
    }
}

pub(super) async fn sock_accept(
    memory: &mut [u8],
    host: &mut Host,
    (fd, flags, out): (i32, i32, i32),
) -> Result<i32> {
    code(accept(memory, host, fd, (flags, out)).await)
}

async fn accept(
    memory: &mut [u8],
    host: &mut Host,
    fd: i32,
    (flags, out): (i32, i32),
) -> Result<(), Errno> {
    // A guest that is no service has no sockets: what it names is a file or nothing.
    let table = host.descriptors().ok_or(Errno::BADF)?;
    let listener = table.listener(fd.cast_unsigned())?;
    if flags & !NONBLOCK != 0 {
        return Err(Errno::INVAL);
    }
    let place = table.place()?;
    let mut memory = Memory(memory);
    // Before a connection is taken that could not be handed over.
    memory.read_u32(out.cast_unsigned())?;
    table.listens();
    let stream = listener.accept(flags == NONBLOCK, place).await?;
    let number = table.add(Descriptor::Stream(Arc::new(stream)))?;
    memory.write_u32(out.cast_unsigned(), number)
}

/// Looks at what is there and leaves it.
const PEEK: i32 = 1 << 0;
/// Waits until all buffers are full.
const WAITALL: i32 = 1 << 1;

pub(super) async fn sock_recv(
    memory: &mut [u8],
    host: &mut Host,
    (fd, buffers, count, flags, out, out_flags): (i32, i32, i32, i32, i32, i32),
) -> Result<i32> {
    let stream = match stream(host, fd) {
        Ok(stream) if flags & !(PEEK | WAITALL) == 0 => stream,
        Ok(_) => return Ok(Errno::INVAL.code()),
        Err(error) => return Ok(error.code()),
    };
    let mut memory = Memory(memory);
    let place = (buffers.cast_unsigned(), count.cast_unsigned());
    let how = HowToReceive {
        peek: flags & PEEK != 0,
        all: flags & WAITALL != 0,
    };
    let received = receive(&mut memory, &stream, place, how).await;
    code(received.and_then(|bytes| {
        memory.write_u32(out.cast_unsigned(), bytes)?;
        // Of a stream nothing is ever cut off.
        memory.write(out_flags.cast_unsigned(), &0_u16.to_le_bytes())
    }))
}

pub(super) async fn sock_send(
    memory: &mut [u8],
    host: &mut Host,
    (fd, buffers, count, flags, out): (i32, i32, i32, i32, i32),
) -> Result<i32> {
    let stream = match stream(host, fd) {
        Ok(stream) if flags == 0 => stream,
        Ok(_) => return Ok(Errno::INVAL.code()),
        Err(error) => return Ok(error.code()),
    };
    let mut memory = Memory(memory);
    let place = (buffers.cast_unsigned(), count.cast_unsigned());
    let sent = send(&mut memory, &stream, place).await;
    code(sent.and_then(|bytes| memory.write_u32(out.cast_unsigned(), bytes)))
}

pub(super) async fn sock_shutdown(
    _memory: &mut [u8],
    host: &mut Host,
    (fd, how): (i32, i32),
) -> Result<i32> {
    // Never a listening socket: the kernel's is not the guest's alone.
    code(stream(host, fd).and_then(|stream| match how {
        1 => stream.shutdown(Shutdown::Read),
        2 => stream.shutdown(Shutdown::Write),
        3 => stream.shutdown(Shutdown::Both),
        _ => Err(Errno::INVAL),
    }))
}

fn stream(host: &mut Host, fd: i32) -> Result<Arc<Stream>, Errno> {
    host.descriptors()
        .ok_or(Errno::BADF)?
        .stream(fd.cast_unsigned())
}

/// The flags of a receiving call.
#[derive(Debug, Clone, Copy, Default)]
struct HowToReceive {
    peek: bool,
    all: bool,
}

/// Fills a guest's buffers with what has come; waits for the first byte, or for all.
async fn receive(
    memory: &mut Memory<'_>,
    stream: &Stream,
    (at, count): (u32, u32),
    how: HowToReceive,
) -> Result<u32, Errno> {
    let mut total = 0;
    for buffer in memory.buffers(at, count)? {
        let mut rest = memory.slice(buffer)?;
        while !rest.is_empty() {
            let received = match total == 0 || how.all {
                true => stream.receive(rest, how.peek).await,
                false => stream.receive_now(rest),
            };
            let bytes = match received {
                // What went wrong behind these bytes is told by the next call.
                Err(_) if total > 0 => return Ok(total),
                received => received?,
            };
            total += u32::try_from(bytes).map_err(|_| Errno::INVAL)?;
            let full = bytes == rest.len();
            if bytes == 0 || how.peek || !(full || how.all) {
                return Ok(total);
            }
            if how.all && !full {
                yield_now().await;
            }
            rest = rest.get_mut(bytes..).ok_or(Errno::FAULT)?;
        }
    }
    Ok(total)
}

/// Sends a guest's buffers: all of them, or without waiting what there is room for.
async fn send(
    memory: &mut Memory<'_>,
    stream: &Stream,
    (at, count): (u32, u32),
) -> Result<u32, Errno> {
    let buffers = memory.buffers(at, count)?;
    let mut total = 0;
    loop {
        let rest = rest(memory, &buffers, total);
        if rest.is_empty() {
            return u32::try_from(total).map_err(|_| Errno::INVAL);
        }
        if total > 0 {
            // A peer that takes as fast as the guest gives must not keep this thread for itself.
            yield_now().await;
        }
        match stream.send(&rest).await {
            Ok(bytes) => total += bytes,
            Err(_) if total > 0 => return u32::try_from(total).map_err(|_| Errno::INVAL),
            Err(error) => return Err(error),
        }
    }
}

/// The buffers without their first bytes.
fn rest<'a>(memory: &'a Memory<'_>, buffers: &[Buffer], mut sent: usize) -> Vec<IoSlice<'a>> {
    let mut rest = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        let skipped = sent.min(buffer.len());
        sent -= skipped;
        let bytes = memory.0.get(buffer.start + skipped..buffer.end);
        rest.extend(bytes.filter(|bytes| !bytes.is_empty()).map(IoSlice::new));
    }
    rest
}
