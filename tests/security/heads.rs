//! Heads that are too large, too many or never complete: a clear answer, and the others are served.

use crate::harness::frames::{CONTINUATION, GOAWAY, HEADERS, Wire, frame, literal};
use crate::harness::message::get;
use crate::harness::server::Server;

const MIB: u64 = 1 << 20;

#[test]
fn a_header_of_one_mebibyte_is_431_and_costs_no_memory() {
    let server = Server::of("hello-p2");
    server.is_alive("/");
    let before = server.memory_peak();
    for _ in 0..8 {
        let mut connection = server.connect();
        let answer = connection.offend(format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: {}\r\n\r\n",
            "x".repeat(1 << 20)
        ));
        assert_eq!(answer.status, 431);
        connection.is_closed();
    }
    let grown = server.memory_peak() - before;
    assert!(grown < 8 * MIB, "{grown} bytes");
    server.is_alive("/");
}

#[test]
fn ten_thousand_headers_are_431() {
    let server = Server::of("hello-p2");
    let mut connection = server.connect();
    let lines: String = (0..10_000)
        .map(|number| format!("X-{number}: 1\r\n"))
        .collect();
    assert_eq!(
        connection
            .offend(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"))
            .status,
        431
    );
    connection.is_closed();
    server.is_alive("/");
}

#[test]
fn an_endless_request_line_is_refused() {
    let server = Server::of("hello-p2");
    let mut connection = server.connect();
    let answer = connection.offend(format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "x".repeat(1 << 20)
    ));
    assert!(matches!(answer.status, 414 | 431), "{}", answer.status);
    connection.is_closed();
    server.is_alive("/");
}

#[test]
fn a_flood_of_continuations_is_cut_off() {
    let server = Server::of("hello-p2");
    server.is_alive("/");
    let before = server.memory_peak();
    let mut wire = Wire::open(server.address());
    wire.send(frame(HEADERS, 0, 1, &literal("x-first", "1")));
    let piece = frame(CONTINUATION, 0, 1, &literal("x-more", &"x".repeat(8 << 10)));
    // 64 MiB of a header block that never ends.
    for _ in 0..8_192 {
        wire.send(&piece);
    }
    let mut last = None;
    while let Some(frame) = wire.next() {
        last = Some(frame);
    }
    // The connection is over, with a reason where one could still be sent.
    assert!(
        last.is_none_or(|frame| frame.kind == GOAWAY || frame.stream == 0),
        "the flood was answered"
    );
    let grown = server.memory_peak() - before;
    assert!(grown < 16 * MIB, "{grown} bytes");
    server.is_alive("/");
}

#[test]
fn bytes_that_are_no_http_are_refused() {
    let garbage: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ];
    let server = Server::of("hello-p2");
    for bytes in garbage {
        let mut connection = server.connect();
        connection.send(bytes);
        connection.finish_sending();
        let text = String::from_utf8_lossy(&connection.rest()).into_owned();
        assert!(
            text.is_empty()
                || text.starts_with("HTTP/1.1 400 ")
                || text.starts_with("HTTP/1.1 505 "),
            "{bytes:?}: {text}"
        );
    }
    assert_eq!(server.connect().ask(&get("/")).status, 200);
}
