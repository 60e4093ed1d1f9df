//! Writes to its standard output and standard error, then answers. `?what=` picks one kind of line, without
//! it all are written in this order:
//!
//! - `plain`: one line to each output
//! - `escapes`: a line with colour codes, a carriage return, a bell and bytes that are no UTF-8
//! - `partial`: a piece without a line end, flushed, then the rest of the line
//! - `long`: a line of `?bytes=N` letters (100,000 without it)
//! - `unended`: a last piece without a line end

use std::io::{Write, stderr, stdout};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Log;

wasip2::http::proxy::export!(Log);

impl Guest for Log {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let what = http_p2::query(&request, "what");
        let long = vec![b'x'; http_p2::number(&request, "bytes", 100_000) as usize];
        let kinds: [(&str, &[&[u8]]); 5] = [
            ("plain", &[b"a plain line\n"]),
            (
                "escapes",
                &[b"\x1b[31mred\x1b[0m\rback \x07bell \xff\xfe\n"],
            ),
            ("partial", &[b"one line ", b"in two pieces\n"]),
            ("long", &[&long, b"\n"]),
            ("unended", &[b"no line end"]),
        ];
        for (kind, pieces) in kinds {
            if what.as_deref().is_none_or(|what| what == kind) {
                write("out: ", &mut stdout(), pieces);
                write("err: ", &mut stderr(), pieces);
            }
        }
        http_p2::answer(out, 200, "logged\n");
    }
}

/// Writes the pieces one by one, so that each is a call to the host. An output that is closed is no fault.
fn write(tag: &str, output: &mut impl Write, pieces: &[&[u8]]) {
    let mut first = tag.as_bytes().to_vec();
    for piece in pieces {
        first.extend_from_slice(piece);
        let _ = output.write_all(&first).and_then(|()| output.flush());
        first.clear();
    }
}
