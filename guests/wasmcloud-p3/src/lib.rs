//! Messages in both directions, through `wasmcloud:messaging@0.3.0`. One component that is called with requests and with
//! messages.
//!
//! A request publishes: `send=TOPIC` with `text=T` (or `bytes=N`), and `reply=TOPIC` as the place for an answer. With
//! `ask=TOPIC` it waits for one, `timeout=MS`, and gives it back. An error is 500 with its name.
//!
//! A message is printed, with the place for its answer if that is a topic, and then does what its text says: `fail` is to
//! come again, `reject` is not, `other` is an error in words, `trap` traps, `reply TEXT` answers. Anything else is done.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/wasmcloud-messaging-0.3",
        world: "wasmcloud:messaging/handler-service",
        generate_all,
    });
}

use bindings::exports::wasmcloud::messaging::handler::{Guest as Handler, HandleMessageError};
use bindings::wasmcloud::messaging::consumer;
use bindings::wasmcloud::messaging::types::{BrokerMessage, Error};
use bindings::wit_stream;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response};
use wit_bindgen::StreamReader;

struct Messages;

wasip3::http::service::export!(Messages);
bindings::export!(Messages with_types_in bindings);

impl Guest for Messages {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        Ok(match told(&request).await {
            Ok(text) => http_p3::answer(200, text),
            Err(error) => http_p3::answer(500, format!("{error:?}\n")),
        })
    }
}

/// A stream of these bytes, and what writes it: a task of the executor that runs the caller, which is not the same for
/// requests and for messages.
fn stream(bytes: Vec<u8>) -> (StreamReader<u8>, impl Future<Output = ()>) {
    let (mut writer, reader) = wit_stream::new();
    let write = async move {
        // What a message that was refused did not take is dropped.
        writer.write_all(bytes).await;
    };
    (reader, write)
}

async fn told(request: &Request) -> Result<String, Error> {
    let query = |key: &str| http_p3::query(request, key);
    let bytes = match query("bytes").and_then(|text| text.parse().ok()) {
        Some(bytes) => vec![b'x'; bytes],
        None => query("text").unwrap_or_default().into_bytes(),
    };
    let (body, write) = stream(bytes);
    wasip3::spawn_local(write);
    if let Some(subject) = query("send") {
        let reply_to = query("reply");
        consumer::publish(BrokerMessage {
            subject,
            body,
            reply_to,
        })
        .await?;
        return Ok("sent\n".to_string());
    }
    let timeout = query("timeout").and_then(|text| text.parse().ok());
    let answer = consumer::request(query("ask").unwrap_or_default(), body, timeout).await?;
    let text = answer.body.collect().await;
    let text = String::from_utf8_lossy(&text);
    Ok(format!("{} {text}\n", answer.subject))
}

impl Handler for Messages {
    async fn handle_message(message: BrokerMessage) -> Result<(), HandleMessageError> {
        let text = message.body.collect().await;
        let text = String::from_utf8_lossy(&text).into_owned();
        // The address of somebody who waits is different each time.
        let asked = message.reply_to.filter(|topic| !topic.is_empty());
        let named = asked.clone().filter(|topic| topic.starts_with("answers."));
        let shown = named.map_or(String::new(), |topic| format!(" to {topic}"));
        println!("handled {} {text}{shown}.", message.subject);
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("fail", _) => return Err(HandleMessageError::Retry),
            ("reject", _) => return Err(HandleMessageError::Reject),
            ("other", _) => return Err(HandleMessageError::Other("told to fail".to_string())),
            ("trap", _) => panic!("told to trap"),
            ("reply", answer) => {
                let (body, write) = stream(answer.as_bytes().to_vec());
                wit_bindgen::spawn_local(write);
                let answer = BrokerMessage {
                    subject: asked.unwrap_or_default(),
                    body,
                    reply_to: None,
                };
                let sent = consumer::publish(answer).await;
                sent.map_err(|error| HandleMessageError::Other(format!("{error:?}")))?;
            }
            _ => {}
        }
        println!("done {text}.");
        Ok(())
    }
}
