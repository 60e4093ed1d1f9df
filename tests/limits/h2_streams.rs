//! Streams of one HTTP/2 connection in flight at once.

use hostel_app::limits::H2_STREAMS;

use crate::harness::frames::{
    HEADERS, MAX_CONCURRENT_STREAMS, REFUSED_STREAM, RST_STREAM, SETTINGS, Wire, request,
};
use crate::harness::server::Server;

#[test]
fn one_more_is_refused() {
    let server = Server::with("echo-p2", &["--limit", "concurrency=1000"]);
    let mut wire = Wire::open(server.address());
    let settings = wire.find("settings", |frame| {
        frame.kind == SETTINGS && !frame.payload.is_empty()
    });
    assert_eq!(
        settings.setting(MAX_CONCURRENT_STREAMS),
        Some(H2_STREAMS.count())
    );
    let streams = H2_STREAMS.count();
    (0..streams).for_each(|number| wire.send(request(2 * number + 1, "POST", "/", &[], 0)));
    (0..streams).for_each(|_| assert!(wire.find("a head", |frame| frame.kind == HEADERS).is_ok()));
    let one_more = 2 * streams + 1;
    wire.send(request(one_more, "POST", "/", &[], 0));
    let refusal = wire.find("an answer", |frame| frame.stream == one_more);
    assert_eq!(
        (refusal.kind, refusal.error_code()),
        (RST_STREAM, REFUSED_STREAM)
    );
}
