//! Streams that were reset before they were accepted.

use hostel_app::limits::H2_RESETS;

use crate::harness::frames::{
    CANCEL, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, RST_STREAM, Wire, frame, request,
};
use crate::harness::server::Server;

/// So many requests, each taken back at once.
fn rapid_reset(streams: u32) -> Vec<u8> {
    let taken_back = |number: u32| {
        let stream = 2 * number + 1;
        let reset = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        [request(stream, "GET", "/", &[], END_STREAM), reset].concat()
    };
    (0..streams).flat_map(taken_back).collect()
}

#[test]
fn a_client_that_only_takes_back_is_sent_away() {
    let server = Server::of("hello-p2");
    let mut wire = Wire::open(server.address());
    wire.send(rapid_reset(4 * H2_RESETS.count()));
    let goaway = wire.find("a farewell", |frame| frame.kind == GOAWAY);
    assert_eq!(goaway.error_code(), ENHANCE_YOUR_CALM);
    server.is_alive("/");
}

#[test]
fn a_client_that_takes_a_few_back_is_served() {
    let server = Server::of("hello-p2");
    let mut wire = Wire::open(server.address());
    let few = H2_RESETS.count() / 2;
    wire.send(rapid_reset(few));
    wire.send(request(2 * few + 1, "GET", "/", &[], END_STREAM));
    assert!(
        wire.find("an answer", |frame| frame.stream == 2 * few + 1)
            .is_ok()
    );
}
