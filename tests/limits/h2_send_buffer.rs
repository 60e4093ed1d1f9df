//! Response bytes that are buffered for one HTTP/2 stream.

use crate::harness::frames::{DATA, END_STREAM, Wire, request};
use crate::harness::server::Server;

/// What a client that never grants more lets the server send (RFC 9113 section 6.9.2).
const WINDOW: usize = 65_535;

#[test]
fn a_stream_without_window_stops_the_guest() {
    let server = Server::of("stream-out-p2");
    server.is_alive("/?bytes=4096");
    let before = server.memory_peak();
    let mut wire = Wire::open(server.address());
    wire.send(request(1, "GET", "/?bytes=64000000", &[], END_STREAM));
    let mut received = 0;
    while received < WINDOW {
        received += wire.find("data", |frame| frame.kind == DATA).payload.len();
    }
    assert_eq!(received, WINDOW);
    server.comes_to_rest();
    let grown = server.memory_peak() - before;
    assert!(
        grown < 4 << 20,
        "{grown} bytes for a stream that nobody reads"
    );
}
