//! Memory of all guests together. A component gets three quarters of it at the most, here 48 MiB.

use crate::harness::app::App;
use crate::harness::server::Server;

const FLAGS: &[&str] = &["--memory", "64MiB"];

#[test]
fn a_guest_gets_what_there_is_room_for_and_no_more() {
    let server = Server::with("grow-p2", FLAGS);
    assert_eq!(server.page("/?mib=40&touch=1"), "got 40 MiB\n");
    assert_eq!(server.page("/?mib=60"), "refused 60 MiB\n");
    assert_eq!(server.page("/?mib=40"), "got 40 MiB\n", "it was given back");
}

#[test]
fn a_guest_that_dies_for_want_of_room_is_503_and_may_be_asked_again() {
    // Its own buffer of 100 MB is within its own limit.
    let server = Server::with("log-p2", FLAGS);
    let answer = server.get("/?what=none&bytes=100000000");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().starts_with("busy: "), "{}", answer.text());
    assert!(answer.field("retry-after").is_some());
    server.is_alive("/?what=none&bytes=1");
}

#[test]
fn instances_that_idle_make_room() {
    let component = |name: &str| {
        format!(
            "[component.{name}]\nsource = \"grow-p2.wasm\"\nreuse = 10\n\
             [[http]]\nroute = \"/{name}\"\ncomponent = \"{name}\"\n"
        )
    };
    let manifest = format!(
        "[app]\nname = \"two\"\n{}{}",
        component("a"),
        component("b")
    );
    let server = App::new(&manifest).up_with(FLAGS);
    for path in ["/a?mib=40", "/b?mib=40", "/a?mib=40"] {
        assert_eq!(server.page(path), "got 40 MiB\n", "{path}");
    }
}
