//! Messages in both directions, through `wasmcloud:messaging@0.2.0`. One component that is called with requests and with
//! messages.
//!
//! A request publishes: `send=TOPIC` with `text=T`, and `reply=TOPIC` as the place for an answer. With `ask=TOPIC` it waits for
//! one, `timeout=MS`, and gives it back. An error is 500 with its text.
//!
//! A message is printed, with the place for its answer if that is a topic, and then does what its text says: `fail` is not
//! taken, `trap` traps, `reply TEXT` answers. Anything else is done.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/wasmcloud-messaging",
        world: "wasmcloud:messaging/messages",
        generate_all,
    });
}

use bindings::exports::wasmcloud::messaging::handler::Guest as Handler;
use bindings::wasmcloud::messaging::consumer;
use bindings::wasmcloud::messaging::types::BrokerMessage;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Messages;

wasip2::http::proxy::export!(Messages);
bindings::export!(Messages with_types_in bindings);

impl Guest for Messages {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        match told(&request) {
            Ok(text) => http_p2::answer(out, 200, &text),
            Err(error) => http_p2::answer(out, 500, &format!("{error}\n")),
        }
    }
}

fn told(request: &IncomingRequest) -> Result<String, String> {
    let query = |key: &str| http_p2::query(request, key);
    let body = query("text").unwrap_or_default().into_bytes();
    if let Some(subject) = query("send") {
        let reply_to = query("reply");
        consumer::publish(&BrokerMessage {
            subject,
            body,
            reply_to,
        })?;
        return Ok("sent\n".to_string());
    }
    let timeout = query("timeout").and_then(|text| text.parse().ok());
    let topic = query("ask").unwrap_or_default();
    let answer = consumer::request(&topic, &body, timeout.unwrap_or(5000))?;
    let text = String::from_utf8_lossy(&answer.body);
    Ok(format!("{} {text}\n", answer.subject))
}

impl Handler for Messages {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let text = String::from_utf8_lossy(&message.body).into_owned();
        let asked = message.reply_to.filter(|topic| !topic.is_empty());
        // The address of somebody who waits is different each time.
        let named = asked.clone().filter(|topic| topic.starts_with("answers."));
        let shown = named.map_or(String::new(), |topic| format!(" to {topic}"));
        println!("handled {} {text}{shown}.", message.subject);
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("fail", _) => return Err("told to fail".to_string()),
            ("trap", _) => panic!("told to trap"),
            ("reply", answer) => consumer::publish(&BrokerMessage {
                subject: asked.unwrap_or_default(),
                body: answer.as_bytes().to_vec(),
                reply_to: None,
            })?,
            _ => {}
        }
        println!("done {text}.");
        Ok(())
    }
}
