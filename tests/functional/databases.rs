//! Databases of a guest, in files of the data directory and on a PostgreSQL server: what `hostel:sql` does.

use hostel_backends::Postgres;
use rustix::process::Signal;

use crate::harness::app::App;
use crate::harness::eventually;
use crate::harness::http::Connection;
use crate::harness::message::post;
use crate::harness::server::Server;

/// Two databases, and none else.
const GRANTS: &str = "[component.web.grants]\nsql = [\"main\", \"other\"]";

struct Databases {
    app: App,
    data: tempfile::TempDir,
    server: Server,
}

impl Databases {
    fn new(settings: &str) -> Self {
        Self::start(App::of("sql-p2", &format!("{settings}\n{GRANTS}")), &[])
    }

    /// The same app with the operator's one line changed.
    fn on(postgres: &Postgres) -> Self {
        let places = format!("[sql.main]\nurl = \"{}\"\n", postgres.url());
        let app = App::of("sql-p2", GRANTS).with_file("server.toml", places);
        let config = app.path("server.toml").display().to_string();
        Self::start(app, &["--config", &config])
    }

    fn start(app: App, flags: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let server = Server::launch(app.folder(), data.path(), flags);
        Self { app, data, server }
    }

    /// The answers to the lines of a script.
    fn run(&self, script: &str) -> Vec<String> {
        self.run_in("main", script)
    }

    fn run_in(&self, db: &str, script: &str) -> Vec<String> {
        let answer = self
            .server
            .connect()
            .ask(&post(&format!("/?db={db}"), script));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().lines().map(str::to_owned).collect()
    }

    /// The same app, started once more.
    fn restart(&mut self) {
        self.server = Server::launch(self.app.folder(), self.data.path(), &[]);
    }
}

/// One script on both kinds, with what differs between the dialects left out.
fn does_what_databases_do(on: &Databases) {
    let made = on.run(
        "execute CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, data TEXT)\n\
         execute INSERT INTO t VALUES ($1, $2, $3), (2, 'two', 'ä')\ti:1\tt:one\tn\n\
         query SELECT id, name, data FROM t ORDER BY id\n\
         columns SELECT name AS n FROM t\n\
         query INSERT INTO t (id, name) VALUES (3, 'three') RETURNING id\n\
         query SELECT count(*) FROM t WHERE name = $1\tt:' OR 1 = 1 --",
    );
    assert_eq!(made, ["0", "2", "1|one|NULL;2|two|ä", "n text", "3", "0"]);
    let transactions = on.run(
        "begin\nexecute DELETE FROM t\nquery SELECT count(*) FROM t\nrollback\n\
         query SELECT count(*) FROM t\n\
         execute INSERT INTO t VALUES (1, 'again', NULL)\n\
         begin\nexecute UPDATE t SET name = 'x' WHERE id = 1\ncommit\nexecute DELETE FROM t",
    );
    assert_eq!(
        &transactions[..5],
        [
            "begun",
            "3",
            "0",
            "rollback",
            "error no-transaction: the transaction is over"
        ]
    );
    let after = on.run(
        "query SELECT count(*) FROM t\nexecute INSERT INTO t VALUES (1, 'again', NULL)\n\
         execute SELEC\nexecute SELECT 1; SELECT 2\nexecute COMMIT\nexecute DELETE FROM missing",
    );
    assert_eq!(after[0], "3");
    for (answer, kind) in after[1..].iter().zip([
        "constraint",
        "bad-statement",
        "bad-statement",
        "bad-statement",
        "bad-statement",
    ]) {
        assert!(answer.starts_with(&format!("error {kind}: ")), "{answer}");
    }
    // A transaction that is left open is undone with its guest.
    let left = on.run("begin\nexecute DELETE FROM t\nleave");
    assert_eq!(left, ["begun", "3", "left"]);
    eventually("the guest's transaction is undone", || {
        let inserted = on.run("execute INSERT INTO t VALUES (9, 'nine', NULL)");
        (inserted == ["1"]).then_some(())
    });
    assert_eq!(on.run("query SELECT count(*) FROM t"), ["4"]);
}

