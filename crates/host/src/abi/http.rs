//! What the two HTTP ABIs share: driving a guest until it has answered.
//!
//! The guest's future is polled in the connection's own task. Most guests finish within the first polls: then head and
//! body leave together and no task, timer or wake-up was involved. Only a guest that still runs after it answered
//! (it streams its body, or works on) is moved to a task of its own, and one that has used a slice of CPU to the slow
//! lane: that is `detached`'s business, its body is `response`'s.

use std::any::Any;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use futures::FutureExt;
use http::{Request, Response};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::{WasiBody, p2, p3};

use crate::abi::broken::Broken;
use crate::abi::cgi::scripts::Led;
use crate::abi::detached::{self, Detached};
use crate::abi::export::{self, Prepared, Returned};
use crate::abi::message::Handled;
use crate::abi::response::{Ahead, Late, ResponseBody};
use crate::abi::{Callable, Exports, Warm, cgi, handle, http_p2, http_p3, message, shared, start};
use crate::capability::messaging::Letter;
use crate::fault::Fault;
use crate::guest::{Call, Inner, RequestBody, RequestId, fault_of};
use crate::lanes;
use crate::meter::Clock;
use crate::pool::Permit;
use crate::state::Host;
use crate::ticker;

/// What a guest hands over as its answer; an error is a sentence for the log.
pub(crate) type Answer = Result<Answered, String>;
/// A guest at work. It ends with the instance, if that may be used again.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Warm, Broken>> + Send>>;

/// A guest's answer.
pub(crate) struct Answered {
    pub(crate) response: Response<WasiBody>,
    /// Dropped once the body is complete or nobody wants it any more.
    pub(crate) until_read: Option<oneshot::Sender<Infallible>>,
}

/// Where a guest stands when its answer can leave.
enum State {
    Finished(Warm),
    Failed(Broken),
    /// It goes on elsewhere; without an answer so far, in the slow lane.
    StillRuns,
}

/// Runs the guest until its answer can leave.
pub(crate) async fn answer(
    guest: &Arc<Inner>,
    mut permit: Permit,
    mut request: Request<RequestBody>,
    mut call: Call,
) -> Result<Response<ResponseBody>, Fault> {
    if let Some(site) = &guest.site {
        // In a box: most guests have no scripts, and their calls need not hold the room for this.
        (request, permit) = match Box::pin(site.lead(request, permit)).await? {
            Led::Run(request, permit) => (request, permit),
            Led::Answered(response) => return Ok(response),
        };
    }
    let due = call.chain.due();
    call.chain = call.chain.within(guest.template.limits.deadline_ms);
    if guest.reuse.concurrent > 1 && matches!(guest.callable, Callable::HttpP3(_)) {
        return shared::answer(guest, permit, request, call).await;
    }
    let (sender, mut receiver) = oneshot::channel();
    let id = call.id;
    let work = match &guest.callable {
        Callable::Cgi(_) => cgi::work(guest.clone(), request, call, sender),
        Callable::Handle(_) => handle::work(guest.clone(), request, call, sender),
        _ => work(guest.clone(), id, Task::Request(request, call, sender)),
    };
    let mut running = Running::new(guest, permit, work, id).until(due);
    if guest.lanes.begins_slow(&guest.account) {
        running.leave_fast_lane();
        return Box::pin(detached::answer(running, id, receiver)).await;
    }
    let mut ahead: Option<Ahead> = None;
    let state = poll_fn(|cx| drive(&mut running, &mut receiver, &mut ahead, cx)).await?;
    let Some(ahead) = ahead else {
        running.leave_fast_lane();
        return Box::pin(detached::answer(running, id, receiver)).await;
    };
    match state {
        State::Finished(warm) if ahead.is_complete() => {
            drop(running.finished(warm).keep());
            Ok(ahead.into_response(None))
        }
        // The guest gave its answer up: that is in the body.
        State::Finished(_) if ahead.is_broken() => Ok(ahead.into_response(None)),
        State::Finished(warm) => Err(running.finished(warm).unfinished()),
        // The answer was complete before the guest failed: the client has its answer, the operator the fault.
        State::Failed(broken) if ahead.is_complete() && broken.remains.is_some() => {
            guest.report(id, &broken.fault);
            Ok(ahead.into_response(None))
        }
        State::Failed(broken) => Err(broken.fault),
        State::StillRuns => {
            if running.is_long() || running.must_go() {
                running.leave_fast_lane();
            }
            let late = Late::Own(Detached::late(running));
            Ok(ahead.into_response(Some(late)))
        }
    }
}

