//! Sends a GET to `?url=…` and relays the status and the body as they come; the status 502 with the error
//! code's name where there is no answer. `?path=…` is sent in the place of the URL's path. `?header=NAME:VALUE` adds one
//! header to the request. `?times=N` sends N requests, one after the other; the last one's answer is relayed.

use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::wit_future;

struct Outgoing;

wasip3::http::service::export!(Outgoing);

impl Guest for Outgoing {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let Some(url) = http_p3::query(&request, "url") else {
            return Ok(http_p3::answer(400, "say url\n"));
        };
        let path = http_p3::query(&request, "path");
        let path = path.as_deref();
        let headers = Fields::new();
        if let Some((name, value)) = http_p3::query(&request, "header")
            .as_deref()
            .and_then(|header| header.split_once(':'))
            && let Err(error) = headers.append(name, value.as_bytes())
        {
            return Ok(http_p3::answer(
                400,
                format!("the host refuses {name}: {error:?}\n"),
            ));
        }
        for _ in 1..http_p3::number(&request, "times", 1) {
            drop(get(&url, path, Fields::new()).await);
        }
        match get(&url, path, headers).await {
            Ok(response) => Ok(relay(response)),
            Err(error) => Ok(http_p3::answer(502, format!("{error:?}\n"))),
        }
    }
}

/// Sends a GET and waits for the head of the answer.
async fn get(url: &str, path: Option<&str>, headers: Fields) -> Result<Response, ErrorCode> {
    let (scheme, authority, own_path) = query::url(url).ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let path = path.unwrap_or(own_path);
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_string()),
    };
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(headers, None, trailers, None);
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    client::send(request).await
}

/// Passes status, body and trailers on without touching the bytes: the host joins the two streams.
fn relay(response: Response) -> Response {
    let status = response.get_status_code();
    let (_, taken) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, taken);
    let (relayed, _sent) = Response::new(Fields::new(), Some(body), trailers);
    relayed
        .set_status_code(status)
        .expect("a status that came in");
    relayed
}
