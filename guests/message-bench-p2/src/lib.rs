//! What is measured when messages are: a request publishes `times=N` messages of 100 bytes, one after the other, and a message
//! is taken without a look at it.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/messaging",
        world: "wasi:messaging/messaging-core",
        generate_all,
    });
}

use bindings::exports::wasi::messaging::incoming_handler::Guest as Handler;
use bindings::wasi::messaging::producer;
use bindings::wasi::messaging::types::{Client, Error, Message};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Bench;

wasip2::http::proxy::export!(Bench);
bindings::export!(Bench with_types_in bindings);

impl Guest for Bench {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        match told(&request) {
            Ok(()) => http_p2::answer(out, 200, "done\n"),
            Err(error) => http_p2::answer(out, 500, &format!("{error:?}\n")),
        }
    }
}

fn told(request: &IncomingRequest) -> Result<(), Error> {
    let client = Client::connect("")?;
    let times = http_p2::query(request, "times").and_then(|text| text.parse().ok());
    for _ in 0..times.unwrap_or(0) {
        producer::send(&client, "bench.reading", Message::new(&[b'x'; 100]))?;
    }
    Ok(())
}

impl Handler for Bench {
    fn handle(_message: Message) -> Result<(), Error> {
        Ok(())
    }
}
