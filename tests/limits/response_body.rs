//! Size of one response body.

use crate::harness::message::get;
use crate::harness::server::Server;

fn server() -> Server {
    Server::with("stream-out-p2", &["--limit", "response_body=100KiB"])
}

#[test]
fn a_body_within_it_passes() {
    let size = 100 << 10;
    assert_eq!(server().page(&format!("/?bytes={size}")).len(), size);
}

#[test]
fn a_body_that_grows_beyond_it_is_cut_off_and_the_operator_is_told() {
    let server = server();
    let mut connection = server.connect();
    connection.send(get(&format!("/?bytes={}", 1 << 30)));
    let cut = connection.rest();
    assert!(cut.starts_with(b"HTTP/1.1 200"), "it had begun");
    assert!(cut.len() < 200 << 10, "{} bytes arrived", cut.len());
    assert!(!cut.ends_with(b"0\r\n\r\n"), "it looks complete");
    server.stderr().wait_for("fault=bad-guest");
    server.is_alive("/?bytes=10");
}
