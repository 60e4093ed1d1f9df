//! A driver under test, and the few lines that every case begins with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use hostel_stores::messaging::{Delivery, Message, Messaging, Subscription};
use hostel_stores::place::{Kind, Place};
use hostel_stores::{Scope, Stores, StoresOptions};
use tempfile::TempDir;
use tokio::time::timeout;

/// Longer than anything takes that works.
pub const LONG: Duration = Duration::from_secs(30);

/// A place with a driver for it.
pub struct Driver {
    pub stores: Stores,
    pub place: Place,
    /// False for a driver that hands a message over once and forgets it.
    pub at_least_once: bool,
    /// Whether a delivery that nobody worked on does not count.
    pub takes_back: bool,
    /// Lives as long as the driver is used.
    _keep: Box<dyn Send + Sync>,
}

impl Driver {
    /// A driver without a server, with a data directory of its own.
    pub async fn local(url: &str) -> Self {
        let data = TempDir::new().unwrap();
        let options = StoresOptions {
            data: Some(data.path().to_owned()),
            ..StoresOptions::default()
        };
        Self::new(url, options, data)
    }

    /// A driver for a server; `keep` is what stops the server when it is dropped.
    pub async fn server(url: &str, keep: impl Send + Sync + 'static) -> Self {
        let mut driver = Self::new(url, StoresOptions::default(), keep);
        // The machine may be busy with other tests.
        driver.place.timeout = LONG;
        driver
    }

    pub async fn redis() -> Self {
        let server = crate::shared::redis();
        Self::server(&server.url(), server).await
    }

    pub async fn jetstream() -> Self {
        let server = crate::shared::nats();
        Self::server(&server.url(), server).await
    }

    pub async fn nats_core() -> Self {
        let server = crate::shared::nats();
        let url = server.url().replace("nats://", "nats+core://");
        Self::server(&url, server).await.forgetful()
    }

    /// It delivers at most once.
    pub fn forgetful(self) -> Self {
        Self {
            at_least_once: false,
            ..self
        }
    }

    pub fn new(url: &str, options: StoresOptions, keep: impl Send + Sync + 'static) -> Self {
        Self {
            stores: Stores::new(options).unwrap(),
            place: Place::parse(Kind::Messaging, url).unwrap(),
            at_least_once: true,
            takes_back: !url.starts_with("nats"),
            _keep: Box::new(keep),
        }
    }

    /// A scope that nobody else has.
    pub fn fresh(&self) -> Arc<dyn Messaging> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.open(&format!("app-{}-{number}", std::process::id()), "default")
    }

    pub fn open(&self, app: &str, label: &str) -> Arc<dyn Messaging> {
        let scope = Scope::new(app, label).unwrap();
        self.stores.messaging(&self.place, &scope).unwrap()
    }
}

/// Terms under which nothing fails by itself.
pub fn terms(pattern: &str, group: &str) -> Subscription {
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

pub fn message(topic: &str, body: &str) -> Message {
    Message {
        topic: topic.to_owned(),
        body: body.to_owned().into(),
        ..Message::default()
    }
}

pub fn text(message: &Message) -> String {
    String::from_utf8(message.body.to_vec()).unwrap()
}

/// The next delivery.
pub async fn next(deliveries: &mut BoxStream<'static, Delivery>) -> Delivery {
    let next = timeout(LONG, deliveries.next()).await;
    next.expect("nothing was delivered")
        .expect("the subscription ended")
}

/// The next delivery's text, acknowledged.
pub async fn take(deliveries: &mut BoxStream<'static, Delivery>) -> String {
    let delivery = next(deliveries).await;
    let text = text(&delivery.message);
    delivery.settle.ack().await.unwrap();
    text
}
