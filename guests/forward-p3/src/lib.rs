//! Sends a GET to the URL in the environment variable `UPSTREAM` and passes the body on that came back: what a bench of
//! outgoing requests needs and nothing else.

use wasip3::cli::environment::get_environment;
use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::wit_future;

struct Forward;

wasip3::http::service::export!(Forward);

impl Guest for Forward {
    async fn handle(_: Request) -> Result<Response, ErrorCode> {
        let environment = get_environment();
        let upstream = environment.iter().find(|(name, _)| name == "UPSTREAM");
        let (_, authority, path) = upstream
            .and_then(|(_, url)| query::url(url))
            .ok_or(ErrorCode::HttpRequestUriInvalid)?;
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (request, _sent) = Request::new(Fields::new(), None, trailers, None);
        let invalid = |()| ErrorCode::HttpRequestUriInvalid;
        request.set_scheme(Some(&Scheme::Http)).map_err(invalid)?;
        request.set_authority(Some(authority)).map_err(invalid)?;
        request.set_path_with_query(Some(path)).map_err(invalid)?;
        let answer = client::send(request).await?;
        let (_, taken) = wit_future::new(|| Ok(()));
        let (body, trailers) = Response::consume_body(answer, taken);
        let (relayed, _sent) = Response::new(Fields::new(), Some(body), trailers);
        Ok(relayed)
    }
}
