//! Answers with the number of requests that this instance has seen: always 1 where every request gets
//! a fresh instance, rising where instances are reused.

use std::sync::atomic::{AtomicU64, Ordering};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Counter;

wasip2::http::proxy::export!(Counter);

static SEEN: AtomicU64 = AtomicU64::new(0);

impl Guest for Counter {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
        http_p2::answer(out, 200, &format!("{seen}\n"));
    }
}
