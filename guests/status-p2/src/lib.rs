//! Answers with the status `?code=N` and a body that says it; a status that the host refuses is told with
//! status 400. The body is written for every status, also for those that must not have one.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingResponse, ResponseOutparam};

struct Status;

wasip2::http::proxy::export!(Status);

impl Guest for Status {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let code = http_p2::number(&request, "code", 200);
        let code = u16::try_from(code).unwrap_or(u16::MAX);
        let trial = OutgoingResponse::new(Fields::new());
        match trial.set_status_code(code) {
            Ok(()) => http_p2::answer(out, code, &format!("status {code}\n")),
            Err(()) => http_p2::answer(out, 400, &format!("the host refuses status {code}\n")),
        }
    }
}
