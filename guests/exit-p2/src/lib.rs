//! Ends itself as a program would (`wasi:cli/exit`) instead of answering: with success, or with failure where
//! the query says `?code=N` with another number than 0. `?when=after-head` sends half an answer before.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Exit;

wasip2::http::proxy::export!(Exit);

impl Guest for Exit {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let code = http_p2::number(&request, "code", 0) as i32;
        if http_p2::query(&request, "when").as_deref() == Some("after-head") {
            let body = http_p2::head(out, 200, &[("content-type", "text/plain")]);
            http_p2::write(&body, b"half an ans");
            std::process::exit(code);
        }
        std::process::exit(code);
    }
}
