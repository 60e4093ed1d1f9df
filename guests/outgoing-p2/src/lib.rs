//! Sends a GET to `?url=…` and relays the status and the body as they come; the status 502 with the error
//! code's name where there is no answer. `?path=…` is sent in the place of the URL's path. `?header=NAME:VALUE` adds one
//! header to the request. `?times=N` sends N requests, one after the other; the last one's answer is relayed.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, IncomingResponse, OutgoingRequest, ResponseOutparam, Scheme,
};

struct Outgoing;

wasip2::http::proxy::export!(Outgoing);

impl Guest for Outgoing {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let Some(url) = http_p2::query(&request, "url") else {
            return http_p2::answer(out, 400, "say url\n");
        };
        let path = http_p2::query(&request, "path");
        let path = path.as_deref();
        let headers = Fields::new();
        if let Some((name, value)) = http_p2::query(&request, "header")
            .as_deref()
            .and_then(|header| header.split_once(':'))
            && let Err(error) = headers.append(name, value.as_bytes())
        {
            return http_p2::answer(out, 400, &format!("the host refuses {name}: {error:?}\n"));
        }
        for _ in 1..http_p2::number(&request, "times", 1) {
            drop(get(&url, path, Fields::new()));
        }
        match get(&url, path, headers) {
            Ok(response) => relay(&response, out),
            Err(error) => http_p2::answer(out, 502, &format!("{error:?}\n")),
        }
    }
}

/// Sends a GET and waits for the head of the answer.
fn get(url: &str, path: Option<&str>, headers: Fields) -> Result<IncomingResponse, ErrorCode> {
    let (scheme, authority, own_path) = query::url(url).ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let path = path.unwrap_or(own_path);
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_string()),
    };
    let request = OutgoingRequest::new(headers);
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    let answer = outgoing_handler::handle(request, None)?;
    answer.subscribe().block();
    answer
        .get()
        .expect("it was awaited")
        .expect("it is taken once")
}

/// Passes status and body on, a chunk at a time.
fn relay(response: &IncomingResponse, out: ResponseOutparam) {
    let incoming = response.consume().expect("the first call for the body");
    let body = http_p2::head(out, response.status(), &[]);
    let from = incoming.stream().expect("the first call for the stream");
    let to = body.write().expect("the first call for the stream");
    while let Ok(chunk) = from.blocking_read(4096) {
        if to.blocking_write_and_flush(&chunk).is_err() {
            break;
        }
    }
    drop(to);
    http_p2::end(body, None);
}
