//! What the drivers without a server do beyond the contract: their bounds.

use std::time::Duration;

use hostel_stores::Failure;
use hostel_stores::StoresOptions;
use hostel_stores::messaging::{Bounds, Error, Message};
use tempfile::TempDir;

use super::driver::{Driver, LONG, message, next, take, terms};
use super::{load, redelivery, scopes};

/// With little room.
fn small(url: &str, bounds: Bounds) -> Driver {
    let data = TempDir::new().unwrap();
    let options = StoresOptions {
        data: Some(data.path().to_owned()),
        messaging: bounds,
        ..StoresOptions::default()
    };
    Driver::new(url, options, data)
}

const LOCAL: [&str; 3] = ["memory:", "embedded:", "embedded:?durable=false"];

#[tokio::test]
async fn a_backlog_has_an_end_and_says_whose_it_is() {
    for url in LOCAL {
        let bounds = Bounds {
            backlog: 10,
            ..Bounds::default()
        };
        let driver = small(url, bounds);
        let broker = driver.fresh();
        drop(broker.subscribe(terms("a", "absent")).await.unwrap());
        for number in 0..10 {
            broker
                .publish(message("a", &number.to_string()))
                .await
                .unwrap();
        }
        let full = broker.publish(message("a", "one more")).await.unwrap_err();
        let Error::Failed(Failure::Full(why)) = &full else {
            panic!("{full:?}")
        };
        assert!(
            why.contains("10 messages") && why.contains("absent"),
            "{why}"
        );
        broker
            .publish(message("other", "nobody needs it"))
            .await
            .unwrap();
        let mut heard = broker.subscribe(terms("a", "absent")).await.unwrap();
        assert_eq!(take(&mut heard).await, "0");
        broker.publish(message("a", "10")).await.unwrap();
        for number in 1..=10 {
            assert_eq!(take(&mut heard).await, number.to_string());
        }
    }
}

