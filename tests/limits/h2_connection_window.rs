//! Bytes of all request bodies of one connection that may be sent before a guest has read any.

use hostel_app::limits::{H2_CONNECTION_WINDOW_BYTES, H2_STREAM_WINDOW_BYTES};

use crate::harness::frames::{
    DATA, FLOW_CONTROL_ERROR, GOAWAY, SETTINGS, WINDOW_UPDATE, Wire, frame, request,
};
use crate::harness::server::Server;
use crate::harness::upstream::Held;

/// The largest payload of a frame.
const FRAME: usize = 16 << 10;
/// The window of a connection that says nothing of it (RFC 9113 section 6.9.2).
const UNSAID: u32 = 65_535;

#[test]
fn one_frame_more_ends_the_connection_and_costs_no_more_memory() {
    let upstream = Held::new();
    let server = Server::with("outgoing-p2", &["--grant", "http=http://127.0.0.1:*"]);
    server.get("/");
    let before = server.memory_peak();
    let mut wire = Wire::open(server.address());
    let update = wire.find("more window", |frame| frame.kind == WINDOW_UPDATE);
    let window = H2_CONNECTION_WINDOW_BYTES.count();
    assert_eq!(
        (update.stream, &update.payload[..]),
        (0, &(window - UNSAID).to_be_bytes()[..])
    );
    wire.send(frame(SETTINGS, 1, 0, &[]));
    // As much as the connection takes, over as many streams as that needs, and then one frame on one more.
    let streams = window / H2_STREAM_WINDOW_BYTES.count();
    for stream in (0..=streams).map(|number| 2 * number + 1) {
        wire.send(request(stream, "POST", &upstream.query(), &[], 0));
    }
    let calls: Vec<_> = (0..=streams).map(|_| upstream.accept()).collect();
    for stream in (0..streams).map(|number| 2 * number + 1) {
        for _ in 0..H2_STREAM_WINDOW_BYTES.size() / FRAME {
            wire.send(frame(DATA, 0, stream, &[b'x'; FRAME]));
        }
    }
    server.comes_to_rest();
    wire.send(frame(DATA, 0, 2 * streams + 1, &[b'x'; FRAME]));
    let end = wire.find("a farewell", |frame| frame.kind == GOAWAY);
    assert_eq!(end.error_code(), FLOW_CONTROL_ERROR);
    calls
        .into_iter()
        .for_each(|call| call.wait_until_abandoned());
    let grown = server.memory_peak() - before;
    assert!(grown < 16 << 20, "{grown} bytes");
}
