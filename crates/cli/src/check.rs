//! `hostel check [PATH]`: everything that `hostel up` does before it listens, for every component, and nothing after it.
//! With `--config` also whether the backends answer that the operator's file names.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use hostel_app::{App, Component, Resolved, ServerConfig, has_manifest, resolve};
use hostel_host::LogSink;
use hostel_host::detect;
use hostel_host::imports::{self, GrantNeed};
use hostel_host::{Abi, Guest, Role, Runtime, narrowed};
use hostel_server::check_guest;
use serde::Serialize;

use crate::args::{ConfigFlag, DataFlags, FormatFlag, GuestFlags, VariableFlags};
use crate::backends::{self, Checked};
use crate::failure::{Failure, Kind, Problem};
use crate::output::{self, Meanwhile};
use crate::runtime;

/// The flags of `hostel check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A manifest, the folder that it is in, or a .wasm or .wat file [default: `.`; with --config and without a manifest
    /// there, only that file is checked].
    path: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    variables: VariableFlags,
    #[command(flatten)]
    guest: GuestFlags,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// The result in JSON.
#[derive(Debug, Default, Serialize)]
struct Report {
    #[serde(flatten)]
    app: Option<AppReport>,
    /// What the operator's file names.
    #[serde(skip_serializing_if = "Option::is_none")]
    backends: Option<Vec<Checked>>,
}

#[derive(Debug, Serialize)]
struct AppReport {
    app: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    digest: String,
    components: Vec<Loaded>,
    /// Grants that reach less than they say, unless the operator allows it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    narrowed: Vec<Less>,
    routes: Vec<Route>,
}

#[derive(Debug, Serialize)]
struct Loaded {
    component: String,
    abi: &'static str,
    bytes: usize,
    digest: String,
}

#[derive(Debug, Serialize)]
struct Less {
    component: String,
    kind: &'static str,
    grant: String,
    address: String,
    range: &'static str,
}

#[derive(Debug, Serialize)]
struct Route {
    route: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    methods: Vec<String>,
    component: String,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let config = args.config.read(&args.variables)?;
    let app = match app_path(args) {
        Some(path) => Some(check_app(args, &config, path)?),
        None => None,
    };
    let name = app.as_ref().map_or("check", |report| report.app.as_str());
    let backends = match args.config.config {
        Some(_) => Some(backends::check(&config, name, &runtime::stores(None)?)?),
        None => None,
    };
    if let Some(failure) = backends::failure(&config.file, backends.as_deref().unwrap_or_default())
    {
        return Err(failure);
    }
    let report = Report { app, backends };
    output::data(args.format.format, &report, || in_words(&report))?;
    Ok(ExitCode::SUCCESS)
}

/// What there is of an app to check: whoever names only the operator's file need not be in an app's folder.
fn app_path(args: &Args) -> Option<&Path> {
    let here = Path::new(".");
    match &args.path {
        Some(path) => Some(path),
        None if args.config.config.is_none() => Some(here),
        None => has_manifest(here).then_some(here),
    }
}

fn check_app(args: &Args, config: &Arc<ServerConfig>, path: &Path) -> Result<AppReport, Failure> {
    let resolved = resolve(path, &args.guest.operator(&args.variables, config))?;
    let meanwhile = Meanwhile::default();
    let app = &resolved.app;
    let notes = app.notes.iter().cloned().chain(app.unheard());
    notes.for_each(|line| meanwhile.later(line));
    let runtime = runtime::start(&args.data, config, &LogSink::null(), &meanwhile)?;
    let components = components(&runtime, &resolved, &meanwhile);
    meanwhile.tell();
    Ok(AppReport {
        app: app.name.clone(),
        version: app.version.clone(),
        digest: app.digest.to_string(),
        components: components?,
        narrowed: less(app, config)?,
        routes: routes(app),
    })
}

