//! Traps (`unreachable`) at the point that the query names: `?when=before` the head (the default),
//! `after-head`, `after-body` (the whole answer has been sent), or `never`.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::spawn_local;

struct Trap;

wasip3::http::service::export!(Trap);

impl Guest for Trap {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let when = http_p3::query(&request, "when").unwrap_or_else(|| "before".to_string());
        if when == "before" {
            trap();
        }
        let (response, mut body) = http_p3::head(200, &[("content-type", "text/plain")]);
        spawn_local(async move {
            if when == "after-head" {
                body.write_all(b"half an ans".to_vec()).await;
                trap();
            }
            body.write_all(b"a whole answer\n".to_vec()).await;
            drop(body);
            if when == "after-body" {
                trap();
            }
        });
        Ok(response)
    }
}

/// The wasm instruction `unreachable`.
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}
