//! Running one statement on a connection's thread: binding, stepping, handing rows over, and what SQLite's errors mean.

use bytes::Bytes;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Batch, ErrorCode, ffi};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use std::sync::Arc;

use super::session::{STATEMENT_BYTES, Session};
use super::stop::Stop;
use crate::Failure;
use crate::sql::{Column, Error, Result, Statement, Value};

/// Rows on their way; an empty batch is the end.
pub(super) type Batches = mpsc::Sender<Result<Vec<Vec<Value>>>>;

/// What a query begins with.
pub(super) enum Head {
    Columns(Vec<Column>),
    /// It writes, and this connection only reads: the statement comes back.
    Writes(Statement),
}

/// Where a query's answer goes.
pub(super) struct Answer {
    pub(super) head: oneshot::Sender<Result<Head>>,
    pub(super) batches: Batches,
    /// For the timer, when the reader is slower than the disk.
    pub(super) handle: Handle,
    pub(super) stop: Arc<Stop>,
}

/// Rows, and bytes in them, that go to the reader at once.
const BATCH_ROWS: usize = 256;
const BATCH_BYTES: usize = 64 << 10;

/// Runs a statement to its end; the rows that it changed.
pub(super) fn execute(session: &Session, statement: &Statement, stop: &Arc<Stop>) -> Result<u64> {
    let before = session.conn.total_changes();
    let mut prepared = prepare(session, statement, stop)?;
    let mut rows = prepared.raw_query();
    while rows.next().map_err(|cause| error(&cause, stop))?.is_some() {}
    drop(rows);
    // SQLite goes on telling the count of the last statement that had one.
    let changed = session.conn.total_changes() != before;
    Ok(if changed { session.conn.changes() } else { 0 })
}

/// Runs a query on a connection that only reads.
pub(super) fn read(session: &Session, statement: Statement, answer: Answer) {
    match prepare(session, &statement, &answer.stop) {
        Ok(prepared) if prepared.readonly() => hand_over(prepared, answer, || Ok(())),
        Ok(_) => drop(answer.head.send(Ok(Head::Writes(statement)))),
        Err(error) => drop(answer.head.send(Err(error))),
    }
}

/// Runs a query that writes: it is committed when the last row has been taken.
pub(super) fn write(session: &Session, statement: &Statement, answer: Answer) {
    let stop = answer.stop.clone();
    if let Err(cause) = session.own("BEGIN IMMEDIATE") {
        return drop(answer.head.send(Err(error(&cause, &stop))));
    }
    inside(session, statement, answer, || {
        session.own("COMMIT").map_err(|cause| error(&cause, &stop))
    });
    if !session.conn.is_autocommit() {
        // Should this fail, the connection is given up.
        let _given_up = session.own("ROLLBACK");
    }
}

/// Runs a query inside a transaction; `finish` comes before the reader is told that it was the last row.
pub(super) fn inside(
    session: &Session,
    statement: &Statement,
    answer: Answer,
    finish: impl FnOnce() -> Result<()>,
) {
    match prepare(session, statement, &answer.stop) {
        Ok(prepared) => hand_over(prepared, answer, finish),
        Err(error) => drop(answer.head.send(Err(error))),
    }
}

fn hand_over(
    mut prepared: rusqlite::Statement<'_>,
    answer: Answer,
    finish: impl FnOnce() -> Result<()>,
) {
    let Answer {
        head,
        batches,
        handle,
        stop,
    } = answer;
    let columns = columns(&prepared);
    let width = columns.len();
    let mut rows = prepared.raw_query();
    // The first step tells whether it can run at all.
    let mut row = match rows.next() {
        Ok(row) => row,
        Err(cause) => return drop(head.send(Err(error(&cause, &stop)))),
    };
    if head.send(Ok(Head::Columns(columns))).is_err() {
        return;
    }
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let outcome = loop {
        let Some(values) = row.map(|row| values(row, width)) else {
            break Ok(());
        };
        let values = match values {
            Ok(values) => values,
            Err(cause) => break Err(error(&cause, &stop)),
        };
        bytes += values.iter().map(Value::size).sum::<usize>();
        batch.push(values);
        if batch.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
            bytes = 0;
            if let Err(error) = send(&batches, Ok(std::mem::take(&mut batch)), &handle, &stop) {
                break Err(error);
            }
        }
        row = match rows.next() {
            Ok(row) => row,
            Err(cause) => break Err(error(&cause, &stop)),
        };
    };
    drop(rows);
    drop(prepared);
    let outcome = match batch.is_empty() {
        true => outcome,
        false => outcome.and(send(&batches, Ok(batch), &handle, &stop)),
    };
    // The place for the end comes first: a commit that nobody hears of in time is none.
    let Some(place) = place(&batches, &handle, &stop) else {
        return;
    };
    let outcome = outcome.and_then(|()| finish());
    place.send(outcome.map(|()| Vec::new()));
}

/// Room for one more message; none once the statement is over.
fn place<'a>(
    batches: &'a Batches,
    handle: &Handle,
    stop: &Arc<Stop>,
) -> Option<mpsc::Permit<'a, Result<Vec<Vec<Value>>>>> {
    if stop.is_abandoned() {
        return None;
    }
    match batches.try_reserve() {
        Ok(place) => Some(place),
        Err(TrySendError::Closed(())) => None,
        Err(TrySendError::Full(())) => handle.block_on(async {
            tokio::select! {
                place = batches.reserve() => place.ok(),
                () = stop.due() => None,
            }
        }),
    }
}

/// Hands a batch over; waits while the reader is slow, but no longer than the statement may last.
fn send(
    batches: &Batches,
    batch: Result<Vec<Vec<Value>>>,
    handle: &Handle,
    stop: &Arc<Stop>,
) -> Result<()> {
    let place = place(batches, handle, stop);
    let place = place.ok_or(Error::TooSlow(stop.timeout))?;
    place.send(batch);
    Ok(())
}

