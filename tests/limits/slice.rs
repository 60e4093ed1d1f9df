//! `slice`: the CPU that a call may use among the short ones.

use crate::harness::server::Server;

#[test]
fn a_call_that_used_its_slice_goes_on_in_the_slow_lane() {
    let server = Server::with("loop-p2", &["--threads", "1", "--limit", "cpu=1s"]);
    assert_eq!(server.get("/").status, 504);
    let (slow, fast) = (server.cpu_ticks_of("slow"), server.cpu_ticks_of("serve"));
    assert!(slow > 50, "of 100 ticks, {slow} were in the slow lane");
    assert!(fast < 50, "{fast} ticks were in the fast lane");
}
