//! One app never hears another, whatever topics are made of.

use std::time::Duration;

use hostel_stores::messaging::{Error, is_topic};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::driver::{Driver, message, next, take, terms, text};

pub async fn scopes_do_not_hear_each_other(driver: &Driver) {
    let names = [
        ("one", "a"),
        ("one", "b"),
        ("one-a", "b"),
        ("ONE", "a"),
        ("two", "a"),
    ];
    let unique = format!("{}", std::process::id());
    let mut scopes = Vec::new();
    for (app, label) in names {
        let broker = driver.open(&format!("{app}-{unique}"), label);
        let heard = broker.subscribe(terms(">", "group")).await.unwrap();
        scopes.push((broker, heard));
    }
    for (number, (broker, _)) in scopes.iter().enumerate() {
        broker
            .publish(message("a.b", &number.to_string()))
            .await
            .unwrap();
    }
    for (number, (broker, heard)) in scopes.iter_mut().enumerate() {
        assert_eq!(take(heard).await, number.to_string());
        broker.publish(message("a.b", "end")).await.unwrap();
        assert_eq!(take(heard).await, "end", "{:?}", names[number]);
    }
}

/// Topics as somebody writes them who wants to be heard elsewhere.
fn odd_topics() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a".to_owned()),
        Just("neighbour".to_owned()),
        Just("default".to_owned()),
        prop::sample::select(vec![
            ".", "..", "*", ">", "/", ":", " ", "\0", "\r\n", "$", "%", "{", "}", "\u{ff0e}",
            "\u{200b}"
        ])
        .prop_map(str::to_owned),
        "\\PC{0,3}",
        Just("hostel".to_owned()),
        Just("_INBOX".to_owned()),
        Just("$JS.API".to_owned()),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

pub async fn no_spelling_of_a_topic_leaves_its_scope(driver: &Driver) {
    let broker = driver.fresh();
    let neighbour = driver.fresh();
    let mut own = broker.subscribe(terms(">", "group")).await.unwrap();
    let mut foreign = neighbour.subscribe(terms(">", "group")).await.unwrap();
    let mut runner = TestRunner::deterministic();
    let mut published = 0;
    for _ in 0..300 {
        let topic = odd_topics().new_tree(&mut runner).unwrap().current();
        match broker.publish(message(&topic, &topic)).await {
            Ok(()) => {
                assert!(is_topic(&topic), "{topic:?} was published");
                assert_eq!(take(&mut own).await, topic);
                published += 1;
            }
            Err(Error::BadTopic(_)) => assert!(!is_topic(&topic), "{topic:?} was refused"),
            Err(other) => panic!("{topic:?}: {other}"),
        }
    }
    assert!(published > 10, "{published} of 300 were topics");
    neighbour.publish(message("end", "end")).await.unwrap();
    assert_eq!(take(&mut foreign).await, "end");
}

pub async fn requests_stay_in_their_scope(driver: &Driver) {
    let broker = driver.fresh();
    let neighbour = driver.fresh();
    let mut heard = broker.subscribe(terms("a", "group")).await.unwrap();
    let wait = Duration::from_millis(500);
    let asked = neighbour.request(message("a", "foreign"), 1, wait).await;
    assert!(matches!(asked, Err(Error::NoReply(_))), "{asked:?}");
    // An address is of no use to another scope.
    let asking = tokio::spawn({
        let broker = broker.clone();
        async move { broker.request(message("a", "own"), 1, wait).await }
    });
    let delivery = next(&mut heard).await;
    assert_eq!(text(&delivery.message), "own");
    let to = delivery.message.reply_to.clone().unwrap();
    let said = neighbour.reply(&to, message("a", "forged")).await;
    assert!(matches!(said, Err(Error::NoRequester)), "{said:?}");
    let answered = asking.await.unwrap();
    assert!(matches!(answered, Err(Error::NoReply(_))), "{answered:?}");
}
