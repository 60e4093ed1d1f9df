//! [`Lane`]: connections of one mode, each on a thread of its own, lent to one caller at a time.
//!
//! A thread opens its connection with its first work, closes it after a while without any, and gives it up after work that
//! left something behind. The permit goes with the work: a statement that is being stopped still counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::session::{Mode, Opening, Session};
use crate::Failure;
use crate::sql::{Error, Result};

/// What a thread is to do with its connection.
pub(super) type Work = Box<dyn FnOnce(std::result::Result<&Session, Error>) + Send>;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Lane {
    opening: Opening,
    mode: Mode,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Thread>>,
    named: AtomicU64,
}

/// A thread without work.
#[derive(Debug)]
struct Thread {
    id: u64,
    orders: SyncSender<Order>,
}

struct Order {
    work: Work,
    permit: OwnedSemaphorePermit,
}

/// The parser recurses once for each level of an expression.
const STACK_BYTES: usize = 4 << 20;

impl Lane {
    pub(super) fn new(opening: Opening, mode: Mode, threads: usize) -> Arc<Self> {
        Arc::new(Self {
            opening,
            mode,
            permits: Arc::new(Semaphore::new(threads.max(1))),
            idle: Mutex::default(),
            named: AtomicU64::new(0),
        })
    }

    /// Has a thread do the work as soon as one is free.
    pub(super) async fn run(self: &Arc<Self>, deadline: Instant, work: Work) -> Result<()> {
        let permit = self.permits.clone().acquire_owned();
        let permit = tokio::time::timeout_at(deadline.into(), permit).await;
        let Ok(Ok(permit)) = permit else {
            return Err(Error::Conflict(
                match self.mode {
                    Mode::Read => "too many other statements of this database are being read",
                    Mode::Write => "another transaction of this database is still open",
                }
                .to_owned(),
            ));
        };
        let mut order = Order { work, permit };
        // A thread that ended in between gives the order back.
        while let Some(thread) = self.pop() {
            match thread.orders.try_send(order) {
                Ok(()) => return Ok(()),
                Err(refused) => order = refused.into(),
            }
        }
        self.start(order)
    }

    fn start(self: &Arc<Self>, order: Order) -> Result<()> {
        let (orders, queue) = sync_channel(1);
        let thread = Thread {
            id: self.named.fetch_add(1, Relaxed),
            orders,
        };
        let lane = self.clone();
        let started = std::thread::Builder::new()
            .name("sqlite".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || lane.work(&thread, &queue, order));
        started.map(|_| ()).map_err(|cause| {
            Failure::Unavailable(format!("no thread for the database: {cause}")).into()
        })
    }

    /// The body of a thread.
    fn work(&self, me: &Thread, queue: &Receiver<Order>, first: Order) {
        let mut session = None;
        let mut next = Some(first);
        loop {
            if let Some(Order { work, permit }) = next.take() {
                self.perform(&mut session, work);
                self.idle().push(Thread {
                    id: me.id,
                    orders: me.orders.clone(),
                });
                drop(permit);
            }
            match queue.recv_timeout(self.idle_time()) {
                Ok(order) => next = Some(order),
                Err(RecvTimeoutError::Timeout) if !self.retire(me.id) => {}
                Err(_) => return,
            }
        }
    }

    fn perform(&self, session: &mut Option<Session>, work: Work) {
        if session.is_none() {
            match Session::open(&self.opening, self.mode) {
                Ok(opened) => *session = Some(opened),
                Err(cause) => return work(Err(super::run::opening_failed(&cause))),
            }
        }
        if let Some(open) = session {
            work(Ok(open));
        }
        if session.as_ref().is_some_and(Session::is_soiled) {
            *session = None;
        }
    }

    /// Takes a thread off the list; `false` if somebody has just taken it to give it work.
    fn retire(&self, id: u64) -> bool {
        let mut idle = self.idle();
        let before = idle.len();
        idle.retain(|thread| thread.id != id);
        idle.len() < before
    }

    fn pop(&self) -> Option<Thread> {
        self.idle().pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Thread>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle_time(&self) -> Duration {
        self.opening.options.idle
    }
}

impl From<std::sync::mpsc::TrySendError<Order>> for Order {
    fn from(refused: std::sync::mpsc::TrySendError<Order>) -> Self {
        match refused {
            std::sync::mpsc::TrySendError::Full(order)
            | std::sync::mpsc::TrySendError::Disconnected(order) => order,
        }
    }
}
