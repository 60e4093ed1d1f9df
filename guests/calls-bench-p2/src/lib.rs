//! Sends `?times=N` GETs to `?url=…`, one after the other, reads every answer to its end, and answers with the median and the
//! 99th percentile of what one took, in nanoseconds by the monotonic clock.

use wasip2::clocks::monotonic_clock::now;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{ErrorCode, IncomingRequest, ResponseOutparam};

struct Bench;

wasip2::http::proxy::export!(Bench);

impl Guest for Bench {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let url = http_p2::query(&request, "url").unwrap_or_default();
        let times = http_p2::number(&request, "times", 1).max(1);
        let taken: Result<Vec<u64>, ErrorCode> = (0..times).map(|_| timed(&url)).collect();
        match taken {
            Ok(mut taken) => {
                taken.sort_unstable();
                let at = |part: usize| taken[(taken.len() * part / 100).min(taken.len() - 1)];
                http_p2::answer(out, 200, &format!("{} {}\n", at(50), at(99)));
            }
            Err(error) => http_p2::answer(out, 502, &format!("{error:?}\n")),
        }
    }
}

fn timed(url: &str) -> Result<u64, ErrorCode> {
    let begin = now();
    let response = http_p2::get(url)?;
    let body = response.consume().expect("the first call for the body");
    let stream = body.stream().expect("the first call for the stream");
    while stream.blocking_read(4096).is_ok() {}
    Ok(now() - begin)
}
