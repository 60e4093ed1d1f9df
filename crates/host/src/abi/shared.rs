//! An `http-p3` instance that answers several requests at once (`concurrent = n` in the manifest).
//!
//! Each worker thread has its own instances, so that a request never changes threads. An instance has a task that
//! turns its event loop; a request is a job in its bounded inbox. What one request does to a shared instance all of
//! its requests feel: after a fault, or when a client goes away, the instance takes no further requests and is dropped
//! with the last one.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::thread::ThreadId;

use ::http::{Request, Response};
use futures::stream::{FuturesUnordered, Stream};
use tokio::sync::{mpsc, oneshot};
use wasmtime::Result;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::p3::bindings::Service;

use crate::abi::http::{self, Answered};
use crate::abi::response::{Ahead, Late, ResponseBody};
use crate::abi::{Exports, Warm, http_p3};
use crate::fault::Fault;
use crate::guest::{Call, Inner, RequestBody, RequestId, fault_of};
use crate::meter::{Clock, CpuBudget};
use crate::pool::Permit;
use crate::state::Host;
use crate::ticker;

/// The shared instances of one component, by thread.
#[derive(Default)]
pub(crate) struct Crew(Mutex<HashMap<ThreadId, Vec<Arc<Seat>>>>);

/// One shared instance, as its requests see it.
struct Seat {
    inbox: mpsc::Sender<Job>,
    accepted: AtomicU32,
    in_flight: AtomicU32,
    /// No further requests, and gone with the last of those that run.
    retired: AtomicBool,
    /// Why the instance is gone.
    fault: OnceLock<Fault>,
    task: OnceLock<tokio::task::AbortHandle>,
}

/// One request for a shared instance.
struct Job {
    request: Request<RequestBody>,
    call: Call,
    answer: oneshot::Sender<Result<Ahead, String>>,
}

/// A request's place in a shared instance, held until its answer is complete.
pub(crate) struct Ticket {
    seat: Arc<Seat>,
    guest: Arc<Inner>,
    request: RequestId,
    clock: Clock,
    over: bool,
    _permit: Permit,
    _ticking: ticker::Running,
}

/// Answers one request on a shared instance.
pub(crate) async fn answer(
    guest: &Arc<Inner>,
    permit: Permit,
    request: Request<RequestBody>,
    call: Call,
) -> Result<Response<ResponseBody>, Fault> {
    let mut unanswered = RetireOnDrop(Some(Ticket::take(guest, permit, call.id)));
    let (sender, receiver) = oneshot::channel();
    let job = Job {
        request,
        call,
        answer: sender,
    };
    let ticket = unanswered.ticket()?;
    let sent = ticket.seat.inbox.try_send(job);
    sent.map_err(|_| Fault::Busy(1))?;
    let mut receiver = pin!(receiver);
    let outcome = poll_fn(|cx| match receiver.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
        Poll::Pending => ticket.clock.alarm(cx).map(Err),
    })
    .await?;
    match outcome {
        Ok(Ok(ahead)) => {
            let ticket = unanswered.0.take();
            Ok(ahead.into_response(ticket.map(Late::Shared)))
        }
        Ok(Err(reason)) => Err(Fault::BadGuest(reason)),
        Err(_) => Err(unanswered.ticket()?.seat.last_words()),
    }
}

impl Ticket {
    /// A place in an instance of this thread that has one, or in a fresh one.
    fn take(guest: &Arc<Inner>, permit: Permit, request: RequestId) -> Self {
        let mut crew = guest.crew.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seats = crew.entry(std::thread::current().id()).or_default();
        seats.retain(|seat| seat.may_accept(guest));
        let free = seats
            .iter()
            .find(|seat| seat.in_flight.load(Ordering::Relaxed) < guest.reuse.concurrent);
        let seat = match free {
            Some(seat) => seat.clone(),
            None => {
                let seat = Seat::start(guest);
                seats.push(seat.clone());
                seat
            }
        };
        seat.accepted.fetch_add(1, Ordering::Relaxed);
        seat.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            seat,
            guest: guest.clone(),
            request,
            clock: Clock::start(&guest.template.limits),
            over: false,
            _permit: permit,
            _ticking: guest.ticker.enter(),
        }
    }

    /// Whether the instance failed, or this request's time was over, while the answer was on its way. If not, the
    /// deadline will wake this task.
    pub(crate) fn failed(&mut self, cx: &mut Context<'_>) -> bool {
        if self.over || self.seat.fault.get().is_some() {
            return true;
        }
        if let Poll::Ready(fault) = self.clock.alarm(cx) {
            self.over = true;
            self.cancel();
            self.guest.report(self.request, &fault);
        }
        self.over
    }

    /// The client is gone before the end of its answer.
    pub(crate) fn cancel(&self) {
        self.seat.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let last = self.seat.in_flight.fetch_sub(1, Ordering::Relaxed) == 1;
        if last
            && self.seat.retired.load(Ordering::Relaxed)
            && let Some(task) = self.seat.task.get()
        {
            task.abort();
        }
    }
}

/// Retires the instance unless the request was answered.
struct RetireOnDrop(Option<Ticket>);

impl RetireOnDrop {
    fn ticket(&mut self) -> Result<&mut Ticket, Fault> {
        self.0.as_mut().ok_or(Fault::Cancelled)
    }
}

impl Drop for RetireOnDrop {
    fn drop(&mut self) {
        if let Some(ticket) = &self.0 {
            ticket.cancel();
        }
    }
}

