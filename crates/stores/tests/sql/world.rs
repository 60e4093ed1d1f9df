//! Where a case of the contract runs: one driver, a database of its own, and what differs between the dialects.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hostel_backends::Postgres;
use hostel_stores::place::Kind;
use hostel_stores::sql::{Sql, SqlOptions, Transaction};
use hostel_stores::{Place, Scope, Stores, StoresOptions};

use super::{SOON, rows, run, statement};

/// What differs between the dialects.
pub(crate) struct Dialect {
    pub(crate) one: &'static str,
    pub(crate) three: &'static str,
    pub(crate) bytes: &'static str,
    /// A value of which 200,000 do not fit between a server and its client.
    pub(crate) wide: &'static str,
    /// Statements that leave something in the session.
    pub(crate) leaving: &'static [&'static str],
    /// What is found by somebody who comes later.
    pub(crate) left: &'static [(&'static str, &'static str)],
}

const SQLITE: Dialect = Dialect {
    one: "?1",
    three: "?3",
    bytes: "BLOB",
    // Nothing is between.
    wide: "NULL",
    leaving: &[
        "CREATE TEMP TABLE IF NOT EXISTS left_behind (n INTEGER)",
        "INSERT INTO left_behind VALUES (1)",
    ],
    left: &[(
        "SELECT CAST(count(*) AS TEXT) FROM pragma_table_list WHERE name = 'left_behind'",
        "0",
    )],
};

const POSTGRES: Dialect = Dialect {
    one: "$1",
    three: "$3",
    bytes: "BYTEA",
    wide: "repeat('x', 500)",
    leaving: &[
        "CREATE TEMP TABLE IF NOT EXISTS left_behind (n INTEGER)",
        "SELECT pg_advisory_lock(7)",
        "SET search_path = nowhere",
        "SET statement_timeout = 1",
        "LISTEN left_behind",
        "SET SESSION timezone = 'Asia/Tokyo'",
        "DO $$ BEGIN EXECUTE 'PREPARE left_behind_' || pg_backend_pid() || floor(random() * 1e9)::text || ' AS SELECT 1'; END $$",
    ],
    left: &[
        (
            "SELECT count(*)::text FROM pg_class WHERE relname = 'left_behind'",
            "0",
        ),
        (
            "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'",
            "0",
        ),
        ("SELECT current_setting('search_path')", "\"$user\", public"),
        (
            "SELECT (current_setting('timezone') = 'Asia/Tokyo')::text",
            "false",
        ),
        (
            "SELECT count(*)::text FROM pg_prepared_statements WHERE from_sql",
            "0",
        ),
        ("SELECT count(*)::text FROM pg_listening_channels()", "0"),
    ],
};

/// See the module's documentation.
pub(crate) struct World {
    stores: Stores,
    folder: tempfile::TempDir,
    /// The database's URL, without its name; none is SQLite.
    server: Option<String>,
    database: String,
    pub(crate) timeout: Duration,
}

/// One server for all cases.
pub(crate) fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(Postgres::start)
}

pub(crate) fn stores(data: &Path, sql: SqlOptions) -> Stores {
    Stores::new(StoresOptions {
        data: Some(data.to_owned()),
        sql,
        ..StoresOptions::default()
    })
    .unwrap()
}

pub(crate) fn place(url: &str) -> Place {
    Place::parse(Kind::Sql, url).unwrap()
}

fn options() -> SqlOptions {
    SqlOptions {
        connections: 3,
        readers: 2,
        ..SqlOptions::default()
    }
}

