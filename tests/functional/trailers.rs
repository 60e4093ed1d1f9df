//! Trailers in both directions. (For HTTP/2 see `http2`.)

use crate::harness::message::{chunk, chunked_head, last_chunk};
use crate::harness::message::request;
use crate::harness::server::Server;

#[test]
fn trailers_of_a_response_follow_its_last_chunk() {
    let server = Server::of("trailers-p2");
    let answer = server.connect().ask(&request("GET", "/", &[("TE", "trailers")], ""));
    assert_eq!(answer.text(), "a body with trailers behind it\n");
    let trailers = [("x-count".to_owned(), "31".to_owned()), ("x-note".to_owned(), "end".to_owned())];
    assert_eq!(answer.trailers, trailers);
}

#[test]
fn trailers_of_a_request_reach_the_guest() {
    for guest in ["echo-p2", "echo-p3"] {
        let server = Server::of(guest);
        let head = chunked_head("/", &[("TE", "trailers"), ("Trailer", "x-sum")]);
        let answer = server.connect().ask(&[head, chunk("text"), last_chunk(&[("X-Sum", "42")])].concat());
        assert_eq!(answer.text(), "text", "{guest}");
        // What the server was not told to expect, it may leave out on the way back; the guest sends it all the same.
        assert_eq!(answer.status, 200, "{guest}");
    }
}
