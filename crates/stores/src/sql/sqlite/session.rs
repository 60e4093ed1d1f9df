//! [`Session`]: one hardened connection. The statements that it runs are written by guests, and every guest is hostile.
//!
//! What is closed, and by what: other files (`ATTACH`, `VACUUM INTO`, temporary directories) by the authorizer and by no
//! attached databases; native code (`load_extension`) by the authorizer; settings (`PRAGMA`) by a list of those that only
//! tell or that belong to the database; the schema's own tables by the defensive mode; functions and views of a damaged
//! schema by `trusted_schema`; memory, depth and time by limits and the progress handler; transactions that a statement opens
//! itself by the authorizer, so that no caller can leave one behind for the next.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::stop::{Gauge, Stop};
use crate::sql::SqlOptions;

/// Which statements a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write,
}

/// How connections to one database are opened.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) path: PathBuf,
    pub(super) durable: bool,
    pub(super) options: SqlOptions,
}

/// One connection, used by one thread.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) conn: Connection,
    gauge: Arc<Gauge>,
    watch: Arc<Watch>,
    written_max: u64,
}

/// What the authorizer knows and notes.
#[derive(Debug, Default)]
struct Watch {
    /// The driver's own statement is being prepared.
    own: AtomicBool,
    /// A transaction is open.
    inside: AtomicBool,
    /// Something was made that lives as long as the connection.
    soiled: AtomicBool,
}

/// Pragmas that only tell about the database.
const TELLING: &[&str] = &[
    "collation_list",
    "data_version",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "max_page_count",
    "page_count",
    "page_size",
    "quick_check",
    "schema_version",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Of those the ones whose argument names what is to be told about.
const ABOUT: &[&str] = &[
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Pragmas that may be set: numbers of the app's own in the file, and one that ends with the transaction.
const SETTABLE: &[&str] = &["application_id", "defer_foreign_keys", "user_version"];

/// Kinds of virtual tables that may be made.
const MODULES: &[&str] = &["fts5", "rtree"];

/// Functions that no statement may call.
const FUNCTIONS: &[&str] = &["fts3_tokenizer", "load_extension"];

/// The parser and the functions recurse; the threads' stacks are for these depths.
const LIMITS: &[(Limit, i32)] = &[
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 250),
    (Limit::SQLITE_LIMIT_COLUMN, 1_000),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 200),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 127),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 50),
    (Limit::SQLITE_LIMIT_VDBE_OP, 1_000_000),
];

/// How often a running statement is looked at, in instructions of SQLite's virtual machine.
const PROGRESS: i32 = 1_000;

/// Another process may have the file for a moment, to look at it or to back it up.
const BUSY: Duration = Duration::from_secs(1);

/// The longest text of a statement.
pub(super) const STATEMENT_BYTES: usize = 1 << 20;

const PAGE_BYTES: u64 = 4096;

/// What SQLite may have in memory, over all databases of the process; a statement that needs more fails.
const HEAP_BYTES: i64 = 1 << 30;

impl Session {
    pub(super) fn open(opening: &Opening, mode: Mode) -> rusqlite::Result<Self> {
        let Opening {
            path,
            durable,
            options,
        } = opening;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY)?;
        settings(&conn, *durable, options, mode)?;
        if let Some(folder) = path.parent() {
            temporary_files_in(&conn, folder)?;
        }
        limits(&conn, options)?;
        let watch = Arc::<Watch>::default();
        let watching = watch.clone();
        conn.authorizer(Some(move |context: AuthContext<'_>| {
            watching.judge(&context.action)
        }))?;
        let gauge = Arc::<Gauge>::default();
        let asked = gauge.clone();
        conn.progress_handler(PROGRESS, Some(move || asked.must_end()))?;
        let written_max = match mode {
            Mode::Read => options.temporary_bytes,
            // Each page may go to the log and from there to the file.
            Mode::Write => options
                .temporary_bytes
                .saturating_add(options.database_bytes.saturating_mul(2)),
        };
        Ok(Self {
            conn,
            gauge,
            watch,
            written_max,
        })
    }

    /// Runs a statement of the driver's own, which nothing stops.
    pub(super) fn own(&self, statement: &str) -> rusqlite::Result<()> {
        self.gauge.disarm();
        self.watch.own.store(true, SeqCst);
        let done = self.conn.execute_batch(statement);
        self.watch.own.store(false, SeqCst);
        done
    }

    /// Whether savepoints make sense from now on.
    pub(super) fn inside(&self, inside: bool) {
        self.watch.inside.store(inside, SeqCst);
    }

    /// What runs from now on ends when `stop` says so.
    pub(super) fn arm(&self, stop: &Arc<Stop>) {
        self.gauge.arm(stop, self.written_max);
    }

    /// Whether the next caller could find something of this one here.
    pub(super) fn is_soiled(&self) -> bool {
        self.watch.soiled.load(SeqCst) || !self.conn.is_autocommit()
    }
}

