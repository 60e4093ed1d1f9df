//! `hostel compose [PATH] -o FILE`: one component of an app, with those that its imports are bound to composed into it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use hostel_app::{App, Component, Resolved, resolve};
use hostel_host::{Part, compose};
use serde::Serialize;

use crate::args::{ConfigFlag, FormatFlag, GuestFlags, VariableFlags};
use crate::failure::{Failure, Kind};
use crate::output;

/// The flags of `hostel compose`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The manifest, or the folder that it is in.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The component to compose [default: the one with a route].
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    variables: VariableFlags,
    #[command(flatten)]
    guest: GuestFlags,
    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// The result in JSON.
#[derive(Debug, Serialize)]
struct Report {
    component: String,
    /// The components inside it.
    parts: Vec<String>,
    file: String,
    bytes: usize,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let config = args.config.read(&args.variables)?;
    let operator = args.guest.operator(&args.variables, &config);
    let Resolved { app, code } = resolve(&args.path, &operator)?;
    let chosen = chosen(&app, args.component.as_deref())?;
    let parts: Vec<Part<'_>> = app
        .components
        .iter()
        .zip(&code)
        .map(|(component, code)| Part {
            name: &component.name,
            code,
            bind: &component.bind,
        })
        .collect();
    let binary =
        compose(&parts, &chosen.name).map_err(|error| Failure::from(error).in_app(&app))?;
    fs::write(&args.output, &binary).map_err(|cause| {
        let what = format!("cannot write {}: {cause}", args.output.display());
        Failure::new(Kind::Host, what, "name another file with `-o FILE`")
    })?;
    let inside = inside(&app, chosen);
    if let Some(notice) = notice(chosen, &inside) {
        output::notice(&notice);
    }
    let report = Report {
        component: chosen.name.clone(),
        parts: inside.iter().map(|part| part.name.clone()).collect(),
        file: args.output.display().to_string(),
        bytes: binary.len(),
    };
    output::data(args.format.format, &report, || {
        format!("{}: {}\n", report.file, output::size(report.bytes))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The component that was named, or the only one that has a route.
fn chosen<'a>(app: &'a App, name: Option<&str>) -> Result<&'a Component, Failure> {
    let names = || {
        let names = app
            .components
            .iter()
            .map(|component| component.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    if let Some(name) = name {
        let found = app
            .components
            .iter()
            .find(|component| component.name == name);
        return found.ok_or_else(|| {
            let what = format!("the app `{}` has no component `{name}`", app.name);
            Failure::usage(what, format!("its components are: {}", names()))
        });
    }
    let mut routed: Vec<usize> = app
        .routes
        .all()
        .iter()
        .map(|route| route.component)
        .collect();
    routed.sort_unstable();
    routed.dedup();
    match routed.as_slice() {
        [one] => app.components.get(*one),
        _ => None,
    }
    .ok_or_else(|| {
        let what = format!(
            "{} components of the app have a route, and one is to be composed",
            routed.len()
        );
        Failure::usage(
            what,
            format!("name it with `--component NAME`: {}", names()),
        )
    })
}

/// What becomes part of it, itself first.
fn inside<'a>(app: &'a App, chosen: &'a Component) -> Vec<&'a Component> {
    let mut all = vec![chosen];
    let mut at = 0;
    while let Some(part) = all.get(at) {
        let callees: Vec<&String> = part.bind.values().collect();
        for callee in callees {
            let found = app
                .components
                .iter()
                .find(|component| component.name == *callee);
            all.extend(found.filter(|found| !all.iter().any(|one| one.name == found.name)));
        }
        at += 1;
    }
    all
}

/// What is not the same any more.
fn notice(chosen: &Component, inside: &[&Component]) -> Option<String> {
    let callees: Vec<String> = inside
        .iter()
        .skip(1)
        .map(|part| format!("\"{}\"", part.name))
        .collect();
    (!callees.is_empty()).then(|| {
        format!(
            "in this file {} has no grants, limits, environment and log lines of its own any more: what it needs has to be \
             given to \"{}\", and that gets all of it",
            callees.join(" and "),
            chosen.name
        )
    })
}
