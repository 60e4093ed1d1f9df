//! From the file's text to a [`ServerConfig`].

use std::path::Path;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::{ServerConfig, network, stores, variables};
use crate::error::{Kind, ManifestErrors, Report, shown};
use crate::fields::{At, Fields, wrong_type};
use crate::limits::{Limit, Unit};
use crate::manifest::{folder, syntax};
use crate::{read, unit};

impl ServerConfig {
    /// Reads the operator's file. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first; nothing of it quotes a value, which may be a secret.
    pub fn read(path: &Path) -> Result<Self, ManifestErrors> {
        let text = read::server_config(path)?;
        let mut report = Report::private(path, &text);
        let config = parse(&mut report, path);
        match config.filter(|_| report.is_empty()) {
            Some(config) => Ok(config),
            None => Err(report.into_errors()),
        }
    }
}

fn parse(report: &mut Report<'_>, path: &Path) -> Option<ServerConfig> {
    let (document, errors) = DeTable::parse_recoverable(report.text());
    if !errors.is_empty() {
        syntax::report_all(report, errors);
        return None;
    }
    let root = Fields::root(document.get_ref(), "server.toml");
    let known = [
        "keyvalue",
        "blobstore",
        "sql",
        "messaging",
        "network",
        "variables",
        "provider",
    ];
    root.only(report, &known);
    let folder = folder(path);
    Some(ServerConfig {
        file: shown(path),
        keyvalue: stores::read(report, &root, "keyvalue"),
        blobstore: stores::read(report, &root, "blobstore"),
        sql: stores::read(report, &root, "sql"),
        messaging: stores::read(report, &root, "messaging"),
        network: network::read(report, &root, folder),
        variables: variables::read(report, &root, folder),
        providers: variables::providers(report, &root, folder),
    })
}

/// A string that has to say something, if the key is there.
pub(super) fn text(
    report: &mut Report<'_>,
    fields: &Fields<'_, '_>,
    key: &str,
) -> Option<At<String>> {
    let text = fields.string(report, key)?;
    if text.value.is_empty() {
        let what = format!("\"{key}\" is empty");
        report.at(
            Kind::BadValue,
            text.span,
            what,
            "write something, or leave it out",
        );
        return None;
    }
    Some(text)
}

/// A length of time within the bounds of its limit, if the key is there.
pub(crate) fn duration(
    report: &mut Report<'_>,
    fields: &Fields<'_, '_>,
    key: &str,
    limit: &Limit,
) -> Option<Duration> {
    let value = fields.get(key)?;
    let DeValue::String(text) = value.get_ref() else {
        let example = format!("a string with a unit: \"{}\"", limit.shown());
        wrong_type(report, key, value, value.get_ref(), &example);
        return None;
    };
    let shown = |millis| unit::display(Unit::Milliseconds, millis);
    let (what, help) = match unit::parse(Unit::Milliseconds, text) {
        Ok(millis) if (limit.floor..=limit.ceiling).contains(&millis) => {
            return Some(Duration::from_millis(millis));
        }
        Ok(_) => (
            format!("\"{key}\" is out of its bounds"),
            format!(
                "write a length of time from {} to {}",
                shown(limit.floor),
                shown(limit.ceiling)
            ),
        ),
        Err(_) => (
            format!("\"{key}\" is not a length of time"),
            format!(
                "write a whole number and one of ms, s, m, h: \"{}\"",
                limit.shown()
            ),
        ),
    };
    report.at(Kind::BadValue, value.span(), what, help);
    None
}
