//! PostgreSQL behind a bad network, down, and restarted: every call ends with a typed error within its time, and works again
//! soon after the server does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::join_all;
use hostel_backends::{Mode, Postgres, Proxy};
use hostel_stores::sql::{Error, Sql, SqlOptions, Value};
use hostel_stores::{Failure, Scope, Stores};

use super::world::{place, server, stores};
use super::{SOON, all, brief, rows, run, statement};

/// The place's time-out, and how much later on a busy machine an answer may still come.
const TIMEOUT: Duration = Duration::from_millis(500);
const LATE: Duration = Duration::from_secs(10);

fn open(url: &str) -> (Stores, Arc<dyn Sql>) {
    open_for(url, TIMEOUT)
}

fn open_for(url: &str, timeout: Duration) -> (Stores, Arc<dyn Sql>) {
    let folder = tempfile::tempdir().unwrap();
    let options = SqlOptions {
        connections: 3,
        ..SqlOptions::default()
    };
    let stores = stores(folder.path(), options);
    let mut place = place(url);
    place.timeout = timeout;
    let scope = Scope::new("faults", "main").unwrap();
    let sql = stores.sql(&place, &scope).unwrap();
    (stores, sql)
}

/// What every kind of call fails of.
async fn failures(sql: &dyn Sql) -> Vec<Error> {
    let begin = Instant::now();
    let text = "SELECT 1";
    let errors = [
        sql.check().await.err(),
        async { all(sql.query(brief(text, 500)).await?).await }
            .await
            .err(),
        sql.execute(brief(text, 500)).await.err(),
        sql.begin().await.err(),
    ];
    assert!(begin.elapsed() < LATE, "{:?}", begin.elapsed());
    errors.into_iter().flatten().collect()
}

