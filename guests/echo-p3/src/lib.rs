//! Streams the request's body back as it comes, with its content-type and its trailers. Every chunk passes
//! through the guest; with `?how=join` the guest hands the request's own stream to the response instead, and
//! the host joins the two.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::{StreamReader, StreamResult, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

struct Echo;

wasip3::http::service::export!(Echo);

const CHUNK_BYTES: usize = 16 << 10;

impl Guest for Echo {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let join = http_p3::query(&request, "how").as_deref() == Some("join");
        let headers = Fields::new();
        for kind in request.get_headers().get("content-type") {
            headers
                .append("content-type", &kind)
                .expect("a header that the host let in");
        }
        let (_, taken) = wit_future::new(|| Ok(()));
        let (body, trailers) = Request::consume_body(request, taken);
        if join {
            return Ok(Response::new(headers, Some(body), trailers).0);
        }
        let (to, reader) = wit_stream::new();
        spawn_local(copy(body, to));
        Ok(Response::new(headers, Some(reader), trailers).0)
    }
}

/// Copies a stream to its end, holding one chunk.
async fn copy(mut from: StreamReader<u8>, mut to: StreamWriter<u8>) {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let (result, mut bytes) = from.read(chunk).await;
        if !bytes.is_empty() {
            let unsent = to.write_all(bytes).await;
            if !unsent.is_empty() {
                // The client went away.
                return;
            }
            bytes = Vec::with_capacity(CHUNK_BYTES);
        }
        if matches!(result, StreamResult::Dropped) {
            return;
        }
        chunk = bytes;
    }
}
