//! A handler of messages and nothing else: it prints each with its topic and metadata, answers it with its own text where
//! somebody waits for that, and takes every one.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/messaging",
        world: "wasi:messaging/messaging-request-reply",
        generate_all,
    });
}

use bindings::exports::wasi::messaging::incoming_handler::Guest;
use bindings::wasi::messaging::request_reply;
use bindings::wasi::messaging::types::{Error, Message};

struct Handler;

bindings::export!(Handler with_types_in bindings);

impl Guest for Handler {
    fn handle(message: Message) -> Result<(), Error> {
        let data = message.data();
        let metadata = message.metadata().unwrap_or_default();
        let shown = metadata.iter().filter(|(name, _)| name != "sent");
        let shown: String = shown.map(|(name, value)| format!(" {name}={value}")).collect();
        let topic = message.topic().unwrap_or_default();
        println!("handled {topic} {}{shown}.", String::from_utf8_lossy(&data));
        // An error where nobody waits, which is no reason to get the message again.
        let _answered = request_reply::reply(&message, Message::new(&data));
        Ok(())
    }
}