/// Prepares exactly one statement and binds its parameters.
fn prepare<'a>(
    session: &'a Session,
    statement: &Statement,
    stop: &Arc<Stop>,
) -> Result<rusqlite::Statement<'a>> {
    let bad = |text: &str| Error::BadStatement(text.to_owned());
    let Statement {
        text, parameters, ..
    } = statement;
    if text.len() > STATEMENT_BYTES {
        return Err(Error::BadStatement(format!(
            "a statement may have {STATEMENT_BYTES} bytes"
        )));
    }
    if text.contains('\0') {
        return Err(bad("a statement contains no NUL character"));
    }
    session.arm(stop);
    // One after the other: preparing them all first would recurse once for each.
    let mut batch = Batch::new(&session.conn, text);
    let mut prepared = batch
        .next()
        .map_err(|cause| error(&cause, stop))?
        .ok_or_else(|| bad("there is no statement in the text"))?;
    if batch.next().map_err(|cause| error(&cause, stop))?.is_some() {
        return Err(bad("there is more than one statement in the text"));
    }
    let wanted = prepared.parameter_count();
    if wanted != parameters.len() {
        return Err(Error::BadStatement(format!(
            "the statement has {wanted} parameters, {} were given",
            parameters.len()
        )));
    }
    for (index, value) in parameters.iter().enumerate() {
        let bound = ToSqlOutput::Borrowed(borrowed(value));
        prepared
            .raw_bind_parameter(index + 1, bound)
            .map_err(|cause| error(&cause, stop))?;
    }
    Ok(prepared)
}

fn borrowed(value: &Value) -> ValueRef<'_> {
    match value {
        Value::Null => ValueRef::Null,
        Value::Boolean(value) => ValueRef::Integer(i64::from(*value)),
        Value::Integer(value) => ValueRef::Integer(*value),
        Value::Float(value) => ValueRef::Real(*value),
        Value::Text(value) => ValueRef::Text(value.as_bytes()),
        Value::Bytes(value) => ValueRef::Blob(value),
    }
}

fn columns(prepared: &rusqlite::Statement<'_>) -> Vec<Column> {
    let column = |column: rusqlite::Column<'_>| Column {
        name: column.name().to_owned(),
        kind: column.decl_type().unwrap_or_default().to_lowercase(),
    };
    prepared.columns().map(column).collect()
}

/// The largest row that is handed over.
const ROW_BYTES_MAX: usize = 64 << 20;

fn values(row: &rusqlite::Row<'_>, width: usize) -> rusqlite::Result<Vec<Value>> {
    let mut bytes = 0;
    let mut values = Vec::with_capacity(width);
    for column in 0..width {
        let value = row.get_ref(column)?;
        bytes += value
            .as_bytes_or_null()
            .ok()
            .flatten()
            .map_or(0, <[u8]>::len);
        // SQLite bounds each value, not what they are together.
        if bytes > ROW_BYTES_MAX {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_TOOBIG);
            let text = format!("a row of more than {ROW_BYTES_MAX} bytes");
            return Err(rusqlite::Error::SqliteFailure(code, Some(text)));
        }
        values.push(owned(value));
    }
    Ok(values)
}

fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Real(value) => Value::Float(value),
        // SQLite takes any bytes for a text; what is none comes as what it is.
        ValueRef::Text(value) => match std::str::from_utf8(value) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Bytes(Bytes::copy_from_slice(value)),
        },
        ValueRef::Blob(value) => Value::Bytes(Bytes::copy_from_slice(value)),
    }
}

/// What an error of SQLite means.
pub(super) fn error(cause: &rusqlite::Error, stop: &Stop) -> Error {
    let (code, text) = match cause {
        rusqlite::Error::SqliteFailure(code, text) => {
            (*code, text.clone().unwrap_or_else(|| code.to_string()))
        }
        rusqlite::Error::SqlInputError {
            error, msg, offset, ..
        } => (*error, at(msg, *offset)),
        other => return Error::BadStatement(other.to_string()),
    };
    match code.code {
        ErrorCode::OperationInterrupted if stop.is_crowded() => {
            Failure::Full("the statement needs too much temporary space".to_owned()).into()
        }
        ErrorCode::OperationInterrupted => Error::TooSlow(stop.timeout),
        ErrorCode::ConstraintViolation => Error::Constraint(text),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Error::Conflict(text),
        ErrorCode::AuthorizationForStatementDenied => {
            Error::BadStatement(format!("this may not be done here: {text}"))
        }
        ErrorCode::DiskFull => Failure::Full(text).into(),
        ErrorCode::OutOfMemory => Failure::Full("out of memory".to_owned()).into(),
        ErrorCode::SystemIoFailure
        | ErrorCode::CannotOpen
        | ErrorCode::PermissionDenied
        | ErrorCode::FileLockingProtocolFailed => Failure::Unavailable(text).into(),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::InternalMalfunction
            if code.extended_code != ffi::SQLITE_CORRUPT_VTAB =>
        {
            Failure::Broken(text).into()
        }
        _ => Error::BadStatement(text),
    }
}

fn at(text: &str, offset: i32) -> String {
    match offset {
        0.. => format!("{text}, at byte {offset} of the statement"),
        _ => text.to_owned(),
    }
}

/// What it means that a connection cannot be opened.
pub(super) fn opening_failed(cause: &rusqlite::Error) -> Error {
    let text = cause.to_string();
    match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Failure::Broken(text),
        Some(ErrorCode::DiskFull) => Failure::Full(text),
        _ => Failure::Unavailable(text),
    }
    .into()
}
