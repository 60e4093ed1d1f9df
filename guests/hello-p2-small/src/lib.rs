//! Answers every request with one line, like `hello-p2`, but is built without the standard library's
//! WASI: it imports the few functions of `wasi:http` and `wasi:io` that it calls and nothing else.
//!
//! This is the guest that benchmarks measure. It speaks WASI 0.2.0, the oldest stable version.

wit_bindgen::generate!({ world: "hello", generate_all });

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Hello;

export!(Hello);

impl Guest for Hello {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the first call for the body");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("the first call for the stream");
        // A client that went away is not this guest's fault.
        let _ = stream.blocking_write_and_flush(b"hello from wasi:http 0.2\n");
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
