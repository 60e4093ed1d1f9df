//! Bytes of one request body that may be sent before the guest has read any.

use hostel_app::limits::H2_STREAM_WINDOW_BYTES;

use crate::harness::frames::{
    DATA, FLOW_CONTROL_ERROR, GOAWAY, INITIAL_WINDOW_SIZE, RST_STREAM, SETTINGS, Wire, frame,
    request,
};
use crate::harness::server::Server;
use crate::harness::upstream::Held;

/// The largest payload of a frame.
const FRAME: usize = 16 << 10;

#[test]
fn one_byte_more_is_an_error() {
    let upstream = Held::new();
    let server = Server::with("outgoing-p2", &["--grant", "http=http://127.0.0.1:*"]);
    let mut wire = Wire::open(server.address());
    let settings = wire.find("settings", |frame| {
        frame.kind == SETTINGS && !frame.payload.is_empty()
    });
    let window = H2_STREAM_WINDOW_BYTES.count();
    assert_eq!(settings.setting(INITIAL_WINDOW_SIZE), Some(window));
    // The new window holds once both sides know of it.
    wire.send(frame(SETTINGS, 1, 0, &[]));
    wire.send(request(1, "POST", &upstream.query(), &[], 0));
    let call = upstream.accept();
    // The guest waits for the upstream and reads nothing of this.
    for _ in 0..window as usize / FRAME {
        wire.send(frame(DATA, 0, 1, &[b'x'; FRAME]));
    }
    server.comes_to_rest();
    wire.send(frame(DATA, 0, 1, b"x"));
    let end = wire.find("an error", |frame| {
        matches!(frame.kind, RST_STREAM | GOAWAY)
    });
    assert_eq!(end.error_code(), FLOW_CONTROL_ERROR);
    call.wait_until_abandoned();
}
