//! The few lines that every `wasi:http` 0.3 guest here needs: read a query switch, answer in one call.
//!
//! It hides nothing that a guest is there to show: a guest about bodies or headers speaks to
//! `wasi:http` itself.

use wasip3::http::types::{Fields, Request, Response};
use wasip3::wit_bindgen::StreamWriter;
use wasip3::{spawn_local, wit_future, wit_stream};

/// The value of `key` in the request's query, percent-decoded; `None` where it is not given.
pub fn query(request: &Request, key: &str) -> Option<String> {
    query::value(&request.get_path_with_query()?, key)
}

/// The number given as `key` in the request's query, or `default` where it is missing or no number.
pub fn number(request: &Request, key: &str, default: u64) -> u64 {
    query(request, key)
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// A whole answer: `status` and `text`, written once the response has been returned.
pub fn answer(status: u16, text: impl Into<Vec<u8>>) -> Response {
    let text = text.into();
    let (response, mut body) = head(status, &[("content-type", "text/plain; charset=utf-8")]);
    spawn_local(async move {
        // What a client that went away did not take is dropped.
        body.write_all(text).await;
    });
    response
}

/// The head of a response without trailers, and the writer of its body. The body is to be written by a
/// task that outlives the handler (`spawn_local`): nobody reads it before the response is returned.
pub fn head(status: u16, headers: &[(&str, &str)]) -> (Response, StreamWriter<u8>) {
    let fields = Fields::new();
    for (name, value) in headers {
        fields
            .append(name, value.as_bytes())
            .expect("a header that the host allows");
    }
    let (body, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(fields, Some(reader), trailers);
    response.set_status_code(status).expect("a valid status");
    (response, body)
}
