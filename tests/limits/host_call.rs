//! Bytes that one call into the host may make it copy.

use crate::harness::server::Server;

#[test]
fn a_call_that_hands_over_more_traps() {
    let server = Server::with("big-header-p2", &["--limit", "host_call=16KiB"]);
    assert_eq!(server.page("/?bytes=8000"), "large\n");
    let answer = server.get("/?bytes=32000");
    assert_eq!(answer.status, 500);
    assert!(answer.text().starts_with("trap: "), "{}", answer.text());
    assert_eq!(server.page("/?bytes=8000"), "large\n");
}

#[test]
fn the_same_call_passes_by_default() {
    assert_eq!(Server::of("big-header-p2").page("/?bytes=32000"), "large\n");
}
