//! What every broker does.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::select;
use hostel_stores::messaging::{Error, Message};

use super::driver::{Driver, LONG, message, next, take, terms, text};

pub async fn a_broker_can_be_reached(driver: &Driver) {
    driver.fresh().check().await.unwrap();
}

pub async fn every_group_gets_each_message_and_its_subscribers_share_them(driver: &Driver) {
    let broker = driver.fresh();
    let one = broker.subscribe(terms("a", "shared")).await.unwrap();
    let two = broker.subscribe(terms("a", "shared")).await.unwrap();
    let mut alone = broker.subscribe(terms("a", "alone")).await.unwrap();
    let bodies: BTreeSet<String> = (0..40).map(|number| number.to_string()).collect();
    for body in &bodies {
        broker.publish(message("a", body)).await.unwrap();
    }
    let mut both = select(one, two).boxed();
    let mut shared = Vec::new();
    while shared.len() < bodies.len() {
        shared.push(take(&mut both).await);
    }
    assert_eq!(shared.into_iter().collect::<BTreeSet<_>>(), bodies);
    let mut of_alone = BTreeSet::new();
    for _ in &bodies {
        of_alone.insert(take(&mut alone).await);
    }
    assert_eq!(of_alone, bodies);
}

pub async fn patterns_choose_the_topics(driver: &Driver) {
    let broker = driver.fresh();
    let topics = ["a", "a.b", "a.c", "a.b.c", "b.a.b", "end"];
    for (pattern, expected) in [
        ("a", vec!["a", "end"]),
        ("a.*", vec!["a.b", "a.c", "end"]),
        ("a.>", vec!["a.b", "a.c", "a.b.c", "end"]),
        ("*.b", vec!["a.b", "end"]),
        ("*.*.*", vec!["a.b.c", "b.a.b", "end"]),
        (">", topics.to_vec()),
    ] {
        let mut wanted = broker.subscribe(terms(pattern, "group")).await.unwrap();
        let mut end = broker.subscribe(terms("end", "group")).await.unwrap();
        for topic in topics {
            broker.publish(message(topic, topic)).await.unwrap();
        }
        let mut seen = Vec::new();
        while seen.len() + 1 < expected.len() {
            seen.push(take(&mut wanted).await);
        }
        seen.push(take(&mut end).await);
        seen.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        if pattern == ">" {
            assert_eq!(take(&mut wanted).await, "end");
        }
        assert_eq!(seen, expected, "{pattern}");
    }
}

pub async fn one_publisher_is_heard_in_its_order(driver: &Driver) {
    let broker = driver.fresh();
    let mut heard = broker.subscribe(terms("a.>", "group")).await.unwrap();
    for number in 0..200 {
        let topic = format!("a.{}", number % 3);
        let body = number.to_string();
        broker.publish(message(&topic, &body)).await.unwrap();
    }
    for number in 0..200 {
        assert_eq!(take(&mut heard).await, number.to_string());
    }
}

