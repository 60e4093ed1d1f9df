//! `[[service]]` as written: a component that runs all the time.

use crate::error::Report;
use crate::fields::{At, Fields};

/// One `[[service]]`.
#[derive(Debug)]
pub(crate) struct ServiceText {
    pub(crate) component: At<String>,
    pub(crate) listen: Vec<At<String>>,
}

/// Reads one; `None`, and an error, where it names no component.
pub(super) fn read(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<ServiceText> {
    fields.only(report, &["component", "listen"]);
    let component = fields
        .required(report, "component", "\"NAME\"")
        .and_then(|_| fields.string(report, "component"));
    Some(ServiceText {
        component: component?,
        listen: fields.strings(report, "listen"),
    })
}
