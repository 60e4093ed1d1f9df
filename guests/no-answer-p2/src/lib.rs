//! Returns from its handler without ever giving an answer.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct NoAnswer;

wasip2::http::proxy::export!(NoAnswer);

impl Guest for NoAnswer {
    fn handle(_request: IncomingRequest, _out: ResponseOutparam) {}
}
