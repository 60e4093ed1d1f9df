//! Clients that fail.

use crate::harness::frames::{self, CANCEL, END_STREAM, RST_STREAM, Wire, frame};
use crate::harness::message::{chunked_head, get, sized_head};
use crate::harness::server::Server;
use crate::harness::upstream::Held;

#[test]
fn half_a_request_is_told_so() {
    let server = Server::of("hello-p2");
    let mut connection = server.connect();
    connection.send("GET / HTTP/1.1\r\nHost: loc");
    connection.finish_sending();
    let answer = connection.answer();
    assert_eq!(answer.status, 400);
    connection.is_closed();
    server.is_alive("/");
}

#[test]
fn a_client_that_connects_and_leaves_is_no_trouble() {
    let server = Server::of("hello-p2");
    for _ in 0..50 {
        drop(server.connect());
        let mut half = server.connect();
        half.send("GET / HT");
        drop(half);
    }
    server.is_alive("/");
}

#[test]
fn a_guest_whose_client_left_is_cancelled() {
    for guest in ["outgoing-p2", "outgoing-p3"] {
        let upstream = Held::new();
        let server = Server::with(guest, &["--grant", "http=http://127.0.0.1:*"]);
        let mut connection = server.connect();
        connection.send(get(&upstream.query()));
        let call = upstream.accept();
        drop(connection);
        call.wait_until_abandoned();
        // The same instance slot serves the next one.
        let mut next = server.connect();
        next.send(get(&upstream.query()));
        upstream.accept().answer("fine");
        assert_eq!(next.answer().text(), "fine", "{guest}");
    }
}

#[test]
fn a_stream_that_is_reset_cancels_its_guest_alone() {
    let upstream = Held::new();
    let server = Server::with("outgoing-p2", &["--grant", "http=http://127.0.0.1:*"]);
    let mut wire = Wire::open(server.address());
    wire.send(frames::request(
        1,
        "GET",
        &upstream.query(),
        &[],
        END_STREAM,
    ));
    wire.send(frames::request(
        3,
        "GET",
        &upstream.query(),
        &[],
        END_STREAM,
    ));
    let (first, second) = (upstream.accept(), upstream.accept());
    // Which of the two calls belongs to which stream is not known: reset both, one after the other.
    wire.send(frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()));
    wire.send(frame(RST_STREAM, 0, 3, &CANCEL.to_be_bytes()));
    first.wait_until_abandoned();
    second.wait_until_abandoned();
    wire.send(frames::request(
        5,
        "GET",
        &upstream.query(),
        &[],
        END_STREAM,
    ));
    upstream.accept().answer("fine");
    assert!(wire.find("an answer", |frame| frame.stream == 5).is_ok());
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_is_no_trouble() {
    for guest in ["echo-p2", "echo-p3", "stream-in-p2"] {
        let server = Server::of(guest);
        for head in [sized_head("/", 1_000_000), chunked_head("/", &[])] {
            let mut connection = server.connect();
            connection.send(head);
            connection.send("5\r\nhello\r\n");
            drop(connection);
        }
        server.comes_to_rest();
        server.is_alive("/");
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_the_answer_is_no_trouble() {
    let server = Server::of("stream-out-p2");
    for _ in 0..5 {
        let mut connection = server.connect();
        connection.send(get("/?bytes=100000000"));
        let _head = connection.head();
        drop(connection);
    }
    server.comes_to_rest();
    assert_eq!(server.page("/?bytes=5"), "abcde");
}

#[test]
fn a_client_that_stops_in_the_middle_of_its_body_is_not_asked_for_another_request() {
    let server = Server::of("echo-p2");
    let mut connection = server.connect();
    connection.send(sized_head("/", 10));
    connection.send("hello");
    connection.finish_sending();
    let received = String::from_utf8_lossy(&connection.rest()).into_owned();
    assert!(received.matches("HTTP/1.1 ").count() <= 1, "{received}");
    server.is_alive("/");
}

/// What remains of a failed call occupies a place until its client has heard of it: so it counts as a call.
#[test]
fn a_client_that_never_reads_keeps_its_turn_also_when_its_guest_was_stopped() {
    let limits = ["concurrency=1", "deadline=200ms", "queue_wait=0ms"];
    let flags = limits.map(|limit| ["--limit", limit]);
    let server = Server::with("stream-out-p2", flags.as_flattened());
    let mut wire = Wire::open(server.address());
    // More than the window of an HTTP/2 stream.
    let path = "/?bytes=10000000";
    wire.send(frames::request(1, "GET", path, &[], END_STREAM));
    server.stderr().wait_for("fault=deadline");
    assert_eq!(server.get("/?bytes=1").status, 503);
    wire.send(frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()));
    crate::harness::eventually("the turn comes back", || {
        (server.get("/?bytes=1").status == 200).then_some(())
    });
}

#[test]
fn a_body_that_was_not_asked_for_is_not_a_client_that_left() {
    let server = Server::with("stream-out-p2", &["--limit", "concurrency=1"]);
    for _ in 0..3 {
        let mut connection = server.connect();
        let head = b"HEAD /?bytes=10000000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(connection.ask(head).status, 200);
    }
    // The log is written in order: a later fault shows that nothing came before it.
    let mut wire = Wire::open(server.address());
    let path = "/?bytes=10000000";
    wire.send(frames::request(1, "GET", path, &[], END_STREAM));
    wire.find("the first piece", |frame| frame.kind == frames::DATA);
    wire.send(frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()));
    server.stderr().wait_for("the client went away");
    let told = server
        .stderr()
        .text()
        .matches("the client went away")
        .count();
    assert_eq!(told, 1, "{}", server.stderr().text());
}
