//! Passes its request on to `?to=URL` with method, headers, body and trailers, and relays the answer with status, headers,
//! body and trailers; both bodies stream. The status 502 with the error code's name where there is no answer.

use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::wit_future;

struct Relay;

wasip3::http::service::export!(Relay);

impl Guest for Relay {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let Some(url) = http_p3::query(&request, "to") else {
            return Ok(http_p3::answer(400, "say to\n"));
        };
        match pass_on(request, &url).await {
            Ok(response) => Ok(relay(response)),
            Err(error) => Ok(http_p3::answer(502, format!("{error:?}\n"))),
        }
    }
}

async fn pass_on(request: Request, url: &str) -> Result<Response, ErrorCode> {
    let (_, authority, path) = query::url(url).ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (method, headers) = (request.get_method(), copied(&request.get_headers()));
    let (_, taken) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, taken);
    let (outgoing, _sent) = Request::new(headers, Some(body), trailers, None);
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    outgoing.set_method(&method).map_err(invalid)?;
    outgoing.set_scheme(Some(&Scheme::Http)).map_err(invalid)?;
    outgoing.set_authority(Some(authority)).map_err(invalid)?;
    outgoing.set_path_with_query(Some(path)).map_err(invalid)?;
    client::send(outgoing).await
}

fn relay(response: Response) -> Response {
    let (status, headers) = (response.get_status_code(), copied(&response.get_headers()));
    let (_, taken) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, taken);
    let (relayed, _sent) = Response::new(headers, Some(body), trailers);
    relayed
        .set_status_code(status)
        .expect("a status that came in");
    relayed
}

/// The fields that a guest may set.
fn copied(fields: &Fields) -> Fields {
    let copy = Fields::new();
    for (name, value) in fields.copy_all() {
        // The host's own, such as `host`, are refused.
        let _set = copy.append(&name, &value);
    }
    copy
}
