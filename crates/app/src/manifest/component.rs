//! `[component.NAME]` as written.

use std::ops::Range;
use std::path::PathBuf;

use toml::de::DeValue;

use super::cgi;
use super::grants::{self, GrantsText};
use crate::app::{Cgi, Reuse};
use crate::error::{Kind, Report};
use crate::fields::{At, Fields, Value, decimal, wrong_type};
use crate::limits::{self, Limits, Unit};
use crate::unit;

/// One `[component.NAME]`.
#[derive(Debug)]
pub(crate) struct ComponentText {
    pub(crate) name: String,
    /// `None` only after an error.
    pub(crate) source: Option<At<SourceText>>,
    pub(crate) build: Option<String>,
    pub(crate) reuse: Reuse,
    pub(crate) args: Vec<At<String>>,
    pub(crate) env: Vec<(At<String>, At<String>)>,
    pub(crate) config: Vec<(At<String>, At<String>)>,
    /// The values of `config` hold no variables: `{{` is itself.
    pub(crate) plain_config: bool,
    pub(crate) grants: GrantsText,
    pub(crate) limits: Limits,
    /// Those that were written.
    pub(crate) limits_written: Vec<At<&'static str>>,
    pub(crate) on_start: Option<At<String>>,
    /// Imports, each with the component that answers it.
    pub(crate) bind: Vec<(At<String>, At<String>)>,
    pub(crate) cgi: Cgi,
    /// Where the root of its scripts is written.
    pub(crate) scripts_root: Range<usize>,
}

/// What `source` names.
#[derive(Debug)]
pub(crate) enum SourceText {
    /// Relative to the manifest's folder.
    Path(PathBuf),
    Wat(String),
}

impl ComponentText {
    /// A component of this name about which nothing else was written.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            source: None,
            build: None,
            reuse: Reuse::default(),
            args: Vec::new(),
            env: Vec::new(),
            config: Vec::new(),
            plain_config: false,
            grants: GrantsText::default(),
            limits: Limits::default(),
            limits_written: Vec::new(),
            on_start: None,
            bind: Vec::new(),
            cgi: Cgi::default(),
            scripts_root: 0..0,
        }
    }
}

/// Reads one component; `None` if it is not a table.
pub(super) fn read(
    report: &mut Report<'_>,
    name: String,
    value: &Value<'_>,
) -> Option<ComponentText> {
    let fields = Fields::new(report, format!("[component.{name}]"), value)?;
    let known = [
        "source",
        "build",
        "reuse",
        "concurrent",
        "args",
        "env",
        "config",
        "grants",
        "limits",
        "on_start",
        "bind",
        "cgi",
    ];
    fields.only(report, &known);
    let env = fields.pairs(report, "env");
    for (name, _) in &env {
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            let what = format!(
                "\"{}\" is not the name of an environment variable",
                name.value
            );
            report.at(
                Kind::BadValue,
                name.span.clone(),
                what,
                "use a name without \"=\"",
            );
        }
    }
    let (limits, limits_written) = budget(report, &fields, &name);
    let (cgi, scripts_root) = cgi::read(report, &fields, &name);
    Some(ComponentText {
        source: source(report, &fields),
        build: build(report, &fields),
        reuse: reuse(report, &fields),
        args: fields.strings(report, "args"),
        env,
        config: fields.pairs(report, "config"),
        plain_config: false,
        grants: grants::read(report, &fields, &name),
        limits,
        limits_written,
        on_start: fields.string(report, "on_start"),
        bind: fields.pairs(report, "bind"),
        cgi,
        scripts_root,
        name,
    })
}

fn source(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<At<SourceText>> {
    let value = fields.required(report, "source", "\"NAME.wasm\"")?;
    let later = |report: &mut Report<'_>, what: &str| {
        let what = format!("a component from {what} is not supported yet");
        report.at(
            Kind::NotSupportedYet,
            value.span(),
            what,
            "fetch it and use a path: source = \"NAME.wasm\"",
        );
    };
    if let DeValue::Table(_) = value.get_ref() {
        later(report, "a URL");
        return None;
    }
    let text = fields.string(report, "source")?;
    let trimmed = text.value.trim_start();
    if trimmed.starts_with("(module") || trimmed.starts_with("(component") {
        return Some(At::new(SourceText::Wat(text.value), text.span));
    }
    match text.value.split_once("://") {
        Some(("oci", _)) => later(report, "a registry"),
        Some(("http" | "https", _)) => later(report, "a URL"),
        Some((scheme, _)) => {
            let what = format!("\"source\" cannot start with \"{scheme}://\"");
            report.at(
                Kind::BadValue,
                text.span,
                what,
                "use a path: source = \"NAME.wasm\"",
            );
        }
        None if trimmed.is_empty() => {
            let help = "name a .wasm or .wat file: source = \"NAME.wasm\"";
            report.at(Kind::BadValue, text.span, "\"source\" is empty", help);
        }
        None => {
            return Some(At::new(
                SourceText::Path(PathBuf::from(&text.value)),
                text.span,
            ));
        }
    }
    None
}

fn build(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<String> {
    let command = fields.string(report, "build")?;
    if command.value.trim().is_empty() {
        report.at(
            Kind::BadValue,
            command.span,
            "\"build\" is empty",
            "write a command, or leave it out",
        );
        return None;
    }
    Some(command.value)
}

fn reuse(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Reuse {
    let requests = fields
        .count(report, "reuse", &limits::REUSE)
        .map_or(1, |requests| requests.value);
    let concurrent = fields.count(report, "concurrent", &limits::CONCURRENT);
    if let Some(concurrent) = &concurrent
        && requests == 1
    {
        let what = "\"concurrent\" needs instances that are used again";
        let help = "set \"reuse\" above 1, or leave \"concurrent\" out";
        report.at(Kind::BadValue, concurrent.span.clone(), what, help);
    }
    Reuse {
        requests,
        concurrent: concurrent.map_or(1, |concurrent| concurrent.value),
    }
}

/// The budget, and which of its entries were written.
fn budget(
    report: &mut Report<'_>,
    component: &Fields<'_, '_>,
    name: &str,
) -> (Limits, Vec<At<&'static str>>) {
    let (mut budget, mut written) = (Limits::default(), Vec::new());
    let table = component.get("limits");
    let Some(fields) =
        table.and_then(|value| Fields::new(report, format!("[component.{name}.limits]"), value))
    else {
        return (budget, written);
    };
    let known: Vec<&str> = Limits::keys().map(|limit| limit.name).collect();
    fields.only(report, &known);
    for limit in Limits::keys() {
        let Some(value) = fields.get(limit.name) else {
            continue;
        };
        let text = match (value.get_ref(), limit.unit) {
            (DeValue::Integer(number), _) => decimal(number),
            (DeValue::String(text), Unit::Bytes | Unit::BytesPerSecond | Unit::Milliseconds) => {
                text.clone().into_owned()
            }
            (other, Unit::Count) => {
                wrong_type(
                    report,
                    limit.name,
                    value,
                    other,
                    &format!("a whole number: {}", limit.default),
                );
                continue;
            }
            (other, unit) => {
                let example = unit::display(unit, limit.default);
                wrong_type(
                    report,
                    limit.name,
                    value,
                    other,
                    &format!("a string with a unit: \"{example}\""),
                );
                continue;
            }
        };
        let span = value.span();
        match budget.set(limit.name, &text) {
            Ok(()) => written.push(At {
                value: limit.name,
                span,
            }),
            Err(error) => report.at(Kind::BadLimit, span, error.to_string(), error.help()),
        }
    }
    (budget, written)
}
