//! The manifest as written: `hostel.toml`, read into typed values that still know their place in the text.
//!
//! Everything that can be judged from the text alone is judged here: keys, types, names, grants, limits. Nothing here
//! opens another file or knows what the command line said; that is `resolve`.

mod cgi;
mod component;
mod cron;
mod grants;
mod message;
mod service;
pub(crate) mod syntax;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

pub(crate) use component::{ComponentText, SourceText};
pub(crate) use cron::{CronText, RunText};
pub(crate) use grants::{FilesText, GrantsText, too_many};
pub(crate) use message::MessageText;
pub(crate) use service::ServiceText;

use crate::error::{Kind, Report};
use crate::fields::{At, Fields, Value, described, string, wrong_type};
use crate::limits;
use crate::listen_on::ListenOn;
use crate::route::{self, Spelling};

/// A whole manifest.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) variables: BTreeMap<String, Variable>,
    /// Sorted by name.
    pub(crate) components: Vec<ComponentText>,
    pub(crate) http: Vec<HttpText>,
    pub(crate) messages: Vec<MessageText>,
    pub(crate) crons: Vec<CronText>,
    pub(crate) services: Vec<ServiceText>,
    /// Where it is served unless the operator says otherwise.
    pub(crate) listen: Option<ListenOn>,
    /// The path of the health check.
    pub(crate) health: Option<At<String>>,
    /// How the patterns of its routes are read.
    pub(crate) spelling: Spelling,
    /// What is worth a line, though nothing is wrong.
    pub(crate) notes: Vec<String>,
}

/// One entry of `[variables]`.
#[derive(Debug)]
pub(crate) struct Variable {
    /// Its name in the text.
    pub(crate) span: Range<usize>,
    pub(crate) default: Option<String>,
    /// Whether the operator must give a value.
    pub(crate) required: bool,
    /// Whether the host keeps its value to itself.
    pub(crate) secret: bool,
}

/// One `[[http]]`.
#[derive(Debug)]
pub(crate) struct HttpText {
    pub(crate) span: Range<usize>,
    pub(crate) route: At<String>,
    pub(crate) host: Option<At<String>>,
    pub(crate) methods: Option<At<Vec<String>>>,
    pub(crate) component: At<String>,
    pub(crate) entrypoint: Option<At<String>>,
}

/// Everything that may stand at the top.
pub(crate) const KEYS: [&str; 7] = [
    "app",
    "component",
    "http",
    "message",
    "cron",
    "service",
    "variables",
];

/// Reads a manifest. What is wrong goes into the report, and what is returned holds whatever could be read all the
/// same, so that later steps can find more.
pub(crate) fn read(report: &mut Report<'_>, document: &DeTable<'_>) -> Manifest {
    let root = Fields::root(document, "the manifest");
    root.only(report, &KEYS);
    let (name, version, health) = app(report, &root);
    if !["http", "message", "cron", "service"]
        .into_iter()
        .any(|trigger| root.get(trigger).is_some())
    {
        let help = "add [[http]] with route = \"/...\" and component = \"NAME\"";
        report.whole(
            Kind::NothingToRun,
            "nothing calls the components of this app",
            help,
        );
    }
    Manifest {
        name,
        version,
        variables: variables(report, &root),
        components: components(report, &root),
        http: root
            .tables(report, "http")
            .iter()
            .filter_map(|fields| http(report, fields))
            .collect(),
        messages: triggers(
            report,
            &root,
            "message",
            &limits::MESSAGES_MAX,
            message::read,
        ),
        crons: triggers(report, &root, "cron", &limits::CRONS_MAX, cron::read),
        services: triggers(
            report,
            &root,
            "service",
            &limits::SERVICES_MAX,
            service::read,
        ),
        listen: None,
        health,
        spelling: Spelling::Named,
        notes: Vec::new(),
    }
}

