//! Request line and header fields together.

use hostel_app::limits::HEAD_BYTES;

use crate::harness::message::get;
use crate::harness::server::Server;

#[test]
fn a_larger_head_is_431() {
    let server = Server::of("hello-p2");
    let head = |bytes: usize| {
        let head = "GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: \r\n\r\n";
        head.replace(
            "X-Big: ",
            &format!("X-Big: {}", "x".repeat(bytes - head.len())),
        )
    };
    let mut connection = server.connect();
    assert_eq!(
        connection.ask(head(HEAD_BYTES.size()).as_bytes()).status,
        200
    );
    assert_eq!(connection.ask(&get("/")).status, 200);
    assert_eq!(connection.offend(head(HEAD_BYTES.size() + 1)).status, 431);
    connection.is_closed();
}
