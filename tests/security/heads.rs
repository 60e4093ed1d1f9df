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

/// What is sent before `piece` is repeated without an end, and what may come of it.
struct Bomb {
    name: &'static str,
    opening: &'static str,
    piece: &'static str,
    /// Statuses of the one answer; empty where there may be none but the guest's own.
    statuses: &'static [u16],
}

/// Twelve shapes of requests that never end.
const BOMBS: [Bomb; 12] = [
    Bomb {
        name: "a method",
        opening: "",
        piece: "METHOD",
        statuses: &[400, 414, 431],
    },
    Bomb {
        name: "a path",
        opening: "GET /",
        piece: "segment/",
        statuses: &[400, 414, 431],
    },
    Bomb {
        name: "a query",
        opening: "GET /?",
        piece: "a=b&",
        statuses: &[400, 414, 431],
    },
    Bomb {
        name: "a name",
        opening: "GET / HTTP/1.1\r\nHost: localhost\r\nX-",
        piece: "name",
        statuses: &[431],
    },
    Bomb {
        name: "a value",
        opening: "GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        piece: "value",
        statuses: &[431],
    },
    Bomb {
        name: "fields",
        opening: "GET / HTTP/1.1\r\nHost: localhost\r\n",
        piece: "X: 1\r\n",
        statuses: &[431],
    },
    Bomb {
        name: "empty fields",
        opening: "GET / HTTP/1.1\r\nHost: localhost\r\n",
        piece: "X:\r\n",
        statuses: &[431],
    },
    Bomb {
        name: "cookies",
        opening: "GET / HTTP/1.1\r\nHost: localhost\r\n",
        piece: "Cookie: session=0123456789abcdef0123456789abcdef\r\n",
        statuses: &[431],
    },
    Bomb {
        name: "a chunk extension",
        opening: "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;",
        piece: "extension;",
        statuses: &[],
    },
    Bomb {
        name: "digits of a chunk size",
        opening: "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        piece: "00000000",
        statuses: &[],
    },
    Bomb {
        name: "a trailer",
        opening: "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        piece: "value",
        statuses: &[],
    },
    Bomb {
        name: "trailers",
        opening: "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        piece: "X: 1\r\n",
        statuses: &[],
    },
];

/// Two mebibytes of each, from several clients at once.
#[test]
fn requests_that_never_end_are_cut_off_and_cost_no_memory() {
    const CLIENTS: usize = 4;
    const LENGTH: usize = 2 << 20;
    let server = Server::of("echo-p2");
    server.is_alive("/");
    let before = server.memory_peak();
    for bomb in &BOMBS {
        let body = bomb.piece.repeat(LENGTH / bomb.piece.len());
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.try_send(bomb.opening);
        }
        for client in &mut clients {
            client.try_send(&body);
            client.try_finish_sending();
            let text = String::from_utf8_lossy(&client.rest()).into_owned();
            assert!(
                text.matches("HTTP/1.1 ").count() <= 1,
                "{}: {text}",
                bomb.name
            );
            let refused = |status: &u16| text.starts_with(&format!("HTTP/1.1 {status} "));
            // A close can overtake the answer where the client sends more than it waits for.
            assert!(
                text.is_empty() || bomb.statuses.is_empty() || bomb.statuses.iter().any(refused),
                "{}: {text}",
                bomb.name
            );
        }
        server.is_alive("/");
    }
    let grown = server.memory_peak() - before;
    assert!(grown < 16 * MIB, "{grown} bytes");
}

#[test]
fn empty_lines_without_end_are_no_request_and_cost_no_memory() {
    let server = Server::of("hello-p2");
    server.is_alive("/");
    let before = server.memory_peak();
    let mut connection = server.connect();
    connection.try_send("\r\n".repeat(1 << 20));
    connection.try_finish_sending();
    let text = String::from_utf8_lossy(&connection.rest()).into_owned();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    let grown = server.memory_peak() - before;
    assert!(grown < 8 * MIB, "{grown} bytes");
    server.is_alive("/");
}
