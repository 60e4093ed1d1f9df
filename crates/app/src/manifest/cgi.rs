//! `[component.NAME.cgi]` as written: how a program answers requests.

mod scripts;

use std::ops::Range;

use crate::app::Cgi;
use crate::error::{Kind, Report};
use crate::fields::Fields;

/// The words of a query, in an argument template.
const WORDS_OF_QUERY: &str = "${ARGS}";

/// Reads it, and where the scripts' root is written; a component without the section is called as CGI has it.
pub(super) fn read(
    report: &mut Report<'_>,
    component: &Fields<'_, '_>,
    name: &str,
) -> (Cgi, Range<usize>) {
    let table = component.get("cgi");
    let fields = table.and_then(|value| {
        let what = format!("[component.{name}.cgi]");
        Fields::new(report, what, value)
    });
    let Some(fields) = fields else {
        return (Cgi::default(), 0..0);
    };
    fields.only(report, &["argv", "scripts"]);
    let argv = fields.string(report, "argv");
    let scripts = scripts::read(report, &fields, name);
    if let (Some(argv), Some(_)) = (&argv, &scripts)
        && argv.value.contains(WORDS_OF_QUERY)
    {
        let what = format!("\"argv\" hands {WORDS_OF_QUERY} to an interpreter");
        let help = "leave it out: a word that a client sends could be an option; scripts find it in QUERY_STRING";
        report.at(Kind::BadValue, argv.span.clone(), what, help);
    }
    let (scripts, root) = scripts.map_or((None, 0..0), |(scripts, root)| (Some(scripts), root));
    let argv = argv.map(|argv| argv.value);
    (Cgi { argv, scripts }, root)
}
