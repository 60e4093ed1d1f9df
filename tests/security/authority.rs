//! A request names its host once and clearly: caches, routes and guests must agree on whom it is for.

use crate::harness::frames::{self, END_HEADERS, END_STREAM, HEADERS, Wire, frame, literal};
use crate::harness::server::Server;

/// Sends a head without the usual `Host`: 400, then the end.
fn refused(head: &str) {
    let server = Server::of("headers-p2");
    let mut connection = server.connect();
    let answer = connection.offend(format!("{head}\r\n"));
    assert_eq!(answer.status, 400, "{head:?}: {}", answer.text());
    connection.is_closed();
    server.is_alive("/");
}

#[test]
fn two_hosts() {
    refused("GET / HTTP/1.1\r\nHost: a.example.com\r\nHost: b.example.com\r\n");
    refused("GET / HTTP/1.1\r\nHost: a.example.com\r\nHost: a.example.com\r\n");
}

#[test]
fn no_host() {
    refused("GET / HTTP/1.1\r\nAccept: */*\r\n");
}

#[test]
fn a_target_that_names_another_host() {
    refused("GET http://a.example.com/ HTTP/1.1\r\nHost: b.example.com\r\n");
    refused("GET http://a.example.com:81/ HTTP/1.1\r\nHost: a.example.com\r\n");
}

#[test]
fn hosts_that_are_none() {
    for host in [
        "",
        "a b",
        "user@a.example.com",
        "a.example.com/path",
        "a:b:c",
        "[::1",
        "a.example.com:99999",
        "a,b",
        "a#b",
    ] {
        refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n"));
    }
}

#[test]
fn targets_that_are_no_path() {
    refused("GET * HTTP/1.1\r\nHost: localhost\r\n");
    refused("GET path HTTP/1.1\r\nHost: localhost\r\n");
}

#[test]
fn a_tunnel_is_not_opened() {
    let server = Server::of("headers-p2");
    let mut connection = server.connect();
    let answer =
        connection.offend("CONNECT a.example.com:443 HTTP/1.1\r\nHost: a.example.com:443\r\n\r\n");
    assert_eq!(answer.status, 501);
    connection.is_closed();
}

#[test]
fn an_upgrade_to_another_protocol_is_refused() {
    let server = Server::of("headers-p2");
    let request =
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(server.connect().offend(request).status, 501);
}

/// Sends one HTTP/2 request with these fields and expects it to be refused without the guest.
fn refused_over_http2(fields: &[(&str, &str)]) {
    let server = Server::of("headers-p2");
    let mut wire = Wire::open(server.address());
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect();
    wire.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
    let frame = wire.find("an answer", |frame| {
        frame.stream == 1 || frame.kind == frames::GOAWAY
    });
    assert!(!frame.is_ok(), "{fields:?}: {frame:?}");
    server.is_alive("/");
}

#[test]
fn http2_authority_and_host_that_differ() {
    let base = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a.example.com"),
    ];
    refused_over_http2(&[&base[..], &[("host", "b.example.com")]].concat());
    refused_over_http2(
        &[
            &base[..],
            &[("host", "a.example.com"), ("host", "a.example.com")],
        ]
        .concat(),
    );
}

#[test]
fn http2_without_any_authority() {
    refused_over_http2(&[(":method", "GET"), (":scheme", "http"), (":path", "/")]);
}

#[test]
fn http2_with_fields_of_http_1() {
    let base = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a.example.com"),
    ];
    for field in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("X-Upper", "1"),
        ("x-line", "a\r\nb: c"),
    ] {
        refused_over_http2(&[&base[..], &[field]].concat());
    }
}
