//! `config.toml` of serverless-wasm: `listen_address`, and an `[[applications]]` for each method and path.
//!
//! A request is chosen by its method and its path, exactly; the query, which once was part of the path, has no say in it. What
//! `env` holds is what a module reads with `db_get`, so it becomes the component's `config`, in which nothing is a variable. The
//! file grants nothing: which back ends a module may dial says the operator.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::Foreign;
use crate::error::{Kind, Report};
use crate::fields::{At, Fields};
use crate::listen_on::ListenOn;
use crate::manifest::{HttpText, Manifest};
use crate::route::{Spelling, normal_path};

/// What stands at the top of such a file.
pub(super) const KEYS: [&str; 2] = ["listen_address", "applications"];

/// The export that is called where the file names none, as the first files did.
const FUNCTION: &str = "handle";

/// One `[[applications]]`.
struct Application {
    span: std::ops::Range<usize>,
    file: At<PathBuf>,
    method: At<String>,
    path: At<String>,
    function: Option<At<String>>,
    env: Vec<(At<String>, At<String>)>,
}

pub(super) fn read(report: &mut Report<'_>, document: &DeTable<'_>, file: &Path) -> Manifest {
    let root = Fields::root(document, "the file");
    let mut foreign = Foreign::new(report, file, "serverless-wasm");
    foreign.ignore_others(&root, &KEYS);
    let listen = listen(foreign.report, &root);
    let tables = root.tables(foreign.report, "applications");
    if tables.is_empty() && foreign.report.is_empty() {
        let help = "add [[applications]] with file_path = \"NAME.wasm\", method = \"GET\" and url_path = \"/\"";
        foreign
            .report
            .whole(Kind::NothingToRun, "there is no [[applications]]", help);
    }
    let all: Vec<Application> = tables
        .iter()
        .filter_map(|fields| application(&mut foreign, fields))
        .collect();
    let http = http(&mut foreign, all);
    foreign.manifest(Manifest {
        http,
        listen,
        spelling: Spelling::Literal,
        ..Manifest::default()
    })
}

fn listen(report: &mut Report<'_>, root: &Fields<'_, '_>) -> Option<ListenOn> {
    let text = root.string(report, "listen_address")?;
    match text.value.parse() {
        Ok(ListenOn::Address(address)) => Some(ListenOn::Address(address)),
        Ok(ListenOn::Inherited(_)) | Err(_) => {
            let what = format!("\"{}\" is not an address to listen on", text.value);
            let help =
                "write an address of this machine and a port: listen_address = \"127.0.0.1:8080\"";
            report.at(Kind::BadValue, text.span, what, help);
            None
        }
    }
}

fn application(foreign: &mut Foreign<'_, '_, '_>, fields: &Fields<'_, '_>) -> Option<Application> {
    let known = ["file_path", "method", "url_path", "function", "env"];
    foreign.ignore_others(fields, &known);
    let file = foreign.required(fields, "file_path", "\"NAME.wasm\"");
    let method = foreign.required(fields, "method", "\"GET\"");
    let path = foreign.required(fields, "url_path", "\"/\"");
    let function = fields.string(foreign.report, "function");
    let env = fields.pairs(foreign.report, "env");
    let file = file?;
    let place = foreign.place(Path::new(&file.value), &file.span);
    Some(Application {
        span: fields.span(),
        file: At::new(place, file.span),
        method: method?,
        path: path?,
        function,
        env,
    })
}

/// The routes, of which the first for a method and a path counts, and a component for each file and environment.
fn http(foreign: &mut Foreign<'_, '_, '_>, all: Vec<Application>) -> Vec<HttpText> {
    let key = |application: &Application| {
        let path = normal_path(&application.path.value).into_owned();
        (application.method.value.clone(), path)
    };
    let mut taken: HashMap<(String, String), usize> = HashMap::new();
    let mut first = Vec::with_capacity(all.len());
    for application in all {
        let line = foreign.report.line(application.span.start);
        let (method, path) = key(&application);
        if let Some(earlier) = taken.get(&(method, path)) {
            let what = format!(
                "{} {} is answered by the application on line {earlier}; this one is never called",
                application.method.value, application.path.value
            );
            foreign.note(&application.span, &what);
            continue;
        }
        taken.insert(key(&application), line);
        first.push(application);
    }
    let mut components: HashMap<(PathBuf, Vec<(String, String)>), String> = HashMap::new();
    let mut http = Vec::with_capacity(first.len());
    for application in first {
        let (_, path) = key(&application);
        let mut methods = vec![application.method.value.clone()];
        // Whoever answers GET answers HEAD; the body stays here.
        if application.method.value == "GET" && !taken.contains_key(&("HEAD".to_owned(), path)) {
            methods.push("HEAD".to_owned());
        }
        let Application {
            span,
            file,
            method,
            path,
            function,
            env,
        } = application;
        let values = env.iter();
        let mut values: Vec<_> = values
            .map(|(name, value)| (name.value.clone(), value.value.clone()))
            .collect();
        values.sort();
        let component = components
            .entry((file.value.clone(), values))
            .or_insert_with(|| {
                foreign.component(file, |component| {
                    component.config = env;
                    component.plain_config = true;
                })
            });
        let function = function.map_or_else(|| FUNCTION.to_owned(), |function| function.value);
        http.push(HttpText {
            component: At::new(component.clone(), span.clone()),
            entrypoint: Some(At::new(function, span.clone())),
            span,
            route: path,
            host: None,
            methods: Some(At::new(methods, method.span)),
        });
    }
    http
}
