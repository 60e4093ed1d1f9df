//! One instance that several requests share: what it runs, whom it serves, and the task that attends to it.
//!
//! Requests turn its event loop themselves while it is in the fast lane; its own task does the rest, in either lane.
//! Where requests come from is `shared`'s business, what the event loop consists of is `life`'s.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hostel_app::limits;
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep_until};

use crate::abi::broken::Broken;
use crate::abi::http::{self};
use crate::abi::life::{Job, Outbox, live};
use crate::abi::place::Place;
use crate::chain::Chain;
use crate::fault::Fault;
use crate::guest::{Inner, RequestId};
use crate::lanes::{self, Work};
use crate::lock::lock;
use crate::meter::{SharedCpu, millis, thread_cpu};
use crate::pool::Permit;
use crate::ticker::Ticker;

/// One shared instance.
pub(super) struct Seat {
    guest: Weak<Inner>,
    inbox: mpsc::Sender<Job>,
    engine: Mutex<Engine>,
    book: Mutex<Book>,
    /// Neither requests nor tasks of the guest run.
    idle: Arc<AtomicBool>,
    /// Only its own task may turn it, in the slow lane.
    slow: AtomicBool,
    requests_max: u32,
    deadline: Option<Duration>,
    /// Of the values that its instance begins with, or older.
    generation: u64,
}

/// What runs.
struct Engine {
    life: Option<Life>,
    outbox: Outbox,
    ticker: Arc<Ticker>,
}

type Life = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send>>;

/// Who is being served, and what that costs.
struct Book {
    cpu: SharedCpu,
    /// Wakes the instance's own task; unknown until that has begun.
    waker: Option<Waker>,
    accepted: u32,
    /// No further requests, and gone with the last of those that run.
    retired: bool,
    /// Why the instance is gone.
    fault: Option<Fault>,
    places: Vec<Place>,
    /// When the last request was over.
    left: Option<Instant>,
    /// The permit of the last request, for what the guest still does after it.
    afterwork: Option<Permit>,
}

impl Book {
    fn in_flight(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }
}

impl Seat {
    pub(super) fn start(guest: &Arc<Inner>) -> Arc<Self> {
        let template = &guest.template;
        let (sender, inbox) = mpsc::channel(guest.reuse.concurrent as usize);
        let idle = Arc::new(AtomicBool::new(false));
        let outbox = Outbox::new(&template.limits);
        let life = live(guest.clone(), inbox, outbox.clone(), idle.clone());
        let seat = Arc::new(Self {
            guest: Arc::downgrade(guest),
            inbox: sender,
            engine: Mutex::new(Engine {
                life: Some(Box::pin(life)),
                outbox,
                ticker: guest.ticker.clone(),
            }),
            book: Mutex::new(Book {
                cpu: SharedCpu::new(&template.limits).owned_by(&template.metrics),
                waker: None,
                accepted: 0,
                retired: false,
                fault: None,
                places: Vec::new(),
                left: None,
                afterwork: None,
            }),
            idle,
            slow: AtomicBool::new(false),
            requests_max: guest.reuse.requests,
            deadline: template.limits.deadline_ms.map(Duration::from_millis),
            generation: template.settings.generation(),
        });
        tokio::spawn(attend(seat.clone()));
        seat
    }

    pub(super) fn may_accept(&self) -> bool {
        let book = lock(&self.book);
        !book.retired && book.fault.is_none() && book.accepted < self.requests_max
    }

    /// Whether its instance began with values of this generation; if not, it takes no further requests.
    pub(super) fn is_of(&self, generation: u64) -> bool {
        let same = self.generation == generation;
        if !same {
            self.retire();
            self.retire_if_empty();
        }
        same
    }

    /// Looks at its requests.
    pub(super) fn with_places<R>(&self, look: impl FnOnce(&[Place]) -> R) -> R {
        look(&lock(&self.book).places)
    }

    /// Charges a poll of the instance; the fault once its requests have used up what they may.
    fn charge(&self, begin: Instant, cpu: Option<Duration>) -> Option<Fault> {
        let mut book = lock(&self.book);
        let in_flight = book.in_flight();
        let before = book.cpu.used();
        let fault = book.cpu.charge(begin, cpu, in_flight);
        let used = book.cpu.used();
        drop(book);
        // One poll that took so long is as bad as many requests that did.
        let each = (used / in_flight.max(1)).max(used.saturating_sub(before));
        if lanes::is_long(each) && !self.slow.swap(true, Ordering::Relaxed) {
            self.wake_readers();
            if let Some(guest) = self.guest.upgrade() {
                guest.template.metrics.slow.add(1);
                guest.lanes.charge_fast(&guest.account, used);
            }
        }
        fault
    }

    /// Whether its requests use so little that the fast lane can have it back.
    fn is_calm(&self) -> bool {
        let book = lock(&self.book);
        let in_flight = book.in_flight();
        !lanes::is_long(book.cpu.used() * 2 / in_flight.max(1))
    }

