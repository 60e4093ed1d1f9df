//! Instances that answer several requests at once (`concurrent = n` in the manifest).
//!
//! Each worker thread has its own instances, so that a request never changes threads in the fast lane. Whoever brings a
//! request turns the instance's event loop in its own task; the instance's own task goes on where that had to wait, and
//! keeps the time: that is `seat`'s business. What one request does to a shared instance all of its requests feel: after
//! a fault, or when a client goes away, the instance takes no further requests and is dropped with the last one.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::ThreadId;

use ::http::{Request, Response};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep_until};

use crate::abi::life::Job;
use crate::abi::place::Place;
use crate::abi::response::{Late, ResponseBody};
use crate::abi::seat::Seat;
use crate::fault::Fault;
use crate::guest::{Call, Inner, RequestBody, RequestId};
use crate::lock::lock;
use crate::pool::Permit;

/// The shared instances of one component, by thread.
#[derive(Default)]
pub(crate) struct Crew(Mutex<HashMap<ThreadId, Vec<Arc<Seat>>>>);

impl Crew {
    /// Ends the instances that serve nobody: their places are needed.
    pub(crate) fn drop_idle(&self) {
        let seats: Vec<Arc<Seat>> = lock(&self.0).values().flatten().cloned().collect();
        seats.iter().for_each(|seat| seat.retire_if_empty());
    }

    /// No instance takes further requests; each ends once its last one has.
    pub(crate) fn close(&self) {
        let seats = std::mem::take(&mut *lock(&self.0));
        seats.values().flatten().for_each(|seat| seat.close());
    }
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
    let mut call = call;
    let ticket = Ticket::take(guest, permit, &call);
    call.chain = ticket.seat.with_places(Place::chain).unwrap_or(call.chain);
    let job = Job {
        request,
        call,
        answer,
    };
    if guest.lanes.begins_slow(&guest.account) {
        ticket.seat.begin_slow();
    }
    ticket.seat.bring(job)?;
    let mut receiver = pin!(receiver);
    let (mut closed, mut alarm) = (false, None);
    let outcome = poll_fn(|cx| {
        if !closed {
            match receiver.as_mut().poll(cx) {
                Poll::Ready(Ok(outcome)) => return Poll::Ready(Ok(outcome)),
                // Its instance has failed; how is about to be recorded.
                Poll::Ready(Err(_)) => closed = true,
                Poll::Pending => {}
            }
        }
        if ticket.failed(cx) || ticket.is_late(&mut alarm, cx) {
            return Poll::Ready(Err(ticket.seat.fault_for_the_unanswered()));
        }
        Poll::Pending
    })
    .await?;
    match outcome {
        Ok(ahead) => {
            ticket.mark_answered();
            match ticket.seat.fault() {
                None => Ok(ahead.into_response(Some(Late::Shared(ticket)))),
                // It failed behind the answer: the client has that if it is whole, and the operator the fault.
                Some(fault) if ahead.is_complete() => {
                    guest.report(ticket.request, &fault);
                    Ok(ahead.into_response(None))
                }
                Some(fault) => Err(fault),
            }
        }
        Err(reason) => Err(Fault::BadGuest(reason)),
    }
}

impl Ticket {
    /// A place in an instance of this thread that has one, or in a fresh one.
    fn take(guest: &Arc<Inner>, permit: Permit, call: &Call) -> Self {
        let request = call.id;
        let generation = guest.template.settings.generation();
        let mut crew = lock(&guest.crew.0);
        let seats = crew.entry(std::thread::current().id()).or_default();
        seats.retain(|seat| seat.may_accept() && seat.is_of(generation));
        let (most, chain) = (guest.reuse.concurrent, call.chain);
        let is_room = |places: &[Place]| Place::is_room(places, most, chain);
        let free = seats.iter().find(|seat| seat.with_places(is_room));
        let seat = match free {
            Some(seat) => seat.clone(),
            None => {
                let seat = Seat::start(guest);
                seats.push(seat.clone());
                seat
            }
        };
        drop(crew);
        seat.enter(permit, request, call.chain);
        Self { seat, request }
    }

    fn with_place<R>(&self, look: impl FnOnce(&mut Place) -> R) -> Option<R> {
        self.seat.with_place(self.request, look)
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

    /// Whether its time is over while the instance waits for its turn in the slow lane; if not, that will wake this task.
    /// In the fast lane the instance's own task keeps the time.
    fn is_late(&self, alarm: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
        if !self.seat.is_slow() {
            return false;
        }
        let Some(due) = self.with_place(|place| place.chain.due()).flatten() else {
            return false;
        };
        let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
        alarm.as_mut().poll(cx).is_ready()
    }

    /// The client is gone before the end of its answer.
    pub(crate) fn cancel(&self) {
        self.seat.retire();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.seat.leave(self.request);
    }
}

#[cfg(test)]
mod tests {
    use hostel_app::{Component, Reuse, Source};

    use super::*;
    use crate::testing::{block_on, code, runtime};
    use crate::{Chain, Role};

    #[test]
    fn requests_of_one_instance_stand_equally_deep() {
        let (runtime, code) = (runtime(None), code("hello-p3"));
        let mut component = Component::new("web", Source::InlineWat, &code);
        component.reuse = Reuse {
            requests: 100,
            concurrent: 4,
        };
        let guest = runtime
            .app("test")
            .load(&component, &code, Role::Serve, &|_| {});
        let guest = guest.unwrap();
        let within = |chain: Chain, ms| Call {
            id: RequestId::next(),
            scheme: ::http::uri::Scheme::HTTP,
            chain: chain.within(Some(ms)),
            origin: None,
        };
        let direct = Chain::default();
        let inside = direct.deeper().unwrap();
        block_on(async {
            let take = |call: &Call| Ticket::take(&guest.0, Permit::uncounted(), call);
            let calls = [
                (direct, 60_000),
                (inside, 50),
                (direct, 50),
                (inside, 60_000),
            ];
            let calls = calls.map(|(chain, ms)| within(chain, ms));
            let tickets: Vec<Ticket> = calls.iter().map(take).collect();
            let is_same =
                |one: usize, other: usize| Arc::ptr_eq(&tickets[one].seat, &tickets[other].seat);
            assert!(is_same(0, 2) && is_same(1, 3) && !is_same(0, 1));
            // Whoever has little time left takes none from the others.
            let due = |at: usize| tickets[at].seat.with_places(Place::chain).unwrap().due();
            assert_eq!(
                (due(0), due(1)),
                (calls[0].chain.due(), calls[3].chain.due())
            );
        });
    }
}
