//! A handler of messages that leaves a trace which outlives the process: the key-value store `handled` has a key for each text,
//! and the value is how often a message with it was handled.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/messaging",
        world: "wasi:messaging/messaging-request-reply",
        generate_all,
    });
}

mod storage {
    wit_bindgen::generate!({ path: "../../wit/keyvalue", world: "imports", generate_all });
}

use bindings::exports::wasi::messaging::incoming_handler::Guest;
use bindings::wasi::messaging::types::{Error, Message};
use storage::wasi::keyvalue::{atomics, store};

struct Keeper;

bindings::export!(Keeper with_types_in bindings);

impl Guest for Keeper {
    fn handle(message: Message) -> Result<(), Error> {
        let failed = |error: store::Error| Error::Other(format!("{error:?}"));
        let handled = store::open("handled").map_err(failed)?;
        let text = message.data();
        atomics::increment(&handled, &String::from_utf8_lossy(&text), 1).map_err(failed)?;
        Ok(())
    }
}
