//! Answers every request with one line: the smallest `wasi:http` 0.3 guest of a Rust author.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response};

struct Hello;

wasip3::http::service::export!(Hello);

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        Ok(http_p3::answer(200, "hello from wasi:http 0.3\n"))
    }
}
