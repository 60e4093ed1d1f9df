//! The rules of HTTP/1 around a guest's answer: heads without bodies, connections that stay, requests in a row.

use crate::harness::message::{get, post, request};
use crate::harness::server::Server;

#[test]
fn an_answer_to_head_has_no_body() {
    for guest in ["hello-p2", "hello-p3"] {
        let server = Server::of(guest);
        let answer = server.connect().ask(&request("HEAD", "/", &[], ""));
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, ""),
            "{guest}"
        );
    }
}

#[test]
fn a_connection_goes_on_after_head() {
    let server = Server::of("hello-p2");
    let mut connection = server.connect();
    let _head = connection.ask(&request("HEAD", "/", &[], ""));
    assert_eq!(
        connection.ask(&get("/")).text(),
        "hello from wasi:http 0.2\n"
    );
}

#[test]
fn statuses_without_a_body_have_none_although_the_guest_writes_one() {
    let server = Server::of("status-p2");
    for code in [204, 304] {
        let mut connection = server.connect();
        let answer = connection.ask(&get(&format!("/?code={code}")));
        assert_eq!(answer.status, code);
        assert_eq!(answer.field("transfer-encoding"), None, "{code}");
        // A body would be read as the next answer's head.
        assert_eq!(
            connection.ask(&get("/?code=200")).text(),
            "status 200\n",
            "{code}"
        );
    }
}

#[test]
fn every_final_status_passes() {
    let server = Server::of("status-p2");
    for code in [200, 201, 299, 302, 404, 418, 500, 503, 599] {
        assert_eq!(server.get(&format!("/?code={code}")).status, code);
    }
}

#[test]
fn many_requests_use_one_connection() {
    let server = Server::of("hello-p2");
    let mut connection = server.connect();
    for _ in 0..50 {
        let answer = connection.ask(&get("/"));
        assert_eq!((answer.status, answer.field("connection")), (200, None));
    }
}

#[test]
fn a_client_that_asks_to_close_is_closed() {
    let server = Server::of("hello-p2");
    let mut connection = server.connect();
    let answer = connection.ask(&request("GET", "/", &[("Connection", "close")], ""));
    assert_eq!(
        (answer.status, answer.field("connection")),
        (200, Some("close"))
    );
    connection.is_closed();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::of("echo-p2");
    let mut connection = server.connect();
    let words = ["one", "two", "three", "four"];
    let requests: Vec<u8> = words.iter().flat_map(|word| post("/", word)).collect();
    connection.send(requests);
    for word in words {
        assert_eq!(connection.answer().text(), word);
    }
}

#[test]
fn an_http_1_0_client_gets_a_body_that_ends_with_the_connection() {
    let server = Server::of("hello-p2");
    let mut connection = server.connect();
    connection.send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let text = String::from_utf8_lossy(&connection.rest()).into_owned();
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
    assert!(
        text.ends_with("\r\n\r\nhello from wasi:http 0.2\n"),
        "{text}"
    );
}

#[test]
fn a_small_answer_carries_its_length_and_a_date() {
    let answer = Server::of("hello-p2").get("/");
    assert_eq!(answer.field("content-length"), Some("25"));
    assert_eq!(
        answer.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(answer.field("date").is_some(), "{:?}", answer.fields);
}
