//! `poll_oneoff`: waits for the first of several things: clocks, sockets, the end of standard input, files.
//!
//! A file is always ready, and so are standard output and error. A subscription that makes no sense is an event that says
//! so, as the standard has it; a call without subscriptions, or with too many, is an error.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hostel_app::limits;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use wasmtime::Result;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;
use wiggle::GuestMemory;

use super::descriptors::{Descriptor, Descriptors};
use super::errno::Errno;
use super::memory::Memory;
use super::socket::{Direction, Readiness, Socket};
use crate::state::Host;

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;
// The kinds of subscriptions and events.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

// The clocks that can be waited for.
const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;

/// A clock counts from its own beginning, not from now.
const ABSOLUTE: u16 = 1 << 0;
/// The other side is gone.
const HANGUP: u16 = 1 << 0;
/// No guest waits longer for a clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// The type of a file's descriptor.
const REGULAR_FILE: u8 = 4;

/// One thing that the guest waits for.
struct Subscription {
    userdata: u64,
    kind: u8,
    wait: Wait,
}

enum Wait {
    /// Nothing to wait for.
    Now(Event),
    Until(Instant),
    Socket(Arc<dyn Socket>, Direction),
    /// The end of standard input.
    Input,
}

/// What the guest is told of one subscription.
type Event = std::result::Result<Readiness, Errno>;

const READY: Readiness = Readiness {
    amount: 1,
    hangup: false,
};

const NOTHING: Readiness = Readiness {
    amount: 0,
    hangup: false,
};

pub(super) async fn poll_oneoff(
    memory: &mut [u8],
    host: &mut Host,
    (subscriptions, events, count, out): (i32, i32, i32, i32),
) -> Result<i32> {
    let Some(table) = host.descriptors() else {
        let p1 = host.p1();
        let mut memory = GuestMemory::Unshared(memory);
        return preview1::poll_oneoff(p1, &mut memory, subscriptions, events, count, out).await;
    };
    let count = count.cast_unsigned();
    if count == 0 || count > limits::POLL_SUBSCRIPTIONS.count() {
        return Ok(Errno::INVAL.code());
    }
    let stop = table.stop().clone();
    let mut memory = Memory(memory);
    let mut waits = Vec::new();
    for index in 0..count {
        let read = subscription(&mut memory, host, subscriptions.cast_unsigned(), index).await?;
        match read {
            Ok(subscription) => waits.push(subscription),
            Err(error) => return Ok(error.code()),
        }
    }
    let ready = wait(&waits, stop).await;
    let mut written: u32 = 0;
    for (subscription, event) in ready {
        let place = events.cast_unsigned().checked_add(written * EVENT_BYTES);
        let outcome = place
            .ok_or(Errno::FAULT)
            .and_then(|place| memory.write(place, &encode(subscription, event)));
        if let Err(error) = outcome {
            return Ok(error.code());
        }
        written += 1;
    }
    let outcome = memory.write_u32(out.cast_unsigned(), written);
    Ok(outcome.map_or_else(Errno::code, |()| 0))
}

/// The events of all that is ready, once there is one.
async fn wait(
    waits: &[Subscription],
    mut stop: watch::Receiver<bool>,
) -> Vec<(&Subscription, Event)> {
    let first = waits
        .iter()
        .filter_map(|subscription| match subscription.wait {
            Wait::Until(at) => Some(at),
            _ => None,
        });
    let mut alarm = first.min().map(|at| Box::pin(sleep_until(at)));
    let input = waits
        .iter()
        .any(|subscription| matches!(subscription.wait, Wait::Input));
    let mut ended = Box::pin(async move {
        // Whoever could ask it to stop is gone, so it never will be asked.
        if !input || stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending().await
        }
    });
    poll_fn(|cx| {
        // Rings at the earliest clock, which is over then.
        let _rings = alarm.as_mut().map(|alarm| alarm.as_mut().poll(cx));
        let ended = ended.as_mut().poll(cx).is_ready();
        let now = Instant::now();
        let mut events: Vec<Option<Event>> = waits
            .iter()
            .map(|subscription| match &subscription.wait {
                Wait::Now(event) => Some(*event),
                Wait::Until(at) => (*at <= now).then_some(Ok(NOTHING)),
                Wait::Input => ended.then_some(Ok(Readiness {
                    hangup: true,
                    ..NOTHING
                })),
                Wait::Socket(..) => None,
            })
            .collect();
        // Who returns anyway looks at the sockets themselves: the event loop may not have heard of them yet.
        let returns = events.iter().any(Option::is_some);
        for (subscription, event) in waits.iter().zip(&mut events) {
            if let Wait::Socket(socket, direction) = &subscription.wait {
                *event = match returns {
                    true => socket.now(*direction).transpose(),
                    false => match socket.poll(*direction, cx) {
                        Poll::Ready(event) => Some(event),
                        Poll::Pending => None,
                    },
                };
            }
        }
        let ready: Vec<_> = waits
            .iter()
            .zip(events)
            .filter_map(|(subscription, event)| Some((subscription, event?)))
            .collect();
        match ready.is_empty() {
            false => Poll::Ready(ready),
            true => Poll::Pending,
        }
    })
    .await
}

