//! Answers `seen N running M`: how many requests this instance has seen, and how many it was handling
//! at once when it answered. `?ms=N` holds a request for N milliseconds first, so that calls overlap
//! where the host lets one instance serve several requests. `?linger=N` leaves a task behind that goes on for N
//! milliseconds after the answer.

use std::sync::atomic::{AtomicU64, Ordering};

use wasip3::clocks::monotonic_clock;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response};

struct Counter;

wasip3::http::service::export!(Counter);

static SEEN: AtomicU64 = AtomicU64::new(0);
static RUNNING: AtomicU64 = AtomicU64::new(0);

impl Guest for Counter {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
        RUNNING.fetch_add(1, Ordering::Relaxed);
        let ms = http_p3::number(&request, "ms", 0);
        if ms > 0 {
            monotonic_clock::wait_for(ms * 1_000_000).await;
        }
        let linger = http_p3::number(&request, "linger", 0);
        if linger > 0 {
            wasip3::spawn_local(async move { monotonic_clock::wait_for(linger * 1_000_000).await });
        }
        let running = RUNNING.fetch_sub(1, Ordering::Relaxed);
        Ok(http_p3::answer(
            200,
            format!("seen {seen} running {running}\n"),
        ))
    }
}
