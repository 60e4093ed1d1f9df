//! Functions of a component's own world that a manifest may name for messages, one for each type that fits, and some that do
//! not. Each prints its name and what it was given; a text of `fail` is not taken where the function can say so, `trap` traps.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package hostel:plain-handler@0.1.0;
            interface events {
                on-order: func(topic: string, body: list<u8>) -> result<_, string>;
            }
            world handlers {
                export events;
                export topic-and-bytes: func(topic: string, body: list<u8>);
                export topic-and-text: func(topic: string, body: string) -> result<_, string>;
                export bytes: func(body: list<u8>) -> result;
                export text: func(body: string) -> result<_, string>;
                export number: func(body: u32);
                export answering: func(body: string) -> string;
            }
        ",
    });
}

use bindings::Guest;
use bindings::exports::hostel::plain_handler::events;

struct Handlers;

bindings::export!(Handlers with_types_in bindings);

fn handle(name: &str, topic: &str, body: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(body);
    println!("{name} {topic} {text}.");
    match &*text {
        "fail" => Err("told to fail".to_string()),
        "trap" => panic!("told to trap"),
        _ => Ok(()),
    }
}

impl events::Guest for Handlers {
    fn on_order(topic: String, body: Vec<u8>) -> Result<(), String> {
        handle("on-order", &topic, &body)
    }
}

impl Guest for Handlers {
    fn topic_and_bytes(topic: String, body: Vec<u8>) {
        let _cannot_say = handle("topic-and-bytes", &topic, &body);
    }

    fn topic_and_text(topic: String, body: String) -> Result<(), String> {
        handle("topic-and-text", &topic, body.as_bytes())
    }

    fn bytes(body: Vec<u8>) -> Result<(), ()> {
        handle("bytes", "-", &body).map_err(drop)
    }

    fn text(body: String) -> Result<(), String> {
        handle("text", "-", body.as_bytes())
    }

    fn number(_: u32) {}

    fn answering(body: String) -> String {
        body
    }
}
