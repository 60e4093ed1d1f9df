//! Nothing that a guest, a client or a file says can drive the operator's terminal or forge another's line.

use std::fs;

use crate::harness::app::App;
use crate::harness::capture::Capture;
use crate::harness::command::hostel_in;
use crate::harness::server::Server;

/// Fails on anything that a terminal would obey.
fn assert_harmless(text: &str) {
    let dangerous = text
        .chars()
        .find(|letter| letter.is_control() && *letter != '\n' && *letter != '\t');
    assert_eq!(dangerous, None, "{text:?}");
}

fn printed(stream: &Capture, text: &str) -> String {
    stream.wait_for(text);
    stream.text()
}

#[test]
fn what_guests_print_is_escaped() {
    let server = App::of("log-p2", "").up();
    let _page = server.page("/?what=escapes");
    let out = printed(server.stdout(), "bell");
    assert_harmless(&out);
    assert!(
        out.ends_with("] out: \\x1b[31mred\\x1b[0m\\x0dback \\x07bell \\xff\\xfe\n"),
        "{out}"
    );
    let err = printed(server.stderr(), "bell");
    assert_harmless(&err);
    assert!(
        err.ends_with("] err: \\x1b[31mred\\x1b[0m\\x0dback \\x07bell \\xff\\xfe\n"),
        "{err}"
    );
}

#[test]
fn names_in_files_are_escaped_by_inspect() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(
        folder.path().join("a.wat"),
        "(module (func (export \"\\1b[2Jx\\07\")))",
    )
    .expect("a file");
    let text = hostel_in(folder.path(), &["inspect", "a.wat"]).success();
    assert_harmless(&text);
    assert!(text.contains("[2Jx"), "{text}");
}

#[test]
fn names_in_manifests_are_escaped_by_errors() {
    let app = App::new("[app]\nname = \"a\"\n\"\\u001b[2Jkey\" = 1\n");
    let text = hostel_in(app.folder(), &["check"]).failure(1);
    assert_harmless(&text);
    assert!(text.contains("[2Jkey"), "{text}");
}

#[test]
fn imports_of_guests_are_escaped_by_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "(module (import \"env\" \"\\1b]0;x\\07\" (func)) (func (export \"_start\")))";
    fs::write(folder.path().join("a.wat"), text).expect("a file");
    let text = hostel_in(folder.path(), &["run", "--no-cache", "a.wat"]).failure(1);
    assert_harmless(&text);
    assert!(text.contains("]0;x"), "{text}");
}

#[test]
fn paths_of_requests_are_not_printed_raw() {
    let server = Server::of("trap-p2");
    let answer = server
        .connect()
        .offend("GET /?when=before&\x1b[2J HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(matches!(answer.status, 400 | 500), "{}", answer.status);
    server.is_alive("/?when=never");
    assert_harmless(&server.stderr().text());
}
