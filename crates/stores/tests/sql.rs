//! The contract of databases: what is below runs against every driver, in each one's own dialect.

mod faults;
mod hostile;
mod world;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use hostel_stores::Failure;
use hostel_stores::sql::{Error, Rows, Sql, SqlOptions, Statement, Value};

use self::world::{Dialect, World};

/// How long anything here may take that takes no time.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn statement(text: &str, parameters: Vec<Value>) -> Statement {
    Statement {
        text: text.to_owned(),
        parameters,
        timeout: SOON,
    }
}

pub(crate) fn brief(text: &str, timeout_ms: u64) -> Statement {
    Statement {
        timeout: Duration::from_millis(timeout_ms),
        ..statement(text, Vec::new())
    }
}

pub(crate) async fn all(rows: Rows) -> Result<Vec<Vec<Value>>, Error> {
    let mut rows = rows.rows;
    let mut read = Vec::new();
    while let Some(row) = rows.next().await {
        read.push(row?);
    }
    Ok(read)
}

pub(crate) async fn rows(sql: &dyn Sql, text: &str) -> Result<Vec<Vec<Value>>, Error> {
    all(sql.query(statement(text, Vec::new())).await?).await
}

pub(crate) async fn run(sql: &dyn Sql, text: &str) -> Result<u64, Error> {
    sql.execute(statement(text, Vec::new())).await
}

pub(crate) async fn count(sql: &dyn Sql, table: &str) -> i64 {
    let rows = rows(sql, &format!("SELECT count(*) FROM {table}")).await;
    match rows.unwrap()[0][0] {
        Value::Integer(count) => count,
        ref other => panic!("{other:?} is no count"),
    }
}

/// Each case against each driver.
macro_rules! contract {
    ($(#[test] fn $case:ident)+) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $case() { super::$case(super::World::sqlite()).await; }
            )+
        }
        mod postgres {
            $(
                #[tokio::test]
                async fn $case() { super::$case(super::World::postgres().await).await; }
            )+
        }
    };
}

contract! {
    #[test]
    fn values_come_back_as_they_went
    #[test]
    fn statements_count_what_they_change
    #[test]
    fn a_million_rows_stream_in_little_memory
    #[test]
    fn a_statement_is_stopped_when_its_time_is_over
    #[test]
    fn a_call_or_a_stream_that_is_dropped_stops_its_statement
    #[test]
    fn a_transaction_is_whole_or_nothing
    #[test]
    fn rows_that_are_not_read_are_given_up_with_the_next_call
    #[test]
    fn transactions_that_collide_are_told_so
    #[test]
    fn a_transaction_that_is_left_open_ends_by_itself
    #[test]
    fn nothing_of_a_session_is_left_for_the_next
    #[test]
    fn errors_say_what_is_wrong
    #[test]
    fn rows_of_a_change_are_the_change
    #[test]
    fn apps_have_databases_of_their_own
    #[test]
    fn a_check_changes_nothing
}