/// Waits until a call works.
async fn works(sql: &dyn Sql) {
    let begin = Instant::now();
    loop {
        match rows(sql, "SELECT 1").await {
            Ok(_) => return,
            Err(error) => assert!(begin.elapsed() < LATE, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_outage(error: &Error) -> bool {
    matches!(error, Error::Failed(failure) if failure.is_outage())
}

fn is_failure(error: &Error) -> bool {
    matches!(error, Error::Failed(_))
}

#[tokio::test]
async fn a_bad_network_is_a_typed_error_in_time() {
    let bad = [
        (Mode::Refuse, is_outage as fn(&Error) -> bool),
        (Mode::Delay(Duration::from_secs(10)), is_outage),
        (Mode::Silence, is_outage),
        (Mode::Garbage, is_failure),
        (Mode::ResetAfter(10), is_outage),
        (Mode::ResetAfter(0), is_outage),
    ];
    join_all(bad.map(|(mode, expected)| is_typed_and_in_time(mode, expected))).await;
}

async fn is_typed_and_in_time(mode: Mode, expected: fn(&Error) -> bool) {
    let mut proxy = Proxy::before(server().port());
    let (_stores, sql) = open(&server().url_at(proxy.port()));
    // With new connections, and with those that are there.
    for warm in [false, true] {
        proxy.set(Mode::Pass);
        match warm {
            true => works(&*sql).await,
            false => proxy.cut(),
        }
        proxy.set(mode);
        let errors = failures(&*sql).await;
        assert_eq!(errors.len(), 4, "{mode:?} {warm}: {errors:?}");
        for error in &errors {
            assert!(expected(error), "{mode:?} {warm}: {error:?}");
            assert!(!format!("{error:?} {error}").contains(server().password()));
        }
    }
    proxy.set(Mode::Pass);
    works(&*sql).await;
}

#[tokio::test]
async fn a_result_that_breaks_off_says_so() {
    let mut proxy = Proxy::before(server().port());
    let (_stores, sql) = open(&server().url_at(proxy.port()));
    let many = "SELECT n, repeat('x', 100) FROM generate_series(1, 1000000) AS n";
    for inside in [false, true] {
        works(&*sql).await;
        let mut open = sql.begin().await.unwrap();
        let rows = match inside {
            true => open.query(statement(many, vec![])).await.unwrap(),
            false => sql.query(statement(many, vec![])).await.unwrap(),
        };
        let mut rows = rows.rows;
        assert!(matches!(rows.next().await, Some(Ok(_))));
        proxy.cut();
        let mut end = None;
        while let Some(row) = rows.next().await {
            end = row.err();
        }
        let end = end.expect("an end without an error");
        assert!(is_outage(&end), "{end:?}");
        let error = open
            .execute(statement("SELECT 1", vec![]))
            .await
            .unwrap_err();
        let over = is_outage(&error) || matches!(error, Error::NoTransaction(_));
        assert!(over, "{error:?}");
        open.commit().await.unwrap_err();
    }
    // Nothing comes in the middle of a result.
    works(&*sql).await;
    let mut rows = sql.query(brief(many, 700)).await.unwrap().rows;
    assert!(matches!(rows.next().await, Some(Ok(_))));
    proxy.set(Mode::Silence);
    let begin = Instant::now();
    let mut end = None;
    while let Some(row) = rows.next().await {
        end = row.err();
    }
    let end = end.expect("an end without an error");
    assert!(
        is_outage(&end) || matches!(end, Error::TooSlow(_)),
        "{end:?}"
    );
    assert!(begin.elapsed() < LATE);
    proxy.set(Mode::Pass);
    works(&*sql).await;
}

#[tokio::test]
async fn a_server_that_was_down_or_restarted_is_found_again() {
    let mut server = Postgres::start();
    // What is down refuses at once; what works may take its time on a busy machine.
    let (_stores, sql) = open_for(&server.url(), SOON);
    server.kill();
    for error in failures(&*sql).await {
        assert!(is_outage(&error), "{error:?}");
    }
    server.restart();
    works(&*sql).await;
    run(&*sql, "CREATE TABLE t (n BIGINT)").await.unwrap();
    let mut kept = 0;
    for round in 0..3 {
        // All connections of the pool are dead now; one statement is in the middle of the death.
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(sql.begin().await.unwrap());
        }
        drop(held);
        run(&*sql, &format!("INSERT INTO t VALUES ({round})"))
            .await
            .unwrap();
        kept += 1;
        let slow = sql.execute(statement(
            "INSERT INTO t SELECT 9 FROM pg_sleep(60)",
            vec![],
        ));
        let mut slow = std::pin::pin!(slow);
        assert!(
            tokio::time::timeout(Duration::from_millis(100), slow.as_mut())
                .await
                .is_err()
        );
        server.kill();
        let broken = slow.await.unwrap_err();
        assert!(is_outage(&broken), "{broken:?}");
        server.restart();
        let begin = Instant::now();
        works(&*sql).await;
        assert!(begin.elapsed() < LATE);
        let read = rows(&*sql, "SELECT count(*) FROM t").await.unwrap();
        assert_eq!(
            read,
            [[Value::Integer(kept)]],
            "what was acknowledged is there, what was not is not"
        );
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_without_telling_them() {
    let url = server().url();
    let password = server().password();
    for (wrong, part) in [
        (url.replace(password, "hunter2-wrong"), "28P01"),
        (url.replace("hostel:", "hunter2-role:"), "28P01"),
        (
            url.replace("/postgres", "/nowhere")
                .replace("nowhere://", "postgres://"),
            "nowhere",
        ),
    ] {
        let (_stores, sql) = open(&wrong);
        for error in failures(&*sql).await {
            assert!(
                matches!(error, Error::Failed(Failure::Refused(_))),
                "{error:?}"
            );
            let shown = format!("{error:?} {error} {sql:?}");
            assert!(shown.contains(part), "{shown}");
            assert!(
                !shown.contains("hunter2") && !shown.contains(password),
                "{shown}"
            );
        }
    }
    // A server without TLS, where TLS was asked for.
    let (_stores, sql) = open(&format!("{url}?sslmode=require"));
    for error in failures(&*sql).await {
        assert!(is_failure(&error), "{error:?}");
    }
}

#[tokio::test]
async fn a_database_of_a_server_belongs_to_one_app() {
    let (stores, sql) = open(&server().url());
    let place = place(&server().url());
    let of = |app| stores.sql(&place, &Scope::new(app, "main").unwrap());
    let refused = of("another").unwrap_err();
    assert!(
        refused.what.contains("belongs to the app `faults`"),
        "{refused}"
    );
    assert!(refused.help.contains("{app}"), "{}", refused.help);
    assert!(!format!("{refused:?}").contains(server().password()));
    drop(sql);
    // An app that is gone has nothing any more.
    drop(of("another").unwrap());
}

/// Types that the interface does not have, and their text.
const SHOWN: &[(&str, &str)] = &[
    ("numeric", "-12345678901234567890.0987654321000"),
    ("numeric", "0.00001"),
    ("numeric", "100000000"),
    ("numeric", "NaN"),
    ("date", "2024-02-29"),
    ("date", "0044-03-15 BC"),
    ("date", "infinity"),
    ("time", "23:59:59.000001"),
    ("timetz", "12:00:00+05:30"),
    ("timestamp", "1969-12-31 23:59:59.5"),
    ("timestamptz", "2024-07-01 12:00:00+00"),
    ("interval", "1 year 2 mons -3 days +04:05:06.7"),
    ("interval", "-1 days"),
    ("interval", "00:00:00"),
    ("uuid", "6f1cdab0-1f3c-4b0e-9d2f-0123456789ab"),
    ("json", "{\"a\" : [1, null]}"),
    ("jsonb", "{\"a\": [1, null]}"),
    ("inet", "10.0.0.1"),
    ("inet", "2001:db8::1/64"),
    ("cidr", "10.0.0.0/8"),
    ("macaddr", "08:00:2b:01:02:03"),
    ("varbit", "101001011"),
    ("text[]", "{a,NULL,\"b c\",\"\",\"\\\"\",\"NULL\"}"),
    ("int[]", "{{1,2},{3,4}}"),
    ("int[]", "[0:1]={5,6}"),
    ("bool[]", "{t,f}"),
    ("int[]", "{}"),
    ("varchar(9)", "x"),
    ("name", "x"),
];

#[tokio::test]
async fn what_has_no_closer_type_comes_as_postgresql_shows_it() {
    let (_stores, sql) = open(&server().url());
    for (ty, text) in SHOWN {
        let query = format!("SELECT $1::{ty}, format('%s', $1::{ty})");
        let parameter = vec![Value::Text((*text).to_owned())];
        // Times are shown as in UTC.
        let mut open = sql.begin().await.unwrap();
        open.execute(statement("SET timezone = 'UTC'", vec![]))
            .await
            .unwrap();
        let read = open.query(statement(&query, parameter)).await.unwrap();
        let read = all(read).await.unwrap();
        assert_eq!(read[0][0], read[0][1], "{ty} {text}");
        assert_eq!(read[0][0], Value::Text((*text).to_owned()), "{ty}");
        open.rollback().await.unwrap();
    }
    run(&*sql, "CREATE TYPE mood AS ENUM ('sad', 'glad')")
        .await
        .unwrap();
    let glad = sql.query(statement(
        "SELECT $1::mood, ARRAY['sad', 'glad']::mood[]",
        vec![Value::Text("glad".into())],
    ));
    let glad = all(glad.await.unwrap()).await.unwrap();
    assert_eq!(
        glad,
        [[Value::Text("glad".into()), Value::Text("{sad,glad}".into())]]
    );
    run(&*sql, "DROP TYPE mood").await.unwrap();
}

#[tokio::test]
async fn parameters_become_what_the_statement_needs_or_are_refused() {
    let (_stores, sql) = open(&server().url());
    let (one, no) = (Value::Integer(1), Value::Boolean(false));
    let plain = "SELECT $1::int2, $2::bool, $3::float4, $4::oid, $5::numeric, $6::text";
    let given = vec![
        one.clone(),
        no.clone(),
        Value::Float(0.5),
        one.clone(),
        Value::Float(2.5),
        one.clone(),
    ];
    let read = all(sql.query(statement(plain, given)).await.unwrap())
        .await
        .unwrap();
    let text = |text: &str| Value::Text(text.to_owned());
    assert_eq!(
        read,
        [[
            one.clone(),
            no,
            Value::Float(0.5),
            one,
            text("2.5"),
            text("1")
        ]]
    );
    for (query, parameter) in [
        ("SELECT $1::int", Value::Text("x".into())),
        ("SELECT $1::int2", Value::Integer(70_000)),
        ("SELECT $1::int", Value::Bytes(vec![1].into())),
        ("SELECT $1::date", Value::Text("2024-02-30".into())),
        ("SELECT to_tsvector($1)", Value::Text("x".into())),
        ("COPY (SELECT 1) TO STDOUT", Value::Null),
    ] {
        let parameters = vec![parameter];
        let error = async { all(sql.query(statement(query, parameters)).await?).await }.await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, Error::BadStatement(_)),
            "{query}: {error:?}"
        );
    }
    let begin = Instant::now();
    works(&*sql).await;
    assert!(begin.elapsed() < SOON);
}
