//! Answers with one header `x-big` of `?bytes=N` bytes (1 MiB without it); where the host refuses it, it
//! says so in a body with status 200. `?count=N` sends that many headers instead of one.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, HeaderError, IncomingRequest, OutgoingResponse, ResponseOutparam,
};

struct BigHeader;

wasip2::http::proxy::export!(BigHeader);

impl Guest for BigHeader {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let bytes = http_p2::number(&request, "bytes", 1 << 20) as usize;
        let count = http_p2::number(&request, "count", 1);
        let fields = Fields::new();
        if let Err(error) = fill(&fields, bytes, count) {
            return http_p2::answer(out, 200, &format!("refused: {error:?}\n"));
        }
        let response = OutgoingResponse::new(fields);
        let body = response.body().expect("the first call for the body");
        ResponseOutparam::set(out, Ok(response));
        http_p2::write(&body, b"large\n");
        http_p2::end(body, None);
    }
}

/// Adds `count` headers of `bytes` bytes.
fn fill(fields: &Fields, bytes: usize, count: u64) -> Result<(), HeaderError> {
    let value = vec![b'x'; bytes];
    for _ in 0..count {
        fields.append("x-big", &value)?;
    }
    Ok(())
}
