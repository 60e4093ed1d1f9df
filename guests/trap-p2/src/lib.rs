//! Traps (`unreachable`) at the point that the query names: `?when=before` the head (the default),
//! `after-head`, `after-body` (the whole answer has been sent), or `never`.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Trap;

wasip2::http::proxy::export!(Trap);

impl Guest for Trap {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let when = http_p2::query(&request, "when").unwrap_or_else(|| "before".to_string());
        if when == "before" {
            trap();
        }
        let body = http_p2::head(out, 200, &[("content-type", "text/plain")]);
        if when == "after-head" {
            http_p2::write(&body, b"half an ans");
            trap();
        }
        http_p2::write(&body, b"a whole answer\n");
        http_p2::end(body, None);
        if when == "after-body" {
            trap();
        }
    }
}

/// The wasm instruction `unreachable`.
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}
