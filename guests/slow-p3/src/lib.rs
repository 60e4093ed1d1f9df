//! Waits `?ms=N` milliseconds (1000 without it) on the monotonic clock, using no CPU, then answers with the
//! milliseconds that it really took. Where one instance serves several requests, they wait at once.

use wasip3::clocks::monotonic_clock;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response};

struct Slow;

wasip3::http::service::export!(Slow);

impl Guest for Slow {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let ms = http_p3::number(&request, "ms", 1000);
        let start = monotonic_clock::now();
        monotonic_clock::wait_for(ms * 1_000_000).await;
        let took = (monotonic_clock::now() - start) / 1_000_000;
        Ok(http_p3::answer(200, format!("waited {took} ms\n")))
    }
}
