//! One piece of a streamed body.

use hostel_app::limits::STREAM_CHUNK_BYTES;

use crate::harness::server::Server;

#[test]
fn a_guest_that_writes_more_at_once_is_cut_into_pieces() {
    let answer = Server::of("stream-out-p2").get("/?bytes=1000000&chunk=1000000");
    assert_eq!(answer.body.len(), 1_000_000);
    let largest = answer
        .chunks
        .iter()
        .max()
        .copied()
        .expect("it came in chunks");
    assert!(largest <= STREAM_CHUNK_BYTES.size(), "{largest}");
    assert!(largest > 4096, "smaller pieces than needed: {largest}");
}
