//! `[component.NAME.grants]` as written.

use std::collections::BTreeSet;
use std::str::FromStr;

use toml::de::DeValue;

use crate::app::MessagingGrants;
use crate::error::{Kind, Report};
use crate::fields::{At, Fields, Value, wrong_type};
use crate::grant::{self, AddressGrant, GrantError, HttpGrant, KINDS};
use crate::limits;

const FILES_EXAMPLE: &str = "a table: { \"/site\" = { host = \"site\", write = false } }";
const MESSAGING_EXAMPLE: &str = "a table: { publish = [\"orders.*\"], request = [] }";

/// `[component.NAME.grants]`.
#[derive(Debug, Default)]
pub(crate) struct GrantsText {
    pub(crate) http: Vec<HttpGrant>,
    pub(crate) tcp: Vec<AddressGrant>,
    pub(crate) udp: Vec<AddressGrant>,
    pub(crate) listen: Vec<AddressGrant>,
    pub(crate) files: Vec<FilesText>,
    pub(crate) keyvalue: BTreeSet<String>,
    pub(crate) blobstore: BTreeSet<String>,
    pub(crate) sql: BTreeSet<String>,
    pub(crate) messaging: MessagingGrants,
    pub(crate) secrets: Vec<At<String>>,
    /// Grants of the network, each with its kind, whose address a variable says.
    pub(crate) of_variables: Vec<(&'static str, At<String>)>,
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
    fields.only(report, &KINDS);
    let label = grant::label;
    let mut later = Vec::new();
    GrantsText {
        http: network(report, &fields, "http", &mut later),
        tcp: network(report, &fields, "tcp", &mut later),
        udp: network(report, &fields, "udp", &mut later),
        listen: network(report, &fields, "listen", &mut later),
        files: files(report, &fields),
        keyvalue: parsed(report, &fields, "keyvalue", label),
        blobstore: parsed(report, &fields, "blobstore", label),
        sql: parsed(report, &fields, "sql", label),
        messaging: messaging(report, &fields),
        secrets: secrets(report, &fields),
        of_variables: later,
    }
}

/// Grants of the network; those whose address a variable says are left for later.
fn network<T>(
    report: &mut Report<'_>,
    fields: &Fields<'_, '_>,
    kind: &'static str,
    later: &mut Vec<(&'static str, At<String>)>,
) -> Vec<T>
where
    T: FromStr<Err = GrantError>,
{
    let (variable, plain): (Vec<_>, Vec<_>) = bounded(report, fields, kind)
        .into_iter()
        .partition(|text| text.value.contains("{{"));
    later.extend(variable.into_iter().map(|text| (kind, text)));
    each(report, plain, str::parse)
}

/// A list of grants of one kind.
fn parsed<T, L>(
    report: &mut Report<'_>,
    fields: &Fields<'_, '_>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, GrantError>,
) -> L
where
    L: FromIterator<T>,
{
    let texts = bounded(report, fields, key);
    each(report, texts, parse)
}

fn each<T, L>(
    report: &mut Report<'_>,
    texts: Vec<At<String>>,
    parse: impl Fn(&str) -> Result<T, GrantError>,
) -> L
where
    L: FromIterator<T>,
{
    let grants = texts
        .into_iter()
        .filter_map(|text| match parse(&text.value) {
            Ok(grant) => Some(grant),
            Err(error) => {
                report.at(Kind::BadGrant, text.span, error.what, error.help);
                None
            }
        });
    grants.collect()
}

/// The names of secrets, with their places: whether there are such variables is seen later.
fn secrets(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Vec<At<String>> {
    let mut names = bounded(report, fields, "secrets");
    names.retain(|name| match grant::secret(&name.value) {
        Ok(_) => true,
        Err(error) => {
            report.at(Kind::BadGrant, name.span.clone(), error.what, error.help);
            false
        }
    });
    names
}

/// The strings of a list that has an end; none, and an error, if it goes on.
fn bounded(report: &mut Report<'_>, fields: &Fields<'_, '_>, key: &str) -> Vec<At<String>> {
    let texts = fields.strings(report, key);
    let Some(value) = fields.get(key) else {
        return texts;
    };
    match too_many(report, key, texts.len(), value) {
        true => Vec::new(),
        false => texts,
    }
}

/// What may be said to whom.
fn messaging(report: &mut Report<'_>, grants: &Fields<'_, '_>) -> MessagingGrants {
    let Some(value) = grants.get("messaging") else {
        return MessagingGrants::default();
    };
    let DeValue::Table(_) = value.get_ref() else {
        wrong_type(
            report,
            "messaging",
            value,
            value.get_ref(),
            MESSAGING_EXAMPLE,
        );
        return MessagingGrants::default();
    };
    let Some(fields) = Fields::new(report, "messaging".to_owned(), value) else {
        return MessagingGrants::default();
    };
    fields.only(report, &["publish", "request", "subscribe", "clients"]);
    MessagingGrants {
        clients: parsed(report, &fields, "clients", grant::label),
        publish: parsed(report, &fields, "publish", grant::topics),
        request: parsed(report, &fields, "request", grant::topics),
        subscribe: parsed(report, &fields, "subscribe", grant::topics),
    }
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
    entry.only(report, &["host", "write"]);
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
pub(crate) fn too_many(
    report: &mut Report<'_>,
    key: &str,
    count: usize,
    value: &Value<'_>,
) -> bool {
    let most = limits::GRANTS_MAX.size();
    if count > most {
        let what = format!("{count} grants in \"{key}\", and there can be at most {most}");
        report.at(
            Kind::TooMany,
            value.span(),
            what,
            "use wildcards, networks or a parent directory; or fewer, larger stores",
        );
    }
    count > most
}
