//! Calls of guests by guests that may lie one behind the other.

use crate::harness::app::App;
use crate::harness::eventually;

/// A component that calls itself `depth` times, and an answer of its own at the end.
fn path(depth: usize) -> String {
    "/?url=http://web.app.internal".repeat(depth) + "/"
}

#[test]
fn the_ninth_call_fails_and_the_log_says_why() {
    for guest in ["outgoing-p2", "outgoing-p3"] {
        let grants = "[component.web.grants]\nhttp = [\"http://web.app.internal\"]";
        let server = App::of(guest, grants).up();
        // The innermost one has nothing to ask.
        assert_eq!(server.get(&path(8)).text(), "say url\n", "{guest}");
        let answer = server.get(&path(9));
        assert_eq!(answer.status, 502, "{guest}");
        assert!(
            answer.text().contains("LoopDetected"),
            "{guest}: {}",
            answer.text()
        );
        let log = server.stderr();
        eventually("the log says why", || {
            log.text().contains("would be number 9").then_some(())
        });
        assert_eq!(server.get(&path(8)).text(), "say url\n", "{guest}");
    }
}
