//! What the parts of one client connection know of each other: the stream that reads and writes it, the trigger that
//! answers its requests, the response bodies that are still being sent, and the watchdog that closes it.
//!
//! All of them run on the connection's own thread, so every field has one writer at a time and relaxed loads and
//! stores suffice; the atomics are there because tokio's tasks must be `Send`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};

use crate::head_guard::{HeadGuard, Offence, Position};
use crate::streams::Answers;
use crate::worker::Worker;

/// The state of one connection; shared by reference count.
#[derive(Debug)]
pub(crate) struct Wire<C> {
    /// The thread it lives on.
    pub(crate) worker: Arc<Worker<C>>,
    /// Who is at the other end.
    pub(crate) client: IpAddr,
    /// Speaks HTTP/2: many requests at once, framing is hyper's alone.
    pub(crate) h2: bool,
    position: AtomicU8,
    heads: AtomicU32,
    offender: AtomicU32,
    offence: AtomicU8,
    served: AtomicU32,
    in_flight: AtomicU32,
    offered: AtomicU32,
    moves: AtomicU32,
    write_blocked: AtomicBool,
    writes: AtomicU32,
    reset: AtomicBool,
    epoch: AtomicU32,
}

/// What a connection is waiting for; the watchdog gives each of them its own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For the guest (it has its own deadline) or for a request body (which has its own clock).
    Guest,
    /// For the client's first request, or for the rest of a head.
    Head,
    /// For the client's next request.
    Request,
    /// For the client to read.
    Reader,
}

impl<C> Wire<C> {
    pub(crate) fn new(worker: Arc<Worker<C>>, client: IpAddr, h2: bool) -> Self {
        Self {
            worker,
            client,
            h2,
            position: AtomicU8::new(Position::Between as u8),
            heads: AtomicU32::new(0),
            offender: AtomicU32::new(0),
            offence: AtomicU8::new(0),
            served: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            offered: AtomicU32::new(0),
            moves: AtomicU32::new(0),
            write_blocked: AtomicBool::new(false),
            writes: AtomicU32::new(0),
            reset: AtomicBool::new(false),
            epoch: AtomicU32::new(0),
        }
    }

    /// The stream has passed bytes on; `guard` has seen them.
    pub(crate) fn read(&self, guard: &HeadGuard) {
        let position = guard.position() as u8;
        if position != self.position.load(Relaxed) || guard.heads() != self.heads.load(Relaxed) {
            self.position.store(position, Relaxed);
            self.heads.store(guard.heads(), Relaxed);
            self.step();
        }
        if let Some((offender, offence)) = guard.verdict() {
            self.offender.store(offender, Relaxed);
            self.offence.store(offence as u8, Relaxed);
        }
    }

    /// The stream wrote something, or could not.
    pub(crate) fn wrote(&self, blocked: bool) {
        if blocked || self.write_blocked.load(Relaxed) {
            if !(blocked && self.write_blocked.load(Relaxed)) {
                add(&self.writes, 1);
                self.step();
            }
            self.write_blocked.store(blocked, Relaxed);
        }
    }

    /// A request has reached the trigger; `Some` if it must be refused.
    pub(crate) fn begin(&self) -> Option<Offence> {
        let index = self.served.load(Relaxed);
        self.served.store(index.wrapping_add(1), Relaxed);
        add(&self.in_flight, 1);
        self.step();
        let offence = Offence::from_code(self.offence.load(Relaxed))?;
        (index >= self.offender.load(Relaxed)).then_some(offence)
    }

    /// The last byte of a response has been handed to hyper, or the call was dropped.
    pub(crate) fn end(&self) {
        add(&self.in_flight, u32::MAX);
        self.step();
    }

    /// hyper asked for more of a response body (`taken`), or was given some that it has not asked beyond.
    pub(crate) fn offered(&self, taken: bool) {
        add(&self.offered, if taken { u32::MAX } else { 1 });
        add(&self.moves, 1);
        self.step();
    }

    /// How far the answers are.
    pub(crate) fn answers(&self) -> Answers {
        Answers {
            offered: self.offered.load(Relaxed),
            moves: self.moves.load(Relaxed),
        }
    }

    /// The connection must end in a reset, because a plain end would look like a complete response.
    pub(crate) fn must_reset(&self) {
        self.reset.store(true, Relaxed);
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.reset.load(Relaxed)
    }

    /// What the connection waits for, and a number that changes with every event that gives the client new time. A client
    /// that does not read gets none by asking for more.
    pub(crate) fn waiting(&self) -> (Wait, u32) {
        let wait = self.wait();
        let counter = match wait {
            Wait::Reader => &self.writes,
            Wait::Guest | Wait::Head | Wait::Request => &self.epoch,
        };
        (wait, counter.load(Relaxed))
    }

    fn wait(&self) -> Wait {
        if self.write_blocked.load(Relaxed) {
            return Wait::Reader;
        }
        if self.in_flight.load(Relaxed) > 0 {
            return Wait::Guest;
        }
        let first = self.served.load(Relaxed) == 0;
        if first || self.position.load(Relaxed) == Position::Head as u8 {
            return Wait::Head;
        }
        Wait::Request
    }

    /// The client has sent only part of a message.
    pub(crate) fn is_mid_message(&self) -> bool {
        self.position.load(Relaxed) != Position::Between as u8
    }

    /// Nothing was answered on this connection so far, nor is being.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.served.load(Relaxed) == 0
    }

    fn step(&self) {
        add(&self.epoch, 1);
    }
}

/// Not atomic as a whole, and need not be: see the module's documentation.
fn add(counter: &AtomicU32, number: u32) {
    counter.store(counter.load(Relaxed).wrapping_add(number), Relaxed);
}
