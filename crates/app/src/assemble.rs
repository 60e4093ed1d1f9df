//! From a manifest's text to an [`App`]: what it names on disk, its variables, and what the operator adds.
//!
//! The result depends on nothing else: no clock, no environment, no network. Whether the components are any good is
//! for the host to find out; their bytes are read here and not looked at.

mod grants;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::app::{App, Component, Digest, Resolved, Source};
use crate::digest;
use crate::error::{Kind, Report, shown};
use crate::fields::At;
use crate::limits::{self, Limit, Limits};
use crate::manifest::{ComponentText, HttpText, Manifest, SourceText, Variable};
use crate::nearest::nearest;
use crate::read::{self, BadFile};
use crate::resolve::Operator;
use crate::route::{Route, RouteError, RouteFault, Routes};
use crate::template::{TemplateError, expand};

/// The app, unless something is wrong with it; then the report says what.
pub(crate) fn assemble(
    report: &mut Report<'_>,
    manifest: Manifest,
    folder: &Path,
    operator: &Operator,
) -> Option<Resolved> {
    let room = limits::EXPANDED_BYTES_MAX.size();
    let mut step = Assembly {
        report,
        folder,
        operator,
        values: BTreeMap::new(),
        room,
        read: false,
    };
    step.values(&manifest.variables);
    step.check_operator_limits();
    let names: Vec<&str> = manifest
        .components
        .iter()
        .map(|component| component.name.as_str())
        .collect();
    let routes = step.routes(manifest.http, &names);
    step.check_sizes(&manifest.components);
    // Reading is the expensive part, and useless once anything is wrong.
    step.read = step.report.is_empty();
    let parts: Vec<Option<(Component, Vec<u8>)>> = manifest
        .components
        .into_iter()
        .map(|component| step.component(component))
        .collect();
    if !step.report.is_empty() {
        return None;
    }
    let (components, code) = parts.into_iter().flatten().unzip();
    let (name, version) = (manifest.name, manifest.version);
    let mut app = App {
        name,
        version,
        digest: Digest([0; 32]),
        components,
        routes: routes?,
    };
    app.digest = digest::of_app(&app, folder);
    Some(Resolved { app, code })
}

/// What every step needs.
struct Assembly<'a, 't> {
    report: &'a mut Report<'t>,
    /// What the manifest's paths are relative to.
    folder: &'a Path,
    operator: &'a Operator,
    /// The value of each variable.
    values: BTreeMap<String, String>,
    /// Bytes that expanded values may still take.
    room: usize,
    /// Whether to read the components' bytes.
    read: bool,
}

impl Assembly<'_, '_> {
    /// Fills the variables: the operator's value, else the default. A missing one counts as empty from then on, so
    /// that it is reported once and not at each of its uses.
    fn values(&mut self, declared: &BTreeMap<String, Variable>) {
        for (name, variable) in declared {
            let value = self.operator.vars.get(name).or(variable.default.as_ref());
            if value.is_none() && variable.required {
                let what = format!("the variable \"{name}\" has no value");
                let help = format!("give it one: --var {name}=...");
                self.report
                    .at(Kind::MissingVariable, variable.span.clone(), what, help);
            }
            self.values
                .insert(name.clone(), value.cloned().unwrap_or_default());
        }
        for name in self
            .operator
            .vars
            .keys()
            .filter(|name| !declared.contains_key(*name))
        {
            let what = format!("the manifest declares no variable \"{name}\"");
            let help = variable_help(name, declared.keys());
            // The value may be a secret, so the option is named without it.
            self.report.option(
                Kind::UnknownVariable,
                format!("--var {name}=..."),
                &what,
                &help,
            );
        }
    }

    fn check_operator_limits(&mut self) {
        let limits = self.operator.limits.iter().map(|pair| ("--limit", pair));
        let ceilings = self.operator.ceilings.iter();
        let ceilings = ceilings.map(|pair| ("--ceiling", pair));
        for (flag, (name, text)) in limits.chain(ceilings) {
            if let Err(error) = Limits::default().set(name, text) {
                let option = format!("{flag} {name}={text}");
                self.report
                    .option(Kind::BadLimit, option, &error.to_string(), &error.help());
            }
        }
    }

