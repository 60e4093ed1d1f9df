//! What the embedded driver keeps over a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hostel_stores::messaging::{Messaging, Subscription};
use hostel_stores::{StoresOptions, messaging::Message};
use tempfile::TempDir;

use super::driver::{Driver, LONG, message, next, take, terms, text};

/// The broker as another process would open it, once the one before has let go of its file.
async fn start(data: &Path) -> (Driver, Arc<dyn Messaging>) {
    let end = std::time::Instant::now() + LONG;
    loop {
        let options = StoresOptions {
            data: Some(data.to_owned()),
            ..StoresOptions::default()
        };
        let driver = Driver::new("embedded:", options, ());
        let broker = driver.open("shop", "default");
        match broker.check().await {
            Ok(()) => return (driver, broker),
            Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn groups_and_what_they_have_not_settled_survive() {
    let data = TempDir::new().unwrap();
    {
        let (_driver, broker) = start(data.path()).await;
        let mut one = broker.subscribe(terms("a.*", "one")).await.unwrap();
        drop(broker.subscribe(terms("a.b", "two")).await.unwrap());
        for body in ["settled", "refused", "untouched"] {
            let headers = vec![("x-body".to_owned(), body.to_owned())];
            let sent = Message {
                headers,
                ..message("a.b", body)
            };
            broker.publish(sent).await.unwrap();
        }
        assert_eq!(take(&mut one).await, "settled");
        let refused = next(&mut one).await;
        assert_eq!(refused.attempt, 1);
        refused.settle.nack().await.unwrap();
        // Steps that nobody waits for are written before later ones that somebody waits for.
        broker.publish(message("a.c", "last")).await.unwrap();
    }
    let (_driver, broker) = start(data.path()).await;
    let mut one = broker.subscribe(terms("a.*", "one")).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut one).await;
        heard.push((text(&delivery.message), delivery.attempt));
        if heard.len() == 1 {
            let header = ("x-body".to_owned(), "refused".to_owned());
            assert_eq!(delivery.message.headers, [header]);
        }
        delivery.settle.ack().await.unwrap();
    }
    let expected = [("refused", 2), ("untouched", 1), ("last", 1)];
    assert_eq!(
        heard,
        expected.map(|(body, attempt)| (body.to_owned(), attempt))
    );
    let mut two = broker.subscribe(terms("a.b", "two")).await.unwrap();
    for body in ["settled", "refused", "untouched"] {
        assert_eq!(take(&mut two).await, body);
    }
}

#[tokio::test]
async fn a_message_that_ends_the_process_each_time_is_given_up() {
    let data = TempDir::new().unwrap();
    let dying = Subscription {
        deliveries: 2,
        dead_letter: Some("dead".to_owned()),
        ..terms("a", "group")
    };
    for attempt in 1..=2 {
        let (_driver, broker) = start(data.path()).await;
        drop(broker.subscribe(terms("dead", "undertaker")).await.unwrap());
        let mut heard = broker.subscribe(dying.clone()).await.unwrap();
        if attempt == 1 {
            broker.publish(message("a", "deadly")).await.unwrap();
        }
        let delivery = next(&mut heard).await;
        assert_eq!(delivery.attempt, attempt);
        broker
            .publish(message("dead", "a step to wait for"))
            .await
            .unwrap();
        // Neither settled nor dropped: the process is gone.
        std::mem::forget(delivery);
    }
    let (_driver, broker) = start(data.path()).await;
    let mut dead = broker.subscribe(terms("dead", "undertaker")).await.unwrap();
    let mut heard = broker.subscribe(dying).await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(50), next(&mut heard)).await;
    assert!(nothing.is_err(), "it was handed out once more");
    for _ in 0..2 {
        assert_eq!(take(&mut dead).await, "a step to wait for");
    }
    assert_eq!(take(&mut dead).await, "deadly");
}

#[tokio::test]
async fn nothing_is_kept_that_nobody_needs() {
    let data = TempDir::new().unwrap();
    {
        let (driver, broker) = start(data.path()).await;
        broker.publish(message("a", "for nobody")).await.unwrap();
        let mut heard = broker.subscribe(terms("a", "group")).await.unwrap();
        for number in 0..50 {
            broker
                .publish(message("a", &number.to_string()))
                .await
                .unwrap();
        }
        for _ in 0..50 {
            take(&mut heard).await;
        }
        let engine = driver.stores.engine("shop").unwrap();
        let rows = engine.read(|connection| {
            let count =
                "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM message_waits)";
            connection.query_row(count, [], |row| row.get::<_, i64>(0))
        });
        assert_eq!(rows.await.unwrap(), 0);
    }
}