/// What the operator's network policy takes away from the grants.
fn less(app: &App, config: &ServerConfig) -> Result<Vec<Less>, Failure> {
    let mut all = Vec::new();
    for component in &app.components {
        let found = narrowed(&component.grants, &config.network);
        let found = found.map_err(|error| Failure::new(Kind::Host, error.what, error.help))?;
        all.extend(found.into_iter().map(|one| Less {
            component: component.name.clone(),
            kind: one.kind,
            grant: one.grant,
            address: one.address.to_string(),
            range: one.range,
        }));
    }
    Ok(all)
}

/// Loads every component, so that one run shows everything that is wrong.
fn components(
    runtime: &Runtime,
    resolved: &Resolved,
    meanwhile: &Meanwhile,
) -> Result<Vec<Loaded>, Failure> {
    let scope = runtime.app(&resolved.app.name);
    let mut checked = Vec::new();
    let mut problems = Vec::new();
    let mut callees = Vec::new();
    for index in resolved.app.callees_first() {
        let (components, code) = (&resolved.app.components, &resolved.code);
        let (Some(component), Some(code)) = (components.get(index), code.get(index)) else {
            continue;
        };
        problems.extend(not_granted(component, code, meanwhile));
        for role in roles(&resolved.app, index, code) {
            let loaded = scope.load(component, code, role, &|event| meanwhile.show(event));
            let fit = loaded.and_then(|guest| {
                check_guest(&resolved.app, index, role, &guest)?;
                Ok(guest)
            });
            match fit {
                Ok(guest) => {
                    checked.push(Loaded {
                        component: component.name.clone(),
                        abi: guest.abi().name(),
                        bytes: code.len(),
                        digest: component.digest.to_string(),
                    });
                    if prints_routes(&resolved.app, index, &guest, code) {
                        meanwhile.later(format!(
                            "component \"{}\": it exports `_routes`, so `hostel up` asks it for further routes below its own",
                            component.name
                        ));
                    }
                    // Those that import from it are checked against it.
                    callees.push(guest);
                }
                Err(error) => {
                    meanwhile.end();
                    problems.push(error.into());
                }
            }
        }
    }
    checked.sort_by(|one, other| one.component.cmp(&other.component));
    if problems.is_empty() {
        Ok(checked)
    } else {
        Err(Failure::of(Kind::Component, problems).in_app(&resolved.app))
    }
}

/// The stores that a component imports and was granted none of: every use of them would be refused. `hostel up` serves it all
/// the same, and the log says so when it happens. Outgoing HTTP is only worth a notice: some languages always import it.
fn not_granted(component: &Component, code: &[u8], meanwhile: &Meanwhile) -> Vec<Problem> {
    let detected = detect::to_binary(code).and_then(|binary| detect::detect(&binary));
    let Ok(detected) = detected else {
        return Vec::new(); // what cannot be read is told by whoever loads it
    };
    let name = &component.name;
    let what = |need: &GrantNeed| {
        format!(
            "the guest imports `{}`, and no grant of `{}` lets it use that",
            need.import, need.grant
        )
    };
    if component.grants.http.is_empty() {
        let needed = imports::grants_needed(&detected);
        for need in needed.iter().filter(|need| need.grant == "http") {
            meanwhile.later(format!("component \"{name}\": {}", what(need)));
        }
    }
    let missing = imports::stores_not_granted(&detected, &component.grants);
    let problem = |need: GrantNeed| Problem {
        component: Some(name.clone()),
        what: what(&need),
        help: Some(format!(
            "add a line such as {} to [component.{name}.grants], or {} to the command line",
            need.manifest, need.flag
        )),
        ..Problem::default()
    };
    missing.into_iter().map(problem).collect()
}

/// Whether a guest that is served has further routes to say, which only it knows: nothing runs here.
fn prints_routes(app: &App, index: usize, guest: &Guest, code: &[u8]) -> bool {
    let mut routes = app.routes.all().iter();
    if guest.abi() != Abi::Cgi || !routes.any(|route| route.component == index) {
        return false;
    }
    let detected = detect::to_binary(code).and_then(|binary| detect::detect(&binary));
    detected.is_ok_and(|found| found.exports.iter().any(|export| export == "_routes"))
}

