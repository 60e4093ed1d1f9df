//! Trailers over HTTP/1. (That those of a request reach the guest: `http2::trailers_pass_in_both_directions`.)

use crate::harness::message::{chunk, chunked_head, last_chunk, request};
use crate::harness::server::Server;

#[test]
fn trailers_of_a_response_follow_its_last_chunk() {
    let server = Server::of("trailers-p2");
    let answer = server
        .connect()
        .ask(&request("GET", "/", &[("TE", "trailers")], ""));
    assert_eq!(answer.text(), "a body with trailers behind it\n");
    let trailers = [
        ("x-count".to_owned(), "31".to_owned()),
        ("x-note".to_owned(), "end".to_owned()),
    ];
    assert_eq!(answer.trailers, trailers);
}

#[test]
fn a_connection_goes_on_behind_the_trailers_of_a_request() {
    for guest in ["echo-p2", "echo-p3"] {
        let server = Server::of(guest);
        let mut connection = server.connect();
        for text in ["one", "two"] {
            let head = chunked_head("/", &[("Trailer", "x-sum")]);
            let answer =
                connection.ask(&[head, chunk(text), last_chunk(&[("X-Sum", "42")])].concat());
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, text),
                "{guest}"
            );
        }
    }
}
