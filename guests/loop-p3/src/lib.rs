//! Loops for ever inside the handler, without a single call to the host: only an interruption from
//! outside ends it. `?when=after-head` returns a response and the first bytes before it starts looping.

use std::hint::black_box;

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::spawn_local;

struct Loop;

wasip3::http::service::export!(Loop);

impl Guest for Loop {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        if http_p3::query(&request, "when").as_deref() == Some("after-head") {
            let (response, mut body) = http_p3::head(200, &[]);
            spawn_local(async move {
                body.write_all(b"and now it loops\n".to_vec()).await;
                spin();
            });
            return Ok(response);
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