    fn routes(&mut self, http: Vec<HttpText>, names: &[&str]) -> Option<Routes> {
        let mut all = Vec::with_capacity(http.len());
        let mut spans = Vec::with_capacity(http.len());
        for text in http {
            let HttpText {
                span,
                route,
                host,
                methods,
                component,
            } = text;
            let (host, host_span) = host.map_or((None, 0..0), |host| (Some(host.value), host.span));
            let (methods, methods_span) =
                methods.map_or((Vec::new(), 0..0), |methods| (methods.value, methods.span));
            all.push(Route {
                pattern: route.value,
                host,
                methods,
                component: self.index(&component, names),
                line: self.report.line(route.span.start),
            });
            spans.push(RouteSpans {
                entry: span,
                route: route.span,
                host: host_span,
                methods: methods_span,
            });
        }
        match Routes::new(all) {
            Ok(routes) => Some(routes),
            Err(errors) => {
                for error in errors {
                    if let Some(spans) = spans.get(error.route) {
                        let (kind, span) = spans.place(&error);
                        self.report.at(kind, span, error.what, error.help);
                    }
                }
                None
            }
        }
    }

    /// Where the component stands among all; 0, and an error, if there is none of this name.
    fn index(&mut self, component: &At<String>, names: &[&str]) -> usize {
        names
            .binary_search(&component.value.as_str())
            .unwrap_or_else(|_| {
                if names.is_empty() {
                    return 0; // That there are none was reported.
                }
                let what = format!("there is no component \"{}\"", component.value);
                let help = match nearest(&component.value, names.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("the components are {}", some_of(names.iter().copied())),
                };
                self.report
                    .at(Kind::UnknownComponent, component.span.clone(), what, help);
                0
            })
    }

    /// Looks at every file before the first is read, so that what is too large is never in memory.
    fn check_sizes(&mut self, components: &[ComponentText]) {
        let mut total: u64 = 0;
        for component in components {
            let Some(At {
                value: SourceText::Path(path),
                span,
            }) = &component.source
            else {
                continue;
            };
            let path = self.folder.join(path);
            match read::component_size(&path) {
                Ok(size) => total = total.saturating_add(size),
                Err(why) => self.bad_source(&path, span.clone(), &why, component.build.is_some()),
            }
        }
        let most = limits::APP_BYTES_MAX;
        if total > most.default {
            let what = format!("the components together are larger than {}", most.shown());
            self.report
                .whole(Kind::BadSource, &what, "split the app into several");
        }
    }

    fn bad_source(&mut self, path: &Path, span: Range<usize>, why: &BadFile, built: bool) {
        let what = format!("cannot read the component \"{}\": {why}", shown(path));
        let help = match why {
            BadFile::TooLarge => "leave debug information out of it",
            _ if built => "build it first: hostel build",
            _ => "check the path; it is relative to the manifest's folder",
        };
        self.report.at(Kind::BadSource, span, what, help);
    }

    /// One component with its bytes.
    fn component(&mut self, text: ComponentText) -> Option<(Component, Vec<u8>)> {
        let args = text.args.iter().map(|arg| self.expanded(arg)).collect();
        let env = self.env(&text.env);
        let config = text
            .config
            .iter()
            .map(|(name, value)| (name.value.clone(), self.expanded(value)))
            .collect();
        let grants = self.grants(text.grants);
        let limits = self.limits(text.limits, &text.limits_written);
        let At {
            value: source,
            span,
        } = text.source?;
        let (source, code) = match source {
            SourceText::Wat(text) => (Source::InlineWat, text.into_bytes()),
            SourceText::Path(path) => {
                let path = self.folder.join(path);
                let bytes = if self.read {
                    read::component(&path)
                } else {
                    Ok(Vec::new())
                };
                let code = bytes.unwrap_or_else(|why| {
                    self.bad_source(&path, span, &why, text.build.is_some());
                    Vec::new()
                });
                (Source::File(path), code)
            }
        };
        let digest = Digest::of(&code);
        Some((
            Component {
                name: text.name,
                source,
                digest,
                args,
                env,
                config,
                grants,
                limits,
                reuse: text.reuse,
            },
            code,
        ))
    }

