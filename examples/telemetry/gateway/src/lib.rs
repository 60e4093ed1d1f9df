//! Posts each event to an address that the operator has given.
//!
//! Anything but a 2xx is an error of this handler: the host then delivers the event again, after a pause that grows, and the
//! sensor's later events wait for it.

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/config", "../../../wit/messaging", "../wit/gateway"],
        world: "telemetry:gateway/gateway",
        generate_all,
    });
}

use bindings::exports::wasi::messaging::incoming_handler::Guest;
use bindings::wasi::config::store as config;
use bindings::wasi::messaging::types::{Error, Message};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, Method, OutgoingBody, OutgoingRequest, Scheme};

struct Gateway;

bindings::export!(Gateway with_types_in bindings);

impl Guest for Gateway {
    fn handle(message: Message) -> Result<(), Error> {
        let url = config::get("url").ok().flatten();
        let url = url.ok_or_else(|| Error::Other("no `url` in the configuration".to_owned()))?;
        match post(&url, &message.data()) {
            Ok(200..=299) => Ok(()),
            Ok(status) => Err(Error::Other(format!("{url} answered {status}"))),
            Err(why) => Err(Error::Other(format!("{url}: {why}"))),
        }
    }
}

/// Sends it, and returns the status of the answer.
fn post(url: &str, event: &[u8]) -> Result<u16, String> {
    let (scheme, rest) = url.split_once("://").ok_or("no URL")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let scheme = match scheme {
        "http" => Scheme::Http,
        _ => Scheme::Https,
    };
    let wrong = |()| "it cannot be sent like this".to_owned();
    let headers = Fields::from_list(&[("content-type".to_owned(), b"application/json".to_vec())]);
    let request = OutgoingRequest::new(headers.map_err(|error| error.to_string())?);
    request.set_method(&Method::Post).map_err(wrong)?;
    request.set_scheme(Some(&scheme)).map_err(wrong)?;
    request.set_authority(Some(authority)).map_err(wrong)?;
    request.set_path_with_query(Some(path)).map_err(wrong)?;
    let body = request.body().map_err(wrong)?;
    let answer = outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))?;
    let stream = body.write().map_err(wrong)?;
    for piece in event.chunks(4096) {
        let written = stream.blocking_write_and_flush(piece);
        written.map_err(|error| format!("{error:?}"))?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|error| format!("{error:?}"))?;
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(Ok(response))) => Ok(response.status()),
        Some(Ok(Err(error))) => Err(format!("{error:?}")),
        Some(Err(())) | None => Err("no answer".to_owned()),
    }
}
