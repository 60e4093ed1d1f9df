//! How long a call waits for its turn.

use std::time::Instant;

use crate::harness::message::get;
use crate::harness::server::Server;
use crate::harness::upstream::Held;

fn with_one_place(wait: &str) -> (Held, Server) {
    let wait = format!("queue_wait={wait}");
    let flags = [
        "--limit",
        "concurrency=1",
        "--limit",
        &wait,
        "--grant",
        "http=http://127.0.0.1:*",
    ];
    (Held::new(), Server::with("outgoing-p2", &flags))
}

#[test]
fn a_call_that_waits_too_long_is_503_with_retry_after() {
    let (upstream, server) = with_one_place("100ms");
    let mut first = server.connect();
    first.send(get(&upstream.query()));
    let call = upstream.accept();
    let begin = Instant::now();
    let answer = server.get("/");
    assert!(begin.elapsed().as_millis() >= 100, "it did not wait");
    assert_eq!(
        (answer.status, answer.field("retry-after")),
        (503, Some("1"))
    );
    assert!(
        answer.text().starts_with("busy: request "),
        "{}",
        answer.text()
    );
    call.answer("done");
    assert_eq!(first.answer().text(), "done");
}

#[test]
fn a_call_whose_turn_comes_in_time_is_served() {
    let (upstream, server) = with_one_place("20s");
    let mut first = server.connect();
    first.send(get(&upstream.query()));
    let call = upstream.accept();
    let mut second = server.connect();
    second.send(get("/"));
    server.comes_to_rest();
    call.answer("done");
    assert_eq!(first.answer().text(), "done");
    assert_eq!(second.answer().text(), "say url\n");
}
