//! Many messages while subscribers come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use hostel_stores::messaging::{Messaging, Subscription};

use super::driver::{Driver, message, next, terms, text};

const MESSAGES: usize = 20_000;
const PUBLISHERS: usize = 128;
/// Messages after which a subscriber goes and another comes.
const SHIFT: usize = 500;

/// What happened to each message.
#[derive(Default)]
struct Seen {
    deliveries: usize,
    acknowledged: bool,
}

pub async fn nothing_is_lost_while_subscribers_come_and_go(driver: &Driver) {
    let broker = driver.fresh();
    drop(broker.subscribe(work()).await.unwrap());
    let publishing = (0..PUBLISHERS).map(|first| tokio::spawn(publish(broker.clone(), first)));
    let publishing: Vec<_> = publishing.collect();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut refused = 0;
    while seen.values().filter(|seen| seen.acknowledged).count() < MESSAGES {
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

fn work() -> Subscription {
    Subscription {
        in_flight: SHIFT,
        deliveries: 20,
        ack_wait: Duration::from_secs(20),
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
    let mut deliveries = broker.subscribe(work()).await.unwrap();
    let (mut acks, mut refused) = (Vec::new(), 0);
    let left = MESSAGES - seen.values().filter(|seen| seen.acknowledged).count();
    for number in 0..SHIFT.min(left) {
        let delivery = next(&mut deliveries).await;
        let body = text(&delivery.message);
        let seen = seen.entry(body.clone()).or_default();
        assert!(!seen.acknowledged, "{body} came after it was settled");
        seen.deliveries += 1;
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
                seen.acknowledged = true;
                acks.push(delivery.settle.ack());
            }
        }
    }
    let mut acks = futures::stream::iter(acks).buffer_unordered(SHIFT);
    while let Some(acknowledged) = acks.next().await {
        acknowledged.unwrap();
    }
    refused
}
