//! Messages as NATS carries them.

use async_nats::HeaderMap;

use super::Shared;
use crate::messaging::remote::{from_line, line};
use crate::messaging::{Error, Message, Result};
use crate::server::nats::{Connected, message_bytes_max};

/// All headers of a message in one, in their order.
const HEADERS: &str = "Hostel-Headers";
/// The topic of an answer.
pub(super) const TOPIC: &str = "Hostel-Topic";

/// A message's headers as NATS takes them. One plain header goes as it is, so that other clients see it; where there are
/// more, or names that mean something to the server, all of them are in one line beside.
pub(super) fn headers(message: &Message) -> HeaderMap {
    let mut map = HeaderMap::new();
    let mut whole = message.headers.len() <= 1;
    for (name, value) in &message.headers {
        match (
            is_plain(name) && !value.contains(['\r', '\n']),
            name.parse(),
        ) {
            (true, Ok(name)) => {
                let name: async_nats::HeaderName = name;
                map.append(name, value.as_str());
            }
            _ => whole = false,
        }
    }
    if !whole {
        map.insert(HEADERS, line(&message.headers));
    }
    map
}

/// Whether a header of a guest may stand for itself: the server heeds names that begin with `Nats-`.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let lower = name.to_ascii_lowercase();
    let reserved =
        lower.starts_with("nats-") || lower == "hostel-headers" || lower == "hostel-topic";
    !name.is_empty() && name.bytes().all(plain) && !reserved
}

pub(super) fn fits(connected: &Connected, headers: &HeaderMap, message: &Message) -> Result<()> {
    let headers = headers.iter();
    let headers = headers.flat_map(|(name, values)| values.iter().map(move |v| (name, v)));
    let headers = headers.map(|(name, value)| {
        let name: &str = name.as_ref();
        name.len() + value.as_str().len() + 4
    });
    // The frame of the headers, and the name under which a message is stored.
    let bytes = message.body.len() + headers.sum::<usize>() + 64;
    let most = message_bytes_max(connected);
    match bytes <= most {
        true => Ok(()),
        false => Err(Error::TooLarge { bytes, most }),
    }
}

pub(super) fn heard(message: &async_nats::Message, topic: String) -> Message {
    Message {
        topic,
        body: message.payload.clone(),
        headers: message
            .headers
            .as_ref()
            .map_or_else(Vec::new, heard_headers),
        reply_to: None,
    }
}

fn heard_headers(map: &HeaderMap) -> Vec<(String, String)> {
    if let Some(whole) = map.get(HEADERS) {
        return from_line(whole.as_str());
    }
    let mut headers = Vec::new();
    for (name, values) in map.iter() {
        let name: &str = name.as_ref();
        if is_plain(name) {
            let values = values.iter();
            headers.extend(values.map(|value| (name.to_owned(), value.as_str().to_owned())));
        }
    }
    // Another client's: their order is not known.
    headers.sort();
    headers
}

/// A request, with the address of its answer if that is one of this scope's.
pub(super) fn heard_request(
    shared: &Shared,
    message: &async_nats::Message,
    topic: String,
) -> Message {
    let reply = message.reply.as_ref();
    let nonce = reply.and_then(|reply| reply.strip_prefix(&shared.reply_subject("")));
    Message {
        reply_to: nonce.map(str::to_owned),
        ..heard(message, topic)
    }
}

pub(super) fn topic_of(answer: &async_nats::Message) -> String {
    let topic = answer
        .headers
        .as_ref()
        .and_then(|headers| headers.get(TOPIC));
    let topic = topic.map(|topic| from_line(topic.as_str()));
    let topic = topic.and_then(|pairs| pairs.into_iter().next());
    topic.map_or_else(String::new, |(_, topic)| topic)
}
