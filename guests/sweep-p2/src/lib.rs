//! Prints its request's method and path, and for which schedule and time the host says that it is called; `-` for what it
//! does not say. Answers with `?code=N`, 200 without it.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};

struct Sweep;

wasip2::http::proxy::export!(Sweep);

impl Guest for Sweep {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let method = match request.method() {
            Method::Post => "POST",
            Method::Get => "GET",
            _ => "other",
        };
        let path = request.path_with_query().unwrap_or_default();
        let field = |name: &str| match request.headers().get(name).first() {
            Some(value) => String::from_utf8_lossy(value).into_owned(),
            None => "-".to_owned(),
        };
        let authority = request.authority().unwrap_or_default();
        println!(
            "{method} {path} at {authority} for {} {}",
            field("hostel-cron"),
            field("hostel-cron-time")
        );
        let code = http_p2::number(&request, "code", 200);
        http_p2::answer(out, u16::try_from(code).unwrap_or(200), "swept\n");
    }
}