fn app(
    report: &mut Report<'_>,
    root: &Fields<'_, '_>,
) -> (String, Option<String>, Option<At<String>>) {
    let Some(value) = root.get("app") else {
        let help = "add [app] with name = \"...\"";
        report.whole(Kind::MissingKey, "the manifest has no [app]", help);
        return Default::default();
    };
    let Some(fields) = Fields::new(report, "[app]".to_owned(), value) else {
        return Default::default();
    };
    fields.only(report, &["name", "version", "health"]);
    fields.required(report, "name", "\"...\"");
    let name = fields.string(report, "name");
    if let Some(name) = &name {
        check_name(report, "an app", name);
    }
    let version = fields
        .string(report, "version")
        .map(|version| version.value);
    let health = fields.string(report, "health").and_then(|path| {
        let checked = route::check_path(&path.value);
        if let Err((what, help)) = checked {
            report.at(Kind::BadRoute, path.span, what, help);
            return None;
        }
        Some(path)
    });
    let name = name.map(|name| name.value).unwrap_or_default();
    (name, version, health)
}

/// Names appear in log lines, metrics and addresses, so they are plain.
fn check_name(report: &mut Report<'_>, of: &str, name: &At<String>) {
    if !is_name(&name.value) {
        let what = format!("\"{}\" is not a name for {of}", name.value);
        let help = "use up to 64 letters, digits, \"-\" and \"_\", a letter or digit first";
        report.at(Kind::BadValue, name.span.clone(), what, help);
    }
}

/// Whether `text` can name an app, a component or a variable.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The text with everything replaced that a name cannot hold; `main` where nothing is left.
pub(crate) fn name_of(text: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let name: String = text
        .chars()
        .map(plain)
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(64)
        .collect();
    if name.is_empty() {
        "main".to_owned()
    } else {
        name
    }
}

fn variables(report: &mut Report<'_>, root: &Fields<'_, '_>) -> BTreeMap<String, Variable> {
    let mut all = BTreeMap::new();
    let Some(fields) = root
        .get("variables")
        .and_then(|value| Fields::new(report, "[variables]".to_owned(), value))
    else {
        return all;
    };
    for (name, value) in fields.entries() {
        check_name(report, "a variable", &name);
        let span = name.span.clone();
        let variable = match value.get_ref() {
            DeValue::String(_) => Variable {
                span,
                default: string(report, &name.value, value).map(|text| text.value),
                required: false,
                secret: false,
            },
            DeValue::Table(_) => variable(report, &name, value),
            other => {
                let help = "a default: \"...\", or { required = true }";
                wrong_type(report, &name.value, value, other, help);
                Variable::of(span)
            }
        };
        all.insert(name.value, variable);
    }
    all
}

impl Variable {
    /// One of which nothing was understood.
    fn of(span: Range<usize>) -> Self {
        Self {
            span,
            default: None,
            required: false,
            secret: false,
        }
    }
}

/// A variable that is written as a table.
fn variable(report: &mut Report<'_>, name: &At<String>, value: &Value<'_>) -> Variable {
    let span = name.span.clone();
    let Some(fields) = Fields::new(report, format!("the variable \"{}\"", name.value), value)
    else {
        return Variable::of(span);
    };
    fields.only(report, &["default", "required", "secret", "description"]);
    fields.string(report, "description");
    let default = fields.string(report, "default");
    let flag =
        |report: &mut Report<'_>, key| fields.boolean(report, key).is_some_and(|at| at.value);
    let (required, secret) = (flag(report, "required"), flag(report, "secret"));
    let has_default = fields.get("default").is_some();
    let wrong = match (has_default, required, secret) {
        (true, _, true) => Some((
            "is secret and has a default",
            "remove the default: whoever reads the manifest would read the secret",
        )),
        (true, true, false) => Some((
            "has a default and is required",
            "keep one of the two: with a default it is never missing",
        )),
        (false, false, false) => Some((
            "has no default and is not required",
            "add default = \"...\" or required = true",
        )),
        (true, false, false) | (false, _, true) | (false, true, false) => None,
    };
    if let Some((what, help)) = wrong {
        let what = format!("the variable \"{}\" {what}", name.value);
        report.at(Kind::BadValue, span.clone(), what, help);
    }
    Variable {
        span,
        default: default.map(|default| default.value),
        required: required || secret,
        secret,
    }
}

