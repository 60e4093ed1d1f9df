//! Sends a GET to the URL in the environment variable `UPSTREAM` and answers with the body that came back: what a bench of
//! outgoing requests needs and nothing else.

use wasip2::cli::environment::get_environment;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingRequest, ResponseOutparam, Scheme,
};

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
    let (_, authority, path) = upstream
        .and_then(|(_, url)| query::url(url))
        .ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let request = OutgoingRequest::new(Fields::new());
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&Scheme::Http)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    let answer = outgoing_handler::handle(request, None)?;
    answer.subscribe().block();
    let response = answer
        .get()
        .expect("it was awaited")
        .expect("it is taken once")?;
    let body = response.consume().expect("the first call for the body");
    let stream = body.stream().expect("the first call for the stream");
    let mut text = Vec::new();
    while let Ok(piece) = stream.blocking_read(4096) {
        text.extend(piece);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
