//! Handlers in trouble: what becomes of their messages, and that their neighbours do not notice.

use super::{App, Messages, WEB, encoded, eventually};
use crate::harness::command::hostel_in;

#[test]
fn a_handler_that_always_traps_is_named_and_its_neighbours_do_not_suffer() {
    let app = App::new(
        r#"
[app]
name = "test"

[[http]]
route = "/..."
component = "web"

[component.web]
source = "messages-p2.wasm"

[component.web.grants]
messaging = { publish = [">"] }

[[message]]
topic = "orders.*"
component = "poisoned"
deliveries = 3

[component.poisoned]
source = "messages-p2.wasm"

[[message]]
topic = "readings.*"
component = "neighbour"

[component.neighbour]
source = "handler-p2.wasm"
"#,
    );
    let messages = Messages::of(app, &[]);
    messages
        .server
        .page("/?send=orders.new&text=trap&times=100");
    for number in 0..20 {
        messages.send("readings.new", &format!("reading{number}"));
    }
    for number in 0..20 {
        messages.says(&format!(" reading{number}."), 1);
    }
    messages.logs("fault=trap component=poisoned");
    messages.logs(
        "the message of orders.new is given up after 3 tries: it is dropped; with `dead_letter`",
    );
    eventually("all of them are given up", || {
        (messages.said("handled orders.new text/plain trap.") == 300).then_some(())
    });
    // What is left of them is nothing, and the handler is as it was.
    messages.send("orders.new", "fine");
    messages.says("done fine.", 1);
    assert_eq!(messages.said("handled orders.new text/plain trap."), 300);
}

#[test]
fn a_message_that_waits_for_a_place_has_not_failed() {
    let limits = "deliveries = 1\n[component.web.limits]\nconcurrency = 1\nqueue_depth = 0\n";
    let messages = Messages::new(limits);
    messages.send("orders.new", &encoded("sleep 300").replace("%20", " "));
    for number in 0..3 {
        // The handler has the only place, which requests need too.
        eventually("there is a place for a request", || {
            let target = format!("/?send=orders.new&text=sleep%2030{number}");
            (messages.server.get(&target).status == 200).then_some(())
        });
    }
    for what in ["0", "1", "2"] {
        messages.says(&format!("done sleep 30{what}."), 1);
    }
    assert!(!messages.server.stderr().text().contains("given up"));
}

#[test]
fn what_a_handler_does_not_take_is_dropped_without_dead_letters_and_the_log_says_so() {
    let messages = Messages::new("deliveries = 2");
    messages.send("orders.new", "fail");
    messages.logs("it did not take a message: told to fail");
    messages.logs("level=error component=web request=");
    messages.logs("the message of orders.new is given up after 2 tries: it is dropped");
}

#[test]
fn topics_that_nobody_handles_are_named() {
    let manifest = format!("{WEB}dead_letter = \"lost.orders\"\n");
    let app = App::new(&manifest);
    let checked = hostel_in(app.folder(), &["check"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let lines = [
        "component \"web\": it may publish to dead.>, and no [[message]] of this app handles such a topic",
        "the dead letters of orders.* go to lost.orders, and no [[message]] of this app handles such a topic",
    ];
    for line in lines {
        assert!(checked.stderr.contains(line), "{}", checked.stderr);
    }
    // `orders.*` is handled.
    assert_eq!(checked.stderr.matches("and no [[message]]").count(), 2);
    let messages = Messages::of(app, &[]);
    lines.into_iter().for_each(|line| messages.logs(line));
}
