//! Rows, and bytes in them, that a guest gets at once.

use hostel_app::limits;

use crate::harness::app::App;
use crate::harness::message::post;
use crate::harness::server::Server;

const MANIFEST: &str = "[component.web.grants]\nsql = [\"main\"]";

#[test]
fn a_guest_gets_so_many_rows_and_bytes_at_once_however_many_it_asks_for() {
    let app = App::of("sql-p2", MANIFEST);
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::launch(app.folder(), data.path(), &[]);
    let series = |rows: usize, column: &str| {
        format!(
            "batches 1000000 WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s LIMIT {rows}) SELECT {column} FROM s"
        )
    };
    let rows = limits::SQL_ROWS.size();
    let third = limits::SQL_BATCH_BYTES.size() / 3;
    let script = [
        series(2 * rows + 1, "n"),
        series(7, &format!("zeroblob({})", third - 100)),
        series(3, &format!("zeroblob({})", 4 * third)),
        series(0, "n"),
        series(1, &format!("zeroblob({})", limits::HOST_CALL.size())),
    ];
    let answer = server.connect().ask(&post("/", script.join("\n"))).text();
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(
        &lines[..4],
        [
            format!("{rows} {rows} 1 0").as_str(),
            "3 3 1 0",
            "1 1 1 0",
            "0"
        ]
    );
    assert!(lines[4].starts_with("error too-large: "), "{}", lines[4]);
}
