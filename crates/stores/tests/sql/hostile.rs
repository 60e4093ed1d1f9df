//! What a hostile statement finds closed in SQLite, and the bounds of a file. What a role may do in PostgreSQL (`COPY ... TO
//! PROGRAM`, reading the server's files, other databases) is the operator's to decide: a role that owns its database and is
//! no superuser can do none of that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hostel_stores::Failure;
use hostel_stores::sql::{Error, Sql, SqlOptions, Value};

use super::world::World;
use super::{all, brief, count, rows, run, statement};

/// Statements that leave their database, load code, or change how the connection behaves.
const FORBIDDEN: &[&str] = &[
    "ATTACH 'other.db' AS o",
    "ATTACH ':memory:' AS o",
    "DETACH main",
    "VACUUM",
    "VACUUM INTO 'stolen.db'",
    "SELECT load_extension('evil.so')",
    "SELECT fts3_tokenizer('simple', x'00')",
    "CREATE VIRTUAL TABLE d USING dbstat",
    "CREATE VIRTUAL TABLE d USING fts4(t)",
    "PRAGMA journal_mode = delete",
    "PRAGMA journal_mode",
    "PRAGMA synchronous = off",
    "PRAGMA temp_store_directory = '/'",
    "PRAGMA temp_store = memory",
    "PRAGMA writable_schema = 1",
    "PRAGMA query_only = 0",
    "PRAGMA trusted_schema = 1",
    "PRAGMA max_page_count = 1000000000",
    "PRAGMA mmap_size = 1000000000",
    "PRAGMA cache_size = 1000000000",
    "PRAGMA hard_heap_limit = 1",
    "PRAGMA soft_heap_limit = 1",
    "PRAGMA locking_mode = exclusive",
    "PRAGMA foreign_keys = off",
    "PRAGMA wal_checkpoint(truncate)",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA schema_version = 7",
    "PRAGMA database_list",
    "PRAGMA busy_timeout = 1000000",
    "PRAGMA analysis_limit = 0",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM pragma_compile_options",
    "INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 2, 'CREATE TABLE x (a)')",
    "UPDATE sqlite_schema SET sql = 'x'",
    "DELETE FROM sqlite_schema",
    "DROP TABLE sqlite_schema",
    "BEGIN EXCLUSIVE",
    "END",
    "EXPLAIN ATTACH 'other.db' AS o",
];

#[tokio::test]
async fn what_leaves_the_database_or_changes_the_connection_is_refused() {
    let world = World::sqlite();
    let sql = world.sql();
    run(&*sql, "CREATE TABLE t (n)").await.unwrap();
    let before = world.all_files();
    for text in FORBIDDEN {
        let mut open = sql.begin().await.unwrap();
        let inside = open.execute(statement(text, vec![])).await.map(drop);
        open.rollback().await.unwrap();
        for outcome in [
            inside,
            run(&*sql, text).await.map(drop),
            rows(&*sql, text).await.map(drop),
        ] {
            let error = outcome.expect_err(text);
            assert!(matches!(error, Error::BadStatement(_)), "{text}: {error:?}");
        }
        // What was refused has changed nothing.
        let keys = rows(&*sql, "PRAGMA foreign_keys").await.unwrap();
        assert_eq!(keys, [[Value::Integer(1)]], "{text}");
    }
    assert_eq!(world.all_files(), before);
    assert_eq!(count(&*sql, "t").await, 0);
    assert!(!std::path::Path::new("stolen.db").exists());
}

#[tokio::test]
async fn what_belongs_to_the_database_is_allowed() {
    let sql = World::sqlite().keep();
    for text in [
        "PRAGMA user_version = 7",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n TEXT)",
        "CREATE INDEX i ON t (n)",
        "CREATE VIRTUAL TABLE words USING fts5(text)",
        "INSERT INTO words VALUES ('the quick fox')",
        "CREATE VIEW v AS SELECT n FROM t",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET n = n || '!' WHERE id = new.id; END",
        "INSERT INTO t (n) VALUES ('a')",
        "ANALYZE",
        "REINDEX",
        "ALTER TABLE t ADD COLUMN m",
    ] {
        run(&*sql, text)
            .await
            .unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    for (text, expected) in [
        ("PRAGMA user_version", Value::Integer(7)),
        (
            "SELECT text FROM words WHERE words MATCH 'fox'",
            Value::Text("the quick fox".into()),
        ),
        ("SELECT n FROM v", Value::Text("a!".into())),
        ("PRAGMA integrity_check", Value::Text("ok".into())),
        (
            "SELECT name FROM pragma_table_info('t') LIMIT 1",
            Value::Text("id".into()),
        ),
        (
            "SELECT json_extract('{\"a\": 5}', '$.a')",
            Value::Integer(5),
        ),
    ] {
        assert_eq!(rows(&*sql, text).await.unwrap()[0][0], expected, "{text}");
    }
}

