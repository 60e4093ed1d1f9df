//! Header fields and bodies that one call makes the host keep.

use crate::harness::app::App;
use crate::harness::server::Server;

/// Each of these keeps what some 30 to 60 KiB cost, so many times.
const BOMBS: [(&str, &str); 4] = [
    ("bomb-p2", "fields"),
    ("bomb-p2", "copies"),
    ("bomb-p2", "bodies"),
    ("bomb-p3", "fields"),
];

#[test]
fn a_few_are_kept_and_with_too_many_the_call_ends() {
    for (guest, what) in BOMBS {
        let server = Server::with(guest, &["--limit", "host_bytes=1MiB"]);
        assert_eq!(
            server.page(&format!("/?what={what}&count=5")),
            format!("{what}: 5 kept\n")
        );
        assert_eq!(
            server.get(&format!("/?what={what}&count=60")).status,
            500,
            "{what}"
        );
        server.stderr().wait_for("its limit `host_bytes`");
    }
}

#[test]
fn without_end_they_cost_the_host_little() {
    for (guest, what) in BOMBS {
        let server = Server::of(guest);
        server.is_alive(&format!("/?what={what}&count=1"));
        let before = server.memory_peak();
        assert_eq!(
            server.get(&format!("/?what={what}")).status,
            500,
            "{guest} {what}"
        );
        let grown = server.memory_peak() - before;
        assert!(grown < 64 << 20, "{guest} {what}: {grown} bytes");
    }
}

#[test]
fn requests_that_share_an_instance_have_it_each() {
    let settings = "reuse = 1000\nconcurrent = 4\nlimits = { host_bytes = \"512KiB\" }";
    let server = App::of("bomb-p3", settings).up_with(&["--threads", "1"]);
    for _ in 0..10 {
        assert_eq!(server.page("/?what=fields&count=5"), "fields: 5 kept\n");
    }
}