/// Reads one subscription. An error is the whole call's.
async fn subscription(
    memory: &mut Memory<'_>,
    host: &mut Host,
    at: u32,
    index: u32,
) -> Result<std::result::Result<Subscription, Errno>> {
    let place = index
        .checked_mul(SUBSCRIPTION_BYTES)
        .and_then(|offset| at.checked_add(offset));
    let read = place
        .ok_or(Errno::FAULT)
        .and_then(|place| memory.read::<{ SUBSCRIPTION_BYTES as usize }>(place));
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error)),
    };
    let kind = bytes[8];
    let wait = match kind {
        CLOCK => clock(host, &bytes)?,
        FD_READ => input(host, u32_at(&bytes, 16)).await?,
        FD_WRITE => output(host, u32_at(&bytes, 16)),
        _ => return Ok(Err(Errno::INVAL)),
    };
    Ok(Ok(Subscription {
        userdata: u64_at(&bytes, 0),
        kind,
        wait: wait.unwrap_or_else(|error| Wait::Now(Err(error))),
    }))
}

/// What to wait for, or what is wrong with this subscription.
type Found = std::result::Result<Wait, Errno>;

fn clock(host: &mut Host, bytes: &[u8]) -> Result<Found> {
    let (id, timeout) = (u32_at(bytes, 16), u64_at(bytes, 24));
    let mut left = Duration::from_nanos(timeout);
    if u16_at(bytes, 40) & ABSOLUTE != 0 {
        // The library's clocks, as the guest reads them.
        let mut now = [0; 8];
        let mut memory = GuestMemory::Unshared(&mut now);
        let code = preview1::clock_time_get(host.p1(), &mut memory, id.cast_signed(), 0, 0)?;
        if code != 0 {
            return Ok(Err(Errno::INVAL));
        }
        left = left.saturating_sub(Duration::from_nanos(u64::from_le_bytes(now)));
    } else if !(REALTIME..=MONOTONIC).contains(&id) {
        return Ok(Err(Errno::INVAL));
    }
    Ok(Ok(Wait::Until(Instant::now() + left.min(LONGEST))))
}

async fn input(host: &mut Host, fd: u32) -> Result<Found> {
    let number = match socket(host, fd, Direction::Read) {
        Ok(Target::Socket(wait)) => return Ok(Ok(wait)),
        Ok(Target::File(number)) => number,
        Err(error) => return Ok(Err(error)),
    };
    match number {
        0 => Ok(Ok(Wait::Input)),
        1 | 2 => Ok(Err(Errno::BADF)),
        number => file(host, number.cast_signed()).await,
    }
}

fn output(host: &mut Host, fd: u32) -> Found {
    match socket(host, fd, Direction::Write)? {
        Target::Socket(wait) => Ok(wait),
        Target::File(0) => Err(Errno::BADF),
        Target::File(_) => Ok(Wait::Now(Ok(READY))),
    }
}

enum Target {
    Socket(Wait),
    /// Under the library's number.
    File(u32),
}

fn socket(host: &mut Host, fd: u32, direction: Direction) -> std::result::Result<Target, Errno> {
    let table: &Descriptors = host.descriptors().ok_or(Errno::BADF)?;
    let socket: Arc<dyn Socket> = match table.get(fd)? {
        Descriptor::Library(number) => return Ok(Target::File(*number)),
        Descriptor::Stream(stream) => stream.clone(),
        Descriptor::Listener(listener) if direction == Direction::Read => {
            table.listens();
            listener.clone()
        }
        Descriptor::Listener(_) => return Err(Errno::NOTCONN),
    };
    Ok(Target::Socket(Wait::Socket(socket, direction)))
}

/// What is left of a file, by the library's number.
async fn file(host: &mut Host, number: i32) -> Result<Found> {
    let (mut stat, mut at) = ([0; 64], [0; 8]);
    let mut memory = GuestMemory::Unshared(&mut stat);
    let code = preview1::fd_filestat_get(host.p1(), &mut memory, number, 0).await?;
    if code != 0 || stat[16] != REGULAR_FILE {
        return Ok(Err(Errno::BADF));
    }
    let mut memory = GuestMemory::Unshared(&mut at);
    if preview1::fd_tell(host.p1(), &mut memory, number, 0)? != 0 {
        return Ok(Err(Errno::BADF));
    }
    let amount = u64_at(&stat, 32).saturating_sub(u64::from_le_bytes(at));
    Ok(Ok(Wait::Now(Ok(Readiness {
        amount,
        hangup: amount == 0,
    }))))
}

fn encode(subscription: &Subscription, event: Event) -> [u8; EVENT_BYTES as usize] {
    let (error, readiness) = match event {
        Ok(readiness) => (0, readiness),
        Err(error) => (error.0, READY),
    };
    let (amount, hangup) = match subscription.kind {
        CLOCK => (0, false),
        _ => (readiness.amount, readiness.hangup),
    };
    let mut bytes = [0; EVENT_BYTES as usize];
    let parts = [
        &subscription.userdata.to_le_bytes()[..],
        &error.to_le_bytes(),
        &[subscription.kind, 0, 0, 0, 0, 0],
        &amount.to_le_bytes(),
        &(if hangup { HANGUP } else { 0 }).to_le_bytes(),
    ];
    let all = parts.into_iter().flatten();
    for (byte, value) in bytes.iter_mut().zip(all) {
        *byte = *value;
    }
    bytes
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok());
    found.unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(part(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(part(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(part(bytes, at))
}
