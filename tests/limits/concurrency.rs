//! Calls of one component in flight at once.

use crate::harness::message::get;
use crate::harness::server::Server;
use crate::harness::upstream::Held;

#[test]
fn one_more_than_allowed_is_not_called() {
    let upstream = Held::new();
    let limits = [
        "--limit",
        "concurrency=2",
        "--limit",
        "queue_depth=0",
        "--grant",
        "http=http://127.0.0.1:*",
    ];
    let server = Server::with("outgoing-p2", &limits);
    let mut first = server.connect();
    first.send(get(&upstream.query()));
    let mut second = server.connect();
    second.send(get(&upstream.query()));
    let calls = [upstream.accept(), upstream.accept()];
    assert_eq!(server.get("/").status, 503);
    calls.into_iter().for_each(|call| call.answer("done"));
    assert_eq!(
        (first.answer().text(), second.answer().text()),
        ("done".into(), "done".into())
    );
    // Without a query the guest answers by itself, with 400.
    assert_eq!(server.get("/").status, 400);
}
