//! The tables of an engine's file, and how an older file becomes a newer one.
//!
//! `PRAGMA user_version` counts the steps that a file has seen. A step that was released is never changed: what a table needs
//! later is a new step at the end. A driver keeps the text of its steps beside its statements.

use rusqlite::{Connection, Result, TransactionBehavior};

/// Each is run once, in this order.
pub(super) const STEPS: &[&str] = &[crate::kv::embedded::TABLES, crate::messaging::TABLES];

/// What the file was before.
pub(super) enum Age {
    /// It has all steps now.
    Current,
    /// It has seen more steps than this program knows.
    Newer(i64),
}

/// Brings a file up to date, all or nothing.
pub(super) fn migrate(connection: &mut Connection) -> Result<Age> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let seen = version(connection)?;
    if seen > known {
        return Ok(Age::Newer(seen));
    }
    if seen == known {
        return Ok(Age::Current);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let seen = usize::try_from(version(&transaction)?).unwrap_or(0);
    for step in STEPS.iter().skip(seen) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(Age::Current)
}

fn version(connection: &Connection) -> Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