#[test]
fn statements_and_transactions_in_files_of_the_data_directory() {
    let databases = Databases::new("");
    does_what_databases_do(&databases);
    assert!(databases.data.path().join("state").is_dir());
}

#[test]
fn statements_and_transactions_on_a_server_with_one_line_changed() {
    let postgres = Postgres::start();
    let databases = Databases::on(&postgres);
    does_what_databases_do(&databases);
    let typed = databases.run("query SELECT $1::date, $2::numeric, $3::bytea, $4::bool\tt:2024-02-29\tt:1.50\tx:00ff\tb:true");
    assert_eq!(typed, ["2024-02-29|1.50|00ff|true"]);
    // The other label stays where it is.
    assert_eq!(
        databases.run_in("other", "query SELECT sqlite_version() > '3'"),
        ["1"]
    );
}

#[test]
fn a_server_that_is_down_is_an_error_of_the_guest_s_and_is_found_again() {
    let mut postgres = Postgres::start();
    let databases = Databases::on(&postgres);
    assert_eq!(databases.run("query SELECT 1"), ["1"]);
    postgres.kill();
    let down = databases.run("query SELECT 1\nexecute DELETE FROM t\nbegin");
    for answer in &down {
        assert!(
            answer.starts_with("error unavailable: the store "),
            "{answer}"
        );
        assert!(!answer.contains(postgres.password()));
    }
    assert_eq!(
        databases.run_in("other", "query SELECT 1"),
        ["1"],
        "routes that do not need it"
    );
    postgres.restart();
    eventually("the server is found again", || {
        (databases.run("query SELECT 1") == ["1"]).then_some(())
    });
}

#[test]
fn a_database_that_is_not_granted_is_denied_and_the_log_says_what_to_add() {
    let databases = Databases::new("");
    assert_eq!(
        databases.run_in("secret", "query SELECT 1"),
        ["error access-denied: "]
    );
    assert_eq!(
        databases.run_in("..%2Fother", "query SELECT 1"),
        ["error no-such-store: "]
    );
    databases.server.stderr().find("the line to add", |text| {
        let line = "add sql = [\"secret\"] to [component.web.grants]";
        text.contains(line).then_some(())
    });
    databases.run("execute CREATE TABLE t (n)");
    let other = databases.run_in("other", "query SELECT * FROM t");
    assert!(
        other[0].starts_with("error bad-statement: no such table: t"),
        "{other:?}"
    );
    let out = databases.run("execute ATTACH 'x.db' AS x\nexecute PRAGMA journal_mode = off\nquery SELECT load_extension('x')");
    assert!(
        out.iter()
            .all(|answer| answer.starts_with("error bad-statement: ")),
        "{out:?}"
    );
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let mut databases = Databases::new("");
    databases.run("execute CREATE TABLE t (n INTEGER PRIMARY KEY, half TEXT)");
    let mut acknowledged = 0;
    for round in 0..5 {
        let address = databases.server.address();
        let first = round * 1000;
        let writer = std::thread::spawn(move || {
            let mut written = Vec::new();
            for number in first..first + 1000 {
                let script = format!(
                    "begin\nexecute INSERT INTO t VALUES ({number}, 'first')\nexecute UPDATE t SET half = 'both' WHERE n = {number}\ncommit"
                );
                let Ok(mut connection) = Connection::open(address) else {
                    break;
                };
                connection.try_send(post("/", script));
                match connection.try_answer() {
                    Ok(answer) if answer.text().ends_with("commit\n") => written.push(number),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            written
        });
        eventually("some rows are written", || {
            let some = format!("query SELECT count(*) > 3 FROM t WHERE n >= {first}");
            (databases.run(&some) == ["1"]).then_some(())
        });
        databases.server.signal(Signal::KILL);
        acknowledged += writer.join().expect("the writer ends well").len();
        databases.restart();
        let counts = databases
            .run("query SELECT count(*), sum(half <> 'both') FROM t\nquery PRAGMA integrity_check");
        let (kept, torn) = counts[0].split_once('|').expect("two numbers");
        assert!(
            kept.parse::<usize>().expect("a number") >= acknowledged,
            "{counts:?} of {acknowledged}"
        );
        assert_eq!((torn, counts[1].as_str()), ("0", "ok"));
    }
    assert!(acknowledged > 0);
}