async fn values_come_back_as_they_went(world: World) {
    let sql = world.sql();
    let Dialect {
        bytes, one, three, ..
    } = world.dialect();
    run(
        &*sql,
        &format!("CREATE TABLE v (i BIGINT, f DOUBLE PRECISION, t TEXT, b {bytes}, o BOOLEAN)"),
    )
    .await
    .unwrap();
    let long = "ä\u{1F980}'\"\\".repeat(100_000);
    let blob = Bytes::from((0..1_000_000).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let insert = format!(
        "INSERT INTO v (i, t, b) VALUES ({one}, {}, {three})",
        world.parameter(2)
    );
    for (i, t, b) in [
        (Value::Null, Value::Null, Value::Null),
        (
            Value::Integer(i64::MIN),
            Value::Text(String::new()),
            Value::Bytes(Bytes::new()),
        ),
        (
            Value::Integer(i64::MAX),
            Value::Text(long),
            Value::Bytes(blob),
        ),
    ] {
        run(&*sql, "DELETE FROM v").await.unwrap();
        let row = vec![i, t, b];
        let changed = sql.execute(statement(&insert, row.clone())).await.unwrap();
        assert_eq!(changed, 1);
        assert_eq!(rows(&*sql, "SELECT i, t, b FROM v").await.unwrap(), [row]);
    }
    run(&*sql, "DELETE FROM v").await.unwrap();
    let insert = format!(
        "INSERT INTO v (f, o) VALUES ({one}, {})",
        world.parameter(2)
    );
    for f in [0.1, -1.5e300, 5e-324, f64::INFINITY] {
        let row = vec![Value::Float(f), Value::Boolean(true)];
        sql.execute(statement(&insert, row)).await.unwrap();
        let read = rows(&*sql, "SELECT f, o FROM v").await.unwrap();
        assert_eq!(read[0][0], Value::Float(f));
        // SQLite has no truth values, only numbers.
        assert!(matches!(
            read[0][1],
            Value::Boolean(true) | Value::Integer(1)
        ));
        run(&*sql, "DELETE FROM v").await.unwrap();
    }
    let columns = sql
        .query(statement("SELECT i, t AS x FROM v", vec![]))
        .await
        .unwrap()
        .columns;
    let told: Vec<_> = columns
        .iter()
        .map(|c| (c.name.as_str(), c.kind.as_str()))
        .collect();
    assert!(
        matches!(told[..], [("i", "bigint" | "int8"), ("x", "text")]),
        "{told:?}"
    );
}

async fn statements_count_what_they_change(world: World) {
    let sql = world.sql();
    for (text, changed) in [
        ("CREATE TABLE t (id INTEGER PRIMARY KEY)", 0),
        ("INSERT INTO t VALUES (1), (2), (3)", 3),
        ("UPDATE t SET id = id + 10 WHERE id > 1", 2),
        ("SELECT * FROM t", 0),
        ("CREATE TABLE u (id INTEGER)", 0),
        ("INSERT INTO t VALUES (20), (21) RETURNING id", 2),
        ("DELETE FROM t", 5),
        ("DELETE FROM t", 0),
        ("DROP TABLE u", 0),
    ] {
        assert_eq!(run(&*sql, text).await, Ok(changed), "{text}");
    }
}

/// What this process has in memory, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Whether this process runs nothing but the test that asks. If not, one that does is started, and has to succeed.
fn is_alone() -> bool {
    const ALONE: &str = "HOSTEL_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let thread = std::thread::current();
    let test = thread.name().expect("the name of a test");
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&alone.stdout);
    let ran = said.contains("test result: ok. 1 passed");
    assert!(ran, "{said}\n{}", String::from_utf8_lossy(&alone.stderr));
    false
}

async fn a_million_rows_stream_in_little_memory(world: World) {
    // What other tests keep in memory meanwhile would count, too.
    if !is_alone() {
        return;
    }
    let sql = world.sql();
    let text = world.series(
        1_000_000,
        "n, 'a text that makes a row somewhat longer than it need be' AS t",
    );
    let mut rows = sql.query(statement(&text, vec![])).await.unwrap().rows;
    let before = resident();
    let (mut read, mut most) = (0_i64, 0);
    while let Some(row) = rows.next().await {
        read += 1;
        assert_eq!(row.unwrap()[0], Value::Integer(read));
        if read % 10_000 == 0 {
            most = most.max(resident().saturating_sub(before));
        }
    }
    assert_eq!(read, 1_000_000);
    assert!(most < 80 << 20, "{most} bytes more than before");
}

