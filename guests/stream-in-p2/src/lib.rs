//! Reads the request's body to its end and answers with its length in bytes. `?read=0` answers at once and
//! leaves the body unread.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingBody, IncomingRequest, ResponseOutparam};

struct StreamIn;

wasip2::http::proxy::export!(StreamIn);

impl Guest for StreamIn {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        if http_p2::number(&request, "read", 1) == 0 {
            return http_p2::answer(out, 200, "unread\n");
        }
        let body = request.consume().expect("the first call for the body");
        let bytes = count(&body);
        http_p2::answer(out, 200, &format!("{bytes}\n"));
    }
}

/// The length of a body, as far as it can be read.
fn count(body: &IncomingBody) -> usize {
    let stream = body.stream().expect("the first call for the stream");
    let mut bytes = 0;
    while let Ok(chunk) = stream.blocking_read(64 << 10) {
        bytes += chunk.len();
    }
    bytes
}
