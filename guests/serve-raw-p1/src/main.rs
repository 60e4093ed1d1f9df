//! A service: echoes on many connections at once, in plain calls of preview 1. `serve-raw-p1 FD`: the number of a listening
//! socket. It waits for connections, for bytes and for the end of its standard input; then it ends with exit code 0.

use std::env;
use std::process::ExitCode;

use wasip1::{
    CLOCKID_MONOTONIC, Ciovec, ERRNO_AGAIN, ERRNO_SUCCESS, EVENTTYPE_CLOCK, EVENTTYPE_FD_READ,
    Errno, Event, FDFLAGS_NONBLOCK, Fd, Iovec, RIFLAGS_RECV_PEEK, SDFLAGS_WR, Subscription,
    SubscriptionClock, SubscriptionFdReadwrite, SubscriptionU, SubscriptionUU,
};

const STDIN: Fd = 0;
const MINUTE: u64 = 60_000_000_000;

fn main() -> ExitCode {
    let Some(Ok(listener)) = env::args().nth(1).map(|fd| fd.parse::<Fd>()) else {
        return ExitCode::from(2);
    };
    match serve(listener) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

// SAFETY, for every call below: pointers are to values that live as long as the call.

fn serve(listener: Fd) -> Result<(), Errno> {
    unsafe { wasip1::fd_fdstat_set_flags(listener, FDFLAGS_NONBLOCK)? };
    let mut connections: Vec<Fd> = Vec::new();
    loop {
        let mut subscriptions = vec![readable(STDIN), readable(listener), clock(MINUTE)];
        subscriptions.extend(connections.iter().copied().map(readable));
        for event in poll(&subscriptions)? {
            if event.error != ERRNO_SUCCESS {
                return Err(event.error);
            }
            if event.type_ == EVENTTYPE_CLOCK {
                continue;
            }
            match event.userdata as Fd {
                STDIN => return Ok(()),
                fd if fd == listener => accept(listener, &mut connections)?,
                fd if echo(fd) => {
                    unsafe { wasip1::fd_close(fd)? };
                    connections.retain(|open| *open != fd);
                }
                _ => {}
            }
        }
    }
}

fn poll(subscriptions: &[Subscription]) -> Result<Vec<Event>, Errno> {
    let count = subscriptions.len();
    let mut events: Vec<Event> = Vec::with_capacity(count);
    unsafe {
        let ready = wasip1::poll_oneoff(subscriptions.as_ptr(), events.as_mut_ptr(), count)?;
        events.set_len(ready);
    }
    Ok(events)
}

fn accept(listener: Fd, connections: &mut Vec<Fd>) -> Result<(), Errno> {
    loop {
        match unsafe { wasip1::sock_accept(listener, FDFLAGS_NONBLOCK) } {
            Ok(connection) => connections.push(connection),
            Err(ERRNO_AGAIN) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Sends back what has come. True at the end of the connection.
fn echo(fd: Fd) -> bool {
    let mut buffer = [0_u8; 4096];
    let place = [Iovec {
        buf: buffer.as_mut_ptr(),
        buf_len: buffer.len(),
    }];
    // Looks first, then takes: that must not be less.
    let peeked = unsafe { wasip1::sock_recv(fd, &place, RIFLAGS_RECV_PEEK) };
    let read = match peeked {
        Ok((peeked, _)) => match unsafe { wasip1::fd_read(fd, &place) } {
            Ok(read) if read >= peeked => read,
            _ => return true,
        },
        Err(ERRNO_AGAIN) => return false,
        Err(_) => return true,
    };
    if read == 0 {
        // The client has ended its half; so does this side.
        let _ended = unsafe { wasip1::sock_shutdown(fd, SDFLAGS_WR) };
        return true;
    }
    let (head, tail) = buffer[..read].split_at(read / 2);
    let parts = [head, tail].map(|part| Ciovec {
        buf: part.as_ptr(),
        buf_len: part.len(),
    });
    let sent = unsafe { wasip1::sock_send(fd, &parts, 0) };
    sent != Ok(read)
}

fn readable(fd: Fd) -> Subscription {
    Subscription {
        userdata: fd.into(),
        u: SubscriptionU {
            tag: EVENTTYPE_FD_READ.raw(),
            u: SubscriptionUU {
                fd_read: SubscriptionFdReadwrite {
                    file_descriptor: fd,
                },
            },
        },
    }
}

fn clock(timeout: u64) -> Subscription {
    Subscription {
        userdata: u64::MAX,
        u: SubscriptionU {
            tag: EVENTTYPE_CLOCK.raw(),
            u: SubscriptionUU {
                clock: SubscriptionClock {
                    id: CLOCKID_MONOTONIC,
                    timeout,
                    precision: 0,
                    flags: 0,
                },
            },
        },
    }
}
