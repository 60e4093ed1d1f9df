//! How a server ends.

use rustix::process::Signal;

use crate::harness::app::App;
use crate::harness::http2::{connect, converse, open_body, whole};
use crate::harness::message::{chunk, chunked_head, get, last_chunk};
use crate::harness::server::Server;
use crate::harness::upstream::Held;

#[test]
fn an_idle_server_ends_at_once_with_success() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::of("hello-p2");
        server.is_alive("/");
        server.signal(signal);
        assert_eq!(server.end().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn connections_that_idle_do_not_hold_it_up() {
    let mut server = Server::of("hello-p2");
    let mut idle = server.connect();
    let _answer = idle.ask(&get("/"));
    let mut silent = server.connect();
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    idle.is_closed();
    silent.is_closed();
}

#[test]
fn a_request_in_flight_is_finished_and_new_ones_are_refused() {
    let mut server = Server::of("echo-p2");
    let mut connection = server.connect();
    connection.send([chunked_head("/", &[]), chunk("begun ")].concat());
    // The head shows that the guest is at work.
    let head = connection.head();
    server.signal(Signal::TERM);
    server.refuses();
    connection.send([chunk("and finished"), last_chunk(&[])].concat());
    let answer = connection.body_of(head);
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "begun and finished")
    );
    connection.is_closed();
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn a_guest_that_has_not_answered_yet_is_awaited() {
    let upstream = Held::new();
    let mut server = Server::with("outgoing-p2", &["--grant", "http=http://127.0.0.1:*"]);
    let mut connection = server.connect();
    connection.send(get(&upstream.query()));
    let call = upstream.accept();
    server.signal(Signal::TERM);
    server.refuses();
    call.answer("late, but here");
    let answer = connection.answer();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "late, but here")
    );
    connection.is_closed();
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn streams_in_flight_are_finished() {
    let mut server = Server::of("echo-p2");
    let answer = converse(async {
        let client = connect(server.address()).await;
        let (pen, body) = open_body();
        let request = client.request("POST", "/").body(body).expect("a request");
        let response = client.send(request).await.expect("a head");
        server.signal(Signal::TERM);
        server.refuses();
        pen.write("finished").await;
        drop(pen);
        whole(response).await
    });
    assert_eq!(answer.text(), "finished");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    ends_at_a_second_signal(Server::of("echo-p2"));
}

/// What a second signal does to a server of `echo-p2` with a request in flight, however it was started.
pub(crate) fn ends_at_a_second_signal(mut server: Server) {
    let mut connection = server.connect();
    connection.send(chunked_head("/", &[]));
    let _head = connection.head();
    server.signal(Signal::TERM);
    server.refuses();
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(1), "a request was cut off");
    server
        .stderr()
        .wait_for("error: 1 requests were cut off at the end: a second signal came");
}

#[test]
fn a_file_that_never_opens_does_not_hold_it_up() {
    let app = App::of(
        "files-p2",
        "[component.web.limits]\ndeadline = \"200ms\"\n\
         [component.web.grants]\nfiles = { \"/site\" = { host = \"site\" } }",
    )
    .with_file("site/page.txt", "text");
    let mut pipe = std::process::Command::new("mkfifo");
    let made = pipe.arg(app.path("site/pipe")).status().expect("mkfifo");
    assert!(made.success());
    let mut server = app.up();
    assert_eq!(server.get("/?read=/site/pipe").status, 504);
    assert_eq!(server.page("/?read=/site/page.txt"), "ok: text\n");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}
