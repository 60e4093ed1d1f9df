//! Lines of guest output that wait to be written.

use hostel_app::limits::LOG_QUEUE_LINES;

use crate::harness::eventually;
use crate::harness::message::get;
use crate::harness::server::Server;

/// One app may hold half of it.
const SHARE: usize = LOG_QUEUE_LINES.size() / 2;
/// More lines than the pipe between the two processes holds.
const PIPE_LINES: usize = 2_000;
const PIPELINED: usize = 100;

#[test]
fn lines_beyond_it_are_dropped_and_counted_and_nobody_waits() {
    let server = Server::of("log-p2");
    server.stdout().hold();
    let mut connection = server.connect();
    let requests = get("/?what=plain").repeat(PIPELINED);
    // Each request logs a line to either stream, and one queue holds both.
    let rounds = (SHARE + PIPE_LINES) / PIPELINED;
    for _ in 0..rounds {
        connection.send(&requests);
        for _ in 0..PIPELINED {
            let answer = connection.answer();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    server.stdout().release();
    let logged = 2 * rounds * PIPELINED;
    let (kept, lost) = eventually("every line was written or counted", || {
        let (out, err) = (server.stdout().text(), server.stderr().text());
        let kept = plain_lines(&out) + plain_lines(&err);
        let lost: usize = err.lines().filter_map(lost_lines).sum();
        (kept + lost == logged).then_some((kept, lost))
    });
    assert!(kept >= SHARE, "{kept} lines were kept");
    assert!(lost > 0, "nothing was lost: the queue has no bound");
}

fn plain_lines(text: &str) -> usize {
    text.matches(": a plain line\n").count()
}

/// The number in `hostel: 12 log lines of app NAME were lost: …`.
fn lost_lines(line: &str) -> Option<usize> {
    let (number, _) = line
        .strip_prefix("hostel: ")?
        .split_once(" log lines of app ")?;
    number.parse().ok()
}