    /// The manifest's limits as far as the operator allows them, then the operator's own.
    fn limits(&mut self, mut limits: Limits, written: &[At<&'static str>]) -> Limits {
        for entry in Limits::keys() {
            let Some((most, shown)) = self.ceiling(entry) else {
                continue;
            };
            let asked = written.iter().find(|at| at.value == entry.name);
            if let Some(at) = asked.filter(|_| limits.get(entry.name) > Some(most)) {
                let what = format!("limit \"{}\" is above what the operator allows", entry.name);
                let help = format!("ask for {shown} or less, or raise `--ceiling`");
                let span = at.span.clone();
                self.report.at(Kind::BadLimit, span, what, help);
            }
            limits.lower(entry.name, most);
        }
        for (name, value) in &self.operator.limits {
            // What cannot be set was reported before.
            let _ = limits.set(name, value);
        }
        limits
    }

    /// The operator's ceiling for this limit, the last that was given, and how it was written.
    fn ceiling(&self, limit: &'static Limit) -> Option<(u64, String)> {
        let given = self.operator.ceilings.iter().rev();
        let (_, text) = given.into_iter().find(|(name, _)| name == limit.name)?;
        // What is no value was reported before.
        Some((limit.value(text).ok()?, text.clone()))
    }

    /// The manifest's environment, then the operator's, each name once.
    fn env(&mut self, written: &[(At<String>, At<String>)]) -> Vec<(String, String)> {
        let ours = written
            .iter()
            .map(|(name, value)| (name.value.clone(), self.expanded(value)));
        let mut env: Vec<(String, String)> = ours.collect();
        for (name, value) in &self.operator.env {
            env.retain(|(other, _)| other != name);
            env.push((name.clone(), value.clone()));
        }
        env
    }

    /// A value with its variables filled in.
    fn expanded(&mut self, text: &At<String>) -> String {
        let values = &self.values;
        let error = match expand(&text.value, &mut self.room, |name| {
            values.get(name).map(String::as_str)
        }) {
            Ok(expanded) => return expanded,
            Err(error) => error,
        };
        let (kind, what, help) = match error {
            TemplateError::Open => (
                Kind::BadTemplate,
                "\"{{\" without \"}}\"".to_owned(),
                "write {{ name }}".to_owned(),
            ),
            TemplateError::NoName(name) => (
                Kind::BadTemplate,
                format!("\"{name}\" is not the name of a variable"),
                "write {{ name }}; text that has to hold \"{{\" can come from a variable"
                    .to_owned(),
            ),
            TemplateError::Unknown(name) => (
                Kind::UnknownVariable,
                format!("there is no variable \"{name}\""),
                variable_help(&name, values.keys()),
            ),
            TemplateError::TooLong => (
                Kind::TooMany,
                format!(
                    "the values of this manifest take more than {}",
                    limits::EXPANDED_BYTES_MAX.shown()
                ),
                "use shorter variables, or a file".to_owned(),
            ),
        };
        self.report.at(kind, text.span.clone(), what, help);
        String::new()
    }
}

/// Where the parts of one route stand in the text.
struct RouteSpans {
    entry: Range<usize>,
    route: Range<usize>,
    host: Range<usize>,
    methods: Range<usize>,
}

impl RouteSpans {
    fn place(&self, error: &RouteError) -> (Kind, Range<usize>) {
        match error.fault {
            RouteFault::Pattern => (Kind::BadRoute, self.route.clone()),
            RouteFault::Host => (Kind::BadRoute, self.host.clone()),
            RouteFault::Methods => (Kind::BadRoute, self.methods.clone()),
            RouteFault::Duplicate => (Kind::DuplicateRoute, self.route.clone()),
            RouteFault::TooMany => (Kind::TooMany, self.entry.clone()),
        }
    }
}

fn variable_help<'n>(name: &str, declared: impl Iterator<Item = &'n String> + Clone) -> String {
    match nearest(name, declared.clone().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if declared.clone().next().is_none() => {
            format!("declare it: [variables] with {name} = \"...\"")
        }
        None => format!(
            "the variables are {}",
            some_of(declared.map(String::as_str))
        ),
    }
}

/// The first few names of a list that may be long.
fn some_of<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const MOST: usize = 10;
    let mut names: Vec<&str> = names.take(MOST + 1).collect();
    if names.len() > MOST {
        names.truncate(MOST);
        names.push("...");
    }
    names.join(", ")
}
