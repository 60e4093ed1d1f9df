//! Two parsers that disagree about where a request ends let an attacker put words into another client's mouth (RFC 9112
//! section 11.2). Whatever could be read in two ways is refused, and nothing behind it is answered.

use crate::harness::message::{chunk, chunked_head, get};
use crate::harness::server::Server;

/// A request that must never be answered, because it was hidden behind an ambiguous one.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends a head with an ambiguity and a hidden request behind it: one answer, this status, then the end.
fn refused(head: &str, body: &str, status: u16) {
    let server = Server::of("echo-p2");
    let mut connection = server.connect();
    let request = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n{body}{SMUGGLED}");
    let answer = connection.offend(request);
    assert_eq!(answer.status, status, "{head:?}: {}", answer.text());
    assert_eq!(answer.field("connection"), Some("close"), "{head:?}");
    connection.is_closed();
    server.is_alive("/");
}

#[test]
fn length_before_chunked() {
    refused(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        400,
    );
}

#[test]
fn chunked_before_length() {
    refused(
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "0\r\n\r\n",
        400,
    );
}

#[test]
fn two_lengths() {
    refused("Content-Length: 0\r\nContent-Length: 46\r\n", "", 400);
    refused("Content-Length: 0\r\nContent-Length: 0\r\n", "", 400);
}

#[test]
fn lengths_that_are_no_number() {
    for length in ["+0", "-1", "0x0", "0,0", "0 0", "18446744073709551616", ""] {
        refused(&format!("Content-Length: {length}\r\n"), "", 400);
    }
}

#[test]
fn codings_that_a_guest_would_get_undecoded() {
    refused("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n", 501);
}

#[test]
fn codings_that_are_not_chunked_in_the_end() {
    for coding in [
        "chunked, gzip",
        "xchunked",
        "identity",
        "\x0bchunked",
        "chunked, chunked",
    ] {
        let server = Server::of("echo-p2");
        let mut connection = server.connect();
        let answer = connection
            .offend(format!("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n{SMUGGLED}"));
        assert!(
            matches!(answer.status, 400 | 501),
            "{coding:?}: {}",
            answer.status
        );
        connection.is_closed();
    }
}

#[test]
fn lines_that_end_without_carriage_return() {
    refused("Content-Length: 0\nX-More: 1\r\n", "", 400);
}

#[test]
fn folded_lines() {
    refused("X-Folded: one\r\n two\r\nContent-Length: 0\r\n", "", 400);
    refused("X-Folded: one\r\n\ttwo\r\nContent-Length: 0\r\n", "", 400);
}

#[test]
fn names_that_other_parsers_read_differently() {
    for line in [
        "Content-Length : 0",
        " Content-Length: 0",
        "Content\0-Length: 0",
        "Content-Length\r: 0",
        ": 0",
        "no colon",
    ] {
        let server = Server::of("hello-p2");
        let mut connection = server.connect();
        let answer = connection.offend(format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n{SMUGGLED}"
        ));
        assert_eq!(answer.status, 400, "{line:?}");
        connection.is_closed();
    }
}

#[test]
fn values_with_control_characters() {
    for value in ["a\0b", "a\rb", "a\x7fb", "a\x01b"] {
        let server = Server::of("hello-p2");
        let mut connection = server.connect();
        let answer = connection.offend(format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nX-Value: {value}\r\n\r\n{SMUGGLED}"
        ));
        assert_eq!(answer.status, 400, "{value:?}");
        connection.is_closed();
    }
}

/// The head was good and the guest may have answered; the body is what is broken. What follows it is no new request.
fn broken_body(body: &str) {
    let server = Server::of("echo-p2");
    let mut connection = server.connect();
    connection.try_send(
        [
            chunked_head("/", &[]),
            body.as_bytes().to_vec(),
            SMUGGLED.into(),
        ]
        .concat(),
    );
    let received = String::from_utf8_lossy(&connection.rest()).into_owned();
    assert!(
        received.matches("HTTP/1.1 ").count() <= 1,
        "{body:?}: {received}"
    );
    server.is_alive("/");
}

#[test]
fn chunk_sizes_that_are_no_number() {
    for size in ["zz", "-1", "0x5", "ffffffffffffffffff", "", "5 5"] {
        broken_body(&format!("{size}\r\nhello\r\n0\r\n\r\n"));
    }
}

#[test]
fn chunks_that_are_longer_than_they_say() {
    broken_body("3\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn chunk_lines_that_end_without_carriage_return() {
    broken_body("5\nhello\n0\n\n");
}

#[test]
fn a_request_behind_a_good_one_is_not_confused_with_its_body() {
    let server = Server::of("echo-p2");
    let mut connection = server.connect();
    let good = [
        chunked_head("/", &[]),
        chunk(SMUGGLED),
        b"0\r\n\r\n".to_vec(),
    ]
    .concat();
    assert_eq!(connection.ask(&good).text(), SMUGGLED);
    assert_eq!(connection.ask(&get("/")).status, 200);
}