fn settings(
    conn: &Connection,
    durable: bool,
    options: &SqlOptions,
    mode: Mode,
) -> rusqlite::Result<()> {
    for (config, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
        // "a" is a column or an error, never a text: as everywhere else.
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
    ] {
        conn.set_db_config(config, on)?;
    }
    conn.pragma_update(None, "journal_mode", "wal")?;
    let synchronous = if durable { "full" } else { "normal" };
    conn.pragma_update(None, "synchronous", synchronous)?;
    // Files, not memory: what goes to a file can be counted.
    conn.pragma_update(None, "temp_store", "file")?;
    conn.pragma_update(None, "journal_size_limit", 16 << 20)?;
    let pages = (options.database_bytes / PAGE_BYTES).max(1);
    let pages = i64::try_from(pages).unwrap_or(i64::MAX);
    conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    // Tables of a session are files as well, and last as long as it.
    let temporary =
        i64::try_from((options.temporary_bytes / PAGE_BYTES).max(1)).unwrap_or(i64::MAX);
    conn.pragma_update_and_check(Some("temp"), "max_page_count", temporary, |_| Ok(()))?;
    // Of the whole process: a row of many large values is made in memory before anybody can count it.
    conn.pragma_update_and_check(None, "hard_heap_limit", HEAP_BYTES, |_| Ok(()))?;
    conn.pragma_update(None, "query_only", mode == Mode::Read)
}

/// Temporary files have no name once they are open, but they need a folder; the whole process has one setting for it.
fn temporary_files_in(conn: &Connection, folder: &Path) -> rusqlite::Result<()> {
    conn.pragma_update(None, "temp_store_directory", folder.to_string_lossy())
}

fn limits(conn: &Connection, options: &SqlOptions) -> rusqlite::Result<()> {
    let bytes = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, bytes(options.value_bytes))?;
    conn.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, bytes(STATEMENT_BYTES))?;
    for (limit, value) in LIMITS {
        conn.set_limit(*limit, *value)?;
    }
    Ok(())
}

impl Watch {
    fn judge(&self, action: &AuthAction<'_>) -> Authorization {
        if self.own.load(SeqCst) {
            return Authorization::Allow;
        }
        let allowed = match action {
            AuthAction::Attach { .. }
            | AuthAction::Detach { .. }
            | AuthAction::Transaction { .. }
            | AuthAction::Unknown { .. } => false,
            // Outside of a transaction it would begin one.
            AuthAction::Savepoint { .. } => self.inside.load(SeqCst),
            AuthAction::Pragma {
                pragma_name,
                pragma_value,
            } => may_pragma(pragma_name, *pragma_value),
            AuthAction::Function { function_name } => !is_in(FUNCTIONS, function_name),
            AuthAction::CreateVtable { module_name, .. } => is_in(MODULES, module_name),
            AuthAction::CreateTempIndex { .. }
            | AuthAction::CreateTempTable { .. }
            | AuthAction::CreateTempTrigger { .. }
            | AuthAction::CreateTempView { .. } => {
                self.soiled.store(true, SeqCst);
                true
            }
            _ => true,
        };
        match allowed {
            true => Authorization::Allow,
            false => Authorization::Deny,
        }
    }
}

fn may_pragma(name: &str, value: Option<&str>) -> bool {
    is_in(SETTABLE, name) || is_in(TELLING, name) && value.is_none_or(|_| is_in(ABOUT, name))
}

fn is_in(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}
