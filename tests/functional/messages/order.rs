//! `ordered_by`: messages of one key are handled one after the other, in the order in which they were published.

use rustix::process::Signal;

use super::{Messages, UNDERTAKER, eventually};

/// The lines of one word with which the guest begins and ends a message, in their order.
fn lines(messages: &Messages, word: &str) -> Vec<String> {
    let text = messages.server.stdout().text();
    let line = |line: &str| {
        let at = line.find("handled ").or_else(|| line.find("done "))?;
        let said = line.get(at..)?;
        said.contains(word).then(|| {
            let what = if said.starts_with("done") {
                "done"
            } else {
                "handled"
            };
            let number = said.split(word).last().unwrap_or_default();
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            format!("{what} {digits}")
        })
    };
    text.lines().filter_map(line).collect()
}

/// What [`lines`] are if nothing overtook anything.
fn in_order(numbers: impl Iterator<Item = usize>) -> Vec<String> {
    numbers
        .flat_map(|number| [format!("handled {number}"), format!("done {number}")])
        .collect()
}

#[test]
fn messages_of_one_topic_are_handled_one_after_the_other_and_others_beside_them() {
    let messages = Messages::new("ordered_by = \"topic\"");
    messages.send("orders.slow", "sleep 20000");
    messages.send("orders.slow", "behind");
    messages.says("handled orders.slow text/plain sleep 20000.", 1);
    for number in 0..20 {
        messages.send("orders.fast", &format!("fast{number}"));
    }
    messages.says("done fast19.", 1);
    assert_eq!(lines(&messages, "fast"), in_order(0..20));
    assert_eq!(messages.said("behind"), 0, "it waits");
}

#[test]
fn the_key_may_be_a_value_that_the_messages_carry() {
    let messages = Messages::new("ordered_by = \"metadata:shop\"");
    for number in 0..20 {
        // The topic is not what orders them.
        let topic = ["orders.a", "orders.b", "orders.c"][number % 3];
        let page = format!("/?send={topic}&text=north{number}&meta=shop:north");
        messages.server.page(&page);
    }
    messages.says("done north19", 1);
    let text = messages.server.stdout().text();
    let numbers: Vec<usize> = text
        .lines()
        .filter_map(|line| {
            line.split("done north")
                .nth(1)?
                .trim_end_matches('.')
                .parse()
                .ok()
        })
        .collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_message_that_fails_holds_back_its_key_until_it_is_a_dead_letter() {
    let settings = format!("ordered_by = \"topic\"\n{UNDERTAKER}").replace("= 2", "= 4");
    let messages = Messages::new(&settings);
    messages.send("orders.a", "fail");
    messages.send("orders.a", "after1");
    messages.send("orders.a", "trap");
    messages.send("orders.a", "after2");
    messages.says("done after2.", 1);
    let text = messages.server.stdout().text();
    let handled: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split("handled orders.a text/plain ").nth(1))
        .collect();
    let mut expected = vec!["fail."; 4];
    expected.push("after1.");
    expected.extend(["trap."; 4]);
    expected.push("after2.");
    assert_eq!(handled, expected);
    messages.says("hostel-deliveries=4.", 2);
    messages.logs("the message of orders.a is given up after 4 tries");
}

#[test]
fn the_order_survives_the_end_of_the_process() {
    let mut messages = Messages::new("ordered_by = \"topic\"");
    messages.send("orders.a", "sleep 8000");
    messages.says("handled orders.a text/plain sleep 8000.", 1);
    for number in 0..30 {
        messages.send("orders.a", &format!("waiting{number}"));
    }
    messages.server.signal(Signal::KILL);
    let _killed = messages.server.end();
    assert_eq!(messages.said("waiting"), 0, "they were to wait");
    messages.again();
    messages.says("done waiting29.", 1);
    assert_eq!(lines(&messages, "waiting"), in_order(0..30));
}

#[test]
fn a_server_that_stops_gives_back_what_waits_in_its_order_and_uncounted() {
    // Any delivery that counted would be the last.
    let mut messages = Messages::new("ordered_by = \"topic\"\ndeliveries = 1");
    messages.send("orders.a", "sleep 5000");
    messages.says("handled orders.a text/plain sleep 5000.", 1);
    for number in 0..10 {
        messages.send("orders.a", &format!("waiting{number}"));
    }
    messages.server.signal(Signal::TERM);
    assert_eq!(messages.server.end().code(), Some(0));
    assert_eq!(
        (messages.said("done sleep"), messages.said("waiting")),
        (1, 0)
    );
    messages.again();
    messages.says("done waiting9.", 1);
    assert_eq!(lines(&messages, "waiting"), in_order(0..10));
}

#[test]
fn a_crowd_of_one_key_waits_and_then_holds_up_others() {
    let messages = Messages::new("ordered_by = \"topic\"\nconcurrency = 4");
    messages.send("orders.a", "sleep 12000");
    messages.says("handled orders.a text/plain sleep 12000.", 1);
    // One less than may wait.
    messages.server.page("/?send=orders.a&text=crowd&times=255");
    messages.send("orders.b", "free");
    messages.says("done free.", 1);
    // One more than that: what comes now stays with the broker.
    messages.server.page("/?send=orders.a&text=crowd&times=2");
    messages.send("orders.b", "held");
    messages.says("done held.", 1);
    let text = messages.server.stdout().text();
    let place = |what: &str| text.find(what).expect(what);
    assert!(place("done free.") < place("done sleep 12000."));
    assert!(place("done sleep 12000.") < place("handled orders.b text/plain held."));
    eventually("the crowd is done", || {
        (messages.said("done crowd.") == 257).then_some(())
    });
}
