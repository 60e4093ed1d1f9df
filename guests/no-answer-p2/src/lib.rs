//! Returns from its handler without giving an answer; with `?after=N` only once its instance has answered N requests, as
//! guests do that were built to answer once; with `?part=N` after the head and N bytes of a body that it never ends.

use std::sync::atomic::{AtomicU64, Ordering};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct NoAnswer;

wasip2::http::proxy::export!(NoAnswer);

static ANSWERED: AtomicU64 = AtomicU64::new(0);

impl Guest for NoAnswer {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let part = http_p2::number(&request, "part", 0);
        if part > 0 {
            let body = http_p2::head(out, 200, &[]);
            http_p2::write(&body, "x".repeat(part as usize).as_bytes());
            // Dropped, it would be given up, which is a kind of end.
            std::mem::forget(body);
            return;
        }
        if ANSWERED.fetch_add(1, Ordering::Relaxed) < http_p2::number(&request, "after", 0) {
            http_p2::answer(out, 200, "answered\n");
        }
    }
}
