//! The message trigger: subscribes, calls the guest, and acknowledges once it has returned.
//!
//! A message is acknowledged when the guest says that it is done. It is refused, and so delivered again later, when the guest
//! says that it is not, or fails. Where the guest has no place free the message waits here for one: that is nobody's failure.
//!
//! With `ordered_by` the messages of one key are handled one after the other: one that fails is not given back, but tried
//! again here, and those behind it wait (`lines`).
//!
//! Each thread that serves drives a part of each subscription, unless that has an order, and it is there before the first request is answered: what that
//! publishes is not lost. A broker that is away when the server starts holds it up for [`AT_START`] and no longer; it is tried
//! again until it comes.

mod export;
mod lines;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, FuturesUnordered, StreamExt};
use hostel_app::{MessageTrigger, OrderedBy, limits};
use hostel_host::messaging::{Delivery, Messaging, Subscription};
use hostel_host::{Fault, Guest, Handled, LoadError, LogSink, Refusal, RequestId, Role};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::deploy::Deployment;
use crate::slot::Slot;
use crate::worker::Phase;
use export::Export;
use lines::{Lines, give_back, meanwhile, remind_of};

pub(crate) use export::check;

/// How long to wait before a broker is tried again, the first time and at the most.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a server that starts waits for its subscriptions.
pub(crate) const AT_START: Duration = Duration::from_secs(1);
/// How often a message that waits for a place asks again.
const BUSY: Duration = Duration::from_millis(20);
/// How often the broker is told that a message which waits is not forgotten.
const STILL_HERE: Duration = Duration::from_secs(5);
/// A guest without a deadline may keep a message for so long.
const NO_DEADLINE: Duration = Duration::from_secs(3600);
/// Between the guest's deadline and the time when the message counts as lost. Larger than [`STILL_HERE`].
const MARGIN: Duration = Duration::from_secs(30);
/// Messages that the guest has done and the broker is being told of, with those that the guest works on.
const SETTLING: usize = limits::STORE_WRITES_WAITING.size();
/// How often a trigger tells that it gave messages up.
const GIVEN_UP_EVERY: Duration = Duration::from_secs(1);
/// How long messages that come one after the other keep this thread from its connections.
const SLICE: Duration = Duration::from_micros(200);

/// Messages for one guest.
#[derive(Debug, Clone)]
pub struct Consumer {
    slot: Slot,
    /// The component's name.
    component: String,
    broker: Arc<dyn Messaging>,
    subscription: Subscription,
    /// Messages that the guest works on at once.
    concurrency: usize,
    ordered_by: Option<OrderedBy>,
    /// Whether it tells the operator that the broker is away; one of its shares does.
    speaks: bool,
    /// What is called, where it is not the handler of a messaging package.
    export: Option<Export>,
}

/// A message that has come.
#[derive(Debug)]
struct Arrival {
    /// What it has in common with those that it must not overtake.
    key: Option<String>,
    delivery: Delivery,
    since: Instant,
}

/// What every message of a trigger meets.
struct Surroundings {
    log: LogSink,
    phase: watch::Receiver<Phase>,
    given_up: Mutex<GivenUp>,
    /// Messages that a guest works on.
    working: AtomicUsize,
    /// Told when there is one less.
    freed: Notify,
}

/// A message that a guest works on, as long as it does.
struct Working<'a>(&'a Surroundings);

impl<'a> Working<'a> {
    fn new(around: &'a Surroundings) -> Self {
        around.working.fetch_add(1, Relaxed);
        Self(around)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Relaxed);
        self.0.freed.notify_one();
    }
}

/// What is to become of a message.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// It is done.
    Done,
    /// It is to come again.
    Again,
    /// It is given up, after so many tries.
    Over(u32),
    /// Nobody worked on it.
    Untouched,
}

/// Messages that were given up: told once a second, beside the faults that led there.
#[derive(Debug, Default)]
struct GivenUp {
    told: Option<Instant>,
    untold: u64,
}

