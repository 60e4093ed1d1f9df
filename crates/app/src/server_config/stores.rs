//! `[keyvalue.LABEL]`, `[blobstore.LABEL]`, `[sql.LABEL]`, `[messaging.LABEL]`: where a label's data is.
//!
//! Which URLs there are drivers for is not known in this room.

use std::collections::BTreeMap;

use super::StorePlace;
use super::read::{duration, text};
use crate::error::{Kind, Report};
use crate::fields::{At, Fields, Value};
use crate::grant;
use crate::limits;
use crate::text::{Text, TextError};

/// One kind of store.
pub(super) fn read(
    report: &mut Report<'_>,
    root: &Fields<'_, '_>,
    kind: &str,
) -> BTreeMap<String, StorePlace> {
    let table = root.get(kind);
    let Some(labels) = table.and_then(|value| Fields::new(report, format!("[{kind}]"), value))
    else {
        return BTreeMap::new();
    };
    let labels = labels.entries().into_iter();
    let places = labels.filter_map(|(label, value)| {
        let place = place(report, kind, &label, value)?;
        Some((label.value, place))
    });
    places.collect()
}

fn place(
    report: &mut Report<'_>,
    kind: &str,
    label: &At<String>,
    value: &Value<'_>,
) -> Option<StorePlace> {
    if let Err(error) = grant::label(&label.value) {
        report.at(Kind::BadValue, label.span.clone(), error.what, error.help);
    }
    let fields = Fields::new(report, format!("[{kind}.{}]", label.value), value)?;
    fields.only(report, &["url", "timeout"]);
    let timeout = duration(report, &fields, "timeout", &limits::STORE_TIMEOUT_MS);
    fields.required(report, "url", "\"embedded:\"");
    let url = text(report, &fields, "url")?;
    Some(StorePlace {
        url: template(report, &url)?,
        timeout,
        line: report.line(label.span.start),
    })
}

/// A URL with its variables; that they have values is seen when it is used.
fn template(report: &mut Report<'_>, url: &At<String>) -> Option<Text> {
    let error = match Text::parse(&url.value) {
        Ok(text) => return Some(text),
        Err(error) => error,
    };
    let what = match error {
        TextError::Open => "\"{{\" without \"}}\"",
        // What stands there may be a part of a password.
        TextError::NoName(_) | TextError::Unknown(_) | TextError::TooLong => {
            "there is no name of a variable between \"{{\" and \"}}\""
        }
    };
    report.at(
        Kind::BadTemplate,
        url.span.clone(),
        what,
        "write {{ name }}",
    );
    None
}
