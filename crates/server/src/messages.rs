//! The message trigger: subscribes, calls the guest, and acknowledges once it has returned.
//!
//! A message is acknowledged when the guest says that it is done. It is refused, and so delivered again later, when the guest
//! says that it is not, or fails. Where the guest has no place free the message waits here for one: that is nobody's failure.
//!
//! Each subscription is driven on one of the threads that serve, and is there before the first request is answered: what that
//! publishes is not lost. A broker that is away when the server starts holds it up for [`AT_START`] and no longer; it is tried
//! again until it comes.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, FuturesUnordered, StreamExt};
use hostel_app::{MessageTrigger, limits};
use hostel_host::messaging::{Delivery, Messaging, Subscription};
use hostel_host::{Fault, LoadError, LogSink, RequestId, Role};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use crate::deploy::Deployment;
use crate::slot::Slot;
use crate::worker::Phase;

/// How long to wait before a broker is tried again, the first time and at the most.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a server that starts waits for its subscriptions.
pub(crate) const AT_START: Duration = Duration::from_secs(1);
/// How often a message that waits for a place asks again.
const BUSY: Duration = Duration::from_millis(20);
/// How long it waits for one until it is given back.
const PATIENCE: Duration = Duration::from_secs(10);
/// A guest without a deadline may keep a message for so long.
const NO_DEADLINE: Duration = Duration::from_secs(3600);
/// Between the guest's deadline and the time when the message counts as lost.
const MARGIN: Duration = Duration::from_secs(20);

/// Messages for one guest.
#[derive(Debug, Clone)]
pub struct Consumer {
    slot: Slot,
    /// The component's name.
    component: String,
    broker: Arc<dyn Messaging>,
    subscription: Subscription,
}

/// What the `[[message]]` sections of an app say.
pub(crate) fn consumers(deployment: &Deployment<'_>) -> Result<Vec<Consumer>, LoadError> {
    let mut all = Vec::with_capacity(deployment.app.messages.len());
    for trigger in &deployment.app.messages {
        let broker = deployment.scope.broker(&trigger.client);
        let broker = broker.map_err(|error| deployment.named(trigger.component, error))?;
        if let Some(slot) = deployment.slot(trigger.component, Role::Handle) {
            all.push(Consumer::new(slot.clone(), broker, trigger));
        }
    }
    Ok(all)
}

impl Consumer {
    /// What a trigger says, for the guest that it names.
    fn new(slot: Slot, broker: Arc<dyn Messaging>, trigger: &MessageTrigger) -> Self {
        let guest = slot.current();
        let deadline = guest.limits().deadline_ms.map(Duration::from_millis);
        let subscription = Subscription {
            pattern: trigger.topic.clone(),
            group: trigger.group.clone(),
            in_flight: usize::try_from(trigger.concurrency).unwrap_or(1),
            ack_wait: deadline.unwrap_or(NO_DEADLINE) + PATIENCE + MARGIN,
            deliveries: trigger.deliveries,
            back_off: limits::MESSAGE_BACK_OFF_MS.duration(),
            back_off_max: limits::MESSAGE_BACK_OFF_MAX_MS.duration(),
            dead_letter: trigger.dead_letter.clone(),
        };
        Self {
            component: guest.name().to_owned(),
            slot,
            broker,
            subscription,
        }
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
        let mut draining = pin!(phase.wait_for(|phase| *phase > Phase::Serving));
        let deliveries = tokio::select! {
            deliveries = self.subscribe(&log, &now) => deliveries,
            _draining = &mut draining => return,
        };
        drop(subscribed);
        // A stream that has ended is not asked again.
        let mut deliveries = deliveries.fuse();
        let mut handling = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = handling.next() => {}
                _draining = &mut draining => break,
                Some(delivery) = deliveries.next() => {
                    let begun = call();
                    let handled = self.handle(delivery, &log);
                    handling.push(async move {
                        handled.await;
                        drop(begun);
                    });
                }
                else => break,
            }
        }
        while handling.next().await.is_some() {}
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
                Err(_) if *now.borrow() == Phase::Starting => {}
                Err(error) => log.host_fault(format_args!(
                    "component \"{}\": no messages of {} yet: {error}; tried again",
                    self.component, self.subscription.pattern
                )),
            }
            sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }

    async fn handle(&self, delivery: Delivery, log: &LogSink) {
        let id = RequestId::next();
        let begin = Instant::now();
        let guest = self.slot.current();
        let handled = loop {
            let message = delivery.message.clone();
            match guest.handle_message(message, &self.broker, id).await {
                Err(Fault::Busy(_)) if begin.elapsed() < PATIENCE => sleep(BUSY).await,
                handled => break handled,
            }
        };
        let settled = match handled {
            Ok(Ok(())) => delivery.settle.ack().await,
            Ok(Err(why)) => {
                guest.report_refusal(id, &why);
                delivery.settle.nack().await
            }
            Err(fault) => {
                guest.report(id, &fault);
                delivery.settle.nack().await
            }
        };
        if let Err(error) = settled {
            log.host_fault(format_args!(
                "component \"{}\": request {id}: the message was handled, but the broker was not told, and delivers it \
                 again: {error}",
                self.component
            ));
        }
    }
}