pub async fn bodies_and_headers_arrive_as_they_were(driver: &Driver) {
    let broker = driver.fresh();
    let mut heard = broker.subscribe(terms("a.b", "group")).await.unwrap();
    let every_byte: Vec<u8> = (0..=255).collect();
    for body in [Vec::new(), every_byte, vec![7; 100_000]] {
        let headers = [
            ("content-type", "text/plain"),
            ("x-one", "1"),
            ("x-two", "2 3"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let sent = Message {
            topic: "a.b".to_owned(),
            body: body.into(),
            headers: headers.to_vec(),
            reply_to: None,
        };
        broker.publish(sent.clone()).await.unwrap();
        let delivery = next(&mut heard).await;
        assert_eq!(delivery.attempt, 1);
        assert_eq!(delivery.message.topic, sent.topic);
        assert_eq!(delivery.message.body, sent.body);
        let mut received = delivery.message.headers.clone();
        received.sort_unstable();
        assert_eq!(received, sent.headers);
        delivery.settle.ack().await.unwrap();
    }
}

pub async fn what_is_no_topic_is_refused(driver: &Driver) {
    let broker = driver.fresh();
    for bad in ["", "a.*", ">", "a b", "a..b", "\u{e9}", "a\nb", "a/b", ".a"] {
        let refused = broker.publish(message(bad, "")).await;
        assert!(matches!(refused, Err(Error::BadTopic(_))), "{bad:?}");
        let asked = broker.request(message(bad, ""), 1, LONG).await;
        assert!(matches!(asked, Err(Error::BadTopic(_))), "{bad:?}");
    }
    for bad in ["", "a.>.b", "a b", "a.*b"] {
        let refused = broker.subscribe(terms(bad, "group")).await.err();
        assert!(matches!(refused, Some(Error::BadTopic(_))), "{bad:?}");
    }
    for letter in ["a.*", "a.b"] {
        let mut terms = terms("a.*", "group");
        terms.dead_letter = Some(letter.to_owned());
        let refused = broker.subscribe(terms).await.err();
        assert!(matches!(refused, Some(Error::BadTopic(_))), "{letter}");
    }
}

pub async fn nobody_listening_is_said(driver: &Driver) {
    let broker = driver.fresh();
    let wait = Duration::from_millis(500);
    let asked = broker.request(message("a", ""), 1, wait).await;
    assert!(matches!(asked, Err(Error::NoReply(_))), "{asked:?}");
    // Nor does a message need anybody.
    broker.publish(message("a", "")).await.unwrap();
}

pub async fn a_request_is_answered(driver: &Driver) {
    let broker = driver.fresh();
    let mut heard = broker.subscribe(terms("sums.*", "adder")).await.unwrap();
    let answerer = broker.clone();
    let answering = tokio::spawn(async move {
        for _ in 0..10 {
            let delivery = next(&mut heard).await;
            let to = delivery.message.reply_to.clone().expect("nobody waits");
            let sum = text(&delivery.message).parse::<u32>().unwrap() + 1;
            let mut answer = message("sums.answer", &sum.to_string());
            answer.headers = vec![("x-sum".to_owned(), "yes".to_owned())];
            answerer.reply(&to, answer).await.unwrap();
            delivery.settle.ack().await.unwrap();
        }
    });
    for number in 0..10 {
        let asked = message("sums.one", &number.to_string());
        let answers = broker.request(asked, 1, LONG).await.unwrap();
        assert_eq!(answers.len(), 1);
        assert_eq!(text(&answers[0]), (number + 1).to_string());
        let header = ("x-sum".to_owned(), "yes".to_owned());
        assert_eq!(answers[0].headers, [header]);
    }
    answering.await.unwrap();
}

pub async fn a_request_takes_as_many_answers_as_it_wants(driver: &Driver) {
    let broker = driver.fresh();
    for group in ["one", "two", "three"] {
        let mut heard = broker.subscribe(terms("a", group)).await.unwrap();
        let broker = broker.clone();
        tokio::spawn(async move {
            loop {
                let delivery = next(&mut heard).await;
                let to = delivery.message.reply_to.clone().unwrap();
                // Somebody may have enough.
                let _heard = broker.reply(&to, message("answer", group)).await;
                let _settled = delivery.settle.ack().await;
            }
        });
    }
    let answers = broker.request(message("a", ""), 3, LONG).await.unwrap();
    let groups: BTreeSet<String> = answers.iter().map(text).collect();
    assert_eq!(
        groups.into_iter().collect::<Vec<_>>(),
        ["one", "three", "two"]
    );
    let answers = broker.request(message("a", ""), 2, LONG).await.unwrap();
    assert_eq!(answers.len(), 2);
    let wait = Duration::from_secs(1);
    let answers = broker.request(message("a", ""), 4, wait).await.unwrap();
    assert_eq!(answers.len(), 3, "those that came in time");
}

pub async fn a_request_that_nobody_answers_ends_in_time(driver: &Driver) {
    let broker = driver.fresh();
    let mut heard = broker.subscribe(terms("a", "silent")).await.unwrap();
    let asked = message("a", "asked");
    let asking = broker.request(asked, 1, Duration::from_secs(1));
    let hearing = async {
        let delivery = next(&mut heard).await;
        assert_eq!(text(&delivery.message), "asked");
        delivery.settle.nack().await.unwrap();
    };
    let (asked, ()) = tokio::join!(asking, hearing);
    assert!(matches!(asked, Err(Error::NoReply(_))), "{asked:?}");
    // It is not heard again.
    broker.publish(message("a", "after")).await.unwrap();
    assert_eq!(take(&mut heard).await, "after");
}

pub async fn an_answer_needs_somebody_who_waits(driver: &Driver) {
    let broker = driver.fresh();
    for to in ["", "a", "0000000000000000.1", "\u{e9}", "$JS.API", ">"] {
        let said = broker.reply(to, message("a", "")).await;
        assert!(matches!(said, Err(Error::NoRequester)), "{to:?} {said:?}");
    }
}
