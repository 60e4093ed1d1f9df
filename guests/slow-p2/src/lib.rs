//! Waits `?ms=N` milliseconds (1000 without it) on the monotonic clock, using no CPU, then answers with the
//! milliseconds that it really took.

use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Slow;

wasip2::http::proxy::export!(Slow);

impl Guest for Slow {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let ms = http_p2::number(&request, "ms", 1000);
        let start = monotonic_clock::now();
        monotonic_clock::subscribe_duration(ms * 1_000_000).block();
        let took = (monotonic_clock::now() - start) / 1_000_000;
        http_p2::answer(out, 200, &format!("waited {took} ms\n"));
    }
}
