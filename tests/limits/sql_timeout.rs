//! How long one statement of a database may run.

use crate::harness::app::App;
use crate::harness::message::post;
use crate::harness::server::Server;

const MANIFEST: &str =
    "limits = { sql_timeout = \"200ms\" }\n[component.web.grants]\nsql = [\"main\"]";

const ENDLESS: &str =
    "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s) SELECT count(*) FROM s";

#[test]
fn a_longer_statement_is_stopped_and_fails_inside_the_guest() {
    let app = App::of("sql-p2", MANIFEST);
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::launch(app.folder(), data.path(), &[]);
    let script = format!(
        "execute CREATE TABLE t (n)\nquery {ENDLESS}\nexecute INSERT INTO t {ENDLESS}\nquery SELECT count(*) FROM t"
    );
    // Often enough that a connection which does not come back would be missed.
    for _ in 0..6 {
        let answer = server.connect().ask(&post("/", &script)).text();
        let lines: Vec<&str> = answer.lines().collect();
        let late = "error too-slow: the statement ran longer than 200 ms, its limit `sql_timeout`, and was stopped";
        assert_eq!(&lines[1..], [late, late, "0"]);
    }
}
