//! `[variables]` and `[[provider]]`: where the values of variables are.
//!
//! A variable that is named has its value in one place. For every other one the providers are asked in their order. Nothing
//! is opened here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::read::text;
use crate::error::{Kind, Report};
use crate::fields::{At, Fields, Value, string, wrong_type};
use crate::limits;
use crate::manifest::is_name;
use crate::nearest::nearest;
use crate::secret::Secret;
use crate::variable::Origin;

/// What the environment's variables begin with where the file does not say.
const ENV_PREFIX: &str = "HOSTEL_VAR_";
const KINDS: [&str; 3] = ["directory", "dotenv", "env"];

/// One `[[provider]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// A folder with a file for each variable, as secrets are mounted.
    Directory(PathBuf),
    /// A `.env` file.
    Dotenv {
        /// The file.
        path: PathBuf,
        /// What its keys begin with.
        prefix: String,
    },
    /// The environment of this process.
    Env {
        /// What the names begin with; never empty, so that a manifest cannot ask for all of it.
        prefix: String,
    },
}

impl Provider {
    /// Where it would have the value of this variable.
    pub(super) fn origin(&self, name: &str) -> Origin {
        let shell = |prefix: &str| format!("{prefix}{}", name.to_uppercase().replace('-', "_"));
        match self {
            Self::Directory(path) => Origin::File(path.join(name)),
            Self::Dotenv { path, prefix } => Origin::Dotenv {
                path: path.clone(),
                key: shell(prefix),
            },
            Self::Env { prefix } => Origin::Env(shell(prefix)),
        }
    }
}

/// `[variables]`.
pub(super) fn read(
    report: &mut Report<'_>,
    root: &Fields<'_, '_>,
    folder: &Path,
) -> BTreeMap<String, Origin> {
    let table = root.get("variables");
    let Some(fields) = table.and_then(|value| Fields::new(report, "[variables]".to_owned(), value))
    else {
        return BTreeMap::new();
    };
    let mut all = BTreeMap::new();
    for (name, value) in fields.entries() {
        if !is_name(&name.value) {
            let what = format!("\"{}\" is not a name for a variable", name.value);
            let help = "use up to 64 letters, digits, \"-\" and \"_\", a letter or digit first";
            report.at(Kind::BadValue, name.span.clone(), what, help);
        }
        if let Some(origin) = origin(report, &name, value, folder) {
            all.insert(name.value, origin);
        }
    }
    all
}

fn origin(
    report: &mut Report<'_>,
    name: &At<String>,
    value: &Value<'_>,
    folder: &Path,
) -> Option<Origin> {
    let help = "its value: \"...\", or where that is: { file = \"...\" } or { env = \"...\" }";
    let fields = match value.get_ref() {
        DeValue::String(_) => {
            let value = string(report, &name.value, value)?;
            return Some(Origin::Given(Secret::new(value.value)));
        }
        DeValue::Table(_) => {
            Fields::new(report, format!("the variable \"{}\"", name.value), value)?
        }
        DeValue::Array(_) => {
            wrong_type(report, &name.value, value, value.get_ref(), help);
            return None;
        }
        // A number without quotes.
        _ => {
            string(report, &name.value, value);
            return None;
        }
    };
    fields.only(report, &["file", "env"]);
    let places = [fields.get("file"), fields.get("env")];
    if places.iter().flatten().count() != 1 {
        let what = format!("the variable \"{}\" needs one place", name.value);
        report.at(
            Kind::BadValue,
            name.span.clone(),
            what,
            format!("write {help}"),
        );
        return None;
    }
    if let Some(path) = text(report, &fields, "file") {
        return Some(Origin::File(folder.join(path.value)));
    }
    let key = text(report, &fields, "env")?;
    is_env_name(report, &key).then_some(Origin::Env(key.value))
}

fn is_env_name(report: &mut Report<'_>, name: &At<String>) -> bool {
    let good = !name.value.contains('=');
    if !good {
        let what = "this is not the name of an environment variable";
        report.at(
            Kind::BadValue,
            name.span.clone(),
            what,
            "use a name without \"=\"",
        );
    }
    good
}

/// `[[provider]]`, in their order.
pub(super) fn providers(
    report: &mut Report<'_>,
    root: &Fields<'_, '_>,
    folder: &Path,
) -> Vec<Provider> {
    let tables = root.tables(report, "provider");
    let most = limits::PROVIDERS_MAX.size();
    if let Some(extra) = tables.get(most) {
        let what = format!("there are more than {most} providers");
        let help = "each is asked whenever a variable is used: keep those that are needed";
        report.at(Kind::TooMany, extra.span(), what, help);
        return Vec::new();
    }
    let read = |fields: &Fields<'_, '_>| provider(report, fields, folder);
    tables.iter().filter_map(read).collect()
}

fn provider(report: &mut Report<'_>, fields: &Fields<'_, '_>, folder: &Path) -> Option<Provider> {
    fields.required(report, "kind", "\"directory\", \"dotenv\" or \"env\"");
    let Some(kind) = fields.string(report, "kind") else {
        fields.only(report, &["kind", "path", "prefix"]);
        return None;
    };
    let path = |report: &mut Report<'_>| {
        fields.required(report, "path", "\"...\"")?;
        text(report, fields, "path").map(|path| folder.join(path.value))
    };
    match kind.value.as_str() {
        "directory" => {
            fields.only(report, &["kind", "path"]);
            path(report).map(Provider::Directory)
        }
        "dotenv" => {
            fields.only(report, &["kind", "path", "prefix"]);
            let prefix = fields.string(report, "prefix");
            let prefix = prefix.map(|prefix| prefix.value).unwrap_or_default();
            path(report).map(|path| Provider::Dotenv { path, prefix })
        }
        "env" => {
            fields.only(report, &["kind", "prefix"]);
            let prefix = match fields.get("prefix") {
                Some(_) => {
                    let written = text(report, fields, "prefix")?;
                    is_env_name(report, &written).then_some(written.value)?
                }
                None => ENV_PREFIX.to_owned(),
            };
            Some(Provider::Env { prefix })
        }
        other => {
            let what = format!("there is no kind of provider \"{other}\"");
            let help = match nearest(other, KINDS) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("the kinds are {}", KINDS.join(", ")),
            };
            report.at(Kind::BadValue, kind.span, what, help);
            None
        }
    }
}
