//! Calls that may wait at once.

use crate::harness::message::get;
use crate::harness::server::Server;
use crate::harness::upstream::Held;

#[test]
fn one_more_than_may_wait_is_503_at_once() {
    let upstream = Held::new();
    let limits = [
        "--limit",
        "concurrency=1",
        "--limit",
        "queue_depth=1",
        "--limit",
        "queue_wait=1m",
    ];
    let server = Server::with(
        "outgoing-p2",
        &[&limits[..], &["--grant", "http=http://127.0.0.1:*"]].concat(),
    );
    let mut first = server.connect();
    first.send(get(&upstream.query()));
    let call = upstream.accept();
    // Two more: one waits, the other is turned away, whichever came later.
    let (refused, waits) = std::thread::scope(|scope| {
        let (sender, answers) = std::sync::mpsc::sync_channel(2);
        for _ in 0..2 {
            let (sender, mut connection) = (sender.clone(), server.connect());
            scope.spawn(move || {
                sender
                    .send(connection.ask(&get("/")).status)
                    .expect("somebody listens")
            });
        }
        let refused = answers
            .recv_timeout(crate::harness::PATIENCE)
            .expect("one answer");
        call.answer("done");
        (
            refused,
            answers
                .recv_timeout(crate::harness::PATIENCE)
                .expect("the other answer"),
        )
    });
    assert_eq!((refused, waits), (503, 400));
    assert_eq!(first.answer().text(), "done");
}
