//! From a manifest's text to an [`App`]: what it names on disk, its variables, and what the operator adds.
//!
//! The result depends on nothing else: no clock, no environment, no network. Whether the components are any good is
//! for the host to find out; their bytes are read here and not looked at.

mod bind;
mod crons;
mod grants;
mod messages;
mod scripts;
mod services;
mod values;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use crate::app::{App, Component, Digest, Resolved, Source};
use crate::digest;
use crate::error::{Kind, Report, shown};
use crate::fields::At;
use crate::limits::{self, Limit, Limits};
use crate::manifest::{ComponentText, HttpText, Manifest, SourceText};
use crate::nearest::nearest;
use crate::read::{self, BadFile};
use crate::resolve::Operator;
use crate::route::{Route, RouteError, RouteFault, Routes, Spelling, normal_path};
use crate::text::Text;
use values::Value;

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
    let names: Vec<String> = manifest
        .components
        .iter()
        .map(|component| component.name.clone())
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let routes = step.routes(manifest.http, manifest.spelling, &names);
    let messages = step.messages(manifest.messages, &names);
    let crons = step.crons(manifest.crons, &names);
    let services = step.services(manifest.services, &names);
    step.check_sizes(&manifest.components);
    // Reading is the expensive part, and useless once anything is wrong.
    step.read = step.report.is_empty();
    let parts: Vec<Option<(Component, Vec<u8>)>> = manifest
        .components
        .into_iter()
        .map(|component| step.component(component, &names))
        .collect();
    if !step.report.is_empty() {
        return None;
    }
    let (components, code): (Vec<Component>, Vec<Vec<u8>>) = parts.into_iter().flatten().unzip();
    step.check_neighbours(&components);
    step.check_binds(&components);
    if !step.report.is_empty() {
        return None;
    }
    let (name, version) = (manifest.name, manifest.version);
    let health = manifest
        .health
        .map(|path| normal_path(&path.value).into_owned());
    let mut app = App {
        name,
        version,
        digest: Digest([0; 32]),
        components,
        routes: routes?,
        messages,
        crons,
        services,
        listen: manifest.listen,
        health,
        notes: manifest.notes,
    };
    app.notes.extend(never_called(&app));
    app.digest = digest::of_app(&app, folder);
    Some(Resolved { app, code })
}

/// Sentences for routes that are the path of the health check, which is answered before them.
fn never_called(app: &App) -> Vec<String> {
    let health = app.health.as_deref();
    let routes = app.routes.all().iter();
    let never = routes.filter(|route| Some(&*normal_path(&route.pattern)) == health);
    let note = |pattern| {
        format!("the route \"{pattern}\" is never called: the health check answers there")
    };
    never.map(|route| note(&route.pattern)).collect()
}

/// What every step needs.
struct Assembly<'a, 't> {
    report: &'a mut Report<'t>,
    /// What the manifest's paths are relative to.
    folder: &'a Path,
    operator: &'a Operator,
    /// What is known of each variable.
    values: BTreeMap<String, Value>,
    /// Bytes that expanded values may still take.
    room: usize,
    /// Whether to read the components' bytes.
    read: bool,
}

impl Assembly<'_, '_> {
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

    fn routes(
        &mut self,
        http: Vec<HttpText>,
        spelling: Spelling,
        names: &[&str],
    ) -> Option<Routes> {
        let mut all = Vec::with_capacity(http.len());
        let mut spans = Vec::with_capacity(http.len());
        for text in http {
            let HttpText {
                span,
                route,
                host,
                methods,
                component,
                entrypoint,
            } = text;
            let (host, host_span) = host.map_or((None, 0..0), |host| (Some(host.value), host.span));
            let (methods, methods_span) =
                methods.map_or((Vec::new(), 0..0), |methods| (methods.value, methods.span));
            all.push(Route {
                pattern: route.value,
                host,
                methods,
                component: self.index(&component, names),
                entrypoint: entrypoint.map(|export| export.value),
                line: self.report.line(route.span.start),
            });
            spans.push(RouteSpans {
                entry: span,
                route: route.span,
                host: host_span,
                methods: methods_span,
            });
        }
        match Routes::spelled(all, spelling) {
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
    fn component(&mut self, text: ComponentText, names: &[&str]) -> Option<(Component, Vec<u8>)> {
        let secrets = self.secrets(&text.grants.secrets);
        let args: Vec<Text> = text
            .args
            .iter()
            .map(|arg| self.expanded(arg, &secrets))
            .collect();
        let env = self.env(&text.env, &secrets);
        let config = self.config(&text, &secrets);
        let errors = self.report.len();
        let grants = self.grants(text.grants);
        let texts = args.iter().chain(env.iter().map(|(_, value)| value));
        let variables = self.variables(texts.chain(config.values()), &secrets);
        let withheld = self.withheld(&secrets);
        let limits = self.limits(text.limits, &text.limits_written);
        if let Some(scripts) = &text.cgi.scripts
            && self.report.len() == errors
        {
            self.check_scripts(&text.name, scripts, &grants, text.scripts_root);
        }
        let bind = self.bind(text.bind, names);
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
                variables,
                withheld,
                grants,
                limits,
                reuse: text.reuse,
                on_start: text.on_start.map(|export| export.value),
                bind,
                cgi: text.cgi,
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

    /// The configuration values.
    fn config(
        &mut self,
        text: &ComponentText,
        secrets: &BTreeSet<String>,
    ) -> BTreeMap<String, Text> {
        let values = text.config.iter().map(|(name, value)| {
            let value = match text.plain_config {
                true => Text::literal(value.value.as_str()),
                false => self.expanded(value, secrets),
            };
            (name.value.clone(), value)
        });
        values.collect()
    }

    /// The manifest's environment, then the operator's, each name once.
    fn env(
        &mut self,
        written: &[(At<String>, At<String>)],
        secrets: &BTreeSet<String>,
    ) -> Vec<(String, Text)> {
        let ours = written
            .iter()
            .map(|(name, value)| (name.value.clone(), self.expanded(value, secrets)));
        let mut env: Vec<(String, Text)> = ours.collect();
        let given = || self.operator.env.iter().enumerate();
        // A file of the operator's may hold very many.
        let last: HashMap<&str, usize> =
            given().map(|(at, (name, _))| (name.as_str(), at)).collect();
        env.retain(|(name, _)| !last.contains_key(name.as_str()));
        let counts = given().filter(|(at, (name, _))| last.get(name.as_str()) == Some(at));
        let pair = |(name, value): &(String, String)| (name.clone(), Text::literal(value.as_str()));
        env.extend(counts.map(|(_, given)| pair(given)));
        env
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
