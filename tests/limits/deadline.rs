//! Wall clock of one call.

use crate::harness::server::Server;

#[test]
fn a_call_that_takes_longer_is_ended() {
    let server = Server::with("slow-p2", &["--limit", "deadline=400ms"]);
    assert_eq!(server.get("/?ms=1").status, 200);
    let begin = std::time::Instant::now();
    let answer = server.get("/?ms=60000");
    assert_eq!(answer.status, 504);
    assert!(answer.text().starts_with("deadline: "), "{}", answer.text());
    assert!(begin.elapsed().as_millis() >= 400, "ended early");
}
