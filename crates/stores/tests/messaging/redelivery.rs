//! What a broker does that delivers at least once.

use std::time::{Duration, Instant};

use hostel_stores::messaging::{Message, Subscription};

use super::driver::{Driver, message, next, take, terms, text};

pub async fn what_was_refused_comes_again_and_is_counted(driver: &Driver) {
    let broker = driver.fresh();
    let mut heard = broker.subscribe(terms("a", "group")).await.unwrap();
    broker.publish(message("a", "poison")).await.unwrap();
    broker.publish(message("a", "fine")).await.unwrap();
    let begin = Instant::now();
    let mut attempts = Vec::new();
    let mut fine = 0;
    while attempts.len() < 4 {
        let delivery = next(&mut heard).await;
        if text(&delivery.message) == "fine" {
            fine += 1;
            delivery.settle.ack().await.unwrap();
            continue;
        }
        attempts.push(delivery.attempt);
        match attempts.len() {
            4 => delivery.settle.ack().await.unwrap(),
            _ => delivery.settle.nack().await.unwrap(),
        }
    }
    assert_eq!((attempts, fine), (vec![1, 2, 3, 4], 1));
    // 10, 20 and 40 ms of rest.
    assert!(begin.elapsed() >= Duration::from_millis(70));
    broker.publish(message("a", "after")).await.unwrap();
    assert_eq!(take(&mut heard).await, "after");
}

pub async fn what_was_dropped_comes_again(driver: &Driver) {
    let broker = driver.fresh();
    let terms = Subscription {
        ack_wait: Duration::from_secs(1),
        ..terms("a", "group")
    };
    let mut heard = broker.subscribe(terms.clone()).await.unwrap();
    broker.publish(message("a", "dropped")).await.unwrap();
    drop(next(&mut heard).await);
    let again = next(&mut heard).await;
    assert_eq!(
        (text(&again.message), again.attempt),
        ("dropped".to_owned(), 2)
    );
    // The subscriber goes, with what it had.
    drop(again);
    drop(heard);
    let mut heard = broker.subscribe(terms).await.unwrap();
    assert_eq!(take(&mut heard).await, "dropped");
}

pub async fn what_nobody_settles_comes_again(driver: &Driver) {
    let broker = driver.fresh();
    let terms = Subscription {
        ack_wait: Duration::from_millis(300),
        ..terms("a", "group")
    };
    let mut heard = broker.subscribe(terms).await.unwrap();
    broker.publish(message("a", "slow")).await.unwrap();
    let first = next(&mut heard).await;
    let second = next(&mut heard).await;
    assert_eq!(text(&second.message), "slow");
    assert_eq!((first.attempt, second.attempt), (1, 2));
    second.settle.ack().await.unwrap();
    // Too late to count, and no harm.
    let _late = first.settle.nack().await;
    broker.publish(message("a", "after")).await.unwrap();
    assert_eq!(take(&mut heard).await, "after");
}

pub async fn what_fails_too_often_goes_to_the_dead_letters(driver: &Driver) {
    let broker = driver.fresh();
    let dying = Subscription {
        deliveries: 2,
        dead_letter: Some("dead.orders".to_owned()),
        ..terms("orders.*", "shop")
    };
    let mut heard = broker.subscribe(dying).await.unwrap();
    let mut dead = broker
        .subscribe(terms("dead.>", "undertaker"))
        .await
        .unwrap();
    let poison = Message {
        headers: vec![("x-kept".to_owned(), "yes".to_owned())],
        ..message("orders.new", "poison")
    };
    broker.publish(poison).await.unwrap();
    for attempt in [1, 2] {
        let delivery = next(&mut heard).await;
        assert_eq!(delivery.attempt, attempt);
        delivery.settle.nack().await.unwrap();
    }
    let letter = next(&mut dead).await;
    assert_eq!(letter.message.topic, "dead.orders");
    assert_eq!(text(&letter.message), "poison");
    for (name, value) in [
        ("x-kept", "yes"),
        ("hostel-topic", "orders.new"),
        ("hostel-group", "shop"),
        ("hostel-deliveries", "2"),
    ] {
        let header = (name.to_owned(), value.to_owned());
        assert!(letter.message.headers.contains(&header), "{name}");
    }
    letter.settle.ack().await.unwrap();
    broker
        .publish(message("orders.new", "after"))
        .await
        .unwrap();
    assert_eq!(take(&mut heard).await, "after", "not poison a third time");
}

