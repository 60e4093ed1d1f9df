//! Bytes of output that the guests of one app may write in a second.

use hostel_app::limits::LOG_RATE;

use crate::harness::eventually;
use crate::harness::message::get;
use crate::harness::server::Server;

const LINE: usize = 60_000;

/// The number in `hostel: 12 log lines of app NAME were lost: …`.
fn lost_lines(line: &str) -> Option<usize> {
    let (number, rest) = line.strip_prefix("hostel: ")?.split_once(' ')?;
    rest.starts_with("log lines of app log-p2 were lost: ")
        .then_some(number.parse().ok()?)
}

#[test]
fn output_beyond_it_is_dropped_and_counted_and_nobody_waits() {
    for flags in [[].as_slice(), &["--raw-output"]] {
        let server = Server::with("log-p2", flags);
        let before = server.memory_peak();
        let mut connection = server.connect();
        // Each request writes a line to either stream: ten seconds' worth, much faster than in ten seconds.
        let requests = 10 * LOG_RATE.size() / LINE / 2;
        let begin = std::time::Instant::now();
        for _ in 0..requests {
            let answer = connection.ask(&get(&format!("/?what=long&bytes={LINE}")));
            assert_eq!(answer.status, 200);
        }
        let earned = 1 + begin.elapsed().as_secs() as usize + 1;
        let (kept, lost) = eventually("every line was written or counted", || {
            let (out, err) = (server.stdout().text(), server.stderr().text());
            let kept = out.matches("xxx\n").count() + err.matches("xxx\n").count();
            let lost: usize = err.lines().filter_map(lost_lines).sum();
            (kept + lost == 2 * requests).then_some((kept, lost))
        });
        assert!(kept * LINE <= earned * LOG_RATE.size(), "{kept} lines");
        assert!(lost > 0 || earned >= 10, "nothing was lost");
        // What is within the rate is not touched: a second's worth was free at the start.
        assert!(
            kept * (LINE + 100) >= LOG_RATE.size() - LINE,
            "{kept} lines"
        );
        let grown = server.memory_peak() - before;
        assert!(grown < 32 << 20, "{grown} bytes");
        server.is_alive("/?what=plain");
    }
}
