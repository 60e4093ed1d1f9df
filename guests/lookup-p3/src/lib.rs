//! Looks up `?name=HOST` and answers `ok:` with the number of its addresses, or `error:` with the error's name; the
//! status is 200 either way. `?times=N` does it N times and answers with the last.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::sockets::ip_name_lookup::resolve_addresses;

struct Lookup;

wasip3::http::service::export!(Lookup);

impl Guest for Lookup {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let Some(name) = http_p3::query(&request, "name") else {
            return Ok(http_p3::answer(400, "say name\n"));
        };
        for _ in 1..http_p3::number(&request, "times", 1) {
            drop(resolve_addresses(name.clone()).await);
        }
        let text = match resolve_addresses(name).await {
            Ok(addresses) => format!("ok: {} addresses\n", addresses.len()),
            Err(error) => format!("error: {error:?}\n"),
        };
        Ok(http_p3::answer(200, text))
    }
}
