//! Frames in one second that carry nothing of a request.

use hostel_app::limits::H2_CONTROL_FRAMES;

use crate::harness::frames::{END_STREAM, PING, Wire, frame, request};
use crate::harness::server::Server;

/// So many questions whether we are there.
fn pings(number: u32) -> Vec<u8> {
    (0..number)
        .flat_map(|_| frame(PING, 0, 0, b"a flood!"))
        .collect()
}

#[test]
fn more_of_them_end_the_connection() {
    let server = Server::of("hello-p2");
    let mut wire = Wire::open(server.address());
    // So many that one second cannot have made two of it.
    for _ in 0..100 {
        wire.send(pings(H2_CONTROL_FRAMES.count()));
    }
    while wire.next().is_some() {}
    server.is_alive("/");
}

#[test]
fn a_few_less_are_answered() {
    let server = Server::of("hello-p2");
    let mut wire = Wire::open(server.address());
    wire.send(pings(H2_CONTROL_FRAMES.count() - 10));
    wire.send(request(1, "GET", "/", &[], END_STREAM));
    assert!(wire.find("an answer", |frame| frame.stream == 1).is_ok());
}
