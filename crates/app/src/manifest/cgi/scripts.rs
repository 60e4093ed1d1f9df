//! `scripts` of `[component.NAME.cgi]` as written: which files an interpreter runs.

use std::ops::Range;

use crate::app::Scripts;
use crate::error::{Kind, Report};
use crate::fields::{At, Fields};

/// Reads it, and where its root is written; `None` without it, or after an error that leaves nothing to go on with.
pub(super) fn read(
    report: &mut Report<'_>,
    cgi: &Fields<'_, '_>,
    name: &str,
) -> Option<(Scripts, Range<usize>)> {
    let what = format!("[component.{name}.cgi.scripts]");
    let fields = Fields::new(report, what, cgi.get("scripts")?)?;
    let known = ["root", "extensions", "index", "fallback", "assets"];
    fields.only(report, &known);
    let root = root(report, &fields);
    let extensions = extensions(report, &fields);
    let index = match fields.get("index") {
        Some(_) => index(report, &fields, &extensions),
        None => extensions
            .iter()
            .map(|extension| format!("index.{extension}"))
            .collect(),
    };
    let fallback = fallback(report, &fields, &extensions);
    let assets = assets(report, &fields, &extensions);
    let root = root?;
    let scripts = Scripts {
        root: root.value,
        extensions,
        index,
        fallback,
        assets,
    };
    Some((scripts, root.span))
}

fn root(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<At<String>> {
    fields.required(report, "root", "\"/site\"")?;
    let root = fields.string(report, "root")?;
    let below = root.value.strip_prefix('/');
    if below.is_some_and(|below| below.is_empty() || is_plain(below)) {
        return Some(root);
    }
    let what = format!("\"{}\" is not the path of a folder", root.value);
    let help = "write it from the guest's \"/\" on, without \".\" and \"..\": root = \"/site\"";
    report.at(Kind::BadValue, root.span, what, help);
    None
}

fn extensions(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Vec<String> {
    let Some(value) = fields.required(report, "extensions", "[\"php\"]") else {
        return Vec::new();
    };
    let before = report.len();
    let extensions = ends_of_names(report, fields, "extensions");
    if extensions.is_empty() && report.len() == before {
        let help = "write which files are scripts: extensions = [\"php\"]";
        report.at(
            Kind::BadValue,
            value.span(),
            "\"extensions\" is empty",
            help,
        );
    }
    extensions
}

fn index(report: &mut Report<'_>, fields: &Fields<'_, '_>, extensions: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for name in fields.strings(report, "index") {
        if name.value.contains('/') || !is_script(&name.value, extensions) {
            let what = format!("\"{}\" is not the name of a script", name.value);
            let help = "write names with one of the extensions: index = [\"index.php\"]";
            report.at(Kind::BadValue, name.span, what, help);
            continue;
        }
        names.push(name.value);
    }
    names
}

fn fallback(
    report: &mut Report<'_>,
    fields: &Fields<'_, '_>,
    extensions: &[String],
) -> Option<String> {
    let script = fields.string(report, "fallback")?;
    if is_script(&script.value, extensions) {
        return Some(script.value);
    }
    let what = format!("\"{}\" is not a script below \"root\"", script.value);
    let help =
        "write its path from \"root\" on, with one of the extensions: fallback = \"index.php\"";
    report.at(Kind::BadValue, script.span, what, help);
    None
}

fn assets(report: &mut Report<'_>, fields: &Fields<'_, '_>, extensions: &[String]) -> Vec<String> {
    let assets = ends_of_names(report, fields, "assets");
    if let Some(both) = assets.iter().find(|one| extensions.contains(one)) {
        let what = format!("\"{both}\" is in \"extensions\" and in \"assets\"");
        let help = "leave it out of \"assets\": clients do not get the source of a script";
        let span = fields
            .get("assets")
            .map_or_else(|| fields.span(), |assets| assets.span());
        report.at(Kind::BadValue, span, what, help);
    }
    assets
}

/// Ends of names, without the dot.
fn ends_of_names(report: &mut Report<'_>, fields: &Fields<'_, '_>, key: &str) -> Vec<String> {
    let mut ends = Vec::new();
    for end in fields.strings(report, key) {
        let letters = |text: &str| {
            let mut bytes = text.bytes();
            bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if !end.value.is_empty() && letters(&end.value) {
            ends.push(end.value);
            continue;
        }
        let bare = end.value.trim_start_matches(['*', '.']);
        let help = match !bare.is_empty() && letters(bare) {
            true => format!("write \"{bare}\""),
            false => "write the end of a name, without the dot: \"php\"".to_owned(),
        };
        let what = format!("\"{}\" is not an extension", end.value);
        report.at(Kind::BadValue, end.span, what, help);
    }
    ends
}

/// Whether this is the path of a file that would be found and run.
fn is_script(path: &str, extensions: &[String]) -> bool {
    let Some((stem, extension)) = path.rsplit_once('.') else {
        return false;
    };
    // Without extensions there was an error before this one.
    let known = extensions.is_empty() || extensions.iter().any(|one| one == extension);
    let hidden = |step: &str| step.starts_with('.');
    known && !stem.ends_with('/') && is_plain(path) && !path.split('/').any(hidden)
}

/// Whether a path has names only.
fn is_plain(path: &str) -> bool {
    let named = |step: &str| !matches!(step, "" | "." | "..") && !step.contains('\\');
    path.split('/').all(named)
}
