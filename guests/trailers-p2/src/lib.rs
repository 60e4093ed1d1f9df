//! Sends two trailers behind its body: `x-count`, which could not have been known before, and `x-note`.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};

struct Trailers;

wasip2::http::proxy::export!(Trailers);

impl Guest for Trailers {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let text = b"a body with trailers behind it\n";
        let names = ("trailer", "x-count, x-note");
        let body = http_p2::head(out, 200, &[("content-type", "text/plain"), names]);
        http_p2::write(&body, text);
        let trailers = Fields::new();
        for (name, value) in [
            ("x-count", text.len().to_string()),
            ("x-note", "end".into()),
        ] {
            trailers
                .append(name, value.as_bytes())
                .expect("a trailer that the host allows");
        }
        http_p2::end(body, Some(trailers));
    }
}