async fn a_statement_is_stopped_when_its_time_is_over(world: World) {
    let sql = world.sql();
    run(&*sql, "CREATE TABLE t (n BIGINT)").await.unwrap();
    let endless = world.endless();
    let stopped = |error: &Error| matches!(error, Error::TooSlow(time) if time.as_millis() == 200);
    // Often enough that a connection which does not come back would be missed.
    for _ in 0..6 {
        let error = match sql.query(brief(&endless, 200)).await {
            Ok(rows) => all(rows).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(stopped(&error), "{error:?}");
        let write = format!("INSERT INTO t {endless}");
        let error = sql.execute(brief(&write, 200)).await.unwrap_err();
        assert!(stopped(&error), "{error:?}");
        assert_eq!(count(&*sql, "t").await, 0);
    }
    world.nothing_runs().await;
    // A reader that does not read does not keep the connection either.
    let many = world.series(10_000_000, "n");
    let mut slow = Vec::new();
    for _ in 0..3 {
        // The last ones may find no connection.
        slow.extend(sql.query(brief(&many, 300)).await);
    }
    assert!(slow.len() >= 2);
    let begin = Instant::now();
    while !matches!(rows(&*sql, "SELECT 1").await, Ok(row) if row.len() == 1) {
        assert!(begin.elapsed() < SOON, "no connection came back");
    }
    for rows in slow {
        let error = all(rows).await.unwrap_err();
        let known = matches!(
            error,
            Error::TooSlow(_) | Error::Failed(Failure::TimedOut(_))
        );
        assert!(known, "{error:?}");
    }
}

async fn a_call_or_a_stream_that_is_dropped_stops_its_statement(world: World) {
    let sql = world.sql();
    run(&*sql, "CREATE TABLE t (n BIGINT)").await.unwrap();
    let (endless, many) = (world.endless(), world.series(100_000_000, "n"));
    for _ in 0..6 {
        let mut rows = sql.query(statement(&many, vec![])).await.unwrap().rows;
        assert_eq!(rows.next().await, Some(Ok(vec![Value::Integer(1)])));
        drop(rows);
        let write = format!("INSERT INTO t {endless}");
        let call = sql.execute(statement(&write, vec![]));
        assert!(
            tokio::time::timeout(Duration::from_millis(100), call)
                .await
                .is_err()
        );
        let call = sql.query(statement(&endless, vec![]));
        assert!(
            tokio::time::timeout(Duration::from_millis(100), call)
                .await
                .is_err()
        );
    }
    world.nothing_runs().await;
    assert_eq!(run(&*sql, "INSERT INTO t VALUES (1)").await, Ok(1));
    assert_eq!(count(&*sql, "t").await, 1);
}

async fn a_transaction_is_whole_or_nothing(world: World) {
    let sql = world.sql();
    run(&*sql, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        .await
        .unwrap();
    let insert = |n: i64| statement(&format!("INSERT INTO t VALUES ({n})"), vec![]);
    let mut open = sql.begin().await.unwrap();
    assert_eq!(open.execute(insert(1)).await, Ok(1));
    let inside = open
        .query(statement("SELECT count(*) FROM t", vec![]))
        .await
        .unwrap();
    assert_eq!(all(inside).await.unwrap(), [[Value::Integer(1)]]);
    assert_eq!(count(&*sql, "t").await, 0, "seen before it is committed");
    open.commit().await.unwrap();
    assert_eq!(count(&*sql, "t").await, 1);

    let mut open = sql.begin().await.unwrap();
    open.execute(insert(2)).await.unwrap();
    open.rollback().await.unwrap();
    for round in 0..10 {
        let mut open = sql.begin().await.unwrap();
        open.execute(insert(3)).await.unwrap();
        if round % 2 == 0 {
            // Dropped in the middle of a statement.
            let endless = world.endless();
            let call = open.query(statement(&endless, vec![]));
            assert!(
                tokio::time::timeout(Duration::from_millis(30), call)
                    .await
                    .is_err()
            );
        }
    }
    assert_eq!(count(&*sql, "t").await, 1);
    // The one that was dropped holds no lock.
    assert_eq!(sql.execute(insert(3)).await, Ok(1));

    let mut open = sql.begin().await.unwrap();
    for (step, text) in [
        "SAVEPOINT a",
        "INSERT INTO t VALUES (4)",
        "ROLLBACK TO SAVEPOINT a",
    ]
    .iter()
    .enumerate()
    {
        let done = open.execute(statement(text, vec![])).await;
        assert_eq!(done, Ok(u64::from(step == 1)), "{text}");
    }
    // Also where an error is what it goes back from.
    let wrong = open.execute(statement("SELECT missing FROM t", vec![]));
    assert!(matches!(wrong.await, Err(Error::BadStatement(_))));
    let back = open.execute(statement("ROLLBACK TO SAVEPOINT a", vec![]));
    assert_eq!(back.await, Ok(0));
    open.commit().await.unwrap();
    assert_eq!(count(&*sql, "t").await, 2);
    world.nothing_runs().await;
}

async fn rows_that_are_not_read_are_given_up_with_the_next_call(world: World) {
    let sql = world.sql();
    let mut open = sql.begin().await.unwrap();
    let text = world.series(100_000, "n");
    let mut kept = open.query(statement(&text, vec![])).await.unwrap().rows;
    assert_eq!(kept.next().await, Some(Ok(vec![Value::Integer(1)])));
    let one = open.query(statement("SELECT 7", vec![])).await.unwrap();
    assert_eq!(all(one).await.unwrap().len(), 1);
    let mut given_up = None;
    while let Some(row) = kept.next().await {
        given_up = row.err();
    }
    let given_up = given_up.expect("an end without an error");
    assert!(matches!(given_up, Error::NoTransaction(_)), "{given_up:?}");
    open.commit().await.unwrap();
}

async fn transactions_that_collide_are_told_so(mut world: World) {
    world.timeout = Duration::from_millis(500);
    let sql = world.sql();
    run(&*sql, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
        .await
        .unwrap();
    run(&*sql, "INSERT INTO t VALUES (1, 0)").await.unwrap();
    let mut first = sql.begin().await.unwrap();
    world.serializable(&mut *first).await;
    let read = statement("SELECT n FROM t", vec![]);
    let write = statement("UPDATE t SET n = n + 1", vec![]);
    all(first.query(read.clone()).await.unwrap()).await.unwrap();
    let second = async {
        let mut second = sql.begin().await?;
        world.serializable(&mut *second).await;
        all(second.query(read).await?).await?;
        second.execute(write.clone()).await?;
        second.commit().await
    };
    // One of the two goes through; which one is each backend's to say.
    let second = second.await;
    let first = match first.execute(write).await {
        Ok(_) => first.commit().await,
        Err(error) => Err(error),
    };
    let collided = [&first, &second]
        .iter()
        .filter(|end| matches!(end, Err(Error::Conflict(_))))
        .count();
    assert_eq!(collided, 1, "{first:?} {second:?}");
    assert!(first.is_ok() || second.is_ok());
    assert_eq!(
        rows(&*sql, "SELECT n FROM t").await.unwrap(),
        [[Value::Integer(1)]]
    );
}

async fn a_transaction_that_is_left_open_ends_by_itself(world: World) {
    let options = SqlOptions {
        transaction: Duration::from_millis(300),
        ..world.options()
    };
    let sql = world.sql_with(options);
    run(&*sql, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        .await
        .unwrap();
    let insert = statement("INSERT INTO t VALUES (1)", vec![]);
    let mut left = sql.begin().await.unwrap();
    left.execute(insert.clone()).await.unwrap();
    // The row is locked until then.
    assert_eq!(sql.execute(insert.clone()).await, Ok(1));
    let late = left.execute(insert).await.unwrap_err();
    assert!(matches!(late, Error::NoTransaction(_)), "{late:?}");
    let late = left.commit().await.unwrap_err();
    assert!(matches!(late, Error::NoTransaction(_)), "{late:?}");
    assert_eq!(count(&*sql, "t").await, 1);
}

async fn nothing_of_a_session_is_left_for_the_next(world: World) {
    let sql = world.sql();
    for round in 0..8 {
        // In a transaction, which is committed, and outside of any.
        let mut open = match round % 2 {
            0 => Some(sql.begin().await.unwrap()),
            _ => None,
        };
        for text in world.dialect().leaving {
            let done = match &mut open {
                Some(open) => open.execute(statement(text, vec![])).await,
                None => run(&*sql, text).await,
            };
            // Outside of a transaction the table may be gone already.
            let gone = open.is_none() && matches!(done, Err(Error::BadStatement(_)));
            assert!(done.is_ok() || gone, "{text}: {done:?}");
        }
        if let Some(open) = open {
            open.commit().await.unwrap();
        }
        for (text, expected) in world.dialect().left {
            let expected = [[Value::Text((*expected).to_owned())]];
            let begin = Instant::now();
            loop {
                let read = rows(&*sql, text).await.unwrap();
                if read == expected {
                    break;
                }
                // A server's connection is cleaned after the answer.
                assert!(begin.elapsed() < SOON, "{text}: {read:?}");
            }
        }
    }
    world.nothing_runs().await;
}

async fn errors_say_what_is_wrong(world: World) {
    let sql = world.sql();
    run(
        &*sql,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL CHECK (n > 0))",
    )
    .await
    .unwrap();
    run(&*sql, "CREATE TABLE u (t INTEGER REFERENCES t (id))")
        .await
        .unwrap();
    run(&*sql, "INSERT INTO t VALUES (1, 1)").await.unwrap();
    for (text, part) in [
        ("INSERT INTO t VALUES (1, 1)", "t"),
        ("INSERT INTO t VALUES (2, NULL)", "n"),
        ("INSERT INTO t VALUES (2, 0)", ""),
        ("INSERT INTO u VALUES (9)", ""),
    ] {
        for error in [
            run(&*sql, text).await.unwrap_err(),
            rows(&*sql, &format!("{text} RETURNING 1"))
                .await
                .unwrap_err(),
        ] {
            let Error::Constraint(said) = &error else {
                panic!("{text}: {error:?}");
            };
            assert!(said.contains(part), "{text}: {said}");
        }
    }
    let two = "INSERT INTO t VALUES (7, 1); INSERT INTO t VALUES (8, 1)";
    let twice = format!("{}SELECT 1", "SELECT 1;".repeat(100_000));
    let parameter = format!("SELECT n FROM t WHERE n = {}", world.dialect().one);
    let long = format!("SELECT '{}'", "x".repeat(2 << 20));
    let deep = format!("SELECT {}1{}", "(".repeat(50_000), ")".repeat(50_000));
    for text in [
        "SELEC 1",
        "SELECT * FROM missing",
        "SELECT missing FROM t",
        two,
        &twice,
        "",
        "  -- nothing",
        "SELECT '\0'",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        &parameter,
        &long,
        "SAVEPOINT a",
        &deep,
    ] {
        let shown: String = text.chars().take(40).collect();
        for error in [run(&*sql, text).await, rows(&*sql, text).await.map(|_| 0)] {
            let error = error.expect_err(&shown);
            let deep = shown.starts_with("SELECT ((") && matches!(error, Error::Failed(_));
            assert!(
                matches!(error, Error::BadStatement(_)) || deep,
                "{shown}: {error:?}"
            );
        }
    }
    let extra = sql
        .execute(statement("DELETE FROM t", vec![Value::Null]))
        .await
        .unwrap_err();
    assert!(matches!(extra, Error::BadStatement(_)), "{extra:?}");
    assert_eq!(count(&*sql, "t").await, 1);
}

async fn rows_of_a_change_are_the_change(world: World) {
    let sql = world.sql();
    run(&*sql, "CREATE TABLE t (n BIGINT)").await.unwrap();
    let insert = "INSERT INTO t VALUES (1), (2) RETURNING n";
    let both = [[Value::Integer(1)], [Value::Integer(2)]];
    assert_eq!(rows(&*sql, insert).await.unwrap(), both);
    assert_eq!(count(&*sql, "t").await, 2);
    // Far more than is on its way at any time, whatever the sockets keep; SQLite changes everything before the first row.
    let wide = world.dialect().wide;
    let many = world.series(200_000, "n");
    let many = format!("INSERT INTO t {many} RETURNING n, {wide}");
    let mut rows = sql.query(statement(&many, vec![])).await.unwrap().rows;
    let first = rows.next().await.unwrap().unwrap();
    assert_eq!(first[0], Value::Integer(1));
    drop(rows);
    world.nothing_runs().await;
    assert_eq!(
        count(&*sql, "t").await,
        2,
        "a change that was broken off is undone"
    );
}

async fn apps_have_databases_of_their_own(world: World) {
    let (a, b) = world.two_apps().await;
    run(&*a, "CREATE TABLE secret (n INTEGER)").await.unwrap();
    let error = rows(&*b, "SELECT * FROM secret").await.unwrap_err();
    assert!(matches!(error, Error::BadStatement(_)), "{error:?}");
    run(&*b, "CREATE TABLE secret (n INTEGER)").await.unwrap();
    run(&*a, "INSERT INTO secret VALUES (1)").await.unwrap();
    assert_eq!(
        (count(&*a, "secret").await, count(&*b, "secret").await),
        (1, 0)
    );
}

async fn a_check_changes_nothing(world: World) {
    let sql = world.sql();
    sql.check().await.unwrap();
    let before = world.files();
    assert_eq!(before, Vec::<String>::new());
    run(&*sql, "CREATE TABLE t (n INTEGER)").await.unwrap();
    sql.check().await.unwrap();
}
