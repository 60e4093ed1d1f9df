//! One line of guest output.

use hostel_app::limits::LOG_LINE_BYTES;

use crate::harness::server::Server;

#[test]
fn a_longer_line_is_cut_and_the_next_one_is_whole() {
    let server = Server::with("log-p2", &["--raw-output"]);
    let within = LOG_LINE_BYTES.size() - "out: ".len();
    for bytes in [within, within + 1, 10 * within] {
        let _page = server.page(&format!("/?what=long&bytes={bytes}"));
    }
    let _page = server.page("/?what=plain");
    server.stdout().wait_for("out: a plain line\n");
    let lengths: Vec<usize> = server.stdout().text().lines().map(str::len).collect();
    assert_eq!(
        lengths,
        [
            LOG_LINE_BYTES.size(),
            LOG_LINE_BYTES.size(),
            LOG_LINE_BYTES.size(),
            17
        ]
    );
}
