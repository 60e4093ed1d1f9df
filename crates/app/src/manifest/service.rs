//! `[[service]]` as written: a component that runs all the time.

use std::ops::Range;

use super::check_name;
use crate::app::{Ready, Restart};
use crate::error::{Kind, Report};
use crate::fields::{At, Fields};
use crate::limits::{self, Limit};

/// One `[[service]]`.
#[derive(Debug)]
pub(crate) struct ServiceText {
    pub(crate) span: Range<usize>,
    pub(crate) component: At<String>,
    /// The component's, where it has none of its own.
    pub(crate) name: Option<String>,
    pub(crate) export: Option<String>,
    pub(crate) args: Vec<At<String>>,
    pub(crate) listen: Vec<At<String>>,
    pub(crate) ready: Option<Ready>,
    pub(crate) restart: Restart,
    pub(crate) cpu_percent: Option<u32>,
    pub(crate) stop_timeout_ms: u64,
    pub(crate) instances: u32,
}

/// What stands in front of the text of a line.
const LINE: &str = "line:";

/// Reads one; `None`, and an error, where it names no component.
pub(super) fn read(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<ServiceText> {
    let known = [
        "component",
        "name",
        "export",
        "args",
        "listen",
        "ready",
        "restart",
        "cpu_percent",
        "stop_timeout",
        "instances",
    ];
    fields.only(report, &known);
    let component = fields
        .required(report, "component", "\"NAME\"")
        .and_then(|_| fields.string(report, "component"));
    let name = fields.string(report, "name");
    if let Some(name) = &name {
        check_name(report, "a service", name);
    }
    let export = fields.string(report, "export");
    if let Some(empty) = export.as_ref().filter(|export| export.value.is_empty()) {
        let what = "\"export\" names nothing";
        let help = "write the name of an export, or leave the key out";
        report.at(Kind::BadValue, empty.span.clone(), what, help);
    }
    let listen = fields.strings(report, "listen");
    if let Some(beyond) = listen.get(limits::SERVICE_LISTEN.size()) {
        let most = limits::SERVICE_LISTEN.shown();
        let what = format!("a service listens on no more than {most} addresses");
        let help = "make several services of it";
        report.at(Kind::TooMany, beyond.span.clone(), what, help);
    }
    let instances = fields.count(report, "instances", &limits::SERVICE_INSTANCES);
    let cpu = fields.count(report, "cpu_percent", &limits::SERVICE_CPU_PERCENT);
    let stop_timeout = time(report, fields, "stop_timeout", &limits::SERVICE_STOP_MS);
    Some(ServiceText {
        span: fields.span(),
        component: component?,
        name: name.map(|name| name.value),
        export: export.map(|export| export.value),
        args: fields.strings(report, "args"),
        listen,
        ready: ready(report, fields),
        restart: restart(report, fields),
        cpu_percent: cpu.map(|percent| percent.value),
        stop_timeout_ms: stop_timeout,
        instances: instances.map_or(limits::SERVICE_INSTANCES.count(), |count| count.value),
    })
}

fn ready(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<Ready> {
    let written = fields.string(report, "ready")?;
    let text = written.value.as_str();
    match text.strip_prefix(LINE) {
        Some(line) if !line.trim().is_empty() => return Some(Ready::Line(line.trim().to_owned())),
        None if text == "start" => return Some(Ready::Start),
        None if text == "accept" => return Some(Ready::Accept),
        Some(_) | None => {}
    }
    let what = format!("\"{text}\" is not when a service is ready");
    let help = "write \"start\", \"accept\" (it waits for its first client), or \"line:TEXT\" (it prints a line with TEXT)";
    report.at(Kind::BadValue, written.span, what, help);
    None
}

fn restart(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Restart {
    let Some(written) = fields.string(report, "restart") else {
        return Restart::default();
    };
    let known = [Restart::Always, Restart::OnFailure, Restart::Never];
    let found = known.into_iter().find(|one| one.word() == written.value);
    found.unwrap_or_else(|| {
        let what = format!("\"{}\" is not when a service is restarted", written.value);
        let help = "write \"always\", \"on-failure\" or \"never\"";
        report.at(Kind::BadValue, written.span, what, help);
        Restart::default()
    })
}

/// A length of time within the bounds of its limit.
fn time(report: &mut Report<'_>, fields: &Fields<'_, '_>, key: &str, limit: &'static Limit) -> u64 {
    let Some(written) = fields.string(report, key) else {
        return limit.default;
    };
    limit.value(&written.value).unwrap_or_else(|error| {
        let (what, help) = (error.to_string(), error.help());
        report.at(Kind::BadValue, written.span, what, help);
        limit.default
    })
}