fn components(report: &mut Report<'_>, root: &Fields<'_, '_>) -> Vec<ComponentText> {
    let Some(value) = root.get("component") else {
        let help = "add [component.NAME] with source = \"NAME.wasm\"";
        report.whole(Kind::NothingToRun, "the manifest has no component", help);
        return Vec::new();
    };
    let Some(fields) = Fields::new(report, "[component]".to_owned(), value) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for (name, value) in fields.entries() {
        if let DeValue::Table(_) = value.get_ref() {
            check_name(report, "a component", &name);
        } else {
            let what = format!(
                "\"{}\" in [component] is {}, not a component",
                name.value,
                described(value.get_ref())
            );
            report.at(
                Kind::WrongType,
                name.span,
                what,
                "give the component a name: [component.NAME]",
            );
            continue;
        }
        all.extend(component::read(report, name.value, value));
    }
    if all.len() > limits::COMPONENTS_MAX.size() {
        let what = format!(
            "{} components, and an app has at most {}",
            all.len(),
            limits::COMPONENTS_MAX.default
        );
        report.whole(Kind::TooMany, &what, "split it into several apps");
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// The sections `[[KIND]]`, of which there is a bounded number.
fn triggers<T>(
    report: &mut Report<'_>,
    root: &Fields<'_, '_>,
    kind: &str,
    most: &limits::Limit,
    read: impl Fn(&mut Report<'_>, &Fields<'_, '_>) -> Option<T>,
) -> Vec<T> {
    let tables = root.tables(report, kind);
    if tables.len() > most.size() {
        let what = format!(
            "{} [[{kind}]] sections, and an app has at most {}",
            tables.len(),
            most.default
        );
        report.whole(Kind::TooMany, &what, "split it into several apps");
        return Vec::new();
    }
    let tables = tables.iter();
    tables.filter_map(|fields| read(report, fields)).collect()
}

fn http(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<HttpText> {
    fields.only(
        report,
        &["route", "component", "host", "methods", "entrypoint"],
    );
    let route = fields
        .required(report, "route", "\"/...\"")
        .and_then(|_| fields.string(report, "route"));
    let component = fields
        .required(report, "component", "\"NAME\"")
        .and_then(|_| fields.string(report, "component"));
    let host = fields.string(report, "host");
    let methods = fields
        .get("methods")
        .map(|value| methods(report, fields, value));
    // Without methods a route answers all of them, so one whose methods are wrong must not go on as if it had none.
    if methods
        .as_ref()
        .is_some_and(|methods| methods.value.is_empty())
    {
        return None;
    }
    Some(HttpText {
        span: fields.span(),
        route: route?,
        host,
        methods,
        component: component?,
        entrypoint: fields.string(report, "entrypoint"),
    })
}

fn methods(report: &mut Report<'_>, fields: &Fields<'_, '_>, value: &Value<'_>) -> At<Vec<String>> {
    if matches!(value.get_ref(), DeValue::Array(list) if list.is_empty()) {
        let help = "leave \"methods\" out for every method";
        report.at(
            Kind::BadRoute,
            value.span(),
            "this route answers no method",
            help,
        );
    }
    let methods = fields
        .strings(report, "methods")
        .into_iter()
        .map(|method| method.value)
        .collect();
    At::new(methods, value.span())
}

/// The folder that a manifest's paths are relative to.
pub(crate) fn folder(manifest: &Path) -> &Path {
    manifest.parent().unwrap_or(Path::new(""))
}
