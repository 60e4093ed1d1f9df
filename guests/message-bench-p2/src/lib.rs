//! What is measured when messages are: a request publishes `times=N` messages of 100 bytes, one after the other, and a message
//! is taken without a look at it. `ask=1` is answered once the handler has come so far; then everything that was published
//! before has been begun.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/messaging",
        world: "wasi:messaging/messaging-request-reply",
        generate_all,
    });
}

use bindings::exports::wasi::messaging::incoming_handler::Guest as Handler;
use bindings::wasi::messaging::producer;
use bindings::wasi::messaging::request_reply::{self, RequestOptions};
use bindings::wasi::messaging::types::{Client, Error, Message};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

/// How long the handler may need to come to the last message.
const PATIENCE_MS: u32 = 100_000;
/// What asks, and is answered.
const LAST: &[u8] = b"last";

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
    if http_p2::query(request, "ask").is_some() {
        let options = RequestOptions::new();
        options.set_timeout_ms(PATIENCE_MS);
        request_reply::request(&client, "bench.reading", &Message::new(LAST), Some(options))?;
    }
    Ok(())
}

impl Handler for Bench {
    fn handle(message: Message) -> Result<(), Error> {
        match message.data() == LAST {
            true => request_reply::reply(&message, Message::new(LAST)),
            false => Ok(()),
        }
    }
}
