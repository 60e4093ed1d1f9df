//! Does one thing with a key-value store and tells what came of it: `ok:` with the result, or `error:` as the interface put
//! it; the status is 200 either way. `api` is `draft` and `draft2` of `wasi:keyvalue`, or `hostel`; `store` the label;
//! `key`, `value` and `times` what they say. The file of each package lists what it can `do`.

mod draft;
mod draft2;
mod hostel;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct KeyValue;

wasip2::http::proxy::export!(KeyValue);

impl Guest for KeyValue {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let asked = Asked(request);
        let done = match asked.text("api").as_str() {
            "draft" => draft::act(&asked),
            "draft2" => draft2::act(&asked),
            _ => hostel::act(&asked),
        };
        let text = match done {
            Some(Ok(text)) => format!("ok: {text}\n"),
            Some(Err(error)) => format!("error: {error}\n"),
            None => return http_p2::answer(out, 400, "say what to do\n"),
        };
        http_p2::answer(out, 200, &text);
    }
}

/// What the query says.
struct Asked(IncomingRequest);

impl Asked {
    fn text(&self, key: &str) -> String {
        http_p2::query(&self.0, key).unwrap_or_default()
    }

    fn number(&self, key: &str, default: u64) -> u64 {
        http_p2::number(&self.0, key, default)
    }

    fn is_given(&self, key: &str) -> bool {
        http_p2::query(&self.0, key).is_some()
    }

    /// The value to write: `value`, or so many `bytes`.
    fn value(&self) -> Vec<u8> {
        let bytes = self.number("bytes", 0) as usize;
        if bytes > 0 {
            vec![b'x'; bytes]
        } else {
            self.text("value").into_bytes()
        }
    }

    /// Several keys, separated by commas; or so many as `count` says.
    fn keys(&self) -> Vec<String> {
        let count = self.number("count", 0);
        if count > 0 {
            return (0..count).map(|number| format!("k{number:05}")).collect();
        }
        self.text("key").split(',').map(str::to_owned).collect()
    }

    /// The same, each with the value.
    fn pairs(&self) -> Vec<(String, Vec<u8>)> {
        let value = self.value();
        self.keys()
            .into_iter()
            .map(|key| (key, value.clone()))
            .collect()
    }
}

fn shown(value: Option<Vec<u8>>) -> String {
    match value {
        Some(value) if value.len() > 100 => format!("{} bytes", value.len()),
        Some(value) => String::from_utf8_lossy(&value).into_owned(),
        None => "none".to_owned(),
    }
}

/// All keys, sorted, and the number of pages.
fn listed(mut keys: Vec<String>, pages: usize) -> String {
    keys.sort();
    keys.dedup();
    match keys.len() {
        0..=20 => format!("{} in {pages}", keys.join(" ")),
        many => format!("{many} in {pages}"),
    }
}
