//! Databases of guests: grant, budget, driver.
//!
//! Each operation charges the call ([`Charge`]) with the statement and its parameters, and each batch of rows with what is in
//! it. A statement has the time of `sql_timeout`; a call that ends before it drops it, which stops it. A transaction dies with
//! the instance that holds it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use hostel_app::limits;
use hostel_stores::sql::{self, Column, Sql, Statement, Value};
use wasmtime::component::Resource;

use super::charge::{Charge, Refused};
use super::denied::{Absent, Wanted, plain};
use crate::state::{Host, Template};

/// Why an operation failed. The text is for the guest's author.
#[derive(Debug)]
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub enum Error {
    /// The label is not granted, or cannot be.
    Absent(Absent),
    /// The guest holds as many host objects as it may.
    Crowded,
    /// The call has used up a limit.
    Refused(Refused),
    /// A row of so many bytes, and how many it may have.
    TooLarge(usize, usize),
    /// What the database says.
    Sql(sql::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(Absent::Denied) => f.write_str("the database is not granted"),
            Self::Absent(Absent::Unknown) => f.write_str("there is no such database"),
            Self::Crowded => {
                f.write_str("the guest holds as many host objects as its limit `resources` allows")
            }
            Self::Refused(refused) => refused.fmt(f),
            Self::TooLarge(bytes, most) => write!(
                f,
                "a row of {bytes} bytes is larger than {most}, the limit `host_call`"
            ),
            Self::Sql(sql::Error::TooSlow(time)) => write!(
                f,
                "the statement ran longer than {} ms, its limit `sql_timeout`, and was stopped",
                time.as_millis()
            ),
            Self::Sql(sql::Error::Failed(failure)) => f.write_str(plain(failure)),
            Self::Sql(error) => error.fmt(f),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// What operations return.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Whose account an open database, its rows and its transactions go to.
#[derive(Clone)]
struct Account {
    label: String,
    template: Arc<Template>,
    charge: Charge,
}

/// An open database.
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub struct Connection {
    sql: Arc<dyn Sql>,
    account: Account,
}

/// An open transaction.
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub struct Transaction {
    /// None once it is over.
    open: Option<Box<dyn sql::Transaction>>,
    account: Account,
}

/// Rows on their way.
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub struct Rows {
    columns: Vec<Column>,
    /// None once they have ended.
    rows: Option<BoxStream<'static, sql::Result<Vec<Value>>>>,
    /// What came after the last batch and had no place in it.
    ahead: Option<sql::Result<Vec<Value>>>,
    account: Account,
}

impl Host {
    /// Opens a database by its label and keeps it for the guest.
    pub(crate) fn open_database(&mut self, label: &str) -> Result<Resource<Connection>> {
        let template = self.template();
        self.charge().call(label.len())?;
        let Some(sql) = template.granted.sql.get(label) else {
            let absent = template.no_store(Wanted::Sql, label);
            return Err(Error::Absent(absent));
        };
        let connection = Connection {
            sql: sql.clone(),
            account: Account::new(label, template, self.charge()),
        };
        self.keep_opened(connection)
    }

    /// Keeps something that the guest opened.
    pub(crate) fn keep_opened<T: Send + 'static>(&mut self, opened: T) -> Result<Resource<T>> {
        self.table().push(opened).map_err(|_| Error::Crowded)
    }
}

impl Account {
    fn new(label: &str, template: &Arc<Template>, charge: &Charge) -> Self {
        Self {
            label: label.to_owned(),
            template: template.clone(),
            charge: charge.clone(),
        }
    }

    /// Charges a statement with its parameters.
    fn statement(&self, text: String, parameters: Vec<Value>) -> Result<Statement> {
        let bytes = parameters.iter().map(Value::size).sum::<usize>();
        self.charge.call(bytes.saturating_add(text.len()))?;
        Ok(Statement {
            text,
            parameters,
            timeout: Duration::from_millis(self.template.limits.sql_timeout_ms),
        })
    }

    fn said<T>(&self, answer: sql::Result<T>) -> Result<T> {
        answer.map_err(|error| {
            if let sql::Error::Failed(failure) = &error {
                self.charge.failed(failure);
                self.template
                    .store_failed(Wanted::Sql, &self.label, failure);
            }
            Error::Sql(error)
        })
    }

    fn rows(&self, answer: sql::Result<sql::Rows>) -> Result<Rows> {
        let sql::Rows { columns, rows } = self.said(answer)?;
        Ok(Rows {
            columns,
            rows: Some(rows),
            ahead: None,
            account: self.clone(),
        })
    }
}

impl Connection {
    /// Runs a statement and gives its rows.
    pub(crate) async fn query(&mut self, text: String, parameters: Vec<Value>) -> Result<Rows> {
        let statement = self.account.statement(text, parameters)?;
        self.account.rows(self.sql.query(statement).await)
    }

    /// Runs a statement to its end; the rows that it changed.
    pub(crate) async fn execute(&mut self, text: String, parameters: Vec<Value>) -> Result<u64> {
        let statement = self.account.statement(text, parameters)?;
        self.account.said(self.sql.execute(statement).await)
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&mut self) -> Result<Transaction> {
        self.account.charge.call(0)?;
        let open = self.account.said(self.sql.begin().await)?;
        Ok(Transaction {
            open: Some(open),
            account: self.account.clone(),
        })
    }
}

impl Transaction {
    /// As of a connection.
    pub(crate) async fn query(&mut self, text: String, parameters: Vec<Value>) -> Result<Rows> {
        let statement = self.account.statement(text, parameters)?;
        let open = self.open.as_mut().ok_or_else(over)?;
        self.account.rows(open.query(statement).await)
    }

    /// As of a connection.
    pub(crate) async fn execute(&mut self, text: String, parameters: Vec<Value>) -> Result<u64> {
        let statement = self.account.statement(text, parameters)?;
        let open = self.open.as_mut().ok_or_else(over)?;
        self.account.said(open.execute(statement).await)
    }

    /// Makes it last, or undoes it.
    pub(crate) async fn end(&mut self, commit: bool) -> Result<()> {
        self.account.charge.call(0)?;
        let open = self.open.take().ok_or_else(over)?;
        let ended = match commit {
            true => open.commit().await,
            false => open.rollback().await,
        };
        self.account.said(ended)
    }
}

fn over() -> Error {
    let text = "the transaction is over".to_owned();
    Error::Sql(sql::Error::NoTransaction(text))
}

impl Rows {
    /// The columns.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The next rows, some of so many; none at the end. One row further is looked at, so that whoever takes the last row
    /// knows that the statement is complete.
    pub(crate) async fn next(&mut self, limit: u32) -> Result<Vec<Vec<Value>>> {
        self.account.charge.call(0)?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let most = most.clamp(1, limits::SQL_ROWS.size());
        let row_most = self.account.template.limits.host_call_bytes;
        let bytes_most = limits::SQL_BATCH_BYTES.size().min(row_most);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(row) = self.one().await {
            let size = row.as_ref().map_or(0, |row| size(row));
            let fits = batch.len() < most && bytes + size <= bytes_most;
            match row {
                Ok(row) if fits || batch.is_empty() => {
                    bytes += size;
                    batch.push(row);
                }
                Err(error) if batch.is_empty() => return self.account.said(Err(error)),
                row => {
                    self.ahead = Some(row);
                    break;
                }
            }
        }
        if bytes > row_most {
            return Err(Error::TooLarge(bytes, row_most));
        }
        self.account.charge.bytes(bytes)?;
        Ok(batch)
    }

    async fn one(&mut self) -> Option<sql::Result<Vec<Value>>> {
        if let Some(row) = self.ahead.take() {
            return Some(row);
        }
        let row = self.rows.as_mut()?.next().await;
        if !matches!(row, Some(Ok(_))) {
            self.rows = None;
        }
        row
    }
}

fn size(row: &[Value]) -> usize {
    row.iter().map(Value::size).sum()
}