/// Statements that want memory, depth or time. Each ends soon, with an error or not, and the database goes on.
#[tokio::test]
async fn what_is_too_much_ends_soon() {
    let sql = World::sqlite().keep();
    run(&*sql, "CREATE TABLE t (n)").await.unwrap();
    let deep = "abs(".repeat(10_000) + "1" + &")".repeat(10_000);
    let json = format!("SELECT json('{}')", "[".repeat(500_000));
    let columns = format!("SELECT {}", vec!["1"; 100_000].join(","));
    let union = vec!["SELECT 1"; 50_000].join(" UNION ALL ");
    let wide = format!("SELECT {}", vec!["randomblob(8000000)"; 1_000].join(","));
    let glob = format!("SELECT '{}' GLOB '{}b'", "a".repeat(900), "*a".repeat(400));
    for text in [
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION SELECT x + 1 FROM c) SELECT max(x) FROM c",
        "WITH RECURSIVE c(x) AS (SELECT randomblob(1000000) UNION ALL SELECT randomblob(1000000) FROM c) SELECT x FROM c ORDER BY x",
        "SELECT zeroblob(2000000000)",
        "SELECT hex(zeroblob(16000000))",
        "SELECT replace(hex(zeroblob(8000000)), '0', 'aaaaaaaaaaaaaaaa')",
        "SELECT printf('%2000000000d', 1)",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT group_concat(hex(randomblob(1000))) FROM c",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) INSERT INTO t SELECT randomblob(1000000) FROM c",
        "CREATE TEMP TABLE x AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT randomblob(1000000) FROM c",
        &format!("SELECT {deep}"),
        &json,
        &columns,
        &wide,
        &union,
        &glob,
    ] {
        let shown: String = text.chars().take(60).collect();
        let begin = Instant::now();
        let read = async { all(sql.query(brief(text, 1_000)).await?).await.map(drop) };
        let ended = read.await;
        let known = matches!(
            ended,
            Ok(())
                | Err(Error::TooSlow(_) | Error::BadStatement(_) | Error::Failed(Failure::Full(_)))
        );
        assert!(known, "{shown}: {ended:?}");
        assert!(begin.elapsed() < Duration::from_secs(30), "{shown}");
        assert_eq!(count(&*sql, "t").await, 0, "{shown}");
    }
}

#[tokio::test]
async fn a_database_has_a_size_and_so_have_its_temporary_files() {
    let world = World::sqlite();
    let sql: Arc<dyn Sql> = world.sql_with(SqlOptions {
        database_bytes: 2 << 20,
        temporary_bytes: 8 << 20,
        value_bytes: 1 << 20,
        ..world.options()
    });
    run(&*sql, "CREATE TABLE t (b BLOB)").await.unwrap();
    let mut full = None;
    for _ in 0..100 {
        if let Err(error) = run(&*sql, "INSERT INTO t VALUES (randomblob(100000))").await {
            full = Some(error);
            break;
        }
    }
    let full = full.expect("a file without a bound");
    assert!(matches!(full, Error::Failed(Failure::Full(_))), "{full:?}");
    let kept = count(&*sql, "t").await;
    assert!((10..21).contains(&kept), "{kept}");
    // It can be read, and there is room again after something was deleted.
    run(&*sql, "DELETE FROM t WHERE rowid < 5").await.unwrap();
    run(&*sql, "INSERT INTO t VALUES (randomblob(100000))")
        .await
        .unwrap();

    let sorted = "WITH RECURSIVE c(x, n) AS (SELECT randomblob(100000), 1 UNION ALL SELECT randomblob(100000), n + 1 FROM c LIMIT 100000) \
                  SELECT x FROM c ORDER BY x";
    let crowded = rows(&*sql, sorted).await.unwrap_err();
    assert!(
        matches!(crowded, Error::Failed(Failure::Full(_))),
        "{crowded:?}"
    );

    let long = rows(&*sql, "SELECT zeroblob(1048577)").await.unwrap_err();
    assert!(matches!(long, Error::BadStatement(_)), "{long:?}");
    let long = vec![Value::Text("x".repeat((1 << 20) + 1))];
    let long = sql
        .execute(statement("INSERT INTO t VALUES (?1)", long))
        .await
        .unwrap_err();
    assert!(matches!(long, Error::BadStatement(_)), "{long:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let world = World::sqlite();
    let folder = world.folder().join("case/sql");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("main.db"), "this is a text\n".repeat(1000)).unwrap();
    let sql = world.sql();
    for error in [
        sql.check().await.unwrap_err(),
        run(&*sql, "CREATE TABLE t (n)").await.unwrap_err(),
        sql.begin().await.map(drop).unwrap_err(),
    ] {
        assert!(
            matches!(error, Error::Failed(Failure::Broken(_))),
            "{error:?}"
        );
    }
    let kept = std::fs::read_to_string(folder.join("main.db")).unwrap();
    assert!(kept.starts_with("this is a text\n"));
}

/// Descriptors of this process that are open on files below a folder.
fn open_below(folder: &std::path::Path) -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|target| target.starts_with(folder)).count()
}

#[tokio::test]
async fn connections_that_nobody_uses_are_closed() {
    let world = World::sqlite();
    let sql = world.sql_with(SqlOptions {
        idle: Duration::from_millis(100),
        ..world.options()
    });
    for _ in 0..2 {
        run(&*sql, "CREATE TABLE IF NOT EXISTS t (n)")
            .await
            .unwrap();
        assert_eq!(count(&*sql, "t").await, 0);
        let begin = Instant::now();
        while open_below(world.folder()) > 0 {
            assert!(begin.elapsed() < Duration::from_secs(20), "still open");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
