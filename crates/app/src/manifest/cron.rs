//! `[[cron]]` as written: when a component is called.

use crate::error::Report;
use crate::fields::{At, Fields};

/// One `[[cron]]`.
#[derive(Debug)]
pub(crate) struct CronText {
    pub(crate) schedule: At<String>,
    pub(crate) component: At<String>,
}

/// Reads one; `None`, and an error, where it could never run.
pub(super) fn read(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<CronText> {
    fields.only(report, &["schedule", "component"]);
    let schedule = fields
        .required(report, "schedule", "\"*/5 * * * *\"")
        .and_then(|_| fields.string(report, "schedule"));
    let component = fields
        .required(report, "component", "\"NAME\"")
        .and_then(|_| fields.string(report, "component"));
    Some(CronText {
        schedule: schedule?,
        component: component?,
    })
}