/// Polls the guest until it has answered and there is nothing more to take at once, or until it has to leave this thread.
fn drive(
    running: &mut Running,
    receiver: &mut oneshot::Receiver<Answer>,
    ahead: &mut Option<Ahead>,
    cx: &mut Context<'_>,
) -> Poll<Result<State, Fault>> {
    let limit = running.guest.template.limits.response_body_bytes;
    if running.must_go() {
        return Poll::Ready(Ok(State::StillRuns));
    }
    loop {
        let polled = running.poll(cx);
        if ahead.is_none()
            && let Ok(answer) = receiver.try_recv()
        {
            match answer.and_then(|answered| Ahead::new(answered, limit)) {
                Ok(begun) => *ahead = Some(begun),
                Err(reason) => return Poll::Ready(Err(Fault::BadGuest(reason))),
            }
        }
        let Some(ahead) = ahead.as_mut() else {
            return match polled {
                Poll::Ready(Ok(warm)) => Poll::Ready(Err(running.guest.blame(no_answer(), &warm))),
                Poll::Ready(Err(broken)) => Poll::Ready(Err(broken.fault)),
                Poll::Pending if running.is_long() => Poll::Ready(Ok(State::StillRuns)),
                Poll::Pending => running.alarm(cx).map(Err),
            };
        };
        // Taking a frame may be what the guest waits for.
        let progressed = ahead.fill(cx);
        match polled {
            Poll::Ready(Ok(warm)) => {
                ahead.fill_up(cx);
                return Poll::Ready(Ok(State::Finished(warm)));
            }
            Poll::Ready(Err(broken)) => return Poll::Ready(Ok(State::Failed(broken))),
            Poll::Pending if progressed => {}
            Poll::Pending => return Poll::Ready(Ok(State::StillRuns)),
        }
    }
}

/// What a guest is called with, and where its answer goes.
pub(super) enum Task {
    Request(Request<RequestBody>, Call, oneshot::Sender<Answer>),
    Message(Letter, oneshot::Sender<Handled>),
    Export(Prepared, oneshot::Sender<Returned>),
}

/// The guest's work on one call: on a warm instance if one is idle, else on a fresh one.
pub(super) fn work(guest: Arc<Inner>, id: RequestId, task: Task) -> Work {
    Box::pin(async move {
        let mut warm = match guest.idle_instance() {
            Some(mut warm) => {
                warm.store.data_mut().works_for(id);
                warm.store.set_epoch_deadline(1);
                warm
            }
            None => instantiate(&guest, id).await?,
        };
        let handled = async {
            match task {
                Task::Request(request, call, answer) => match &warm.exports {
                    Exports::P3(_) => http_p3::handle(&mut warm, request, &call, answer).await,
                    _ => http_p2::handle(&mut warm, request, &call, answer).await,
                },
                Task::Message(letter, answer) => message::call(&mut warm, letter, answer).await,
                Task::Export(call, answer) => {
                    export::call(&mut warm, guest.flavor, call, answer).await
                }
            }
        };
        // A panic must leave the store alone: its end would look like the end of the body to another thread.
        match AssertUnwindSafe(handled).catch_unwind().await {
            Ok(Ok(())) => {
                warm.answered += 1;
                Ok(warm)
            }
            Err(_) => Err(Broken::with(panicked(), warm)),
            Ok(Err(error)) => {
                let fault = fault_of(&error, &warm.store.data().meter);
                let fault = guest.blame_reuse(fault, warm.answered);
                Err(Broken::with(fault, warm))
            }
        }
    })
}

/// A function of ours that panicked; the panic's own message is on standard error.
pub(super) fn panicked() -> Fault {
    Fault::Host("a host function panicked; see the message above".into())
}

/// A fresh instance. Where the engine has no place for another one, idle ones make room; else it waits for one, as long
/// as a call may wait for its turn.
pub(crate) async fn instantiate(guest: &Inner, request: RequestId) -> Result<Warm, Fault> {
    match try_instantiate(guest, request).await {
        Err(Fault::Busy(_)) => {}
        outcome => return outcome,
    }
    let since = Instant::now();
    guest.peers.drop_idle();
    loop {
        match try_instantiate(guest, request).await {
            Err(Fault::Busy(_)) if guest.permits.room(since).await => {}
            Err(Fault::Busy(_)) => return Err(guest.permits.refuse()),
            outcome => return outcome,
        }
    }
}

