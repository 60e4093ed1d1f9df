//! What the TOML parser found, in the words of the rest of this room.

use std::ops::Range;

use crate::error::{Kind, Report};

/// Reports syntax errors in the order of the text, one for each line, as far as the text can still be understood.
pub(crate) fn report_all(report: &mut Report<'_>, mut errors: Vec<toml::de::Error>) {
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let mut last_line = None;
    for error in errors {
        let line = Some(error.span().map(|span| report.line(span.start)));
        // After a slip that is not confined to one value, everything further is its echo.
        if line != last_line && !report_one(report, error.message(), error.span()) {
            break;
        }
        last_line = line;
    }
}

/// Returns whether what follows can still be understood.
fn report_one(report: &mut Report<'_>, message: &str, span: Option<Range<usize>>) -> bool {
    let (what, help) = (
        "not TOML that can be read: too many levels",
        "a manifest has no more than five levels",
    );
    let Some(span) = span else {
        report.whole(Kind::Syntax, what, help);
        return false;
    };
    if message.contains("recurs") {
        report.at(Kind::Syntax, span, what, help);
        return false;
    }
    let duplicate = message == "duplicate key";
    let written = match duplicate {
        true => report.text().get(span.clone()),
        false => report.written(span.clone()),
    };
    let hidden = written.is_none();
    let written = written.unwrap_or("").trim().to_owned();
    let word = !written.is_empty()
        && written
            .chars()
            .all(|c| c.is_alphanumeric() || "-_./: ".contains(c));
    let (what, help, confined) = match message.split_once(", expected ") {
        None if duplicate => (
            format!("the key \"{written}\" is there twice"),
            "remove one of the two".to_owned(),
            true,
        ),
        Some((what, _))
            if word && (what.starts_with("string values") || what.starts_with("invalid")) =>
        {
            (
                format!("not TOML: \"{written}\" is not a value"),
                format!("put text in quotes: \"{written}\""),
                true,
            )
        }
        Some((what, _)) if hidden && what.starts_with("string values") => (
            "not TOML: this is not a value".to_owned(),
            "put text in quotes: \"...\"".to_owned(),
            true,
        ),
        Some((what, _)) if written.is_empty() && what.starts_with("string values") => (
            "not TOML: the value is missing".to_owned(),
            "write one behind the \"=\"".to_owned(),
            true,
        ),
        Some((what, expected)) => (
            format!("not TOML: {what}"),
            format!("expected {expected}"),
            false,
        ),
        None => (
            format!("not TOML: {message}"),
            "see toml.io for the format".to_owned(),
            false,
        ),
    };
    report.at(Kind::Syntax, span, what, help);
    confined
}
