//! Messages for plain exports that the manifest names.

use super::{App, Messages};
use crate::harness::command::hostel_in;

/// Every export that fits, each with a topic of its own, and one component that publishes.
const APP: &str = r#"
[app]
name = "test"

[[http]]
route = "/..."
component = "web"

[component.web]
source = "messages-p2.wasm"

[component.web.grants]
messaging = { publish = [">"] }

[component.plain]
source = "plain-handler-p2.wasm"
"#;

fn trigger(topic: &str, export: &str) -> String {
    format!(
        "\n[[message]]\ntopic = \"{topic}\"\ncomponent = \"plain\"\nexport = \"{export}\"\ndeliveries = 2\n"
    )
}

fn app(triggers: &[(&str, &str)]) -> App {
    let triggers = triggers
        .iter()
        .map(|(topic, export)| trigger(topic, export));
    App::new(&format!("{APP}{}", triggers.collect::<String>()))
}

#[test]
fn an_export_is_called_with_what_its_type_asks_for() {
    let exports = [
        ("to.order", "hostel:plain-handler/events@0.1.0#on-order"),
        ("to.both", "topic-and-bytes"),
        ("to.text", "topic-and-text"),
        ("to.body", "bytes"),
        ("to.words", "text"),
    ];
    let messages = Messages::of(app(&exports), &[]);
    for (topic, says) in [
        ("to.order", "on-order to.order"),
        ("to.both", "topic-and-bytes to.both"),
        ("to.text", "topic-and-text to.text"),
        ("to.body", "bytes -"),
        ("to.words", "text -"),
    ] {
        messages.send(topic, "hello");
        messages.says(&format!("{says} hello."), 1);
        messages.send(topic, "trap");
        messages.says(&format!("{says} trap."), 2);
    }
    // Where the type can say so, an error is a refusal.
    for (topic, says, times) in [
        ("to.order", "on-order to.order", 2),
        ("to.both", "topic-and-bytes to.both", 1),
        ("to.body", "bytes -", 2),
        ("to.words", "text -", 2),
    ] {
        messages.send(topic, "fail");
        messages.says(&format!("{says} fail."), times);
    }
    messages.logs("it did not take a message: told to fail");
    messages.logs("fault=trap component=plain");
}

#[test]
fn an_export_that_does_not_fit_is_named_before_anything_is_served() {
    for (export, what) in [
        ("number", "its export `number` has the type `(u32)`"),
        (
            "answering",
            "its export `answering` has the type `(string) -> string`",
        ),
        ("on-odrer", "no function `on-odrer`"),
    ] {
        let app = app(&[("to.order", export)]);
        let said = hostel_in(app.folder(), &["check"]).failure(1);
        assert!(said.contains(what), "{export}: {said}");
        let fits = "`(string, list<u8>) -> result<_, string>` or `(string, string)";
        assert!(
            export == "on-odrer" || said.contains(fits),
            "{export}: {said}"
        );
    }
}