    /// Whether its component would have to begin in the slow lane.
    fn is_in_debt(&self) -> bool {
        let guest = self.guest.upgrade();
        guest.is_some_and(|guest| guest.lanes.begins_slow(&guest.account))
    }

    /// Makes the instance's own task look.
    fn wake(&self) {
        let waker = lock(&self.book).waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A request has a place in it from now on.
    pub(super) fn enter(&self, permit: Permit, request: RequestId, chain: Chain) {
        let mut book = lock(&self.book);
        book.accepted = book.accepted.saturating_add(1);
        book.places.push(Place::new(permit, request, chain));
        book.afterwork = None;
    }

    /// Gives the guest the request, and turns its event loop as far as it goes now.
    pub(super) fn bring(&self, job: Job) -> Result<(), Fault> {
        self.inbox.try_send(job).map_err(|_| Fault::Busy(1))?;
        self.turn();
        Ok(())
    }

    pub(super) fn with_place<R>(
        &self,
        request: RequestId,
        look: impl FnOnce(&mut Place) -> R,
    ) -> Option<R> {
        let mut book = lock(&self.book);
        let mut places = book.places.iter_mut();
        places.find(|place| place.request == request).map(look)
    }

    /// No further requests.
    pub(super) fn retire(&self) {
        lock(&self.book).retired = true;
    }

    /// Ends an instance that has no requests.
    pub(super) fn retire_if_empty(&self) {
        let mut book = lock(&self.book);
        let empty = book.places.is_empty();
        book.retired |= empty;
        drop(book);
        if empty {
            self.wake();
        }
    }

    /// No further requests, without any harm to what those that it had left running: it ends once it idles.
    pub(super) fn close(&self) {
        lock(&self.book).accepted = self.requests_max;
        self.wake();
    }

    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// Its component has used the fast lane too much lately.
    pub(super) fn begin_slow(&self) {
        if !self.slow.swap(true, Ordering::Relaxed) {
            self.wake_readers();
        }
    }

    /// Whoever waits for an answer keeps the time itself from now on.
    fn wake_readers(&self) {
        let mut book = lock(&self.book);
        let readers: Vec<Waker> = book
            .places
            .iter_mut()
            .filter_map(|place| place.reader.take())
            .collect();
        drop(book);
        readers.into_iter().for_each(Waker::wake);
    }

    /// Why a request that got no answer got none.
    pub(super) fn fault_for_the_unanswered(&self) -> Fault {
        self.fault().unwrap_or_else(|| self.late())
    }

    /// Why the instance is gone, if it is.
    pub(super) fn fault(&self) -> Option<Fault> {
        lock(&self.book).fault.clone()
    }

    fn late(&self) -> Fault {
        Fault::Deadline(millis(self.deadline.unwrap_or_default()))
    }

    /// Turns the event loop as far as it goes now, unless somebody is at it; leaves that to the slow lane if it is there.
    fn turn(&self) {
        if !self.is_slow() {
            self.turn_here();
        }
        if self.is_slow() {
            self.wake();
        }
    }

    fn turn_here(&self) {
        let mut engine = match self.engine.try_lock() {
            Ok(engine) => engine,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Err(broken) = engine.turn(self) {
            // First, so that whoever misses its answer finds out why.
            self.fail(&broken.fault);
            // What is unsent was not completed by a living guest.
            engine.outbox.discard();
            engine.life = None;
            self.give_back_afterwork();
        }
    }

    /// The instance is gone, and the permit of what it did after its last answer is free.
    fn give_back_afterwork(&self) {
        let permit = lock(&self.book).afterwork.take();
        drop(permit);
    }

    /// The instance is gone; its requests learn of it.
    fn fail(&self, fault: &Fault) {
        let mut book = lock(&self.book);
        book.retired = true;
        book.fault = Some(fault.clone());
        // Whoever waits for an answer gets the fault, and it is told to the operator then.
        let told = book.places.iter().any(|place| !place.answered);
        let request = book.places.first().map(|place| place.request);
        book.places.iter_mut().for_each(Place::end);
        drop(book);
        if !told && let Some(guest) = self.guest.upgrade() {
            guest.report(request.unwrap_or_else(RequestId::next), fault);
        }
    }

    /// A request is over: well, badly, or because its client left.
    pub(super) fn leave(&self, request: RequestId) {
        let mut book = lock(&self.book);
        let in_flight = book.in_flight();
        let idle = self.idle.load(Ordering::Relaxed);
        let here = |place: &Place| place.request == request;
        if let Some(index) = book.places.iter().position(here) {
            let place = book.places.swap_remove(index);
            book.retired |= !place.answered;
            if book.places.is_empty() && !idle {
                book.afterwork = place.permit;
            }
        }
        let last = book.places.is_empty();
        if last {
            book.left = Some(Instant::now());
        }
        book.cpu.call_ended(in_flight);
        let spent = book.retired || book.accepted >= self.requests_max;
        drop(book);
        let slow = self.is_slow();
        if last && (spent || !idle || slow) {
            self.wake();
        }
    }

    /// The instance's own task in this lane: ready once there is no more to do for it here.
    fn attend(
        &self,
        lane: Lane,
        alarm: &mut Option<Pin<Box<Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Then> {
        lock(&self.book).waker = Some(cx.waker().clone());
        if lane == Lane::Slow || !self.is_slow() {
            self.turn_here();
        }
        if lane == Lane::Fast && self.is_slow() {
            return Poll::Ready(Then::Change);
        }
        loop {
            let now = Instant::now();
            let Some(next) = self.next_look(now) else {
                lock(&self.book).retired = true;
                lock(&self.engine).life = None;
                self.give_back_afterwork();
                return Poll::Ready(Then::End);
            };
            if lane == Lane::Slow && self.is_calm() && !self.is_in_debt() {
                self.slow.store(false, Ordering::Relaxed);
                return Poll::Ready(Then::Change);
            }
            let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(next.into())));
            if alarm.deadline() != next.into() {
                alarm.as_mut().reset(next.into());
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// When to look again at the latest; `None` once the instance has had its time.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let mut book = lock(&self.book);
        if book.fault.is_some() {
            return None;
        }
        let late: Vec<Option<RequestId>> = book
            .places
            .iter_mut()
            .filter(|place| place.is_due(now))
            .map(Place::expire)
            .collect();
        book.retired |= !late.is_empty();
        let idle = self.idle.load(Ordering::Relaxed);
        if idle {
            book.afterwork = None;
        }
        let waiting = book.places.iter().any(|place| !place.over);
        let spent = book.retired || book.accepted >= self.requests_max;
        // The deadline also bounds how long a request that comes meanwhile waits for its first look.
        let soon = now + self.deadline.unwrap_or(IDLE);
        let next = match book.left {
            _ if waiting => {
                let places = book.places.iter().filter(|place| !place.over);
                places
                    .filter_map(|place| place.chain.due())
                    .min()
                    .or(Some(soon))
            }
            // Whoever is still here has been given up.
            _ if book.retired || (idle && spent) => None,
            // Work after the last answer has the time of a call, and idling has its own.
            Some(left) => {
                let time = if idle {
                    IDLE
                } else {
                    self.deadline.unwrap_or(IDLE)
                };
                Some(left + time).filter(|end| *end > now)
            }
            None => Some(soon),
        };
        let afterwork_is_over = next.is_none() && !idle && !book.retired;
        drop(book);
        let afterwork = afterwork_is_over.then(RequestId::next);
        for request in late.into_iter().flatten().chain(afterwork) {
            if let Some(guest) = self.guest.upgrade() {
                guest.report(request, &self.late());
            }
        }
        next.map(|next| next.min(soon))
    }
}

/// How long an instance may idle.
const IDLE: Duration = limits::IDLE_INSTANCE_MS.duration();

impl Engine {
    /// Polls the instance until it waits, and sends the answers that are ready; an error is its end.
    fn turn(&mut self, seat: &Seat) -> Result<(), Broken> {
        let waker = lock(&seat.book).waker.clone();
        let (Some(life), Some(waker)) = (&mut self.life, waker) else {
            return Ok(());
        };
        let mut cx = Context::from_waker(&waker);
        let slow = seat.is_slow();
        let _ticking = self.ticker.enter();
        loop {
            let (begin, cpu) = (Instant::now(), slow.then(thread_cpu));
            let polled = catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(&mut cx)));
            let cpu = cpu.map(|before| thread_cpu().saturating_sub(before));
            let ended = match polled {
                Ok(Poll::Pending) => seat.charge(begin, cpu).map(Broken::from),
                Ok(Poll::Ready(ended)) => Some(ended.err().unwrap_or(Fault::Cancelled.into())),
                Err(_) => Some(http::panicked().into()),
            };
            if let Some(broken) = ended {
                return Err(broken);
            }
            if !self.outbox.fill(&mut cx) {
                self.outbox.send();
                return Ok(());
            }
        }
    }
}

/// Where the instance's own task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Fast,
    Slow,
}

/// What follows when it has nothing more to do in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    End,
    Change,
}

/// The instance's own task: begins in the fast lane, on the thread of the instance.
fn attend(seat: Arc<Seat>) -> Work {
    Box::pin(async move {
        let mut alarm = None;
        if poll_fn(|cx| seat.attend(Lane::Fast, &mut alarm, cx)).await == Then::End {
            return;
        }
        let moved = match seat.guest.upgrade() {
            Some(guest) => guest.lanes.spawn(&guest.account, None, attend_slow(seat)),
            None => Err(attend_slow(seat)),
        };
        if let Err(work) = moved {
            // Without threads of its own the slow lane is this one.
            tokio::spawn(work);
        }
    })
}

/// The same in the slow lane, until its requests use little again.
fn attend_slow(seat: Arc<Seat>) -> Work {
    Box::pin(async move {
        let mut alarm = None;
        let then = poll_fn(|cx| seat.attend(Lane::Slow, &mut alarm, cx)).await;
        if then == Then::Change {
            tokio::spawn(attend(seat));
        }
    })
}
