//! Messages as wasmCloud's components have them, in both versions of the interface.

use super::{App, Messages, encoded};

/// One component that publishes, asks and handles.
fn app(guest: &str, settings: &str) -> App {
    App::new(&format!(
        r#"
[app]
name = "test"

[[http]]
route = "/..."
component = "web"

[component.web]
source = "{guest}.wasm"

[component.web.grants]
messaging = {{ publish = ["orders.*", "answers.*"], request = ["orders.*"] }}

[[message]]
topic = "answers.*"
component = "web"

[[message]]
topic = "dead.>"
component = "undertaker"

[component.undertaker]
source = "handler-p2.wasm"

[[message]]
topic = "orders.*"
component = "web"
dead_letter = "dead.orders"
{settings}
"#
    ))
}

const GUESTS: [&str; 2] = ["wasmcloud-p2", "wasmcloud-p3"];

#[test]
fn messages_of_wasmcloud_arrive_and_are_answered() {
    for guest in GUESTS {
        let messages = Messages::of(app(guest, ""), &[]);
        messages.send("orders.new", "first");
        messages.says("handled orders.new first.", 1);
        messages.says("done first.", 1);
        let asked = messages.server.page("/?ask=orders.price&text=reply%2042");
        assert_eq!(asked, "orders.price 42\n", "{guest}");
        let large = "x".repeat(10_000);
        messages.send("orders.new", &large);
        messages.says(&format!("done {large}."), 1);
    }
}

#[test]
fn the_place_for_an_answer_may_be_a_topic_that_is_granted() {
    for guest in GUESTS {
        let messages = Messages::of(app(guest, ""), &[]);
        let sent = "/?send=orders.new&text=reply%20hello&reply=answers.here";
        assert_eq!(messages.server.page(sent), "sent\n");
        messages.says("handled orders.new reply hello to answers.here.", 1);
        messages.says("handled answers.here hello.", 1);
        // It is not the address of somebody who waits: it is published to, with the component's own grant.
        let sent = "/?send=orders.new&text=reply%20stolen&reply=secret.plans";
        assert_eq!(messages.server.page(sent), "sent\n");
        messages.logs("messaging = { publish = [\"secret.plans\"] }");
        assert_eq!(messages.said("handled secret.plans"), 0);
    }
}

#[test]
fn errors_of_wasmcloud_are_the_interface_s_own() {
    for (query, in_words, by_name) in [
        ("send=orders.*", "is not a topic", "Error::SubjectInvalid"),
        (
            "send=secret.plans",
            "secret.plans is not granted",
            "Error::AccessDenied",
        ),
        (
            "ask=orders.price&text=silent&timeout=50",
            "nobody answered in time",
            "Error::Timeout",
        ),
        (
            "ask=answers.price",
            "answers.price is not granted",
            "Error::AccessDenied",
        ),
    ] {
        for (guest, text) in [(GUESTS[0], in_words), (GUESTS[1], by_name)] {
            let messages = Messages::of(app(guest, ""), &[]);
            let told = messages.refused(&format!("/?{query}"));
            assert!(told.contains(text), "{guest} {query}: {told}");
        }
    }
    let messages = Messages::of(app(GUESTS[1], ""), &[]);
    let told = messages.refused("/?send=orders.new&bytes=2000000");
    assert_eq!(told, "Error::MessageTooLarge\n");
    messages.server.page("/?send=orders.new&bytes=1000000");
}

#[test]
fn a_message_that_is_not_taken_comes_again_and_a_rejected_one_does_not() {
    for (guest, text, tries) in [
        (GUESTS[0], "fail", 3),
        (GUESTS[0], "trap", 3),
        (GUESTS[1], "fail", 3),
        (GUESTS[1], "other", 3),
        (GUESTS[1], "trap", 3),
        (GUESTS[1], "reject", 1),
    ] {
        let messages = Messages::of(app(guest, "deliveries = 3"), &[]);
        messages
            .server
            .page(&format!("/?send=orders.new&text={}", encoded(text)));
        let letter = format!(
            "handled dead.orders {text} hostel-topic=orders.new hostel-group=web hostel-deliveries={tries}."
        );
        messages.says(&letter, 1);
        messages.says(&format!("handled orders.new {text}."), tries);
        let end = if tries == 1 { "one try" } else { "3 tries" };
        messages.logs(&format!(
            "the message of orders.new is given up after {end}: it goes to the dead letters of dead.orders"
        ));
    }
}
