//! Whose instance answers: a fresh one for each request, or a warm one where the manifest allows it.

use crate::harness::app::App;
use crate::harness::frames::{CANCEL, DATA, END_STREAM, HEADERS, RST_STREAM, Wire, frame, request};
use crate::harness::http2::{connect, converse};
use crate::harness::server::Server;

#[test]
fn every_request_has_a_fresh_instance() {
    let server = Server::of("counter-p2");
    for _ in 0..3 {
        assert_eq!(server.page("/"), "1\n");
    }
    let server = Server::of("counter-p3");
    for _ in 0..3 {
        assert_eq!(server.page("/"), "seen 1 running 1\n");
    }
}

/// A page, asked for once the instance of the one before is certainly idle: its answer can arrive before it returns.
fn page_at_rest(server: &Server) -> String {
    server.comes_to_rest();
    server.page("/")
}

#[test]
fn an_instance_answers_as_often_as_reuse_says() {
    let server = App::of("counter-p2", "reuse = 3").up_with(&["--threads", "1"]);
    let pages: Vec<String> = (0..7).map(|_| page_at_rest(&server)).collect();
    assert_eq!(pages, ["1\n", "2\n", "3\n", "1\n", "2\n", "3\n", "1\n"]);
}

#[test]
fn a_p3_instance_answers_as_often_as_reuse_says() {
    let server = App::of("counter-p3", "reuse = 3").up_with(&["--threads", "1"]);
    let seen: Vec<String> = (0..4)
        .map(|_| page_at_rest(&server).replace(" running 1\n", ""))
        .collect();
    assert_eq!(seen, ["seen 1", "seen 2", "seen 3", "seen 1"]);
}

#[test]
fn a_p3_instance_serves_as_many_requests_at_once_as_concurrent_says() {
    let server = App::of("counter-p3", "reuse = 100\nconcurrent = 4").up_with(&["--threads", "1"]);
    let answers = converse(async {
        let client = connect(server.address()).await;
        let one = || async { client.get("/?ms=200").await.text() };
        let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
        [a, b, c, d]
    });
    // All four came in before the first was over.
    assert!(
        answers
            .iter()
            .any(|answer| answer.ends_with(" running 4\n")),
        "{answers:?}"
    );
}

#[test]
fn an_instance_that_ran_into_its_deadline_is_not_used_again() {
    let settings = "reuse = 100\nlimits = { deadline = \"2s\" }";
    let server = App::of("counter-p3", settings).up_with(&["--threads", "1"]);
    assert_eq!(server.page("/"), "seen 1 running 1\n");
    assert_eq!(server.page("/"), "seen 2 running 1\n");
    assert_eq!(server.get("/?ms=60000").status, 504);
    assert_eq!(server.page("/"), "seen 1 running 1\n");
}

#[test]
fn an_instance_whose_client_left_is_not_used_again() {
    let settings = "reuse = 100\nlimits = { concurrency = 1, queue_depth = 0 }";
    let server = App::of("counter-p3", settings).up_with(&["--threads", "1"]);
    assert_eq!(server.page("/"), "seen 1 running 1\n");
    let mut wire = Wire::open(server.address());
    wire.send(request(1, "GET", "/?ms=60000", &[], END_STREAM));
    wire.send(request(3, "GET", "/", &[], END_STREAM));
    // The second is turned away: the first is with the guest.
    let refused = wire.find("an answer", |frame| frame.kind == HEADERS);
    assert!(refused.stream == 3 && !refused.is_ok(), "{refused:?}");
    wire.send(frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()));
    let mut stream = 3;
    let page = crate::harness::eventually("the place is free again", || {
        stream += 2;
        wire.send(request(stream, "GET", "/", &[], END_STREAM));
        let head = wire.find("an answer", |frame| frame.stream == stream);
        let body = |wire: &mut Wire| {
            wire.find("a body", |frame| {
                frame.stream == stream && frame.kind == DATA
            })
        };
        let page = String::from_utf8_lossy(&body(&mut wire).payload).into_owned();
        head.is_ok().then_some(page)
    });
    assert_eq!(page, "seen 1 running 1\n");
}
