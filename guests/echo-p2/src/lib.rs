//! Streams the request's body back as it comes, with its content-type and its trailers.
//!
//! The head is sent before the first byte is read, so a client sees whether bodies really stream in
//! both directions at once; no more than one chunk is held here.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingBody, IncomingRequest, OutgoingBody, ResponseOutparam};
use wasip2::io::streams::{InputStream, OutputStream};

struct Echo;

wasip2::http::proxy::export!(Echo);

impl Guest for Echo {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let kind = request.headers().get("content-type");
        let kind = kind
            .first()
            .and_then(|value| std::str::from_utf8(value).ok())
            .unwrap_or("application/octet-stream");
        let body = http_p2::head(out, 200, &[("content-type", kind)]);
        let incoming = request.consume().expect("the first call for the body");
        let trailers = copy(incoming, &body);
        http_p2::end(body, trailers);
    }
}

/// Copies a body to its end and returns the trailers that came behind it.
fn copy(incoming: IncomingBody, body: &OutgoingBody) -> Option<Fields> {
    let from = incoming.stream().expect("the first call for the stream");
    let to = body.write().expect("the first call for the stream");
    while splice(&from, &to).is_some() {}
    drop((from, to));
    let trailers = IncomingBody::finish(incoming);
    trailers.subscribe().block();
    // The outer option is "is it there yet", the outer result "was it taken before".
    let fields = trailers.get()?.ok()?.ok()??;
    Some(Fields::from_list(&fields.entries()).expect("trailers that the host let in"))
}

/// Moves what is there, waiting for both sides; `None` at the end or where either side failed.
fn splice(from: &InputStream, to: &OutputStream) -> Option<()> {
    let chunk = from.blocking_read(4096).ok()?;
    to.blocking_write_and_flush(&chunk).ok()
}
