//! Streams `?bytes=N` bytes (1 MiB without it) in writes of `?chunk=M` bytes (64 KiB without it), waiting
//! whenever the host takes no more. Byte number `i` is the letter `a` + `i` mod 26, so that a client can
//! tell a lost or doubled piece.

use std::io::Write;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct StreamOut;

wasip2::http::proxy::export!(StreamOut);

impl Guest for StreamOut {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let mut left = http_p2::number(&request, "bytes", 1 << 20) as usize;
        let chunk = http_p2::number(&request, "chunk", 64 << 10).max(1) as usize;
        // Long enough to begin at any letter.
        let letters: Vec<u8> = (b'a'..=b'z').cycle().take(chunk + 26).collect();
        let body = http_p2::head(out, 200, &[("content-type", "text/plain")]);
        let mut stream = body.write().expect("the first call for the stream");
        let mut sent = 0;
        while left > 0 {
            let length = left.min(chunk);
            let start = sent % 26;
            if stream.write_all(&letters[start..start + length]).is_err() {
                // The client went away.
                return;
            }
            sent += length;
            left -= length;
        }
        drop(stream);
        http_p2::end(body, None);
    }
}
