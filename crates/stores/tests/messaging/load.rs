//! Many messages while subscribers come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use hostel_stores::messaging::{Messaging, Subscription};
use tokio::task::JoinSet;

use super::driver::{Driver, message, next, terms, text};

const MESSAGES: usize = 20_000;
const PUBLISHERS: usize = 128;
/// Messages after which a subscriber goes and another comes.
const SHIFT: usize = 500;

/// A server may have handed messages to a subscriber that goes, and brings them again after this time only.
const ACK_WAIT: Duration = Duration::from_secs(3);

/// What happened to each message.
#[derive(Default)]
struct Seen {
    /// Those that had no reason are duplicates.
    deliveries: usize,
    /// When the subscription began that brought it, and when the acknowledgement was through, if it is.
    acknowledged: Option<(Instant, Option<Instant>)>,
}

impl Seen {
    /// Whether it may come again: on a busy machine its acknowledgement may take longer than the server waits for it.
    fn is_late(&self) -> bool {
        self.acknowledged.is_some_and(|(began, through)| {
            through.unwrap_or_else(Instant::now) - began >= ACK_WAIT
        })
    }
}

pub async fn nothing_is_lost_while_subscribers_come_and_go(driver: &Driver) {
    let broker = driver.fresh();
    drop(broker.subscribe(work()).await.unwrap());
    let publishing = (0..PUBLISHERS).map(|first| tokio::spawn(publish(broker.clone(), first)));
    let publishing: Vec<_> = publishing.collect();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut refused = 0;
    while acknowledged(&seen) < MESSAGES {
        refused += shift(&broker, &mut seen).await;
    }
    for published in join_all(publishing).await {
        published.unwrap();
    }
    assert_eq!(seen.len(), MESSAGES);
    let deliveries: usize = seen.values().map(|seen| seen.deliveries).sum();
    assert!(
        deliveries - MESSAGES <= refused,
        "{} duplicates, but only {refused} were not settled",
        deliveries - MESSAGES
    );
}

fn acknowledged(seen: &BTreeMap<String, Seen>) -> usize {
    seen.values()
        .filter(|seen| seen.acknowledged.is_some())
        .count()
}

fn work() -> Subscription {
    Subscription {
        in_flight: SHIFT,
        deliveries: 20,
        ack_wait: ACK_WAIT,
        ..terms("work.*", "workers")
    }
}

async fn publish(broker: Arc<dyn Messaging>, first: usize) {
    for number in (first..MESSAGES).step_by(PUBLISHERS) {
        let topic = format!("work.{first}");
        let sent = message(&topic, &number.to_string());
        broker.publish(sent).await.unwrap();
    }
}

/// One subscriber's time: some messages are acknowledged, some refused, some dropped. How many were not acknowledged.
async fn shift(broker: &Arc<dyn Messaging>, seen: &mut BTreeMap<String, Seen>) -> usize {
    let began = Instant::now();
    let mut deliveries = broker.subscribe(work()).await.unwrap();
    let (mut acks, mut refused) = (JoinSet::new(), 0);
    for number in 0..SHIFT.min(MESSAGES - acknowledged(seen)) {
        let delivery = next(&mut deliveries).await;
        let body = text(&delivery.message);
        let seen = seen.entry(body.clone()).or_default();
        match seen.acknowledged {
            None => seen.deliveries += 1,
            Some(_) => assert!(seen.is_late(), "{body} came after it was settled"),
        }
        match number % 50 {
            7 => {
                refused += 1;
                delivery.settle.nack().await.unwrap();
            }
            13 => {
                refused += 1;
                drop(delivery);
            }
            _ => {
                seen.acknowledged = Some((began, None));
                acks.spawn(async move {
                    delivery.settle.ack().await.unwrap();
                    (body, Instant::now())
                });
            }
        }
    }
    while let Some(acknowledged) = acks.join_next().await {
        let (body, through) = acknowledged.unwrap();
        seen.entry(body).or_default().acknowledged = Some((began, Some(through)));
    }
    refused
}
