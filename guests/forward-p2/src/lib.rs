//! Sends a GET to the URL in the environment variable `UPSTREAM` and answers with the body that came back: what a bench of
//! outgoing requests needs and nothing else.

use wasip2::cli::environment::get_environment;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{ErrorCode, IncomingRequest, ResponseOutparam};

struct Forward;

wasip2::http::proxy::export!(Forward);

impl Guest for Forward {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        match ask() {
            Ok(text) => http_p2::answer(out, 200, &text),
            Err(error) => http_p2::answer(out, 502, &format!("{error:?}\n")),
        }
    }
}

fn ask() -> Result<String, ErrorCode> {
    let environment = get_environment();
    let upstream = environment.iter().find(|(name, _)| name == "UPSTREAM");
    let (_, url) = upstream.ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let response = http_p2::get(url)?;
    let body = response.consume().expect("the first call for the body");
    let stream = body.stream().expect("the first call for the stream");
    let mut text = Vec::new();
    while let Ok(piece) = stream.blocking_read(4096) {
        text.extend(piece);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
