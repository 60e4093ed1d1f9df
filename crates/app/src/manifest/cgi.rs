//! `[component.NAME.cgi]` as written: how a program answers requests.

use crate::app::Cgi;
use crate::error::Report;
use crate::fields::Fields;

/// Reads it; a component without the section is called as CGI has it.
pub(super) fn read(report: &mut Report<'_>, component: &Fields<'_, '_>, name: &str) -> Cgi {
    let table = component.get("cgi");
    let fields = table.and_then(|value| {
        let what = format!("[component.{name}.cgi]");
        Fields::new(report, what, value)
    });
    let Some(fields) = fields else {
        return Cgi::default();
    };
    fields.only(report, &["argv"]);
    Cgi {
        argv: fields.string(report, "argv").map(|argv| argv.value),
        scripts: None,
    }
}
