//! Messages in both directions, through `wasi:messaging`. One component that is called with requests and with messages.
//!
//! A request publishes: `send=TOPIC` with `text=T` (or `bytes=N`), `times=N`, `meta=NAME:VALUE`. With `ask=TOPIC` it waits for
//! answers, `timeout=MS` and `replies=N`, and gives them back, a line each. `client=LABEL` is the broker. An error is 500 with
//! its text.
//!
//! A message is printed, with its metadata, and then does what its text says: `fail` is not taken, `trap` traps, `sleep MS`
//! takes its time, `reply N` answers N times; `stamp` prints how long it was on its way, in microseconds. `reask TOPIC` passes
//! itself on. Anything else is done.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/messaging",
        world: "wasi:messaging/messaging-request-reply",
        generate_all,
    });
}

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bindings::exports::wasi::messaging::incoming_handler::Guest as Handler;
use bindings::wasi::messaging::producer;
use bindings::wasi::messaging::request_reply::{self, RequestOptions};
use bindings::wasi::messaging::types::{Client, Error, Message};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Messages;

wasip2::http::proxy::export!(Messages);
bindings::export!(Messages with_types_in bindings);

impl Guest for Messages {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        match told(&request) {
            Ok(text) => http_p2::answer(out, 200, &text),
            Err(error) => http_p2::answer(out, 500, &format!("{error:?}\n")),
        }
    }
}

fn told(request: &IncomingRequest) -> Result<String, Error> {
    let query = |key: &str| http_p2::query(request, key);
    let number = |key: &str| query(key).and_then(|text| text.parse::<u32>().ok());
    let client = Client::connect(&query("client").unwrap_or("default".to_string()))?;
    let data = match number("bytes") {
        Some(bytes) => vec![b'x'; bytes as usize],
        None => query("text").unwrap_or_default().into_bytes(),
    };
    let message = || {
        let message = Message::new(&data);
        message.set_content_type("text/plain");
        message.add_metadata("sent", &now_micros().to_string());
        if let Some((name, value)) = query("meta").as_deref().and_then(|meta| meta.split_once(':')) {
            message.add_metadata(name, value);
        }
        message
    };
    if let Some(topic) = query("send") {
        for _ in 0..number("times").unwrap_or(1) {
            producer::send(&client, &topic, message())?;
        }
        client.disconnect()?;
        return Ok("sent\n".to_string());
    }
    let topic = query("ask").unwrap_or_default();
    let options = RequestOptions::new();
    if let Some(timeout) = number("timeout") {
        options.set_timeout_ms(timeout);
    }
    if let Some(replies) = number("replies") {
        options.set_expected_replies(replies);
    }
    let answers = request_reply::request(&client, &topic, &message(), Some(options))?;
    let lines = answers.iter().map(|answer| format!("{}\n", text(answer)));
    Ok(lines.collect())
}

impl Handler for Messages {
    fn handle(message: Message) -> Result<(), Error> {
        let text = text(&message);
        let metadata = message.metadata().unwrap_or_default();
        let shown = metadata.iter().filter(|(name, _)| name != "sent");
        let shown: String = shown.map(|(name, value)| format!(" {name}={value}")).collect();
        let topic = message.topic().unwrap_or_default();
        let kind = message.content_type().unwrap_or_default();
        println!("handled {topic} {kind} {text}{shown}.");
        let (what, argument) = text.split_once(' ').unwrap_or((&text, ""));
        let count = argument.parse::<u32>().unwrap_or(0);
        match what {
            "fail" => return Err(Error::Other("told to fail".to_string())),
            "trap" => panic!("told to trap"),
            "sleep" => std::thread::sleep(Duration::from_millis(count.into())),
            "reply" => {
                for number in 0..count {
                    let answer = Message::new(format!("answer {number}").as_bytes());
                    request_reply::reply(&message, answer)?;
                }
            }
            "stamp" => {
                let sent = metadata.iter().find(|(name, _)| name == "sent");
                let sent = sent.and_then(|(_, value)| value.parse::<u128>().ok());
                println!("latency {}", now_micros() - sent.unwrap_or(0));
            }
            "reask" => {
                let client = Client::connect("default")?;
                producer::send(&client, argument, message)?;
            }
            _ => {}
        }
        println!("done {text}.");
        Ok(())
    }
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.data()).into_owned()
}

fn now_micros() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_micros()
}
