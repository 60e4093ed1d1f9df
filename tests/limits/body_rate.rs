//! The slowest request body that is accepted.

use std::time::{Duration, Instant};

use hostel_app::limits::HEAD_TIMEOUT_MS;

use crate::harness::message::sized_head;
use crate::harness::server::Server;

#[test]
fn a_trickle_is_408() {
    let server = Server::of("stream-in-p2");
    let mut connection = server.connect();
    connection.send(sized_head("/", 1_000_000));
    let mut trickle = connection.stream();
    let begin = Instant::now();
    // About twenty bytes a second, so that there is never a long silence.
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        while begin.elapsed() < crate::harness::PATIENCE && trickle.write_all(b"x").is_ok() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
    });
    let answer = connection.answer();
    assert!(
        begin.elapsed() >= HEAD_TIMEOUT_MS.duration() - Duration::from_millis(500),
        "{:?}",
        begin.elapsed()
    );
    // The guest may have answered for the part that it got; it must not have been the whole.
    assert!(
        answer.status == 408 || answer.text() != "1000000\n",
        "{}",
        answer.text()
    );
    drop(connection);
    writer.join().expect("the writer ends with the connection");
    server.is_alive("/?read=0");
}
