//! CPU time of one call.

use crate::harness::server::Server;

#[test]
fn a_call_that_uses_more_is_ended() {
    let server = Server::with("loop-p2", &["--limit", "cpu=500ms"]);
    let before = server.cpu_ticks();
    let answer = server.get("/");
    assert_eq!(answer.status, 504);
    assert!(answer.text().starts_with("cpu: "), "{}", answer.text());
    // 10 ms each. The first few interruptions are charged by the wall clock, so a busy machine gives a little less.
    assert!(server.cpu_ticks() - before >= 25, "ended early");
}

#[test]
fn waiting_is_not_cpu() {
    let server = Server::with("slow-p2", &["--limit", "cpu=100ms"]);
    assert_eq!(server.get("/?ms=400").status, 200);
}
