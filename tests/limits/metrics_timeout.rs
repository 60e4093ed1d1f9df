//! How long one connection to the metrics' own listener may last.

use std::time::Instant;

use hostel_app::limits::METRICS_TIMEOUT_MS;

use crate::harness::http::Connection;
use crate::harness::metrics::{FLAGS, address, ask};
use crate::harness::server::Server;

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let server = Server::with("hello-p2", &FLAGS);
    let begin = Instant::now();
    let mut silent = Connection::open(address(&server)).expect("a connection");
    let mut slow = Connection::open(address(&server)).expect("a connection");
    slow.send("GET /metrics HTTP/1.1\r\n");
    silent.is_closed();
    slow.is_closed();
    // A little less: the server's clock began before ours was read.
    assert!(begin.elapsed() * 10 >= METRICS_TIMEOUT_MS.duration() * 9);
    assert_eq!(ask(&server, "/healthz").status, 200);
}
