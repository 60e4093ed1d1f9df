//! Linear memory of one instance.

use crate::harness::server::Server;

#[test]
fn an_instance_gets_its_memory_and_no_more() {
    let server = Server::with("grow-p2", &["--limit", "memory=8MiB"]);
    assert_eq!(server.page("/?mib=4&touch=1"), "got 4 MiB\n");
    assert_eq!(server.page("/?mib=8"), "refused 8 MiB\n");
}

#[test]
fn the_default_is_128_mebibytes() {
    let server = Server::of("grow-p2");
    assert_eq!(server.page("/?mib=120"), "got 120 MiB\n");
    assert_eq!(server.page("/?mib=128"), "refused 128 MiB\n");
}