/// What a component is there for; one that nothing calls, a bare file too, is taken for what it is.
fn roles(app: &App, index: usize, code: &[u8]) -> Vec<Role> {
    // The route of a bare file is not one that somebody wrote.
    let mut routes = app.routes.all().iter();
    let promised =
        app.is_neighbour(index) || routes.any(|route| route.component == index && route.line > 0);
    let mut roles = hostel_server::roles(app, index);
    roles.retain(|role| *role != Role::Serve || promised);
    if !roles.is_empty() {
        return roles;
    }
    let detected = detect::to_binary(code).and_then(|binary| detect::detect(&binary));
    let is_command =
        detected.is_ok_and(|found| found.http_abi().is_none() && found.command_abi().is_some());
    match is_command {
        true => vec![Role::Run],
        false => vec![Role::Serve],
    }
}

fn routes(app: &App) -> Vec<Route> {
    let written = app.routes.all().iter().filter(|route| route.line > 0);
    written
        .map(|route| Route {
            route: route.pattern.clone(),
            host: route.host.clone(),
            methods: route.methods.clone(),
            component: app
                .components
                .get(route.component)
                .map(|component| component.name.clone())
                .unwrap_or_default(),
        })
        .collect()
}

fn in_words(report: &Report) -> String {
    let mut text = report.app.as_ref().map_or(String::new(), app_in_words);
    for checked in report.backends.iter().flatten() {
        let Checked { kind, label, .. } = checked;
        let place = checked.backend.as_deref().unwrap_or_default();
        text.push_str(&format!("{kind}.{label}: ok, {place}\n"));
    }
    text
}

fn app_in_words(report: &AppReport) -> String {
    let version = report
        .version
        .as_ref()
        .map_or(String::new(), |version| format!(" {version}"));
    let mut text = format!("{}{version}: ok\n", report.app);
    let width = report
        .components
        .iter()
        .map(|checked| checked.component.chars().count())
        .max()
        .unwrap_or(0);
    for checked in &report.components {
        let Loaded {
            component,
            abi,
            bytes,
            ..
        } = checked;
        text.push_str(&format!(
            "  {component:<width$}  {abi}, {}\n",
            output::size(*bytes)
        ));
    }
    for Route {
        route,
        host,
        methods,
        component,
    } in &report.routes
    {
        let host = host.as_deref().unwrap_or("");
        let methods = if methods.is_empty() {
            String::new()
        } else {
            format!("{} ", methods.join(","))
        };
        text.push_str(&format!("  {methods}{host}{route} -> {component}\n"));
    }
    for less in &report.narrowed {
        let Less {
            component,
            kind,
            grant,
            address,
            range,
        } = less;
        text.push_str(&format!(
            "  {component}: the grant {kind} {grant} does not reach {address} ({range}); to allow it, write it into `allow` of \
             [network] in server.toml\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_components_and_routes() {
        let report = AppReport {
            app: "guestbook".into(),
            version: Some("1.0.0".into()),
            digest: "blake3:0".into(),
            components: vec![
                Loaded {
                    component: "a".into(),
                    abi: "http-p2",
                    bytes: 12,
                    digest: "blake3:1".into(),
                },
                Loaded {
                    component: "long".into(),
                    abi: "http-p3",
                    bytes: 1_500,
                    digest: "blake3:2".into(),
                },
            ],
            narrowed: Vec::new(),
            routes: vec![
                Route {
                    route: "/...".into(),
                    host: None,
                    methods: Vec::new(),
                    component: "a".into(),
                },
                Route {
                    route: "/x".into(),
                    host: Some("h.example".into()),
                    methods: vec!["GET".into(), "PUT".into()],
                    component: "long".into(),
                },
            ],
        };
        assert_eq!(
            app_in_words(&report),
            "guestbook 1.0.0: ok\n  a     http-p2, 12 B\n  long  http-p3, 1.5 kB\n  /... -> a\n  GET,PUT h.example/x -> long\n"
        );
    }
}
