//! What the drivers for Redis and NATS do beyond the contracts: what they keep under which names, and what happens when the
//! server fails in all the ways of servers and networks.

mod faults;
mod loss;
mod nats;
mod redis;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use hostel_stores::kv::Kv;
use hostel_stores::messaging::{Message, Messaging, Subscription};
use hostel_stores::place::{Kind, Place};
use hostel_stores::{Scope, Stores, StoresOptions};

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(30);

fn scope() -> Scope {
    Scope::new("shop", "default").unwrap()
}

fn place(kind: Kind, url: &str, timeout: Duration) -> Place {
    let mut place = Place::parse(kind, url).unwrap();
    place.timeout = timeout;
    place
}

fn stores() -> Stores {
    Stores::new(StoresOptions::default()).unwrap()
}

/// The key-value store of [`scope`] at this URL. `Stores` has to live as long.
fn kv(stores: &Stores, url: &str, timeout: Duration) -> Arc<dyn Kv> {
    let place = place(Kind::KeyValue, url, timeout);
    stores.kv(&place, &scope()).unwrap()
}

fn messaging(stores: &Stores, url: &str, timeout: Duration) -> Arc<dyn Messaging> {
    let place = place(Kind::Messaging, url, timeout);
    stores.messaging(&place, &scope()).unwrap()
}

fn message(topic: &str, body: &str) -> Message {
    Message {
        topic: topic.to_owned(),
        body: body.to_owned().into(),
        ..Message::default()
    }
}

fn terms(pattern: &str, group: &str) -> Subscription {
    Subscription {
        pattern: pattern.to_owned(),
        group: group.to_owned(),
        in_flight: 64,
        ack_wait: LONG,
        deliveries: 5,
        back_off: Duration::from_millis(10),
        back_off_max: Duration::from_millis(100),
        dead_letter: None,
    }
}

/// Runs a program of the server's own, which says what another client sees.
fn other_client(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
