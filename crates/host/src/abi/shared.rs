//! An `http-p3` instance that answers several requests at once (`concurrent = n` in the manifest).
//!
//! Each worker thread has its own instances, so that a request never changes threads. Whoever brings a request turns the
//! instance's event loop in its own task; the instance's own task goes on where that had to wait, and keeps the time: of
//! each request, of work that goes on after the last answer, and of idling. What one request does to a shared instance
//! all of its requests feel: after a fault, or when a client goes away, the instance takes no further requests and is
//! dropped with the last one.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use ::http::{Request, Response};
use hostel_app::limits;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, sleep_until};

use crate::abi::life::{Job, Outbox, live};
use crate::abi::response::{Late, ResponseBody};
use crate::fault::Fault;
use crate::guest::{Call, Inner, RequestBody, RequestId};
use crate::lock::lock;
use crate::meter::{SharedCpu, millis};
use crate::pool::Permit;
use crate::ticker::Ticker;

/// The shared instances of one component, by thread.
#[derive(Default)]
pub(crate) struct Crew(Mutex<HashMap<ThreadId, Vec<Arc<Seat>>>>);

/// One shared instance.
struct Seat {
    guest: Weak<Inner>,
    inbox: mpsc::Sender<Job>,
    engine: Mutex<Engine>,
    book: Mutex<Book>,
    /// Neither requests nor tasks of the guest run.
    idle: Arc<AtomicBool>,
    requests_max: u32,
    concurrent_max: u32,
    deadline: Option<Duration>,
}

/// What runs.
struct Engine {
    life: Option<Life>,
    outbox: Outbox,
    cpu: SharedCpu,
    ticker: Arc<Ticker>,
    /// Wakes the instance's own task; unknown until that has begun.
    waker: Option<Waker>,
}

type Life = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// Who is being served.
#[derive(Default)]
struct Book {
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

/// One request in an instance.
struct Place {
    request: RequestId,
    due: Option<Instant>,
    answered: bool,
    over: bool,
    permit: Option<Permit>,
    reader: Option<Waker>,
}

/// A request's place in a shared instance, held until its answer is complete.
pub(crate) struct Ticket {
    seat: Arc<Seat>,
    request: RequestId,
}

/// Answers one request on a shared instance.
pub(crate) async fn answer(
    guest: &Arc<Inner>,
    permit: Permit,
    request: Request<RequestBody>,
    call: Call,
) -> Result<Response<ResponseBody>, Fault> {
    let (answer, receiver) = oneshot::channel();
    let ticket = Ticket::take(guest, permit, call.id);
    let job = Job {
        request,
        call,
        answer,
    };
    ticket
        .seat
        .inbox
        .try_send(job)
        .map_err(|_| Fault::Busy(1))?;
    ticket.seat.turn();
    let mut receiver = pin!(receiver);
    let outcome = poll_fn(|cx| match receiver.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
        Poll::Pending if ticket.failed(cx) => {
            Poll::Ready(Err(ticket.seat.fault_for_the_unanswered()))
        }
        Poll::Pending => Poll::Pending,
    })
    .await?;
    match outcome {
        Ok(Ok(ahead)) => {
            ticket.mark_answered();
            Ok(ahead.into_response(Some(Late::Shared(ticket))))
        }
        Ok(Err(reason)) => Err(Fault::BadGuest(reason)),
        Err(_) => Err(ticket.seat.fault_for_the_unanswered()),
    }
}

impl Ticket {
    /// A place in an instance of this thread that has one, or in a fresh one.
    fn take(guest: &Arc<Inner>, permit: Permit, request: RequestId) -> Self {
        let mut crew = lock(&guest.crew.0);
        let seats = crew.entry(std::thread::current().id()).or_default();
        seats.retain(|seat| seat.may_accept());
        let free = seats.iter().find(|seat| seat.has_room());
        let seat = match free {
            Some(seat) => seat.clone(),
            None => {
                let seat = Seat::start(guest);
                seats.push(seat.clone());
                seat
            }
        };
        drop(crew);
        let place = Place {
            request,
            due: seat.deadline.map(|deadline| Instant::now() + deadline),
            answered: false,
            over: false,
            permit: Some(permit),
            reader: None,
        };
        let mut book = lock(&seat.book);
        book.accepted = book.accepted.saturating_add(1);
        book.places.push(place);
        book.afterwork = None;
        drop(book);
        Self { seat, request }
    }

    fn with_place<R>(&self, look: impl FnOnce(&mut Place) -> R) -> Option<R> {
        let mut book = lock(&self.seat.book);
        book.places
            .iter_mut()
            .find(|place| place.request == self.request)
            .map(look)
    }

    fn mark_answered(&self) {
        self.with_place(|place| place.answered = true);
    }