#[tokio::test]
async fn bytes_are_bounded_too() {
    for url in LOCAL {
        let bounds = Bounds {
            backlog_bytes: 10_000,
            message_bytes: 4_000,
            ..Bounds::default()
        };
        let driver = small(url, bounds);
        let broker = driver.fresh();
        let mut heard = broker.subscribe(terms("a", "group")).await.unwrap();
        let large = message("a", &"x".repeat(4_000));
        let refused = broker.publish(large.clone()).await.unwrap_err();
        assert_eq!(
            refused,
            Error::TooLarge {
                bytes: 4_001,
                most: 4_000
            }
        );
        let asked = broker.request(large, 1, LONG).await.unwrap_err();
        assert!(matches!(asked, Error::TooLarge { .. }), "{asked}");
        let headers = Message {
            headers: vec![(String::new(), String::new()); 125],
            ..message("a", "")
        };
        let refused = broker.publish(headers).await.unwrap_err();
        assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
        for _ in 0..2 {
            broker
                .publish(message("a", &"x".repeat(3_500)))
                .await
                .unwrap();
        }
        let full = broker.publish(message("a", &"x".repeat(3_500))).await;
        assert!(
            matches!(full, Err(Error::Failed(Failure::Full(_)))),
            "{full:?}"
        );
        take(&mut heard).await;
        broker
            .publish(message("a", &"x".repeat(3_500)))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_group_that_never_comes_back_is_forgotten_when_there_is_no_room() {
    for url in LOCAL {
        let bounds = Bounds {
            backlog: 10,
            forget: Duration::ZERO,
            ..Bounds::default()
        };
        let driver = small(url, bounds);
        let broker = driver.fresh();
        drop(broker.subscribe(terms("a", "gone")).await.unwrap());
        let mut heard = broker.subscribe(terms("a", "here")).await.unwrap();
        for number in 0..100 {
            broker
                .publish(message("a", &number.to_string()))
                .await
                .unwrap();
            assert_eq!(take(&mut heard).await, number.to_string());
        }
        // A group that is there is never forgotten.
        for number in 0..10 {
            broker
                .publish(message("a", &number.to_string()))
                .await
                .unwrap();
        }
        let full = broker.publish(message("a", "11")).await;
        assert!(
            matches!(full, Err(Error::Failed(Failure::Full(_)))),
            "{full:?}"
        );
        let mut again = broker.subscribe(terms("a", "gone")).await.unwrap();
        drop(next(&mut heard).await);
        let nothing = tokio::time::timeout(Duration::from_millis(20), next(&mut again)).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }
}

#[tokio::test]
async fn the_topics_of_a_group_are_bounded() {
    for (url, forget) in LOCAL
        .into_iter()
        .flat_map(|url| [(url, false), (url, true)])
    {
        let mut bounds = Bounds {
            group_topics: 2,
            ..Bounds::default()
        };
        if forget {
            bounds.forget = Duration::ZERO;
        }
        let driver = small(url, bounds);
        let broker = driver.fresh();
        let _first = broker.subscribe(terms("a", "group")).await.unwrap();
        drop(broker.subscribe(terms("b", "group")).await.unwrap());
        // Neither another one of the same topic nor another name is one more.
        let _same = broker.subscribe(terms("a", "group")).await.unwrap();
        let _other = broker.subscribe(terms("c", "other")).await.unwrap();
        let more = broker.subscribe(terms("c", "group")).await.map(drop);
        match forget {
            // The one that nobody subscribes for has made room.
            true => more.unwrap(),
            false => assert!(
                matches!(&more, Err(Error::Failed(Failure::Full(why))) if why.contains("group")),
                "{more:?}"
            ),
        }
    }
}

#[tokio::test]
async fn requests_that_nobody_takes_in_time_are_gone() {
    let driver = Driver::local("memory:").await;
    let broker = driver.fresh();
    let mut terms = terms("a", "busy");
    terms.in_flight = 1;
    let mut heard = broker.subscribe(terms).await.unwrap();
    broker.publish(message("a", "work")).await.unwrap();
    let work = next(&mut heard).await;
    let wait = Duration::from_millis(20);
    for _ in 0..10 {
        let asked = broker.request(message("a", "asked"), 1, wait).await;
        assert!(matches!(asked, Err(Error::NoReply(_))), "{asked:?}");
    }
    work.settle.ack().await.unwrap();
    broker.publish(message("a", "after")).await.unwrap();
    assert_eq!(take(&mut heard).await, "after");
}

/// All drivers without a server, each in a process that has the others too.
async fn all() -> [Driver; 3] {
    let [memory, embedded, behind] = LOCAL.map(Driver::local);
    tokio::join!(memory, embedded, behind).into()
}

#[tokio::test]
async fn twenty_thousand_messages_arrive_beside_other_brokers() {
    let [one, two, three] = all().await;
    tokio::join!(
        load::nothing_is_lost_while_subscribers_come_and_go(&one),
        load::nothing_is_lost_while_subscribers_come_and_go(&two),
        load::nothing_is_lost_while_subscribers_come_and_go(&three),
    );
}

#[tokio::test]
async fn what_fails_comes_again_and_then_is_a_dead_letter() {
    for driver in &all().await {
        redelivery::what_was_refused_comes_again_and_is_counted(driver).await;
        redelivery::what_was_dropped_comes_again(driver).await;
        redelivery::what_nobody_settles_comes_again(driver).await;
        redelivery::what_fails_too_often_goes_to_the_dead_letters(driver).await;
        redelivery::what_is_rejected_is_a_dead_letter_at_once(driver).await;
        redelivery::what_is_still_worked_on_does_not_come_again(driver).await;
        redelivery::what_nobody_worked_on_does_not_count(driver).await;
    }
}

#[tokio::test]
async fn apps_and_labels_of_one_process_do_not_hear_each_other() {
    for driver in &all().await {
        scopes::scopes_do_not_hear_each_other(driver).await;
        scopes::no_spelling_of_a_topic_leaves_its_scope(driver).await;
        scopes::requests_stay_in_their_scope(driver).await;
    }
}