/// Makes an instance under the guest's budget and drops it.
pub(crate) async fn warm_up(guest: &Arc<Inner>) -> Result<(), Fault> {
    let permit = guest.permit().await?;
    let id = RequestId::next();
    let begun = guest.clone();
    let work: Work = Box::pin(async move { Ok(instantiate(&begun, id).await?) });
    let mut running = Running::new(guest, permit, work, id);
    let made = poll_fn(|cx| match running.poll(cx) {
        Poll::Pending => running.alarm(cx).map(|fault| Err(running.stop(fault))),
        made => made,
    });
    made.await.map(drop).map_err(|broken| broken.fault)
}

async fn try_instantiate(guest: &Inner, request: RequestId) -> Result<Warm, Fault> {
    let host_fault = |error: wasmtime::Error| Fault::Host(format!("{error:?}"));
    let mut store = Host::store(&guest.engine, &guest.template, request).map_err(host_fault)?;
    let started = guest.template.on_start.is_some();
    let exports = match &guest.callable {
        Callable::Handle(linked) => linked.instantiate(&mut store).await,
        callable if started => instantiate_and_start(callable, &mut store).await,
        Callable::HttpP2(pre) => pre.instantiate_async(&mut store).await.map(Exports::P2),
        Callable::HttpP3(pre) => pre.instantiate_async(&mut store).await.map(Exports::P3),
        Callable::Message(linked) => linked.instantiate(&mut store).await.map(Exports::Message),
        Callable::Export(linked) => export::instantiate(linked, &mut store).await,
        Callable::Command(_) | Callable::Init(_) | Callable::Cgi(_) => Err(not_answering()),
    };
    match exports {
        Ok(exports) => Ok(Warm {
            store,
            exports,
            answered: 0,
        }),
        Err(error) => Err(fault_of(&error, &store.data().meter)),
    }
}

/// The same for a guest with an export that it is started with.
async fn instantiate_and_start(
    callable: &Callable,
    store: &mut Store<Host>,
) -> wasmtime::Result<Exports> {
    if let Callable::Export(linked) = callable {
        return export::instantiate(linked, store).await;
    }
    let Some(pre) = callable.component() else {
        return Err(not_answering());
    };
    let instance = start::component(pre, store).await?;
    match callable {
        Callable::HttpP2(_) => p2::bindings::Proxy::new(store, &instance).map(Exports::P2),
        Callable::HttpP3(_) => p3::bindings::Service::new(store, &instance).map(Exports::P3),
        Callable::Message(linked) => linked.of(store, &instance).map(Exports::Message),
        Callable::Command(_)
        | Callable::Export(_)
        | Callable::Init(_)
        | Callable::Cgi(_)
        | Callable::Handle(_) => Err(not_answering()),
    }
}

fn not_answering() -> wasmtime::Error {
    start::Refused::new("a command answers neither requests nor messages").into()
}

pub(super) fn no_answer() -> Fault {
    Fault::BadGuest("it returned without answering the request".into())
}

/// A guest at work under its clock, holding its permit.
pub(super) struct Running {
    guest: Arc<Inner>,
    work: Option<Work>,
    clock: Clock,
    id: RequestId,
    permit: Option<Permit>,
    lane: Lane,
    _ticking: Option<ticker::Running>,
}

/// Where a call is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Fast,
    Slow,
}

impl Running {
    pub(super) fn new(guest: &Arc<Inner>, permit: Permit, work: Work, id: RequestId) -> Self {
        let template = &guest.template;
        Self {
            guest: guest.clone(),
            work: Some(work),
            clock: match template.metered {
                true => Clock::start(&template.limits).owned_by(&template.metrics),
                false => Clock::off(&template.limits),
            },
            id,
            permit: Some(permit),
            lane: Lane::Fast,
            _ticking: template.metered.then(|| guest.ticker.enter()),
        }
    }

    /// Its time is over then at the latest.
    fn until(self, due: Option<Instant>) -> Self {
        Self {
            clock: self.clock.until(due),
            ..self
        }
    }

