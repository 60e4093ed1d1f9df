//! From the first byte of a request until its head is complete.

use std::time::{Duration, Instant};

use hostel_app::limits::HEAD_TIMEOUT_MS;

use crate::harness::server::Server;

#[test]
fn a_head_that_does_not_come_to_its_end_is_408() {
    let server = Server::of("hello-p2");
    let mut slow = server.connect();
    let mut silent = server.connect();
    let begin = Instant::now();
    slow.send("GET / HTTP/1.1\r\nHost: loc");
    // Others are served meanwhile.
    server.is_alive("/");
    assert_eq!(slow.answer().status, 408);
    let waited = begin.elapsed();
    assert!(
        waited >= HEAD_TIMEOUT_MS.duration() - Duration::from_millis(500),
        "{waited:?}"
    );
    slow.is_closed();
    // A connection that never says a word is closed without one.
    silent.is_closed();
}
