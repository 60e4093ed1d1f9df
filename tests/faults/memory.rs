//! Guests that want too much memory.

use crate::harness::server::Server;

#[test]
fn two_gibibytes_are_refused_and_the_guest_lives() {
    let server = Server::of("grow-p2");
    server.is_alive("/?mib=1");
    let before = server.memory_peak();
    assert_eq!(server.page("/?mib=2048&touch=1"), "refused 2048 MiB\n");
    let grown = server.memory_peak() - before;
    assert!(grown < 8 << 20, "{grown} bytes");
    assert_eq!(server.page("/?mib=1"), "got 1 MiB\n");
}

#[test]
fn a_guest_that_was_refused_and_gives_up_is_a_memory_fault() {
    // The guest's own buffer of 100 MB does not fit; Rust's allocator gives up with a trap.
    let server = Server::with("log-p2", &["--limit", "memory=8MiB"]);
    let answer = server.get("/?what=none&bytes=100000000");
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().starts_with("memory: request "),
        "{}",
        answer.text()
    );
    server.stderr().wait_for("fault=memory");
    server.is_alive("/?what=none&bytes=1");
}

#[test]
fn memory_of_an_instance_that_is_gone_is_free_again() {
    let server = Server::of("grow-p2");
    for _ in 0..30 {
        assert_eq!(server.page("/?mib=100&touch=1"), "got 100 MiB\n");
    }
    // Thirty times a hundred mebibytes, touched; each was given back.
    assert!(
        server.memory_peak() < 1 << 30,
        "{} bytes",
        server.memory_peak()
    );
}
