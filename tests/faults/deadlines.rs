//! Guests that wait too long.

use crate::harness::app::App;
use crate::harness::message::get;
use crate::harness::server::Server;
use crate::harness::upstream::Held;

#[test]
fn a_slow_guest_is_504() {
    for guest in ["slow-p2", "slow-p3"] {
        let server = Server::with(guest, &["--limit", "deadline=100ms"]);
        let answer = server.get("/?ms=60000");
        assert_eq!(answer.status, 504, "{guest}");
        assert!(
            answer.text().starts_with("deadline: request "),
            "{guest}: {}",
            answer.text()
        );
        assert!(server.page("/?ms=1").starts_with("waited "), "{guest}");
    }
}

#[test]
fn a_guest_that_waits_for_another_server_is_504_and_its_connection_is_closed() {
    for guest in ["outgoing-p2", "outgoing-p3"] {
        let upstream = Held::new();
        let server = Server::with(
            guest,
            &[
                "--grant",
                "http=http://127.0.0.1:*",
                "--limit",
                "deadline=200ms",
            ],
        );
        let mut connection = server.connect();
        connection.send(get(&upstream.query()));
        let call = upstream.accept();
        assert_eq!(connection.answer().status, 504, "{guest}");
        call.wait_until_abandoned();
    }
}

/// Begins a body and never goes on: the guest answers, waits, and is cut off in the middle of its answer.
fn is_cut_off_in_its_answer(server: &Server) {
    let mut connection = server.connect();
    connection.send(crate::harness::message::chunked_head("/", &[]));
    let cut = connection
        .try_answer()
        .expect_err("the body cannot end well");
    assert_eq!(cut.part.map(|part| part.status), Some(200));
    server.stderr().wait_for("fault=deadline");
    server.is_alive("/");
}

#[test]
fn a_guest_that_streams_past_its_deadline_is_cut_off() {
    is_cut_off_in_its_answer(&Server::with("echo-p2", &["--limit", "deadline=200ms"]));
}

#[test]
fn requests_that_share_an_instance_have_a_deadline_each() {
    let settings = "reuse = 100\nconcurrent = 4\nlimits = { deadline = \"300ms\" }";
    is_cut_off_in_its_answer(&App::of("echo-p3", settings).up_with(&["--threads", "1"]));
}