pub async fn what_is_rejected_is_a_dead_letter_at_once(driver: &Driver) {
    let broker = driver.fresh();
    let dying = Subscription {
        dead_letter: Some("dead".to_owned()),
        ..terms("a", "group")
    };
    let mut heard = broker.subscribe(dying).await.unwrap();
    let mut dead = broker.subscribe(terms("dead", "group")).await.unwrap();
    broker.publish(message("a", "poison")).await.unwrap();
    next(&mut heard).await.settle.reject(1).await.unwrap();
    let letter = next(&mut dead).await;
    assert_eq!(text(&letter.message), "poison");
    let header = ("hostel-deliveries".to_owned(), "1".to_owned());
    assert!(letter.message.headers.contains(&header));
    letter.settle.ack().await.unwrap();
    broker.publish(message("a", "after")).await.unwrap();
    assert_eq!(take(&mut heard).await, "after", "not poison again");
}

pub async fn what_nobody_worked_on_does_not_count(driver: &Driver) {
    let broker = driver.fresh();
    let terms = Subscription {
        deliveries: if driver.takes_back { 2 } else { 6 },
        ..terms("a", "group")
    };
    let mut heard = broker.subscribe(terms).await.unwrap();
    for body in ["first", "second"] {
        broker.publish(message("a", body)).await.unwrap();
    }
    for _ in 0..5 {
        let first = next(&mut heard).await;
        assert_eq!(text(&first.message), "first");
        let second = next(&mut heard).await;
        assert_eq!(text(&second.message), "second");
        first.settle.release().await.unwrap();
        second.settle.release().await.unwrap();
    }
    let delivery = next(&mut heard).await;
    assert_eq!(text(&delivery.message), "first");
    // JetStream counts what it has sent, whatever is said of it.
    let attempts = if driver.takes_back { 1 } else { 6 };
    assert_eq!(delivery.attempt, attempts);
}

pub async fn what_is_still_worked_on_does_not_come_again(driver: &Driver) {
    let broker = driver.fresh();
    let terms = Subscription {
        ack_wait: Duration::from_secs(1),
        ..terms("a", "group")
    };
    let mut heard = broker.subscribe(terms).await.unwrap();
    broker.publish(message("a", "slow")).await.unwrap();
    let mut slow = next(&mut heard).await;
    let begin = Instant::now();
    // A machine that stands still for most of a second in between proves nothing; then it is measured again.
    let mut pauses = Vec::new();
    while begin.elapsed() < Duration::from_secs(2) {
        let pause = Instant::now();
        let early = tokio::time::timeout(Duration::from_millis(50), next(&mut heard)).await;
        slow.settle.extend().await.unwrap();
        pauses.push(pause.elapsed());
        if pauses
            .iter()
            .all(|pause| *pause < Duration::from_millis(900))
        {
            assert!(early.is_err(), "it came again: {early:?}");
        } else {
            return;
        }
    }
    slow.settle.ack().await.unwrap();
    broker.publish(message("a", "after")).await.unwrap();
    assert_eq!(take(&mut heard).await, "after");
}

pub async fn a_group_that_was_away_gets_what_came_meanwhile(driver: &Driver) {
    let broker = driver.fresh();
    broker
        .publish(message("a", "before it was known"))
        .await
        .unwrap();
    drop(broker.subscribe(terms("a", "group")).await.unwrap());
    for number in 0..20 {
        broker
            .publish(message("a", &number.to_string()))
            .await
            .unwrap();
    }
    let mut heard = broker.subscribe(terms("a", "group")).await.unwrap();
    for number in 0..20 {
        assert_eq!(take(&mut heard).await, number.to_string());
    }
}

pub async fn no_more_are_unsettled_than_were_asked_for(driver: &Driver) {
    let broker = driver.fresh();
    let terms = Subscription {
        in_flight: 2,
        ..terms("a", "group")
    };
    let mut heard = broker.subscribe(terms).await.unwrap();
    for number in 0..6 {
        broker
            .publish(message("a", &number.to_string()))
            .await
            .unwrap();
    }
    let first = next(&mut heard).await;
    let second = next(&mut heard).await;
    let third = tokio::time::timeout(Duration::from_millis(50), next(&mut heard)).await;
    assert!(third.is_err(), "a third one came: {third:?}");
    first.settle.ack().await.unwrap();
    let third = next(&mut heard).await;
    assert_eq!(text(&third.message), "2");
    second.settle.ack().await.unwrap();
    third.settle.ack().await.unwrap();
}
