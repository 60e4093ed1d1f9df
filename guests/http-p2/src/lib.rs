//! The few lines that every `wasi:http` 0.2 guest here needs: read a query switch, ask another server, answer in one call.
//!
//! It hides nothing that a guest is there to show: a guest about bodies, trailers or headers speaks to
//! `wasi:http` itself.

use std::io::Write;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, IncomingResponse, OutgoingBody, OutgoingRequest,
    OutgoingResponse, ResponseOutparam, Scheme,
};

/// The value of `key` in the request's query, percent-decoded; `None` where it is not given.
pub fn query(request: &IncomingRequest, key: &str) -> Option<String> {
    query::value(&request.path_with_query()?, key)
}

/// The number given as `key` in the request's query, or `default` where it is missing or no number.
pub fn number(request: &IncomingRequest, key: &str, default: u64) -> u64 {
    query(request, key)
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// Sends a GET without fields to a URL, as `http`, and waits for the head of the answer.
pub fn get(url: &str) -> Result<IncomingResponse, ErrorCode> {
    let (_, authority, path) = query::url(url).ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let request = OutgoingRequest::new(Fields::new());
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&Scheme::Http)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    let answer = outgoing_handler::handle(request, None)?;
    answer.subscribe().block();
    answer
        .get()
        .expect("it was awaited")
        .expect("it is taken once")
}

/// Answers with `status` and `text` as a whole: head, body, end.
pub fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let body = head(
        out,
        status,
        &[("content-type", "text/plain; charset=utf-8")],
    );
    write(&body, text.as_bytes());
    end(body, None);
}

/// Sends the head of a response and returns the body that is still to be written.
pub fn head(out: ResponseOutparam, status: u16, headers: &[(&str, &str)]) -> OutgoingBody {
    let fields = Fields::new();
    for (name, value) in headers {
        fields
            .append(name, value.as_bytes())
            .expect("a header that the host allows");
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("a valid status");
    let body = response.body().expect("the first call for the body");
    ResponseOutparam::set(out, Ok(response));
    body
}

/// Writes `bytes` to a body, waiting for the host where it is slower; once per body, because the stream
/// of a body can be had once. A client that went away is not the guest's fault: what could not be
/// written is dropped.
pub fn write(body: &OutgoingBody, bytes: &[u8]) {
    let mut stream = body.write().expect("the first call for the stream");
    let _ = stream
        .write_all(bytes)
        .and_then(|()| Write::flush(&mut stream));
}

/// Ends a body, with trailers where some are given.
pub fn end(body: OutgoingBody, trailers: Option<Fields>) {
    let _ = OutgoingBody::finish(body, trailers);
}
