//! `[component.NAME.grants]` as written.

use std::collections::BTreeSet;

use toml::de::DeValue;

use crate::error::{Kind, Report};
use crate::fields::{At, Fields, Value, wrong_type};
use crate::grant::{AddressGrant, GrantError, HttpGrant, KINDS, KINDS_LATER};
use crate::limits;

const FILES_EXAMPLE: &str = "a table: { \"/site\" = { host = \"site\", write = false } }";

/// `[component.NAME.grants]`.
#[derive(Debug, Default)]
pub(crate) struct GrantsText {
    pub(crate) http: Vec<HttpGrant>,
    pub(crate) tcp: Vec<AddressGrant>,
    pub(crate) udp: Vec<AddressGrant>,
    pub(crate) listen: Vec<AddressGrant>,
    pub(crate) files: Vec<FilesText>,
}

/// One entry of `files`.
#[derive(Debug)]
pub(crate) struct FilesText {
    pub(crate) guest: At<String>,
    pub(crate) host: At<String>,
    pub(crate) write: bool,
}

/// Reads the grants of one component.
pub(super) fn read(report: &mut Report<'_>, component: &Fields<'_, '_>, name: &str) -> GrantsText {
    let table = component.get("grants");
    let Some(fields) =
        table.and_then(|value| Fields::new(report, format!("[component.{name}.grants]"), value))
    else {
        return GrantsText::default();
    };
    fields.only(report, &KINDS, &KINDS_LATER);
    GrantsText {
        http: parsed(report, &fields, "http"),
        tcp: parsed(report, &fields, "tcp"),
        udp: parsed(report, &fields, "udp"),
        listen: parsed(report, &fields, "listen"),
        files: files(report, &fields),
    }
}

/// A list of grants of one kind.
fn parsed<T>(report: &mut Report<'_>, fields: &Fields<'_, '_>, key: &str) -> Vec<T>
where
    T: std::str::FromStr<Err = GrantError>,
{
    let texts = fields.strings(report, key);
    if fields
        .get(key)
        .is_some_and(|value| too_many(report, key, texts.len(), value))
    {
        return Vec::new();
    }
    let mut all = Vec::new();
    for text in texts {
        match text.value.parse::<T>() {
            Ok(grant) => all.push(grant),
            Err(error) => report.at(Kind::BadGrant, text.span, error.what, error.help),
        }
    }
    all
}

/// The directories; each needs a name of its own, and a slash at its end makes no difference.
fn files(report: &mut Report<'_>, grants: &Fields<'_, '_>) -> Vec<FilesText> {
    let Some(value) = grants.get("files") else {
        return Vec::new();
    };
    let DeValue::Table(_) = value.get_ref() else {
        wrong_type(report, "files", value, value.get_ref(), FILES_EXAMPLE);
        return Vec::new();
    };
    let Some(fields) = Fields::new(report, "files".to_owned(), value) else {
        return Vec::new();
    };
    let entries = fields.entries();
    if too_many(report, "files", entries.len(), value) {
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for (guest, value) in entries {
        if !seen.insert(guest.value.trim_end_matches('/').to_owned()) {
            let what = format!("the guest's directory \"{}\" is there twice", guest.value);
            let help = "a slash at the end makes no difference: remove one";
            report.at(Kind::BadGrant, guest.span.clone(), what, help);
        }
        all.extend(directory(report, guest, value));
    }
    all
}

fn directory(report: &mut Report<'_>, guest: At<String>, value: &Value<'_>) -> Option<FilesText> {
    let DeValue::Table(_) = value.get_ref() else {
        wrong_type(report, &guest.value, value, value.get_ref(), FILES_EXAMPLE);
        return None;
    };
    let entry = Fields::new(report, format!("\"{}\"", guest.value), value)?;
    entry.only(report, &["host", "write"], &[]);
    entry.required(report, "host", "\"DIRECTORY\"");
    let host = entry.string(report, "host");
    let write = entry
        .boolean(report, "write")
        .is_some_and(|write| write.value);
    Some(FilesText {
        guest,
        host: host?,
        write,
    })
}

/// Each grant is looked at for each use of what it grants, so a list of them has an end.
fn too_many(report: &mut Report<'_>, key: &str, count: usize, value: &Value<'_>) -> bool {
    let most = limits::GRANTS_MAX.size();
    if count > most {
        let what = format!("{count} grants in \"{key}\", and there can be at most {most}");
        report.at(
            Kind::TooMany,
            value.span(),
            what,
            "use wildcards, networks or a parent directory",
        );
    }
    count > most
}
