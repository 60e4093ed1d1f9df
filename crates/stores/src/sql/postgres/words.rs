//! The first words of a statement. PostgreSQL decides what a statement means; this only refuses those that the driver's own
//! use of the connection cannot live with, and says what to do instead.

use crate::sql::{Error, Result};

/// The longest text of a statement.
const STATEMENT_BYTES: usize = 1 << 20;

/// Whether a statement may be sent.
pub(super) fn allowed(text: &str) -> Result<()> {
    if text.len() > STATEMENT_BYTES {
        return Err(Error::BadStatement(format!(
            "a statement may have {STATEMENT_BYTES} bytes"
        )));
    }
    if text.contains('\0') {
        return Err(bad("a statement contains no NUL character"));
    }
    let mut words = Words(text);
    let Some(first) = words.next() else {
        return Err(bad("there is no statement in the text"));
    };
    let mut rest = words.take(6);
    match first.as_str() {
        "begin" | "start" | "commit" | "end" | "abort" => Err(transaction()),
        "rollback" if !rest.any(|word| word == "to") => Err(transaction()),
        "prepare" if rest.next().is_some_and(|word| word == "transaction") => Err(transaction()),
        "copy" if text.to_lowercase().contains("std") => Err(bad(
            "COPY from and to the client is not possible here; use INSERT and SELECT",
        )),
        _ => Ok(()),
    }
}

/// Whether what the server counts for a statement that returns rows is what it changed.
pub(super) fn changes(text: &str) -> bool {
    let first = Words(text).next();
    let first = first.as_deref();
    matches!(first, Some("insert" | "update" | "delete" | "merge"))
}

/// Whether a statement may change data and have rows; in doubt it may. What a function does is not seen.
pub(super) fn changes_and_reads(text: &str) -> bool {
    let says = |words: &[&str]| {
        let text = text.to_ascii_lowercase();
        words.iter().any(|word| text.contains(word))
    };
    match Words(text).next().as_deref() {
        Some("insert" | "update" | "delete" | "merge") => says(&["returning"]),
        Some("with") => says(&["insert", "update", "delete", "merge"]),
        _ => false,
    }
}

fn transaction() -> Error {
    bad("a statement cannot begin or end a transaction; use the interface's own calls for that")
}

fn bad(text: &str) -> Error {
    Error::BadStatement(text.to_owned())
}

/// Words without comments and punctuation between them.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        loop {
            let rest = self.0;
            let start = rest.find(|c: char| is_word(c) || c == '-' || c == '/')?;
            let rest = rest.get(start..)?;
            if let Some(comment) = rest.strip_prefix("--") {
                self.0 = comment.split_once('\n').map_or("", |(_, rest)| rest);
            } else if rest.starts_with("/*") {
                self.0 = after_comment(rest);
            } else if rest.starts_with(['-', '/']) {
                self.0 = rest.get(1..)?;
            } else {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let (word, rest) = rest.split_at_checked(end)?;
                self.0 = rest;
                return Some(word.to_lowercase());
            }
        }
    }
}

/// What follows a comment, in which others may be.
fn after_comment(text: &str) -> &str {
    let (mut depth, mut rest) = (0_usize, text);
    loop {
        let Some(at) = rest.find(['/', '*']) else {
            return "";
        };
        rest = rest.get(at..).unwrap_or_default();
        let mut skip = 1;
        if rest.starts_with("/*") {
            (depth, skip) = (depth + 1, 2);
        } else if rest.starts_with("*/") {
            (depth, skip) = (depth.saturating_sub(1), 2);
        }
        rest = rest.get(skip..).unwrap_or_default();
        if depth == 0 {
            return rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_end_a_transaction_or_need_a_client_s_stream_are_refused() {
        for text in [
            "COMMIT",
            "  /* a /* b */ */ -- c\n (( begin isolation level serializable",
            "ROLLBACK",
            "rollback work",
            "start transaction",
            "END",
            "ABORT",
            "prepare transaction 'x'",
            "COPY t FROM STDIN",
            "copy (select 1) to stdout",
            "",
            " -- only a comment",
            "/* open",
            "SELECT '\0'",
        ] {
            assert!(allowed(text).is_err(), "{text}");
        }
        for text in [
            "SELECT 1 - 2 / 3",
            "rollback to savepoint a",
            "ROLLBACK TRANSACTION TO a",
            "prepare transactions as select 1",
            "savepoint a",
            "copy t from '/data/x'",
            "/* begin */ select 1",
        ] {
            assert_eq!(allowed(text), Ok(()), "{text}");
        }
        assert!(changes("/**/ Insert into t values (1) returning a"));
        assert!(!changes("select 1"));
        for text in [
            "insert into t values ('--') Returning a",
            "-- c\nWITH a AS (DELETE FROM t) SELECT 1",
        ] {
            assert!(changes_and_reads(text), "{text}");
        }
        for text in ["insert into t values (1)", "with a as (select 1) table a"] {
            assert!(!changes_and_reads(text), "{text}");
        }
    }
}
