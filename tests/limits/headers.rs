//! Size of one set of header fields that the guest builds.

use crate::harness::server::Server;

#[test]
fn a_guest_that_builds_a_larger_set_traps() {
    let server = Server::with("big-header-p2", &["--limit", "headers=2KiB"]);
    for (within, beyond) in [
        ("/?bytes=1000", "/?bytes=3000"),
        ("/?bytes=100&count=5", "/?bytes=100&count=50"),
    ] {
        assert_eq!(server.page(within), "large\n");
        // `wasi:http` 0.2 has no error that a guest could be given for this.
        let answer = server.get(beyond);
        assert_eq!(answer.status, 500, "{beyond}");
        assert!(
            answer.text().starts_with("trap: "),
            "{beyond}: {}",
            answer.text()
        );
    }
}
