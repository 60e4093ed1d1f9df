//! `modules.toml` of WAGI: a `[[module]]` for each route.
//!
//! The most specific route answers, as that host's documentation promised, and not the first in the file. The file's author
//! speaks here, not the operator: `allowed_hosts` opens no private addresses, and a volume outside the file's folder needs a
//! `--dir` of its name.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::Foreign;
use crate::app::Cgi;
use crate::error::{Kind, Report};
use crate::escapes::unescaped;
use crate::fields::{At, Fields, decimal, wrong_type};
use crate::grant::{GrantError, HttpGrant};
use crate::limits::{self, Limits};
use crate::manifest::{self, FilesText, GrantsText, HttpText, Manifest, too_many};
use crate::read;
use crate::route::{Spelling, normal_path};

/// What stands at the top of such a file; the first releases wrote `[[modules]]`.
pub(super) const KEYS: [&str; 2] = ["module", "modules"];

/// What WAGI itself answers, before every module.
const HEALTH: &str = "/healthz";

/// The entry of `allowed_hosts` that stands for all of them.
const ALLOW_ALL: &str = "insecure:allow-all";

/// One `[[module]]`.
struct Module {
    span: Range<usize>,
    route: At<String>,
    file: At<PathBuf>,
    entrypoint: Option<At<String>>,
    settings: Settings,
}

/// What makes two modules with the same file two components.
#[derive(Debug, Default)]
struct Settings {
    volumes: Vec<FilesText>,
    hosts: Vec<HttpGrant>,
    sessions: Option<At<u64>>,
    argv: Option<String>,
}

pub(super) fn read(report: &mut Report<'_>, document: &DeTable<'_>, file: &Path) -> Manifest {
    let root = Fields::root(document, "the file");
    let mut foreign = Foreign::new(report, file, "WAGI");
    foreign.ignore_others(&root, &KEYS);
    let mut all: Vec<Module> = Vec::new();
    for key in KEYS {
        let tables = root.tables(foreign.report, key);
        if tables.is_empty() && root.get(key).is_some() && foreign.report.is_empty() {
            let help = "add [[module]] with route = \"/...\" and module = \"NAME.wasm\"";
            foreign
                .report
                .whole(Kind::NothingToRun, "there is no [[module]]", help);
        }
        all.extend(
            tables
                .iter()
                .filter_map(|fields| module(&mut foreign, fields)),
        );
    }
    let http = http(&mut foreign, all);
    foreign.manifest(Manifest {
        http,
        health: Some(At::new(HEALTH.to_owned(), 0..0)),
        spelling: Spelling::Rest,
        ..Manifest::default()
    })
}

fn module(foreign: &mut Foreign<'_, '_, '_>, fields: &Fields<'_, '_>) -> Option<Module> {
    let known = [
        "route",
        "module",
        "entrypoint",
        "bindle_server",
        "volumes",
        "allowed_hosts",
        "http_max_concurrency",
        "argv",
    ];
    foreign.ignore_others(fields, &known);
    let route = foreign.required(fields, "route", "\"/...\"");
    let reference = foreign.required(fields, "module", "\"NAME.wasm\"");
    let entrypoint = fields.string(foreign.report, "entrypoint");
    fields.string(foreign.report, "bindle_server");
    let settings = Settings {
        volumes: volumes(foreign, fields),
        hosts: hosts(foreign.report, fields),
        sessions: sessions(foreign, fields),
        argv: fields.string(foreign.report, "argv").map(|argv| argv.value),
    };
    let file = reference.and_then(|reference| referred(foreign, reference));
    Some(Module {
        span: fields.span(),
        route: route?,
        file: file?,
        entrypoint,
        settings,
    })
}

/// The file that a reference means.
fn referred(foreign: &mut Foreign<'_, '_, '_>, reference: At<String>) -> Option<At<PathBuf>> {
    let At { value: text, span } = reference;
    let path = match text.split_once(':') {
        Some(("file", url)) => file_url(url),
        Some(("oci", _)) => Err("a module from a registry is not supported yet"),
        Some(("bindle", _)) => Err("a module from a Bindle server is not supported"),
        Some((_, rest)) if rest.starts_with("//") => {
            Err("this is neither a path nor a URL that begins with \"file:\"")
        }
        _ => Ok(PathBuf::from(&text)),
    };
    match path {
        Ok(path) => {
            let path = foreign.place(&path, &span);
            Some(At::new(path, span))
        }
        Err(what) => {
            let help = "fetch it and use a path: module = \"NAME.wasm\"";
            let kind = match what.contains("supported") {
                true => Kind::NotSupportedYet,
                false => Kind::BadValue,
            };
            foreign.report.at(kind, span, what, help);
            None
        }
    }
}

/// The path of a URL, behind its `file:`. Escapes in it are escapes.
fn file_url(url: &str) -> Result<PathBuf, &'static str> {
    let path = match url.strip_prefix("//") {
        None => url,
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
    };
    if url.starts_with("//") && !path.starts_with('/') {
        return Err(
            "a URL of a file names no host; an absolute path has three slashes in front: file:///",
        );
    }
    let path = String::from_utf8(unescaped(path, |_| false).into_owned());
    path.map(PathBuf::from)
        .map_err(|_| "this URL has escapes that are not UTF-8")
}

