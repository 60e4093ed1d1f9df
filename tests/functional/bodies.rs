//! Bodies of every framing and size, in both directions, without the server holding them.

use std::io::Write;

use crate::harness::http::Connection;
use crate::harness::message::{chunk, chunked_head, get, last_chunk, post, sized_head};
use crate::harness::server::Server;

const ECHOES: [&str; 2] = ["echo-p2", "echo-p3"];
const MIB: usize = 1 << 20;
const LARGE: usize = 64 * MIB;
/// What the server may need for a body of [`LARGE`] bytes.
const ROOM: u64 = 24 * MIB as u64;

/// Bytes in which a lost, doubled or moved piece shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Fails with the place of the first difference instead of printing megabytes.
fn assert_same(got: &[u8], expected: &[u8]) {
    let differs = got
        .iter()
        .zip(expected)
        .position(|(one, other)| one != other);
    assert_eq!((got.len(), differs), (expected.len(), None));
}

/// Sends a body while its echo is read, and returns the echo.
fn echo(mut connection: Connection, head: Vec<u8>, body: Vec<u8>) -> Vec<u8> {
    let mut stream = connection.stream();
    let writer = std::thread::spawn(move || {
        stream
            .write_all(&head)
            .and_then(|()| stream.write_all(&body))
            .expect("the server reads");
    });
    let answer = connection.answer();
    writer.join().expect("all was sent");
    assert_eq!(answer.status, 200);
    answer.body
}

#[test]
fn a_body_with_a_length_comes_back() {
    for guest in ECHOES {
        let server = Server::of(guest);
        for length in [1, 4096, 4097, 300_000] {
            let answer = server.connect().ask(&post("/", pattern(length)));
            assert_same(&answer.body, &pattern(length));
        }
    }
}

#[test]
fn an_empty_body_comes_back() {
    for guest in ECHOES {
        let server = Server::of(guest);
        assert_eq!(server.connect().ask(&sized_head("/", 0)).body, b"");
        assert_eq!(
            server
                .connect()
                .ask(&[chunked_head("/", &[]), last_chunk(&[])].concat())
                .body,
            b""
        );
        assert_eq!(server.get("/").body, b"");
    }
}

#[test]
fn a_chunked_body_comes_back_however_it_is_cut() {
    for guest in ECHOES {
        let server = Server::of(guest);
        let request = [
            chunked_head("/", &[]),
            chunk("one "),
            chunk("two "),
            chunk(pattern(100)),
            last_chunk(&[]),
        ]
        .concat();
        let expected = [b"one two ".as_slice(), &pattern(100)].concat();
        for size in [1, 7, request.len()] {
            let mut connection = server.connect();
            request
                .chunks(size)
                .for_each(|piece| connection.send(piece));
            assert_same(&connection.answer().body, &expected);
        }
    }
}

#[test]
fn a_body_streams_in_both_directions_at_once() {
    for guest in ECHOES {
        let server = Server::of(guest);
        let mut connection = server.connect();
        connection.send([chunked_head("/", &[]), chunk("first")].concat());
        // The head comes although the request is not complete.
        let head = connection.head();
        connection.send([chunk("second"), last_chunk(&[])].concat());
        let answer = connection.body_of(head);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "firstsecond"),
            "{guest}"
        );
    }
}

#[test]
fn a_large_body_passes_through_p2_in_bounded_memory() {
    passes_in_bounded_memory("echo-p2", "/");
}

#[test]
fn a_large_body_passes_through_p3_in_bounded_memory() {
    passes_in_bounded_memory("echo-p3", "/");
}

#[test]
fn a_large_body_that_p3_hands_back_passes_in_bounded_memory() {
    passes_in_bounded_memory("echo-p3", "/?how=join");
}

fn passes_in_bounded_memory(guest: &str, path: &str) {
    let server = Server::with(guest, &["--limit", "cpu=20s"]);
    let _warm = echo(server.connect(), sized_head(path, 4096), pattern(4096));
    let before = server.memory_peak();
    let body = pattern(LARGE);
    assert_same(
        &echo(server.connect(), sized_head(path, LARGE), body.clone()),
        &body,
    );
    let grown = server.memory_peak() - before;
    assert!(grown < ROOM, "{grown} bytes for a body of {LARGE}");
}

#[test]
fn a_large_response_streams_in_bounded_memory() {
    let server = Server::of("stream-out-p2");
    let _warm = server.get("/?bytes=4096");
    let before = server.memory_peak();
    let answer = server.get(&format!("/?bytes={LARGE}"));
    assert_letters(&answer.body);
    let grown = server.memory_peak() - before;
    assert!(grown < ROOM, "{grown} bytes for a body of {LARGE}");
}

#[test]
fn a_large_request_is_read_in_bounded_memory() {
    let server = Server::of("stream-in-p2");
    let _warm = server.connect().ask(&post("/", pattern(4096)));
    let before = server.memory_peak();
    let answer = server.connect().ask(&post("/", pattern(LARGE)));
    assert_eq!(answer.text(), format!("{LARGE}\n"));
    let grown = server.memory_peak() - before;
    assert!(grown < ROOM, "{grown} bytes for a body of {LARGE}");
}

#[test]
fn a_client_that_does_not_read_stops_the_guest_and_loses_nothing() {
    let server = Server::of("stream-out-p2");
    let _warm = server.get("/?bytes=4096");
    let before = server.memory_peak();
    let mut connection = server.connect();
    connection.send(get(&format!("/?bytes={LARGE}")));
    let head = connection.head();
    // The guest has written what the sockets take, and waits.
    server.comes_to_rest();
    let grown = server.memory_peak() - before;
    assert!(
        grown < ROOM,
        "{grown} bytes for a body of {LARGE} that nobody reads"
    );
    assert_letters(&connection.body_of(head).body);
}

/// The whole of what `stream-out-p2` sends.
fn assert_letters(body: &[u8]) {
    let expected: Vec<u8> = (b'a'..=b'z').cycle().take(LARGE).collect();
    assert_same(body, &expected);
}

#[test]
fn a_body_that_the_guest_leaves_unread_does_not_disturb_the_answer() {
    let server = Server::of("stream-in-p2");
    let mut connection = server.connect();
    let answer = connection.ask(&post("/?read=0", pattern(100_000)));
    assert_eq!((answer.status, answer.text().as_str()), (200, "unread\n"));
    server.is_alive("/");
}

#[test]
fn a_client_that_waits_for_permission_to_send_gets_it() {
    let server = Server::of("stream-in-p2");
    let mut connection = server.connect();
    connection.send(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(connection.head().status, 100);
    connection.send(b"hello");
    assert_eq!(connection.answer().text(), "5\n");
}