    /// Whether the instance failed, or this request's time was over. If not, either will wake this task.
    pub(crate) fn failed(&self, cx: &mut Context<'_>) -> bool {
        let over = self.with_place(|place| {
            if !place.over {
                place.reader = Some(cx.waker().clone());
            }
            place.over
        });
        over.unwrap_or(true)
    }

    /// The client is gone before the end of its answer.
    pub(crate) fn cancel(&self) {
        lock(&self.seat.book).retired = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.seat.leave(self.request);
    }
}

impl Seat {
    fn start(guest: &Arc<Inner>) -> Arc<Self> {
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
                cpu: SharedCpu::new(&template.limits),
                ticker: guest.ticker.clone(),
                waker: None,
            }),
            book: Mutex::default(),
            idle,
            requests_max: guest.reuse.requests,
            concurrent_max: guest.reuse.concurrent,
            deadline: template.limits.deadline_ms.map(Duration::from_millis),
        });
        tokio::spawn(attend(seat.clone()));
        seat
    }

    fn may_accept(&self) -> bool {
        let book = lock(&self.book);
        !book.retired && book.fault.is_none() && book.accepted < self.requests_max
    }

    fn has_room(&self) -> bool {
        lock(&self.book).places.len() < self.concurrent_max as usize
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(lock(&self.book).places.len()).unwrap_or(u32::MAX)
    }

    /// Why a request that got no answer got none.
    fn fault_for_the_unanswered(&self) -> Fault {
        let fault = lock(&self.book).fault.clone();
        fault.unwrap_or_else(|| self.late())
    }

    fn late(&self) -> Fault {
        Fault::Deadline(millis(self.deadline.unwrap_or_default()))
    }

    /// Turns the event loop as far as it goes now, unless somebody is at it.
    fn turn(&self) {
        let mut engine = match self.engine.try_lock() {
            Ok(engine) => engine,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Err(fault) = engine.turn(self) {
            engine.life = None;
            drop(engine);
            self.fail(&fault);
        }
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
    fn leave(&self, request: RequestId) {
        let mut book = lock(&self.book);
        let in_flight = u32::try_from(book.places.len()).unwrap_or(u32::MAX);
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
        let spent = book.retired || book.accepted >= self.requests_max;
        drop(book);
        if let Ok(mut engine) = self.engine.try_lock() {
            engine.cpu.call_ended(in_flight);
            let to_be_seen = last && (spent || !idle);
            if to_be_seen && let Some(waker) = &engine.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// The instance's own task: ready once there is no more to do for it.
    fn attend(&self, cx: &mut Context<'_>, alarm: &mut Option<Pin<Box<Sleep>>>) -> Poll<()> {
        if let Ok(mut engine) = self.engine.try_lock() {
            engine.waker = Some(cx.waker().clone());
        }
        self.turn();
        loop {
            let now = Instant::now();
            let Some(next) = self.next_look(now) else {
                lock(&self.book).retired = true;
                lock(&self.engine).life = None;
                return Poll::Ready(());
            };
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
                places.filter_map(|place| place.due).min().or(Some(soon))
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

impl Place {
    fn is_due(&self, now: Instant) -> bool {
        !self.over && self.due.is_some_and(|due| due <= now)
    }

    /// Its time is over. The request's name, if the operator is not told by whoever waits for the answer.
    fn expire(&mut self) -> Option<RequestId> {
        self.end();
        self.answered.then_some(self.request)
    }

    fn end(&mut self) {
        self.over = true;
        self.permit = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Engine {
    /// Polls the instance until it waits, and sends the answers that are ready; an error is its end.
    fn turn(&mut self, seat: &Seat) -> Result<(), Fault> {
        let (Some(life), Some(waker)) = (&mut self.life, &self.waker) else {
            return Ok(());
        };
        let mut cx = Context::from_waker(waker);
        let _ticking = self.ticker.enter();
        loop {
            let begin = Instant::now();
            let polled = catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(&mut cx)));
            let ended = match polled {
                Ok(Poll::Pending) => self.cpu.charge(begin, seat.in_flight()),
                Ok(Poll::Ready(ended)) => Some(ended.err().unwrap_or(Fault::Cancelled)),
                Err(_) => Some(Fault::Host(
                    "a host function panicked; see the message above".into(),
                )),
            };
            if let Some(fault) = ended {
                // What is unsent was not completed by a living guest.
                self.outbox.discard();
                return Err(fault);
            }
            if !self.outbox.fill(&mut cx) {
                self.outbox.send();
                return Ok(());
            }
        }
    }
}

/// The instance's own task.
async fn attend(seat: Arc<Seat>) {
    let mut alarm = None;
    poll_fn(|cx| seat.attend(cx, &mut alarm)).await;
}