impl World {
    fn new(server: Option<String>, database: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            stores: stores(folder.path(), options()),
            folder,
            server,
            database,
            timeout: Duration::from_secs(10),
        }
    }

    pub(crate) fn sqlite() -> Self {
        Self::new(None, String::new())
    }

    pub(crate) async fn postgres() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let url = server().url();
        let server = url.strip_suffix("postgres").unwrap().to_owned();
        let database = format!("case_{}", NUMBER.fetch_add(1, SeqCst));
        let world = Self::new(Some(server), database);
        world
            .admin(&format!("CREATE DATABASE {}", world.database))
            .await;
        world
    }

    /// Something for the operator to do.
    async fn admin(&self, text: &str) {
        let folder = tempfile::tempdir().unwrap();
        let stores = stores(folder.path(), options());
        let scope = Scope::new("admin", "main").unwrap();
        let admin = stores.sql(&place(&server().url()), &scope).unwrap();
        run(&*admin, text).await.unwrap();
    }

    pub(crate) fn options(&self) -> SqlOptions {
        options()
    }

    fn place(&self) -> Place {
        let mut place = match &self.server {
            None => place("embedded:"),
            Some(server) => place(&format!("{server}{}", self.database)),
        };
        place.timeout = self.timeout;
        place
    }

    /// The case's database.
    pub(crate) fn sql(&self) -> Arc<dyn Sql> {
        let scope = Scope::new("case", "main").unwrap();
        self.stores.sql(&self.place(), &scope).unwrap()
    }

    /// The same with other bounds.
    pub(crate) fn sql_with(&self, options: SqlOptions) -> Arc<dyn Sql> {
        let scope = Scope::new("case", "main").unwrap();
        let stores = stores(self.folder.path(), options);
        let sql = stores.sql(&self.place(), &scope).unwrap();
        // Their thread has to go on.
        std::mem::forget(stores);
        sql
    }

    /// The databases of two apps where the operator wrote one line.
    pub(crate) async fn two_apps(&self) -> (Arc<dyn Sql>, Arc<dyn Sql>) {
        let place = match &self.server {
            None => self.place(),
            Some(server) => {
                for app in ["a", "b"] {
                    self.admin(&format!("CREATE DATABASE \"{}-{app}\"", self.database))
                        .await;
                }
                place(&format!("{server}{}-{{app}}", self.database))
            }
        };
        let of = |app| {
            self.stores
                .sql(&place, &Scope::new(app, "main").unwrap())
                .unwrap()
        };
        (of("a"), of("b"))
    }

    pub(crate) fn dialect(&self) -> &'static Dialect {
        match self.server {
            None => &SQLITE,
            Some(_) => &POSTGRES,
        }
    }

    pub(crate) fn parameter(&self, number: usize) -> String {
        format!("{}{number}", &self.dialect().one[..1])
    }

    /// A query with so many rows, numbered from 1 as `n`.
    pub(crate) fn series(&self, rows: u32, columns: &str) -> String {
        match self.server {
            None => format!(
                "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s LIMIT {rows}) SELECT {columns} FROM s"
            ),
            Some(_) => format!(
                "SELECT {columns} FROM (SELECT generate_series(1, {rows}::bigint) AS n) AS s"
            ),
        }
    }

    /// A query of one number that never comes.
    pub(crate) fn endless(&self) -> String {
        match self.server {
            None => "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s) SELECT count(*) FROM s".to_owned(),
            Some(_) => "SELECT count(*) FROM (SELECT generate_series(1, 1000000000000)) AS s(n) WHERE n < 0".to_owned(),
        }
    }

    /// Asks for the isolation that SQLite always has.
    pub(crate) async fn serializable(&self, open: &mut dyn Transaction) {
        if self.server.is_some() {
            let ask = statement("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", vec![]);
            open.execute(ask).await.unwrap();
        }
    }

    /// Waits until the backend runs none of the case's statements any more and no transaction is open.
    pub(crate) async fn nothing_runs(&self) {
        let sql = self.sql();
        let begin = Instant::now();
        let text = match self.server {
            // Its one writer and its readers are free.
            None => "SELECT '0'",
            Some(_) => {
                "SELECT count(*)::text FROM pg_stat_activity WHERE state <> 'idle' \
                 AND datname = current_database() AND pid <> pg_backend_pid()"
            }
        };
        loop {
            let open = sql.begin().await.unwrap();
            open.rollback().await.unwrap();
            let read = rows(&*sql, text).await.unwrap();
            if read == [[hostel_stores::sql::Value::Text("0".to_owned())]] {
                return;
            }
            assert!(begin.elapsed() < SOON, "{read:?} statements still run");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The case's database, for as long as the test runs.
    pub(crate) fn keep(self) -> Arc<dyn Sql> {
        let sql = self.sql();
        std::mem::forget(self);
        sql
    }

    /// The data directory.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Every file in it, but the log that SQLite keeps beside a database while it is open.
    pub(crate) fn all_files(&self) -> Vec<std::path::PathBuf> {
        let mut folders = vec![self.folder().to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path),
                }
            }
        }
        files.sort();
        files
    }

    /// What is in the data directory.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}