    /// Polls the guest. A panic of ours inside a host function costs this call only.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Warm, Broken>> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(Err(Fault::Cancelled.into()));
        };
        let (clock, lane) = (&mut self.clock, self.lane);
        let polled = catch_unwind(AssertUnwindSafe(|| match lane {
            Lane::Fast => clock.poll(work.as_mut(), cx),
            Lane::Slow => clock.poll_anywhere(work.as_mut(), cx),
        }));
        if self.is_long() && !matches!(polled, Ok(Poll::Pending)) {
            self.leave_fast_lane();
        }
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(done))) => Poll::Ready(done.map_err(|broken| Broken {
                remains: broken.remains.map(|remains| self.hold(remains)),
                ..broken
            })),
            Ok(Poll::Ready(Err(fault))) => Poll::Ready(Err(self.stop(fault))),
            Err(_) => {
                self.work = None;
                Poll::Ready(Err(panicked().into()))
            }
        }
    }

    /// Whether it has used a slice of the fast lane, and is to leave it.
    pub(super) fn is_long(&self) -> bool {
        self.lane == Lane::Fast && lanes::is_long(self.clock.used())
    }

    /// Whether it waited in the fast lane while its component used that up: many calls that wait for one event must not
    /// all compute there.
    pub(super) fn must_go(&self) -> bool {
        let waited = self.lane == Lane::Fast && self.clock.has_begun();
        waited && self.guest.lanes.begins_slow(&self.guest.account)
    }

    /// From now on it is polled in the slow lane. Its component is charged for what it used of the fast one, if that was
    /// much.
    pub(super) fn leave_fast_lane(&mut self) {
        if self.is_long() {
            let used = self.clock.used();
            self.guest.template.metrics.slow.add(1);
            self.guest.lanes.charge_fast(&self.guest.account, used);
        }
        self.lane = Lane::Slow;
    }

    pub(super) fn is_slow(&self) -> bool {
        self.lane == Lane::Slow
    }

    pub(super) fn guest(&self) -> &Arc<Inner> {
        &self.guest
    }

    /// When its time is over.
    pub(super) fn due(&self) -> Option<Instant> {
        self.clock.due()
    }

    /// What it will have failed of then.
    pub(super) fn late(&self) -> Fault {
        self.clock.late()
    }

    /// To be called whenever the guest is waited for: ready once its time is over.
    pub(super) fn alarm(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        self.clock.alarm(cx)
    }

    /// Ends a guest that would run on.
    pub(super) fn stop(&mut self, fault: Fault) -> Broken {
        let remains = self.work.take().map(|work| self.hold(Mutex::new(work)));
        Broken { fault, remains }
    }

    /// What remains still occupies a place for an instance, so the permit goes with it.
    fn hold(&mut self, remains: impl Send + 'static) -> Box<dyn Any + Send> {
        Box::new((remains, self.permit.take()))
    }

    /// Tells the operator about a fault that no client is told of.
    pub(super) fn report(&self, fault: &Fault) {
        self.guest.report(self.id, fault);
    }

    /// The guest has returned.
    pub(super) fn finished(self, warm: Warm) -> Finished {
        Finished {
            warm,
            guest: self.guest,
            id: self.id,
            _permit: self.permit,
        }
    }
}

/// A guest that has returned; whether it ended its body is still to be seen.
pub(super) struct Finished {
    warm: Warm,
    guest: Arc<Inner>,
    id: RequestId,
    _permit: Option<Permit>,
}

impl Finished {
    /// It ended its body: it may answer again, if it is to; else it is given back, to be dropped.
    pub(super) fn keep(self) -> Option<Self> {
        if self.warm.answered >= self.guest.reuse.requests {
            return Some(self);
        }
        self.guest.keep(self.warm);
        None
    }

    /// It never answered.
    pub(super) fn unanswered(&self) -> Fault {
        self.guest.blame(no_answer(), &self.warm)
    }

    /// It did not end its body, and nobody else will.
    pub(super) fn unfinished(&self) -> Fault {
        let fault = Fault::BadGuest("it returned without ending its body".into());
        self.guest.blame(fault, &self.warm)
    }

    /// Like `unfinished`, where no client can be told any more.
    pub(super) fn report_unfinished(self) -> Self {
        self.guest.report(self.id, &self.unfinished());
        self
    }
}
