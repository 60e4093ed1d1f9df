//! The example's component: answers every request with one page that shows what the guest saw of it.
//!
//! It speaks `wasi:http` 0.2 through the crate `wasip2` and needs no grants. A good place to begin: change
//! `page.html`, run the manifest's `build` line, reload.

use std::io::Write;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Web;

wasip2::http::proxy::export!(Web);

const PAGE: &str = include_str!("page.html");

impl Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let page = PAGE.replace("{path}", &escaped(&path));
        respond(out, page.as_bytes());
    }
}

/// Sends the page: head first, then the body, then its end.
fn respond(out: ResponseOutparam, page: &[u8]) {
    let headers = Fields::new();
    headers
        .append("content-type", b"text/html; charset=utf-8")
        .expect("a header that every host allows");
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("the first call for the body");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("the first call for the stream");
    // A reader who went away in the middle of the page is no fault of ours.
    let _ = stream.write_all(page);
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// A text from outside, safe to stand in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