impl GivenUp {
    /// How many others there were since the last line, if there is to be one now.
    fn one_more(&mut self, now: Instant) -> Option<u64> {
        let told = self
            .told
            .is_some_and(|told| now.duration_since(told) < GIVEN_UP_EVERY);
        if told {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// What the `[[message]]` sections of an app say.
pub(crate) fn consumers(deployment: &Deployment<'_>) -> Result<Vec<Consumer>, LoadError> {
    let mut all = Vec::with_capacity(deployment.app.messages.len());
    for trigger in &deployment.app.messages {
        let broker = deployment.scope.broker(&trigger.client);
        let broker = broker.map_err(|error| deployment.named(trigger.component, error))?;
        let role = match trigger.export {
            Some(_) => Role::Call,
            None => Role::Handle,
        };
        if let Some(slot) = deployment.slot(trigger.component, role) {
            all.push(Consumer::new(slot.clone(), broker, trigger)?);
        }
    }
    Ok(all)
}

impl Consumer {
    /// What a trigger says, for the guest that it names.
    fn new(
        slot: Slot,
        broker: Arc<dyn Messaging>,
        trigger: &MessageTrigger,
    ) -> Result<Self, LoadError> {
        let guest = slot.current();
        let export = trigger.export.as_deref();
        let export = export.map(|name| Export::of(&guest, name)).transpose()?;
        let deadline = guest.limits().deadline_ms.map(Duration::from_millis);
        let concurrency = usize::try_from(trigger.concurrency).unwrap_or(1);
        let line = match trigger.ordered_by {
            Some(_) => limits::MESSAGE_LINE.size(),
            None => 0,
        };
        let subscription = Subscription {
            pattern: trigger.topic.clone(),
            group: trigger.group.clone(),
            in_flight: concurrency + line,
            ack_wait: deadline.unwrap_or(NO_DEADLINE) + MARGIN,
            deliveries: trigger.deliveries,
            back_off: limits::MESSAGE_BACK_OFF_MS.duration(),
            back_off_max: limits::MESSAGE_BACK_OFF_MAX_MS.duration(),
            dead_letter: trigger.dead_letter.clone(),
        };
        Ok(Self {
            component: guest.name().to_owned(),
            slot,
            broker,
            subscription,
            concurrency,
            ordered_by: trigger.ordered_by.clone(),
            speaks: true,
            export,
        })
    }

    /// What the thread with this number of so many handles of the trigger with this index: a part of what is handled at once,
    /// or, where that is little or has an order, all of it or nothing.
    pub(crate) fn share(&self, index: usize, thread: usize, threads: usize) -> Option<Self> {
        let whole = self.ordered_by.is_some() || self.concurrency < threads * 2;
        if whole {
            return (index % threads.max(1) == thread).then(|| self.clone());
        }
        let rest = usize::from(thread < self.concurrency % threads);
        let concurrency = self.concurrency / threads + rest;
        let mut share = self.clone();
        share.concurrency = concurrency;
        share.subscription.in_flight = concurrency;
        share.speaks = thread == 0;
        Some(share)
    }

    /// Handles messages until the drain begins, and then those that it has. `subscribed` is dropped once there is a
    /// subscription; `call` is called when a call begins, and what it returned is dropped when that ends.
    pub(crate) async fn run<T>(
        self,
        log: LogSink,
        mut phase: watch::Receiver<Phase>,
        subscribed: oneshot::Sender<Infallible>,
        call: impl Fn() -> T,
    ) {
        let now = phase.clone();
        let mut draining = pin!(draining(&mut phase));
        let deliveries = tokio::select! {
            deliveries = self.subscribe(&log, &now) => deliveries,
            () = &mut draining => return,
        };
        drop(subscribed);
        // A stream that has ended is not asked again.
        let mut deliveries = deliveries.fuse();
        let around = Surroundings {
            log,
            phase: now,
            given_up: Mutex::default(),
            working: AtomicUsize::new(0),
            freed: Notify::new(),
        };
        let mut handling = FuturesUnordered::new();
        let mut lines = Lines::new();
        let mut remind = interval(STILL_HERE);
        remind.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let handle = |arrival: Arrival| {
            let (begun, key) = (call(), arrival.key.clone());
            let handled = self.handle(arrival, Working::new(&around), &around);
            async move {
                handled.await;
                drop(begun);
                key
            }
        };
        let mut since = Instant::now();
        loop {
            let room = around.working.load(Relaxed) < self.concurrency
                && handling.len() < SETTLING
                && lines.waiting() < self.line();
            tokio::select! {
                biased;
                Some(key) = handling.next() => {
                    let key: Option<String> = key;
                    handling.extend(lines.leave(key.as_deref()).map(&handle));
                }
                () = &mut draining => break,
                () = around.freed.notified(), if !room => {}
                _tick = remind.tick(), if lines.waiting() > 0 => {
                    let told = remind_of(lines.iter_mut());
                    let ended: Vec<Option<String>> = meanwhile(told, &mut handling).await;
                    for key in ended {
                        handling.extend(lines.leave(key.as_deref()).map(&handle));
                    }
                }
                Some(delivery) = deliveries.next(), if room => {
                    let arrival = self.arrival(delivery);
                    let key = arrival.key.clone();
                    handling.extend(lines.enter(key.as_deref(), arrival).map(&handle));
                }
            }
            if since.elapsed() > SLICE {
                yield_now().await;
                since = Instant::now();
            }
        }
        meanwhile(give_back(lines.take()), &mut handling).await;
        while handling.next().await.is_some() {}
    }

    fn arrival(&self, delivery: Delivery) -> Arrival {
        Arrival {
            key: lines::key(self.ordered_by.as_ref(), &delivery.message),
            delivery,
            since: Instant::now(),
        }
    }

    /// How many messages may wait behind others.
    fn line(&self) -> usize {
        // Without an order nothing waits, and there is always room.
        (self.subscription.in_flight - self.concurrency).max(1)
    }

    /// The subscription; waits until the broker can be reached. Nothing is said about that before the server's first line,
    /// which is its address: a broker that is not late then is none of the operator's business.
    async fn subscribe(
        &self,
        log: &LogSink,
        now: &watch::Receiver<Phase>,
    ) -> BoxStream<'static, Delivery> {
        let (mut pause, most) = TRY_AGAIN;
        loop {
            match self.broker.subscribe(self.subscription.clone()).await {
                Ok(deliveries) => return deliveries,
                Err(_) if !self.speaks || *now.borrow() == Phase::Starting => {}
                Err(error) => log.host_fault(format_args!(
                    "component \"{}\": no messages of {} yet: {error}; tried again",
                    self.component, self.subscription.pattern
                )),
            }
            sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }

    /// One message, until it is settled. The guest may work on the next one while the broker is told, unless that is one which
    /// must not overtake this.
    async fn handle(&self, arrival: Arrival, working: Working<'_>, around: &Surroundings) {
        let Arrival {
            key,
            mut delivery,
            since,
        } = arrival;
        if since.elapsed() > STILL_HERE {
            // Where that fails the broker is told of the message's end.
            let _told = delivery.settle.extend().await;
        }
        // A request has somebody who waits, who would get an answer that is too late.
        let stays = key.is_some() && delivery.message.reply_to.is_none();
        let (id, verdict) = self.judged(&mut delivery, stays, around).await;
        let _working = key.is_some().then_some(working);
        let told = match verdict {
            Verdict::Done => delivery.settle.ack().await,
            Verdict::Again => delivery.settle.nack().await,
            Verdict::Over(tries) => delivery.settle.reject(tries).await,
            Verdict::Untouched => delivery.settle.release().await,
        };
        if let Err(error) = told {
            let what = match verdict {
                Verdict::Untouched => "the message was not handled",
                Verdict::Done | Verdict::Again | Verdict::Over(_) => "the message was handled",
            };
            around.log.host_fault(format_args!(
                "component \"{}\": request {id}: {what}, but the broker was not told, and delivers it again: {error}",
                self.component
            ));
        }
    }

    /// What is to become of a message, and the last call that was made with it. One that `stays` is tried here until it is
    /// done or given up.
    async fn judged(
        &self,
        delivery: &mut Delivery,
        stays: bool,
        around: &Surroundings,
    ) -> (RequestId, Verdict) {
        let mut tries = delivery.attempt.max(1);
        loop {
            let id = RequestId::next();
            let Some((guest, handled)) = self.call(delivery, id, around).await else {
                return (id, Verdict::Untouched);
            };
            let last = match handled {
                Ok(Ok(())) => return (id, Verdict::Done),
                Ok(Err(refusal)) => {
                    guest.report_refusal(id, refusal.why());
                    matches!(refusal, Refusal::Never(_))
                }
                Err(fault) => {
                    guest.report(id, &fault);
                    false
                }
            };
            if last || tries >= self.subscription.deliveries {
                self.give_up(delivery, tries, around);
                return (id, Verdict::Over(tries));
            }
            if !stays || !self.rest(delivery, tries, around).await {
                return (id, Verdict::Again);
            }
            tries += 1;
        }
    }

    /// What the guest says of a message, and which guest that was; `None` where the server stops before there is a place
    /// for it.
    async fn call(
        &self,
        delivery: &mut Delivery,
        id: RequestId,
        around: &Surroundings,
    ) -> Option<(Guest, Result<Handled, Fault>)> {
        let mut told = Instant::now();
        loop {
            let guest = self.slot.current();
            let message = delivery.message.clone();
            let handled = match &self.export {
                None => guest.handle_message(message, &self.broker, id).await,
                Some(export) => export.call(&guest, message, id).await,
            };
            if !matches!(handled, Err(Fault::Busy(_))) {
                return Some((guest, handled));
            }
            if around.is_draining() {
                return None;
            }
            if told.elapsed() > STILL_HERE {
                let _told = delivery.settle.extend().await;
                told = Instant::now();
            }
            sleep(BUSY).await;
        }
    }

    /// The pause after the try with this number. False where the server stops before it is over.
    async fn rest(&self, delivery: &mut Delivery, tries: u32, around: &Surroundings) -> bool {
        let end = Instant::now() + self.subscription.pause(tries);
        let mut phase = around.phase.clone();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            tokio::select! {
                () = draining(&mut phase) => return false,
                () = sleep(left.min(STILL_HERE)) => {}
            }
            let _told = delivery.settle.extend().await;
            if left <= STILL_HERE {
                return true;
            }
        }
    }

    /// Says that a message is not tried again, once a second. Nobody does for a request: whoever asked hears nothing, and
    /// knows.
    fn give_up(&self, delivery: &Delivery, tries: u32, around: &Surroundings) {
        if delivery.message.reply_to.is_some() {
            return;
        }
        let mut given_up = around
            .given_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(others) = given_up.one_more(Instant::now()) else {
            return;
        };
        let end = match &self.subscription.dead_letter {
            Some(letter) => format!("it goes to the dead letters of {letter}"),
            None => {
                "it is dropped; with `dead_letter` in its [[message]] it would be kept".to_owned()
            }
        };
        let tries = match tries {
            1 => "one try".to_owned(),
            tries => format!("{tries} tries"),
        };
        let others = match others {
            0 => String::new(),
            others => format!("; so were {others} others since it was last said"),
        };
        around.log.host_fault(format_args!(
            "component \"{}\": the message of {} is given up after {tries}: {end}{others}",
            self.component, delivery.message.topic
        ));
    }
}

impl Surroundings {
    fn is_draining(&self) -> bool {
        *self.phase.borrow() > Phase::Serving
    }
}

/// Ready once the server stops.
async fn draining(phase: &mut watch::Receiver<Phase>) {
    // An error means that whoever tells the phase is gone.
    let _told = phase.wait_for(|phase| *phase > Phase::Serving).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_told_once_a_second_with_a_count() {
        let (mut given_up, now) = (GivenUp::default(), Instant::now());
        assert_eq!(given_up.one_more(now), Some(0));
        assert_eq!(given_up.one_more(now), None);
        assert_eq!(given_up.one_more(now + GIVEN_UP_EVERY / 2), None);
        assert_eq!(given_up.one_more(now + GIVEN_UP_EVERY), Some(2));
    }
}