impl Seat {
    fn start(guest: &Arc<Inner>) -> Arc<Self> {
        let (sender, inbox) = mpsc::channel(guest.reuse.concurrent as usize);
        let seat = Arc::new(Self {
            inbox: sender,
            accepted: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            fault: OnceLock::new(),
            task: OnceLock::new(),
        });
        let task = tokio::spawn(attend(Arc::downgrade(guest), Arc::downgrade(&seat), inbox));
        seat.task.get_or_init(|| task.abort_handle());
        seat
    }

    fn may_accept(&self, guest: &Inner) -> bool {
        !self.retired.load(Ordering::Relaxed)
            && self.accepted.load(Ordering::Relaxed) < guest.reuse.requests
            && !self.inbox.is_closed()
    }

    fn last_words(&self) -> Fault {
        self.fault.get().cloned().unwrap_or_else(|| {
            Fault::Host("the shared instance is gone; see the message above".into())
        })
    }
}

/// The life of one shared instance: from instantiation until nobody can send it requests any more, or it fails.
async fn attend(guest: Weak<Inner>, seat: Weak<Seat>, inbox: mpsc::Receiver<Job>) {
    let Some(strong) = guest.upgrade() else {
        return;
    };
    let ticker = strong.ticker.clone();
    let cpu = CpuBudget::new(&strong.template.limits);
    let outbox = Outbox::default();
    let life = live(strong, guest, inbox, cpu.clone(), outbox.clone());
    let mut life = pin!(life);
    let outcome = poll_fn(|cx| {
        // Work after an answer needs the tick as much as work before it.
        let _ticking = ticker.enter();
        let state = loop {
            let state = cpu.poll(life.as_mut(), cx);
            if state.is_ready() || !outbox.fill(cx) {
                break state;
            }
        };
        match state {
            // What is unsent was not completed by a living guest.
            Poll::Ready(_) => outbox.discard(),
            Poll::Pending => outbox.send(),
        }
        state
    })
    .await;
    if let Err(fault) = outcome.flatten()
        && let Some(seat) = seat.upgrade()
    {
        seat.retired.store(true, Ordering::Relaxed);
        seat.fault.get_or_init(|| fault);
    }
}

async fn live(
    guest: Arc<Inner>,
    weak: Weak<Inner>,
    mut inbox: mpsc::Receiver<Job>,
    cpu: CpuBudget,
    outbox: Outbox,
) -> Result<(), Fault> {
    let mut warm = http::instantiate(&guest, RequestId::next()).await?;
    // From here on only requests keep the guest alive, not its idle instances.
    drop(guest);
    let Warm { store, exports, .. } = &mut warm;
    let Exports::P3(service) = &*exports else {
        return Err(Fault::Host("not an http-p3 instance".into()));
    };
    let outcome = store
        .run_concurrent(async |accessor| {
            serve(accessor, service, &mut inbox, (&cpu, &outbox)).await
        })
        .await;
    match outcome.and_then(|served| served) {
        Ok(()) => Ok(()),
        Err(error) => {
            let fault = fault_of(&error, &warm.store.data().meter);
            if let Some(guest) = weak.upgrade() {
                guest.report(RequestId::next(), &fault);
            }
            Err(fault)
        }
    }
}

/// Takes jobs and turns the event loop until the inbox is closed and everything is done.
async fn serve(
    accessor: &Accessor<Host>,
    service: &Service,
    inbox: &mut mpsc::Receiver<Job>,
    (cpu, outbox): (&CpuBudget, &Outbox),
) -> Result<()> {
    let mut calls = pin!(FuturesUnordered::new());
    let mut open = true;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(Some(done)) = calls.as_mut().poll_next(cx) {
                match done {
                    Ok(()) => continue,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if open {
                match inbox.poll_recv(cx) {
                    Poll::Ready(Some(job)) => {
                        cpu.add_call();
                        calls.push(converse(accessor, service, job, outbox));
                        continue;
                    }
                    Poll::Ready(None) => open = false,
                    Poll::Pending => {}
                }
            }
            if !calls.is_empty() || accessor.poll_no_interesting_tasks(cx).is_pending() {
                return Poll::Pending;
            }
            cpu.rest();
            return if open {
                Poll::Pending
            } else {
                Poll::Ready(Ok(()))
            };
        }
    })
    .await
}

/// One job, until the guest has answered it.
async fn converse(
    accessor: &Accessor<Host>,
    service: &Service,
    job: Job,
    outbox: &Outbox,
) -> Result<()> {
    let answer = http_p3::respond(accessor, service, job.request, &job.call).await?;
    match answer {
        Ok(response) => outbox.put(response, job.answer),
        // Nobody listens any more if the client is gone.
        Err(reason) => drop(job.answer.send(Err(reason))),
    }
    Ok(())
}

/// Answers that have not left yet: the guest may be about to complete them.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<Vec<Unsent>>>);

struct Unsent {
    ahead: Ahead,
    answer: oneshot::Sender<Result<Ahead, String>>,
}

impl Outbox {
    fn put(&self, response: Response<WasiBody>, answer: oneshot::Sender<Result<Ahead, String>>) {
        let ahead = Ahead::new(Answered {
            response,
            until_read: None,
        });
        self.lock().push(Unsent { ahead, answer });
    }

    /// Takes what is ready of the bodies; true if that may let the guest go on.
    fn fill(&self, cx: &mut Context<'_>) -> bool {
        let mut progressed = false;
        for unsent in self.lock().iter_mut() {
            progressed |= unsent.ahead.fill(cx) && !unsent.ahead.is_full();
        }
        progressed
    }

    /// Sends everything: the guest has nothing to add now.
    fn send(&self) {
        for unsent in self.lock().drain(..) {
            // Nobody listens any more if the client is gone.
            drop(unsent.answer.send(Ok(unsent.ahead)));
        }
    }

    /// Drops everything: whoever waits for it learns of the instance's end.
    fn discard(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Unsent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
