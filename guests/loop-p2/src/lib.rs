//! Loops for ever inside the handler, without a single call to the host: only an interruption from
//! outside ends it. `?when=after-head` sends a status and the first bytes before it starts looping.

use std::hint::black_box;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Loop;

wasip2::http::proxy::export!(Loop);

impl Guest for Loop {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        if http_p2::query(&request, "when").as_deref() == Some("after-head") {
            let body = http_p2::head(out, 200, &[]);
            http_p2::write(&body, b"and now it loops\n");
            spin();
        }
        spin();
    }
}

/// Counts for ever; the count is kept alive so that no compiler removes the loop.
fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}
