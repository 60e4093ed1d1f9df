//! SQL: the contract.
//!
//! One handle is one database that belongs to one [`Scope`](crate::Scope). Statements are the backend's own dialect, one at a
//! time, with parameters as the dialect writes them (`?1` for SQLite, `$1` for PostgreSQL). Rows stream: a large result is
//! never whole in memory. A statement that has run longer than its time is stopped in the backend too, not only left.
//!
//! A statement that changes data and returns rows (`INSERT ... RETURNING`) is complete when its rows have been read to their
//! end; dropped before that it is undone.

mod open;
mod postgres;
mod sqlite;

pub(crate) use open::Databases;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::Failure;

/// What the process decides about its databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlOptions {
    /// How large an embedded database may become.
    pub database_bytes: u64,
    /// The largest value, row or statement text of an embedded database.
    pub value_bytes: usize,
    /// What one statement may put into temporary files of an embedded database, to sort for example.
    pub temporary_bytes: u64,
    /// Statements of one embedded database that may read at once, each on a thread of its own.
    pub readers: usize,
    /// Connections to one database of a server.
    pub connections: usize,
    /// How long a transaction may be open; then it is rolled back.
    pub transaction: Duration,
    /// How long a connection that nobody uses is kept.
    pub idle: Duration,
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self {
            database_bytes: 1 << 30,
            value_bytes: 16 << 20,
            temporary_bytes: 256 << 20,
            readers: 4,
            connections: 16,
            transaction: Duration::from_secs(30),
            idle: Duration::from_secs(60),
        }
    }
}

/// A parameter or a column's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// A truth value; a number 0 or 1 in SQLite.
    Boolean(bool),
    /// A whole number of up to 64 bits.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// Text; also what the backend has no closer type here for, in its own notation: numerics, dates, JSON, UUIDs.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
}

impl Value {
    /// Bytes that it takes, as bounds count them.
    pub fn size(&self) -> usize {
        16 + match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Null | Self::Boolean(_) | Self::Integer(_) | Self::Float(_) => 0,
        }
    }
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in the result.
    pub name: String,
    /// The type's name in the backend's own words, in lower case; empty where it has none.
    pub kind: String,
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Its text, in the backend's dialect; exactly one statement.
    pub text: String,
    /// Its parameters.
    pub parameters: Vec<Value>,
    /// How long it may run, all rows included.
    pub timeout: Duration,
}

/// A result on its way.
pub struct Rows {
    /// The columns; none for a statement that returns no rows.
    pub columns: Vec<Column>,
    /// The rows, each with a value for each column. A failure is the last item. Dropping the stream ends the statement.
    pub rows: BoxStream<'static, Result<Vec<Value>>>,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The statement is wrong or may not be run here: syntax, names, parameters, more than one statement.
    #[error("{0}")]
    BadStatement(String),
    /// It would break a constraint: unique, foreign key, not null, check.
    #[error("{0}")]
    Constraint(String),
    /// Another transaction is in the way; the same transaction may succeed when it is tried again from its start.
    #[error("{0}")]
    Conflict(String),
    /// It ran longer than it may and was stopped.
    #[error("the statement ran longer than {} ms and was stopped", .0.as_millis())]
    TooSlow(Duration),
    /// The transaction is over or was broken by an earlier error.
    #[error("{0}")]
    NoTransaction(String),
    /// The backend is in trouble.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What operations return.
pub type Result<T> = std::result::Result<T, Error>;

/// What happens to rows that were not read before the transaction's next statement.
const GIVEN_UP: &str = "these rows were given up when the transaction went on";

/// One database. Methods may be awaited on any thread and runtime. A call or a stream that is dropped stops its statement.
#[async_trait]
pub trait Sql: fmt::Debug + Send + Sync {
    /// Reaches the backend as the operator told, and changes nothing: for `hostel check --config` and readiness.
    async fn check(&self) -> Result<()>;

    /// Runs a statement and gives its rows as they come.
    async fn query(&self, statement: Statement) -> Result<Rows>;

    /// Runs a statement to its end; the number of rows that it changed. `Ok` means committed and on disk.
    async fn execute(&self, statement: Statement) -> Result<u64>;

    /// Begins a transaction on a connection of its own.
    async fn begin(&self) -> Result<Box<dyn Transaction>>;
}

/// A transaction, serialisable against others of the same database where the backend has no weaker default of its own.
/// Dropping it rolls it back.
#[async_trait]
pub trait Transaction: fmt::Debug + Send {
    /// As [`Sql::query`], inside the transaction. Rows that are not read are given up with the next call.
    async fn query(&mut self, statement: Statement) -> Result<Rows>;

    /// As [`Sql::execute`], inside the transaction.
    async fn execute(&mut self, statement: Statement) -> Result<u64>;

    /// Makes it last; `Ok` means on disk.
    async fn commit(self: Box<Self>) -> Result<()>;

    /// Gives it up.
    async fn rollback(self: Box<Self>) -> Result<()>;
}
