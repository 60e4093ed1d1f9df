//! `[[cron]]` as written: when a component is called, and how.

use toml::de::DeValue;

use super::is_name;
use crate::app::{Missed, Overlap};
use crate::error::{Kind, Report};
use crate::fields::{At, Fields, wrong_type};
use crate::limits;
use crate::nearest::nearest;
use crate::server_config::duration;

/// One `[[cron]]`.
#[derive(Debug)]
pub(crate) struct CronText {
    pub(crate) schedule: At<String>,
    pub(crate) timezone: Option<At<String>>,
    pub(crate) component: At<String>,
    pub(crate) name: Option<At<String>>,
    pub(crate) run: RunText,
    pub(crate) missed: Missed,
    pub(crate) overlap: Overlap,
    pub(crate) jitter_ms: u64,
}

/// How it is called.
#[derive(Debug)]
pub(crate) enum RunText {
    Job { args: Option<Vec<At<String>>> },
    Export(String),
    Path(String),
}

const KEYS: [&str; 10] = [
    "schedule",
    "component",
    "timezone",
    "name",
    "missed",
    "overlap",
    "jitter",
    "args",
    "export",
    "path",
];

/// Reads one; `None`, and an error, where it could never run.
pub(super) fn read(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<CronText> {
    fields.only(report, &KEYS);
    let schedule = fields
        .required(report, "schedule", "\"*/5 * * * *\"")
        .and_then(|_| fields.string(report, "schedule"));
    let component = fields
        .required(report, "component", "\"NAME\"")
        .and_then(|_| fields.string(report, "component"));
    let name = fields.string(report, "name");
    if let Some(name) = name.as_ref().filter(|name| !is_name(&name.value)) {
        let what = format!("\"{}\" is not a name for a schedule", name.value);
        let help = "use up to 64 letters, digits, \"-\" and \"_\", a letter or digit first";
        report.at(Kind::BadValue, name.span.clone(), what, help);
    }
    let missed = [
        ("skip", Missed::Skip),
        ("once", Missed::Once),
        ("all", Missed::All),
    ];
    let overlap = [("skip", Overlap::Skip), ("queue", Overlap::Queue)];
    Some(CronText {
        timezone: fields.string(report, "timezone"),
        name,
        run: run(report, fields),
        missed: choice(report, fields, "missed", &missed).unwrap_or(Missed::Skip),
        overlap: choice(report, fields, "overlap", &overlap).unwrap_or(Overlap::Skip),
        jitter_ms: jitter(report, fields),
        schedule: schedule?,
        component: component?,
    })
}

fn jitter(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> u64 {
    let jitter = duration(report, fields, "jitter", &limits::CRON_JITTER_MS);
    let jitter = jitter.unwrap_or(limits::CRON_JITTER_MS.duration());
    u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX)
}

fn run(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> RunText {
    let written = ["args", "export", "path"];
    let mut written = written
        .into_iter()
        .filter_map(|key| Some((key, fields.get(key)?)));
    if let (Some((one, _)), Some((other, value))) = (written.next(), written.next()) {
        let what = format!("a run has \"{one}\" or \"{other}\", not both");
        let help = "\"args\" are a program's, \"export\" names a function, \"path\" a request";
        report.at(Kind::BadValue, value.span(), what, help);
    }
    if let Some(export) = fields.string(report, "export") {
        return RunText::Export(export.value);
    }
    if let Some(path) = fields.string(report, "path") {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !path.value.starts_with('/') || !path.value.bytes().all(plain) {
            let what = format!("\"{}\" is not the path of a request", path.value);
            let help =
                "begin it with \"/\", and write other characters than those of a path as %XX";
            report.at(Kind::BadValue, path.span, what, help);
        }
        return RunText::Path(path.value);
    }
    let args = fields.get("args").map(|_| fields.strings(report, "args"));
    RunText::Job { args }
}

/// The meaning of a word, if the key is there.
fn choice<T: Copy>(
    report: &mut Report<'_>,
    fields: &Fields<'_, '_>,
    key: &str,
    words: &[(&str, T)],
) -> Option<T> {
    let value = fields.get(key)?;
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let all = format!("one of \"{}\"", known.join("\", \""));
    let DeValue::String(text) = value.get_ref() else {
        wrong_type(report, key, value, value.get_ref(), &all);
        return None;
    };
    let meaning = words.iter().find(|(word, _)| word == text);
    if meaning.is_none() {
        let what = format!("\"{key}\" cannot be \"{text}\"");
        let help = match nearest(text, known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write {all}"),
        };
        report.at(Kind::BadValue, value.span(), what, help);
    }
    meaning.map(|(_, meaning)| *meaning)
}
