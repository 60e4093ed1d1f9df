//! Bytes of guest output that wait to be written.

use hostel_app::limits::{LOG_LINE_BYTES, LOG_QUEUE_BYTES};

use crate::harness::message::get;
use crate::harness::server::Server;

#[test]
fn few_long_lines_fill_it_too() {
    let server = Server::of("log-p2");
    server.stdout().hold();
    let before = server.memory_peak();
    let mut connection = server.connect();
    let lines = 2 * LOG_QUEUE_BYTES.size() / LOG_LINE_BYTES.size();
    for _ in 0..lines {
        assert_eq!(connection.ask(&get("/?what=long&bytes=65000")).status, 200);
    }
    let grown = server.memory_peak() - before;
    assert!(
        grown < 2 * LOG_QUEUE_BYTES.default + (8 << 20),
        "{grown} bytes"
    );
    server.stdout().release();
    server.stderr().wait_for("log lines were lost");
}
