//! The cases about `wasi:http`: requests that must not crash the host or reach another one, and responses whose framing
//! lies.

use std::io::Write;

use wasip2::http::outgoing_handler::{self, FutureIncomingResponse};
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
    RequestOptions, ResponseOutparam, Scheme,
};

/// The cases that say something before they answer.
pub(crate) fn request(case: &str) -> Option<String> {
    Some(match case {
        // GHSA-w36r: a URL beyond what a URL may have
        "long-path" => shown(send(
            "http",
            "localhost",
            &format!("/{}", "x".repeat(70_000)),
        )),
        "long-authority" => shown(send("http", &"x".repeat(70_000), "/")),
        "long-scheme" => shown(send(&"x".repeat(70_000), "localhost", "/")),
        // GHSA-5qpp: a path that is a whole URL of another host
        "absolute-form" => shown(send("http", "localhost", "http://127.0.0.1:9/")),
        "authority-form" => shown(send("http", "user@localhost:1@127.0.0.1:9", "/")),
        // GHSA-w4qr: timeouts of zero and of for ever
        "zero-timeouts" => shown(timed(0)),
        "late-timeouts" => shown(timed(u64::MAX)),
        // CVE-2026-27572: more fields than the host's own table holds
        "fields-at-once" => at_once(),
        "fields-one-name" => one_name(),
        // names and values that are none
        "fields-broken" => broken(),
        _ => return None,
    })
}

/// Sends a GET, as far as the host lets it come.
pub(crate) fn send(
    scheme: &str,
    authority: &str,
    path: &str,
) -> Result<FutureIncomingResponse, String> {
    let request = OutgoingRequest::new(Fields::new());
    let scheme = match scheme {
        "http" => Scheme::Http,
        other => Scheme::Other(other.to_string()),
    };
    let invalid = |part: &'static str| move |()| format!("invalid {part}");
    request
        .set_scheme(Some(&scheme))
        .map_err(invalid("scheme"))?;
    request
        .set_authority(Some(authority))
        .map_err(invalid("authority"))?;
    request
        .set_path_with_query(Some(path))
        .map_err(invalid("path"))?;
    outgoing_handler::handle(request, None).map_err(named)
}

fn timed(time: u64) -> Result<FutureIncomingResponse, String> {
    let options = RequestOptions::new();
    let refused = |()| "refused".to_string();
    options.set_connect_timeout(Some(time)).map_err(refused)?;
    options
        .set_first_byte_timeout(Some(time))
        .map_err(refused)?;
    options
        .set_between_bytes_timeout(Some(time))
        .map_err(refused)?;
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).map_err(refused)?;
    request.set_authority(Some("localhost")).map_err(refused)?;
    outgoing_handler::handle(request, Some(options)).map_err(named)
}

fn named(error: ErrorCode) -> String {
    format!("{error:?}")
}

/// What became of a request, once it is over.
fn shown(sent: Result<FutureIncomingResponse, String>) -> String {
    let future = match sent {
        Ok(future) => future,
        Err(error) => return error,
    };
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => format!("answered {}", response.status()),
        Some(Ok(Err(error))) => named(error),
        _ => "nothing".to_string(),
    }
}

fn at_once() -> String {
    let entries: Vec<_> = (0..33_000)
        .map(|number| (format!("x-{number}"), b"1".to_vec()))
        .collect();
    format!("{:?}", Fields::from_list(&entries).map(|_| "taken"))
}

fn one_name() -> String {
    let values = vec![b"1".to_vec(); 33_000];
    format!("{:?}", Fields::new().set("x-many", &values))
}

fn broken() -> String {
    let fields = Fields::new();
    let tried = [
        "",
        " ",
        "a b",
        "a:b",
        "a\r\nb",
        "é",
        "host",
        "transfer-encoding",
        "connection",
    ]
    .map(|name| fields.append(name, b"1").is_ok());
    let values: [&[u8]; 4] = [b"a\r\nb: c", b"\0", b"\n", b"\x7f"];
    let values = values.map(|value| fields.append("x-value", value).is_ok());
    format!("names {tried:?} values {values:?}")
}

/// The cases that are an answer; gives the outparam back where `case` is none of them.
pub(crate) fn response(
    case: &str,
    request: &IncomingRequest,
    out: ResponseOutparam,
) -> Option<ResponseOutparam> {
    let (lengths, body): (&[&str], &[u8]) = match case {
        "length-short" => (&["10"], b"five!"),    // GHSA-h4wp
        "length-long" => (&["2"], b"five!"),      // GHSA-h4wp
        "length-invalid" => (&["ten"], b"five!"), // GHSA-h4wp
        "length-signed" => (&["+5"], b"five!"),   // GHSA-h4wp
        "lengths" => (&["5", "6"], b"five!"),     // GHSA-r8xh
        "splice" => (&["2"], b""),                // GHSA-9prg
        "trailers" => (&[], b"five!"),            // GHSA-jxcf
        _ => return Some(out),
    };
    let fields = Fields::new();
    for length in lengths {
        if let Err(error) = fields.append("content-length", length.as_bytes()) {
            http_p2::answer(out, 200, &format!("{case}: {error:?}\n"));
            return None;
        }
    }
    let response = OutgoingResponse::new(fields);
    let Ok(outgoing) = response.body() else {
        http_p2::answer(out, 200, &format!("{case}: no body\n"));
        return None;
    };
    ResponseOutparam::set(out, Ok(response));
    write(&outgoing, request, body, case == "splice");
    let trailers = (case == "trailers").then(forbidden);
    let _ = OutgoingBody::finish(outgoing, trailers);
    None
}

/// Writes a body, or passes on that of the request.
fn write(outgoing: &OutgoingBody, request: &IncomingRequest, body: &[u8], splice: bool) {
    let mut stream = outgoing.write().expect("the first call for the stream");
    if splice {
        let incoming = request.consume().expect("the first call for the body");
        let from = incoming.stream().expect("the first call for the stream");
        while stream.blocking_splice(&from, 65_536).is_ok() {}
    } else {
        let _ = stream
            .write_all(body)
            .and_then(|()| Write::flush(&mut stream));
    }
}

/// Trailers that would change how the message is read.
fn forbidden() -> Fields {
    let fields = Fields::new();
    for (name, value) in [
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("host", "x"),
        ("x-fine", "1"),
    ] {
        // What the host does not let a guest make, it need not strip.
        let _ = fields.append(name, value.as_bytes());
    }
    fields
}
