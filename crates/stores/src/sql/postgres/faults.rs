//! What PostgreSQL's errors mean, by the classes of their codes (appendix A of its manual).

use std::error::Error as _;
use std::time::Duration;

use tokio_postgres::Error as Cause;
use tokio_postgres::error::DbError;

use crate::Failure;
use crate::sql::Error;

/// While a connection is made.
pub(super) fn connecting(cause: &Cause, timeout: Duration) -> Error {
    let Some(told) = cause.as_db_error() else {
        return broken(cause, timeout);
    };
    let code = told.code().code();
    match code.get(..2) {
        // The text would name the role.
        Some("28") => Failure::Refused(format!("the role or its password ({code})")).into(),
        Some("3D") | Some("42") => Failure::Refused(told.message().to_owned()).into(),
        _ => of(told, timeout),
    }
}

/// While a statement runs.
pub(super) fn running(cause: &Cause, timeout: Duration) -> Error {
    match cause.as_db_error() {
        Some(told) => of(told, timeout),
        None => broken(cause, timeout),
    }
}

/// Whether the connection is of no use any more.
pub(super) fn is_dead(error: &Error) -> bool {
    matches!(error, Error::Failed(Failure::Unavailable(_)))
}

fn of(told: &DbError, timeout: Duration) -> Error {
    let text = match told.detail() {
        Some(detail) => format!("{}: {detail}", told.message()),
        None => told.message().to_owned(),
    };
    let code = told.code().code();
    match (code.get(..2).unwrap_or_default(), code) {
        ("23", _) => Error::Constraint(text),
        ("40", _) | (_, "55P03") => Error::Conflict(text),
        (_, "57014") => Error::TooSlow(timeout),
        (_, "25P02" | "25P03" | "25P04" | "2D000") => Error::NoTransaction(text),
        (_, "53100") => Failure::Full(text).into(),
        ("08" | "53" | "57", _) => Failure::Unavailable(text).into(),
        ("28", _) => Failure::Refused(text).into(),
        ("58" | "F0" | "XX", _) => Failure::Broken(text).into(),
        _ => Error::BadStatement(text),
    }
}

/// Errors of the connection, and of this side of it.
fn broken(cause: &Cause, timeout: Duration) -> Error {
    let mut text = cause.to_string();
    let mut deeper = cause.source();
    while let Some(source) = deeper {
        text = format!("{text}: {source}");
        deeper = source.source();
    }
    let kind = cause
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind);
    if kind == Some(std::io::ErrorKind::TimedOut) {
        return Failure::TimedOut(timeout).into();
    }
    // The library tells its kinds of errors by their texts only.
    match () {
        () if text.starts_with("error serializing parameter") => Error::BadStatement(text),
        () if text.starts_with("expected ") => Error::BadStatement(text),
        () if cause.is_closed() || kind.is_some() => Failure::Unavailable(text).into(),
        () if text.starts_with("error connecting") => Failure::Unavailable(text).into(),
        () if text.starts_with("error communicating") => Failure::Unavailable(text).into(),
        () if text.starts_with("connection closed") => Failure::Unavailable(text).into(),
        () => Failure::Broken(text).into(),
    }
}
