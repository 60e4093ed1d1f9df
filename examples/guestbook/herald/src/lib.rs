//! The guest book's herald: hears of each entry and remembers who signed last.
//!
//! A message may come twice. Writing the same name again changes nothing, so that does not matter here.

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/keyvalue", "../../../wit/messaging", "../wit/herald"],
        world: "guestbook:herald/herald",
        generate_all,
    });
}

use bindings::exports::wasi::messaging::incoming_handler::Guest;
use bindings::wasi::keyvalue::store;
use bindings::wasi::messaging::types::{Error, Message};

struct Herald;

bindings::export!(Herald with_types_in bindings);

impl Guest for Herald {
    fn handle(message: Message) -> Result<(), Error> {
        // An error has the message delivered again, after a pause.
        let failed = |error: store::Error| Error::Other(format!("{error:?}"));
        let news = store::open("news").map_err(failed)?;
        news.set("latest", &message.data()).map_err(failed)
    }
}