/// Directories that the guest may read and change. One that is not there is left out, as it was.
fn volumes(foreign: &mut Foreign<'_, '_, '_>, fields: &Fields<'_, '_>) -> Vec<FilesText> {
    let pairs = fields.pairs(foreign.report, "volumes");
    if let Some(value) = fields.get("volumes")
        && too_many(foreign.report, "volumes", pairs.len(), value)
    {
        return Vec::new();
    }
    let folder = manifest::folder(foreign.file);
    let mut all = Vec::with_capacity(pairs.len());
    for (guest, host) in pairs {
        let place = foreign.place(Path::new(&host.value), &host.span);
        if !read::is_there(folder, &place) {
            let what = format!(
                "there is no directory \"{}\"; the module runs without its volume \"{}\"",
                host.value, guest.value
            );
            foreign.note(&host.span, &what);
            continue;
        }
        let place = read::inside(folder, &place).unwrap_or(place);
        let value = place.display().to_string();
        all.push(FilesText {
            guest,
            host: At::new(value, host.span),
            write: true,
        });
    }
    all
}

/// Hosts that the guest may send requests to. They are URLs of which only the host counts.
fn hosts(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Vec<HttpGrant> {
    let urls = fields.strings(report, "allowed_hosts");
    if let Some(value) = fields.get("allowed_hosts")
        && too_many(report, "allowed_hosts", urls.len(), value)
    {
        return Vec::new();
    }
    let mut all = Vec::with_capacity(urls.len());
    for url in urls {
        match host(&url.value) {
            Ok(grant) => all.push(grant),
            Err(GrantError { what, help }) => report.at(Kind::BadGrant, url.span, what, help),
        }
    }
    all
}

fn host(url: &str) -> Result<HttpGrant, GrantError> {
    if url == ALLOW_ALL {
        return "*://*:*".parse();
    }
    let Some((_, rest)) = url.split_once("://") else {
        return Err(GrantError {
            what: format!("\"{url}\" is not a URL"),
            help: format!("write \"https://{url}\"; of the URL only the host counts"),
        });
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let host = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    format!("*://{host}:*").parse()
}

/// Answers that an instance may hold at once; more than Hostel ever allows is as many as it allows.
fn sessions(foreign: &mut Foreign<'_, '_, '_>, fields: &Fields<'_, '_>) -> Option<At<u64>> {
    const KEY: &str = "http_max_concurrency";
    let value = fields.get(KEY)?;
    let most = limits::HTTP_SESSIONS.ceiling;
    let DeValue::Integer(integer) = value.get_ref() else {
        wrong_type(
            foreign.report,
            KEY,
            value,
            value.get_ref(),
            "a whole number",
        );
        return None;
    };
    let Ok(number) = decimal(integer).parse::<u64>() else {
        let what = format!("\"{KEY}\" cannot be {}", decimal(integer));
        let help = format!("write a whole number from 0 to {most}");
        foreign.report.at(Kind::BadValue, value.span(), what, help);
        return None;
    };
    if number > most {
        let what = format!("\"{KEY}\" is {most}, the most that there can be");
        foreign.note(&value.span(), &what);
    }
    Some(At::new(number.min(most), value.span()))
}

/// The routes, of which the first for a path counts, and a component for each file with the same settings.
fn http(foreign: &mut Foreign<'_, '_, '_>, all: Vec<Module>) -> Vec<HttpText> {
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut components: HashMap<(PathBuf, String), String> = HashMap::new();
    let mut http = Vec::with_capacity(all.len());
    for module in all {
        let Module {
            span,
            route,
            file,
            entrypoint,
            settings,
        } = module;
        let line = foreign.report.line(span.start);
        let path = normal_path(&route.value).into_owned();
        if let Some(earlier) = taken.get(&path) {
            let what = format!(
                "the route \"{}\" is answered by the module on line {earlier}; this one is never called",
                route.value
            );
            foreign.note(&route.span, &what);
            continue;
        }
        taken.insert(path, line);
        let component = components
            .entry((file.value.clone(), settings.key()))
            .or_insert_with(|| foreign.component(file, |component| settings.give(component)));
        http.push(HttpText {
            component: At::new(component.clone(), span.clone()),
            span,
            route,
            host: None,
            methods: None,
            entrypoint,
        });
    }
    http
}

impl Settings {
    /// The same for settings that say the same.
    fn key(&self) -> String {
        let volumes = self.volumes.iter();
        let volumes: Vec<_> = volumes
            .map(|one| (&one.guest.value, &one.host.value))
            .collect();
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        let sessions = self.sessions.as_ref().map(|sessions| sessions.value);
        format!("{:?}", (volumes, hosts, sessions, &self.argv))
    }

    fn give(self, component: &mut manifest::ComponentText) {
        component.grants = GrantsText {
            http: self.hosts,
            files: self.volumes,
            ..GrantsText::default()
        };
        component.cgi = Cgi {
            argv: self.argv,
            scripts: None,
        };
        if let Some(sessions) = self.sessions {
            let name = limits::HTTP_SESSIONS.name;
            let mut own = Limits::default();
            // What is out of bounds was brought within them.
            let _ = own.set(name, &sessions.value.to_string());
            component.limits = own;
            component.limits_written = vec![At::new(name, sessions.span)];
        }
    }
}
