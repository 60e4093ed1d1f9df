//! Answers every request with one line: the smallest `wasi:http` 0.2 guest of a Rust author.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        http_p2::answer(out, 200, "hello from wasi:http 0.2\n");
    }
}
