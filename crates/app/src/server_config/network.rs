//! `[network]`: how guests may reach the network, beyond what their grants say.

use std::path::{Path, PathBuf};

use super::NetworkPolicy;
use super::read::{duration, text};
use crate::error::{Kind, Report};
use crate::fields::{At, Fields};
use crate::grant::Network;
use crate::limits;

pub(super) fn read(report: &mut Report<'_>, root: &Fields<'_, '_>, folder: &Path) -> NetworkPolicy {
    let table = root.get("network");
    let Some(fields) = table.and_then(|value| Fields::new(report, "[network]".to_owned(), value))
    else {
        return NetworkPolicy::default();
    };
    let known = [
        "allow",
        "ca",
        "identity",
        "connect_timeout",
        "total_timeout",
    ];
    fields.only(report, &known);
    NetworkPolicy {
        allow: allowed(report, &fields),
        ca_files: files(report, &fields, folder),
        identity: identity(report, &fields, folder),
        connect_timeout: duration(
            report,
            &fields,
            "connect_timeout",
            &limits::CONNECT_TIMEOUT_MS,
        ),
        total_timeout: duration(
            report,
            &fields,
            "total_timeout",
            &limits::OUTBOUND_TIMEOUT_MS,
        ),
    }
}

fn allowed(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Vec<String> {
    let written = fields.strings(report, "allow");
    let most = limits::GRANTS_MAX.size();
    if let Some(value) = fields.get("allow").filter(|_| written.len() > most) {
        let what = format!("\"allow\" has more than {most} addresses");
        report.at(Kind::TooMany, value.span(), what, "use networks");
        return Vec::new();
    }
    let mut all = Vec::new();
    for At { value, span } in written {
        if value.parse::<Network>().is_ok() {
            all.push(value);
        } else {
            let help = "write an address or a network: \"127.0.0.1\", \"10.0.0.0/8\", \"fd00::/8\"";
            let what = "\"allow\" takes addresses only";
            report.at(Kind::BadValue, span, what, help);
        }
    }
    all
}

fn files(report: &mut Report<'_>, fields: &Fields<'_, '_>, folder: &Path) -> Vec<PathBuf> {
    let written = fields.strings(report, "ca").into_iter();
    let paths = written.filter_map(|path| {
        if path.value.is_empty() {
            let help = "write the path of a PEM file";
            report.at(Kind::BadValue, path.span, "\"ca\" has an empty path", help);
            return None;
        }
        Some(folder.join(path.value))
    });
    paths.collect()
}

fn identity(
    report: &mut Report<'_>,
    fields: &Fields<'_, '_>,
    folder: &Path,
) -> Option<(PathBuf, PathBuf)> {
    let fields = Fields::new(report, "identity".to_owned(), fields.get("identity")?)?;
    fields.only(report, &["certificate", "key"]);
    let mut path = |key| {
        fields.required(report, key, "\"FILE.pem\"")?;
        text(report, &fields, key).map(|path| folder.join(path.value))
    };
    let (certificate, key) = (path("certificate"), path("key"));
    Some((certificate?, key?))
}
