//! What a manifest, a bare component and the command line become.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // the lints' exception for tests misses helpers

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostel_app::error::{Kind, ManifestErrors};
use hostel_app::grant::FileGrant;
use hostel_app::limits::{self, Limits};
use hostel_app::route::Match;
use hostel_app::{
    BuildStep, Digest, Operator, Resolved, Reuse, Source, Text, build_steps, resolve,
    resolve_command,
};
use tempfile::TempDir;

const WASM: &[u8] = b"\0asm\x01\0\0\0";

/// A folder with these files; a name that ends in a slash is a folder.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        let path = folder.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).expect("a folder");
        } else {
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, bytes).expect("a file");
        }
    }
    folder
}

/// A manifest with everything in it.
const FULL: &str = r#"
[app]
name = "guestbook"
version = "1.0.0"

[variables]
title = { default = "Guests", description = "above the list" }
token = { required = true }
plain = "p"

[component.web]
source = "web.wasm"
build = "make web"
reuse = 50
concurrent = 8
args = ["--title", "{{ title }}"]
env = { ZED = "{{ plain }}{{plain}}", LANG = "en" }
config = { title = "{{ title }}", token = "{{ token }}" }

[component.web.grants]
http = ["https://api.example.com", "*.internal.example.com:8443"]
tcp = ["10.0.0.5:5432"]
udp = ["10.0.0.0/8:53"]
listen = ["127.0.0.1:9000"]
files = { "/site" = { host = "site", write = false }, "/data" = { host = "data", write = true } }

[component.web.limits]
memory = "64MiB"
deadline = "5s"
cpu = "500ms"
concurrency = 8
queue_wait = "0s"
request_body = "10MB"

[component.api]
source = "(module)"

[[http]]
route = "/..."
component = "web"

[[http]]
route = "/api/:id"
host = "Shop.Example.com"
methods = ["GET", "PUT"]
component = "api"

[component.api.grants]
keyvalue = ["default", "sessions"]
blobstore = ["uploads"]
sql = ["main"]
messaging = { publish = ["orders.*"], request = ["stock.>"] }
"#;

fn full() -> TempDir {
    folder(&[
        ("hostel.toml", FULL.as_bytes()),
        ("web.wasm", WASM),
        ("site/", b""),
        ("data/", b""),
    ])
}

fn token() -> Operator {
    Operator {
        vars: [("token".to_owned(), "secret".to_owned())].into(),
        ..Operator::default()
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn texts(pairs: &[(&str, &str)]) -> Vec<(String, Text)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Text::literal(*value)))
        .collect()
}

fn first_error(result: Result<Resolved, ManifestErrors>) -> (Kind, String) {
    let errors = result.expect_err("an error").0;
    (errors[0].kind, errors[0].what.clone())
}

#[test]
fn every_key_arrives() {
    let dir = full();
    let Resolved { app, code } = resolve(dir.path(), &token()).expect("a good manifest");
    assert_eq!(
        (app.name.as_str(), app.version.as_deref()),
        ("guestbook", Some("1.0.0"))
    );
    let names: Vec<&str> = app
        .components
        .iter()
        .map(|component| component.name.as_str())
        .collect();
    assert_eq!(names, ["api", "web"], "sorted by name");
    assert_eq!(code, [b"(module)".to_vec(), WASM.to_vec()]);
    let found = |host, method, path| match app.routes.find(host, method, path) {
        Match::Found(route) => Some((names[route.component], route.line)),
        _ => None,
    };
    assert_eq!(found(None, "GET", "/api/1"), Some(("web", 39)));
    let shop = found(Some("shop.example.com:80"), "PUT", "/api/1");
    assert_eq!(shop, Some(("api", 43)));
}

#[test]
fn every_key_of_a_component_arrives() {
    let dir = full();
    let app = resolve(dir.path(), &token()).expect("a good manifest").app;
    let (api, web) = (&app.components[0], &app.components[1]);
    assert_eq!(
        (api.source.clone(), api.digest),
        (Source::InlineWat, Digest::of(b"(module)"))
    );
    assert_eq!(
        (api.reuse, &api.limits),
        (Reuse::default(), &Limits::default())
    );
    assert!(api.grants.http.is_empty() && api.grants.files.is_empty() && api.env.is_empty());
    assert!(web.grants.keyvalue.is_empty() && web.grants.messaging.clients.is_empty());

    assert_eq!(
        (web.source.clone(), web.digest),
        (Source::File(dir.path().join("web.wasm")), Digest::of(WASM))
    );
    assert_eq!(
        web.reuse,
        Reuse {
            requests: 50,
            concurrent: 8
        }
    );
    assert_eq!(web.args, ["--title", "Guests"]);
    assert_eq!(
        web.env,
        texts(&[("ZED", "pp"), ("LANG", "en")]),
        "in the manifest's order"
    );
    let config: Vec<(&str, &str)> = web
        .config
        .iter()
        .map(|(name, value)| {
            (
                name.as_str(),
                value.constant().expect("no variable is left"),
            )
        })
        .collect();
    assert_eq!(config, [("title", "Guests"), ("token", "secret")]);
    let expected = Limits {
        memory_bytes: 64 << 20,
        deadline_ms: Some(5_000),
        cpu_ms: Some(500),
        concurrency: 8,
        queue_wait_ms: 0,
        request_body_bytes: 10_000_000,
        ..Limits::default()
    };
    assert_eq!(web.limits, expected);
}

#[test]
fn every_grant_arrives() {
    let dir = full();
    let app = resolve(dir.path(), &token()).expect("a good manifest").app;
    let web = &app.components[1];
    assert_eq!(web.grants.http.len(), 2);
    assert!(web.grants.http[0].permits("https", "api.example.com", 443));
    assert!(web.grants.tcp[0].permits("10.0.0.5:5432".parse().expect("an address")));
    assert!(web.grants.udp[0].permits("10.9.9.9:53".parse().expect("an address")));
    assert!(web.grants.listen[0].permits("127.0.0.1:9000".parse().expect("an address")));
    let grant = |guest: &str, write| FileGrant {
        guest: format!("/{guest}"),
        host: dir.path().join(guest),
        write,
    };
    assert_eq!(
        web.grants.files,
        [grant("site", false), grant("data", true)]
    );
    let api = &app.components[0].grants;
    let labels = |labels: &BTreeSet<String>| labels.iter().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(labels(&api.keyvalue), "default sessions");
    assert_eq!(labels(&api.blobstore), "uploads");
    assert_eq!(labels(&api.sql), "main");
    assert_eq!(labels(&api.messaging.clients), "default");
    assert_eq!(api.messaging.publish, ["orders.*"]);
    assert_eq!(api.messaging.request, ["stock.>"]);
}

#[test]
fn a_broker_is_the_default_one_unless_it_is_named() {
    let dir = folder(&[]);
    for (grants, clients) in [
        ("{}", ""),
        ("{ publish = [], request = [] }", ""),
        ("{ request = [\"a\"] }", "default"),
        ("{ publish = [\"a\"], clients = [] }", "default"),
        ("{ publish = [\"a\"], clients = [\"bus\"] }", "bus"),
        ("{ clients = [\"bus\", \"audit\"] }", "audit bus"),
    ] {
        let text = format!("{SMALL}\"(module)\"\n[component.a.grants]\nmessaging = {grants}\n");
        let app = manifest(&dir, &text).expect(grants).app;
        let found = &app.components[0].grants.messaging.clients;
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found.join(" "), clients, "{grants}");
    }
}

#[test]
fn the_operator_adds_to_every_component_and_has_the_last_word() {
    let dir = full();
    let operator = Operator {
        env: pairs(&[("LANG", "de"), ("NEW", "{{ literal }}"), ("NEW", "2")]),
        limits: pairs(&[("memory", "1MiB"), ("concurrency", "2"), ("memory", "2MiB")]),
        vars: pairs(&[("token", "t"), ("title", "{{ token }}")])
            .into_iter()
            .collect(),
        ..Operator::default()
    };
    let app = resolve(dir.path(), &operator).expect("a good manifest").app;
    let (api, web) = (&app.components[0], &app.components[1]);
    assert_eq!(
        api.env,
        texts(&[("NEW", "2"), ("LANG", "de")])
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    assert_eq!(
        web.env,
        texts(&[("ZED", "pp"), ("LANG", "de"), ("NEW", "2")])
    );
    assert_eq!(
        web.config.get("title").and_then(Text::constant),
        Some("{{ token }}"),
        "a value is not expanded again"
    );
    for component in [api, web] {
        assert_eq!(
            (component.limits.memory_bytes, component.limits.concurrency),
            (2 << 20, 2)
        );
    }
    assert_eq!(
        web.limits.cpu_ms,
        Some(500),
        "what the operator did not name stays"
    );
}

#[test]
fn the_operator_grants_to_every_component() {
    let dir = full();
    let (site, other) = (dir.path().join("site"), dir.path().join("data"));
    let operator = Operator {
        dirs: vec![
            FileGrant {
                guest: "/site".to_owned(),
                host: other.clone(),
                write: true,
            },
            FileGrant {
                guest: "/more".to_owned(),
                host: site.clone(),
                write: false,
            },
        ],
        grants: [
            "http=*://*:*",
            "tcp=*:*",
            "udp=*:1",
            "listen=*:2",
            "keyvalue=default",
            "keyvalue=more",
            "publish=a.*",
            "messaging=bus",
        ]
        .map(|text| text.parse().expect(text))
        .into(),
        ..token()
    };
    let app = resolve(dir.path(), &operator).expect("a good manifest").app;
    let (api, web) = (&app.components[0], &app.components[1]);
    let hosts: Vec<(&str, &Path)> = web
        .grants
        .files
        .iter()
        .map(|f| (f.guest.as_str(), f.host.as_path()))
        .collect();
    assert_eq!(
        hosts,
        [
            ("/data", other.as_path()),
            ("/site", other.as_path()),
            ("/more", site.as_path())
        ]
    );
    assert_eq!(
        (
            web.grants.http.len(),
            web.grants.tcp.len(),
            api.grants.http.len()
        ),
        (3, 2, 1)
    );
    assert_eq!((api.grants.udp.len(), api.grants.listen.len()), (1, 1));
    assert_eq!(
        (web.grants.keyvalue.len(), api.grants.keyvalue.len()),
        (2, 3)
    );
    assert_eq!(web.grants.messaging.publish, ["a.*"]);
    let named = BTreeSet::from(["bus".to_owned()]);
    assert_eq!(
        web.grants.messaging.clients, named,
        "the operator named one"
    );
}

#[test]
fn a_bare_component_is_an_app() {
    let dir = folder(&[
        ("hello world.wasm", WASM),
        ("hello.wat", b"(module)"),
        ("no-extension", WASM),
        ("UPPER.WASM", b"anything"),
        ("_.wasm", WASM),
        ("\u{e4}b.c.wasm", WASM),
        ("empty.wasm", b""),
    ]);
    for (file, name, code) in [
        ("hello world.wasm", "hello-world", WASM),
        ("hello.wat", "hello", b"(module)".as_slice()),
        ("no-extension", "no-extension", WASM),
        ("UPPER.WASM", "UPPER", b"anything"),
        ("_.wasm", "main", WASM),
        ("\u{e4}b.c.wasm", "b-c", WASM),
        ("empty.wasm", "empty", b""),
    ] {
        let path = dir.path().join(file);
        let resolved = resolve(&path, &Operator::default()).expect(file);
        let app = resolved.app;
        assert_eq!(
            (
                app.name.as_str(),
                app.components[0].name.as_str(),
                app.components.len()
            ),
            (name, name, 1)
        );
        assert_eq!(app.components[0].source, Source::File(path.clone()));
        assert_eq!(app.components[0].limits, Limits::default());
        assert!(app.components[0].grants.files.is_empty());
        assert_eq!(resolved.code, [code]);
        assert!(
            matches!(app.routes.find(None, "GET", "/any/path"), Match::Found(route) if route.component == 0)
        );
        assert_eq!(build_steps(&path), Ok(Vec::new()));
    }
}

#[test]
fn a_file_full_of_variables_is_taken_in_bounded_time() {
    let dir = folder(&[("a.wasm", WASM)]);
    let number = |number: u32| (format!("N{number}"), String::new());
    let operator = Operator {
        env: (0..200_000).chain(0..100_000).map(number).collect(),
        ..Operator::default()
    };
    let begin = Instant::now();
    let app = resolve(&dir.path().join("a.wasm"), &operator).expect("a component");
    let env = &app.app.components[0].env;
    assert_eq!(env.len(), 200_000);
    assert_eq!(env[0].0, "N100000", "the last of each name counts");
    // It took less than two seconds, and more than five minutes where each was compared with all.
    assert!(
        begin.elapsed() < Duration::from_secs(60),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_bare_component_takes_what_the_operator_adds_but_no_variables() {
    let dir = folder(&[("a.wasm", WASM)]);
    let path = dir.path().join("a.wasm");
    let operator = Operator {
        env: pairs(&[("A", "{{ not expanded }}")]),
        limits: pairs(&[("deadline", "1s")]),
        ..Operator::default()
    };
    let component = resolve(&path, &operator)
        .expect("a component")
        .app
        .components
        .remove(0);
    assert_eq!(component.env, texts(&[("A", "{{ not expanded }}")]));
    assert_eq!(component.limits.deadline_ms, Some(1_000));
    let (kind, what) = first_error(resolve(&path, &token()));
    assert_eq!(
        (kind, what.as_str()),
        (
            Kind::UnknownVariable,
            "the manifest declares no variable \"token\""
        )
    );
}

#[test]
fn a_command_has_its_own_limits() {
    let dir = folder(&[("a.wasm", WASM), ("hostel.toml", b"")]);
    let file = dir.path().join("a.wasm");
    let component = |operator: &Operator| {
        resolve_command(&file, operator)
            .expect("a command")
            .app
            .components
            .remove(0)
    };
    assert_eq!(
        component(&Operator::default()).limits,
        Limits::for_command()
    );
    let operator = Operator {
        limits: pairs(&[("cpu", "1s")]),
        ..Operator::default()
    };
    assert_eq!(
        component(&operator).limits,
        Limits {
            cpu_ms: Some(1_000),
            ..Limits::for_command()
        }
    );
    for manifest in [dir.path().to_owned(), dir.path().join("hostel.toml")] {
        let (kind, what) = first_error(resolve_command(&manifest, &Operator::default()));
        assert_eq!(
            (kind, what.as_str()),
            (Kind::NotAManifest, "this is a manifest, not a program")
        );
    }
}

#[test]
fn build_steps_need_no_sources() {
    let dir = folder(&[("hostel.toml", FULL.as_bytes())]);
    let step = |dir: &Path| BuildStep {
        component: "web".to_owned(),
        command: "make web".to_owned(),
        dir: dir.to_owned(),
    };
    assert_eq!(build_steps(dir.path()), Ok(vec![step(dir.path())]));
    assert_eq!(
        build_steps(&dir.path().join("hostel.toml")),
        Ok(vec![step(dir.path())])
    );
    fs::write(
        dir.path().join("hostel.toml"),
        FULL.replace("build =", "biuld ="),
    )
    .expect("a file");
    let errors = build_steps(dir.path()).expect_err("an unknown key").0;
    assert_eq!((errors.len(), errors[0].kind), (1, Kind::UnknownKey));
}

#[test]
fn files_are_shown_as_the_user_wrote_them() {
    // The working directory of a test is the package's folder.
    let missing = |path: &str| {
        resolve(Path::new(path), &Operator::default())
            .expect_err(path)
            .0
            .remove(0)
            .file
    };
    assert_eq!(missing("./nowhere"), "nowhere");
    assert_eq!(
        missing("tests/golden/app-missing"),
        "tests/golden/app-missing/hostel.toml"
    );
    assert_eq!(
        missing("tests/golden/../golden/app-missing"),
        "tests/golden/../golden/app-missing/hostel.toml"
    );
    assert_eq!(missing("Cargo.toml"), "Cargo.toml");
    assert_eq!(missing("src"), "src");
    assert_eq!(missing("."), ".");
}

// The digest.

fn digest_of(dir: &Path, operator: &Operator) -> Digest {
    resolve(dir, operator).expect("a good manifest").app.digest
}

#[test]
fn the_same_content_has_the_same_digest_everywhere() {
    let (one, other) = (full(), full());
    assert_ne!(one.path(), other.path());
    let digest = digest_of(one.path(), &token());
    assert_eq!(digest, digest_of(other.path(), &token()));

    // Tables, keys and lists of grants in another order, comments, other spellings of the same value.
    let (head, routes) = FULL.split_once("[[http]]").expect("routes");
    let (first, second) = routes.split_once("[[http]]").expect("two routes");
    let shuffled = format!("# moved\n[[http]]{second}\n{head}\n[[http]]{first}")
        .replace(
            "env = { ZED = \"{{ plain }}{{plain}}\", LANG = \"en\" }",
            "env = { LANG = \"en\", ZED = \"pp\" }",
        )
        .replace("[\"GET\", \"PUT\"]", "[\"PUT\", \"GET\"]")
        .replace("\"https://api.example.com\", \"*.int", "\"https://*.int")
        .replace(
            ":8443\"]",
            ":8443\", \"api.example.com.\", \"https://API.example.com/\"]",
        )
        .replace("\"64MiB\"", "\"65536KiB\"")
        .replace("reuse = 50", "reuse = 0x32")
        .replace("build = \"make web\"", "build = \"make everything\"");
    fs::write(other.path().join("hostel.toml"), shuffled).expect("a file");
    assert_eq!(digest, digest_of(other.path(), &token()));

    // The same bytes under another name.
    fs::rename(
        other.path().join("web.wasm"),
        other.path().join("renamed.wasm"),
    )
    .expect("a rename");
    fs::write(
        other.path().join("hostel.toml"),
        FULL.replace("\"web.wasm\"", "\"./renamed.wasm\""),
    )
    .expect("a file");
    assert_eq!(digest, digest_of(other.path(), &token()));
}

/// Parts of the full manifest, and something else in their place.
const CHANGES: &[(&str, &str)] = &[
    ("name = \"guestbook\"", "name = \"guestbooks\""),
    ("version = \"1.0.0\"", ""),
    ("version = \"1.0.0\"", "version = \"\""),
    ("component.web", "component.wed"),
    ("source = \"(module)\"", "source = \"(module )\""),
    ("reuse = 50", "reuse = 51"),
    ("concurrent = 8", "concurrent = 9"),
    ("args = [\"--title\", \"", "args = [\"--titl\", \"e"),
    (
        "args = [\"--title\", \"{{ title }}\"]",
        "args = [\"{{ title }}\", \"--title\"]",
    ),
    ("LANG = \"en\"", "LANG = \"de\""),
    ("LANG = \"en\"", "LANGE = \"n\""),
    ("config = { title", "config = { titles"),
    (
        "title = { default = \"Guests\"",
        "title = { default = \"guests\"",
    ),
    ("https://api.example.com", "http://api.example.com"),
    ("tcp = [\"10.0.0.5:5432\"]", "tcp = []"),
    (
        "tcp = [\"10.0.0.5:5432\"]\nudp = [\"10.0.0.0/8:53\"]",
        "tcp = [\"10.0.0.0/8:53\"]\nudp = [\"10.0.0.5:5432\"]",
    ),
    ("10.0.0.0/8:53", "10.0.0.0/9:53"),
    ("[\"default\", \"sessions\"]", "[\"default\"]"),
    ("blobstore = [\"uploads\"]", "blobstore = [\"main\"]"),
    (
        "blobstore = [\"uploads\"]\nsql = [\"main\"]",
        "blobstore = [\"main\"]\nsql = [\"uploads\"]",
    ),
    ("publish = [\"orders.*\"]", "publish = [\"orders.>\"]"),
    (
        "publish = [\"orders.*\"], request = [\"stock.>\"]",
        "publish = [\"stock.>\"], request = [\"orders.*\"]",
    ),
    (
        "request = [\"stock.>\"]",
        "request = [\"stock.>\"], clients = [\"bus\"]",
    ),
    ("127.0.0.1:9000", "127.0.0.1:9001"),
    ("\"/site\"", "\"/sites\""),
    ("host = \"site\"", "host = \"data\""),
    ("write = false", "write = true"),
    ("memory = \"64MiB\"", "memory = \"65MiB\""),
    ("deadline = \"5s\"", "deadline = \"6s\""),
    ("cpu = \"500ms\"", "cpu = \"5s\""),
    ("concurrency = 8", "concurrency = 7"),
    ("queue_wait = \"0s\"", "queue_wait = \"1ms\""),
    ("request_body = \"10MB\"", "request_body = \"11MB\""),
    ("route = \"/...\"", "route = \"/x/...\""),
    ("host = \"Shop.Example.com\"", "host = \"example.com\""),
    ("host = \"Shop.Example.com\"", ""),
    ("[\"GET\", \"PUT\"]", "[\"GET\"]"),
    (
        "methods = [\"GET\", \"PUT\"]\ncomponent = \"api\"",
        "methods = [\"GET\", \"PUT\"]\ncomponent = \"web\"",
    ),
];

#[test]
fn any_change_of_the_manifest_has_another_digest() {
    let dir = full();
    let mut seen = vec![("nothing", digest_of(dir.path(), &token()))];
    for (from, to) in CHANGES {
        assert!(FULL.contains(from), "{from}");
        let changed = if *from == "component.web" {
            FULL.replace(from, to)
                .replace("component = \"web\"", "component = \"wed\"")
        } else {
            FULL.replacen(from, to, 1)
        };
        fs::write(dir.path().join("hostel.toml"), changed).expect("a file");
        seen.push((to, digest_of(dir.path(), &token())));
    }
    all_differ(&seen);
}

#[test]
fn a_manifest_gets_no_more_than_the_operator_s_ceiling() {
    let dir = full();
    let limits = |operator: &Operator| {
        let app = resolve(dir.path(), operator).expect("a good manifest").app;
        app.components[0].limits.clone()
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let asked = limits(&token());
    let lowered = limits(&Operator {
        ceilings: vec![pair("random", "1KiB"), pair("handles", "100000")],
        ..token()
    });
    assert_eq!(lowered.random_bytes, 1024, "a default is lowered");
    assert_eq!(lowered.handles, asked.handles, "and never raised");
    let own = limits(&Operator {
        ceilings: vec![pair("random", "1KiB")],
        limits: vec![pair("random", "2KiB")],
        ..token()
    });
    assert_eq!(
        own.random_bytes, 2048,
        "the operator's own word is the last"
    );
}

#[test]
fn any_change_of_the_operator_has_another_digest() {
    let dir = full();
    let mut seen = vec![("nothing", digest_of(dir.path(), &token()))];
    let operators = [
        Operator {
            env: pairs(&[("A", "b")]),
            ..token()
        },
        Operator {
            grants: vec!["tcp=*:*".parse().expect("a grant")],
            ..token()
        },
        Operator {
            limits: pairs(&[("random", "1KiB")]),
            ..token()
        },
        Operator {
            vars: pairs(&[("token", "other")]).into_iter().collect(),
            ..token()
        },
        Operator {
            dirs: vec!["src::/x".parse().expect("a directory")],
            ..token()
        },
        Operator {
            dirs: vec!["src::/x:ro".parse().expect("a directory")],
            ..token()
        },
    ];
    seen.extend(
        operators
            .iter()
            .map(|operator| ("operator", digest_of(dir.path(), operator))),
    );
    for limit in Limits::keys() {
        let other = Operator {
            limits: pairs(&[(limit.name, limit_text(limit))]),
            ..token()
        };
        seen.push((limit.name, digest_of(dir.path(), &other)));
    }
    fs::write(dir.path().join("web.wasm"), [WASM, b"\0"].concat()).expect("a file");
    seen.push(("other bytes", digest_of(dir.path(), &token())));
    all_differ(&seen);
}

fn all_differ(seen: &[(&str, Digest)]) {
    for (index, (what, digest)) in seen.iter().enumerate() {
        let same = seen
            .iter()
            .take(index)
            .find(|(_, earlier)| earlier == digest);
        assert!(same.is_none(), "{what} has the digest of {same:?}");
    }
}

/// A value of the limit that nothing else in these tests uses.
fn limit_text(limit: &limits::Limit) -> &'static str {
    match limit.unit {
        // Some cannot be as large.
        limits::Unit::Bytes | limits::Unit::BytesPerSecond if limit.ceiling < 99 << 10 => "999B",
        limits::Unit::Bytes | limits::Unit::BytesPerSecond => "99KiB",
        limits::Unit::Milliseconds => "99ms",
        limits::Unit::Count => "99",
    }
}

#[test]
fn a_digest_is_printed_with_its_kind() {
    let text = Digest::of(b"").to_string();
    assert_eq!(
        text,
        "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    );
}

// Bounds. What the messages say is in the golden files; here is the other side of each bound.

fn manifest(dir: &TempDir, text: &str) -> Result<Resolved, ManifestErrors> {
    fs::write(dir.path().join("hostel.toml"), text).expect("a file");
    resolve(dir.path(), &Operator::default())
}

const SMALL: &str =
    "[app]\nname = \"a\"\n[[http]]\nroute = \"/...\"\ncomponent = \"a\"\n[component.a]\nsource = ";

#[test]
fn manifest_size_is_bounded() {
    let dir = folder(&[]);
    let most = limits::MANIFEST_BYTES_MAX.size();
    let text = format!("{SMALL}\"(module)\"\n#");
    let filler = "x".repeat(most - text.len());
    manifest(&dir, &format!("{text}{filler}")).expect("exactly as large as it may be");
    assert_eq!(
        first_error(manifest(&dir, &format!("{text}{filler}x"))).0,
        Kind::TooLarge
    );
}

#[test]
fn component_size_is_bounded() {
    let dir = folder(&[("a.wasm", WASM)]);
    let file = fs::File::options()
        .write(true)
        .open(dir.path().join("a.wasm"))
        .expect("a file");
    let set = |bytes: u64| file.set_len(bytes).expect("a sparse file");
    set(limits::COMPONENT_BYTES_MAX.default + 1);
    assert_eq!(
        first_error(manifest(&dir, &format!("{SMALL}\"a.wasm\""))).0,
        Kind::BadSource
    );
    let bare = resolve(&dir.path().join("a.wasm"), &Operator::default());
    assert!(first_error(bare).1.ends_with("it is larger than 256MiB"));

    // Five times what fits four times: refused before anything is read.
    set(limits::COMPONENT_BYTES_MAX.default);
    let more: String = (0..4)
        .map(|n| format!("\n[component.b{n}]\nsource = \"a.wasm\""))
        .collect();
    let (kind, what) = first_error(manifest(&dir, &format!("{SMALL}\"a.wasm\"{more}")));
    assert_eq!(
        (kind, what.as_str()),
        (
            Kind::BadSource,
            "the components together are larger than 1GiB"
        )
    );
    set(1 << 20);
    assert_eq!(
        manifest(&dir, &format!("{SMALL}\"a.wasm\"{more}"))
            .expect("five")
            .code
            .len(),
        5
    );
}

#[test]
fn components_are_bounded() {
    let dir = folder(&[]);
    let most = limits::COMPONENTS_MAX.size();
    let more = |count: usize| -> String {
        (0..count)
            .map(|n| format!("\n[component.b{n}]\nsource = \"(module)\""))
            .collect()
    };
    let text = format!("{SMALL}\"(module)\"{}", more(most - 1));
    assert_eq!(
        manifest(&dir, &text)
            .expect("as many as may be")
            .app
            .components
            .len(),
        most
    );
    assert_eq!(
        first_error(manifest(
            &dir,
            &format!("{SMALL}\"(module)\"{}", more(most))
        ))
        .0,
        Kind::TooMany
    );
}

#[test]
fn routes_are_bounded() {
    let dir = folder(&[]);
    let most = limits::ROUTES_MAX.size();
    let more = |count: usize| -> String {
        (0..count)
            .map(|n| format!("[[http]]\nroute = \"/{n}\"\ncomponent = \"a\"\n"))
            .collect()
    };
    let text = |count| format!("{}{SMALL}\"(module)\"", more(count));
    let app = manifest(&dir, &text(most - 1))
        .expect("as many as may be")
        .app;
    assert_eq!(app.routes.all().len(), most);
    assert!(
        matches!(app.routes.find(None, "GET", "/9998"), Match::Found(route) if route.pattern == "/9998")
    );
    assert_eq!(first_error(manifest(&dir, &text(most))).0, Kind::TooMany);
}

const MESSAGE: &str = "[[message]]\ntopic = \"a.*\"\ncomponent = \"a\"\n";

#[test]
fn messages_have_defaults_and_each_setting_is_part_of_the_digest() {
    let dir = folder(&[]);
    let trigger = |text: &str| manifest(&dir, &format!("{text}{SMALL}\"(module)\""));
    let plain = trigger(MESSAGE).expect("a good manifest").app;
    let [message] = plain.messages.as_slice() else {
        panic!("{:?}", plain.messages)
    };
    assert_eq!(
        (
            message.topic.as_str(),
            message.group.as_str(),
            message.client.as_str()
        ),
        ("a.*", "a", "default")
    );
    assert_eq!(
        (message.component, message.concurrency, message.deliveries),
        (
            0,
            limits::MESSAGE_CONCURRENCY.count(),
            limits::MESSAGE_DELIVERIES.count()
        )
    );
    assert_eq!(message.dead_letter, None);
    assert_eq!((&message.ordered_by, &message.export), (&None, &None));
    let mut seen = BTreeSet::from([plain.digest]);
    for setting in [
        "group = \"b\"",
        "client = \"b\"",
        "concurrency = 2",
        "deliveries = 2",
        "dead_letter = \"b\"",
        "ordered_by = \"topic\"",
        "ordered_by = \"metadata:topic\"",
        "ordered_by = \"metadata:shop\"",
        "export = \"on-order\"",
        "export = \"shop:orders/events#on-order\"",
    ] {
        let app = trigger(&format!("{MESSAGE}{setting}\n"))
            .expect(setting)
            .app;
        assert!(seen.insert(app.digest), "{setting}");
    }
    let other = trigger(&MESSAGE.replace("a.*", "a.>"))
        .expect("a pattern")
        .app;
    assert!(seen.insert(other.digest));
    let twice = MESSAGE.replace("a.*", "b") + MESSAGE;
    assert!(seen.insert(trigger(&twice).expect("two").app.digest));
}

#[test]
fn message_triggers_are_bounded() {
    let dir = folder(&[]);
    let most = limits::MESSAGES_MAX.size();
    let text = |count: usize| -> String {
        let one = |n| MESSAGE.replace("a.*", &format!("a.{n}"));
        format!(
            "{}{SMALL}\"(module)\"",
            (0..count).map(one).collect::<String>()
        )
    };
    let app = manifest(&dir, &text(most)).expect("as many as may be").app;
    assert_eq!(app.messages.len(), most);
    assert_eq!(
        first_error(manifest(&dir, &text(most + 1))).0,
        Kind::TooMany
    );
}

#[test]
fn cron_and_service_triggers_are_bounded() {
    let dir = folder(&[]);
    let cron = |_| "[[cron]]\nschedule = \"* * * * *\"\ncomponent = \"a\"\n".to_owned();
    let service = |number| {
        format!(
            "[[service]]\ncomponent = \"a{number}\"\n[component.a{number}]\nsource = \"(module)\"\n"
        )
    };
    let cases: [(&dyn Fn(usize) -> String, usize); 2] = [
        (&cron, limits::CRONS_MAX.size()),
        (&service, limits::SERVICES_MAX.size()),
    ];
    for (one, most) in cases {
        let text = |count: usize| {
            let all: String = (0..count).map(one).collect();
            format!("{all}{SMALL}\"(module)\"")
        };
        let app = manifest(&dir, &text(most)).expect("as many as may be").app;
        assert_eq!(app.crons.len() + app.services.len(), most);
        assert_eq!(
            first_error(manifest(&dir, &text(most + 1))).0,
            Kind::TooMany
        );
    }
}

#[test]
fn a_grant_whose_address_the_operator_gave_is_the_operator_s() {
    let dir = folder(&[]);
    let text = format!(
        "[variables]\nurl = {{ required = true }}\nport = \"8080\"\nbroker = \"10.0.0.1:9000\"\n\
         {SMALL}\"(module)\"\n[component.a.grants]\n\
         http = [\"{{{{ url }}}}\", \"http://127.0.0.1:{{{{ port }}}}\", \"https://example.com\"]\n\
         tcp = [\"{{{{ broker }}}}\"]\nlisten = [\"{{{{ broker }}}}\"]\n"
    );
    let given = |vars: &[(&str, &str)]| {
        let var = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let operator = Operator {
            vars: vars.iter().map(var).collect(),
            ..Operator::default()
        };
        fs::write(dir.path().join("hostel.toml"), &text).unwrap();
        resolve(dir.path(), &operator)
    };
    let app = given(&[("url", "http://127.0.0.1:9/events?x#y"), ("port", "81")]);
    let grants = &app.unwrap().app.components[0].grants;
    let shown = |grants: &[hostel_app::grant::HttpGrant]| -> Vec<String> {
        grants.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        shown(&grants.http),
        [
            "https://example.com",
            "http://127.0.0.1:9",
            "http://127.0.0.1:81"
        ]
    );
    // The port alone names no address, and a default is the author's word.
    assert_eq!(shown(&grants.operator.http), ["http://127.0.0.1:9"]);
    assert_eq!(grants.tcp[0].to_string(), "10.0.0.1:9000");
    assert_eq!(grants.listen.len(), 1);
    assert!(grants.operator.tcp.is_empty());
    // Nor does one of the operator's file, which is for all apps.
    let file = dir.path().join("server.toml");
    fs::write(&file, "[variables]\nurl = \"http://127.0.0.1:9\"\n").unwrap();
    let operator = Operator {
        server: hostel_app::ServerConfig::read(&file).unwrap().into(),
        ..Operator::default()
    };
    let app = resolve(dir.path(), &operator).unwrap().app;
    let grants = &app.components[0].grants;
    assert_eq!(grants.http[1].to_string(), "http://127.0.0.1:9");
    assert!(grants.operator.http.is_empty());
    for url in ["", "ftp://x", "http://"] {
        let (kind, _) = first_error(given(&[("url", url)]));
        assert_eq!(kind, Kind::BadGrant, "{url:?}");
    }
    assert_eq!(first_error(given(&[])).0, Kind::MissingVariable);
}

#[test]
fn grants_are_bounded() {
    let dir = folder(&[]);
    let most = limits::GRANTS_MAX.size();
    let list = |count: usize| "\"10.0.0.1:*\",".repeat(count);
    let text = |count| {
        format!(
            "{SMALL}\"(module)\"\n[component.a.grants]\ntcp = [{}]\n",
            list(count)
        )
    };
    let app = manifest(&dir, &text(most)).expect("as many as may be").app;
    assert_eq!(app.components[0].grants.tcp.len(), most);
    assert_eq!(
        first_error(manifest(&dir, &text(most + 1))).0,
        Kind::TooMany
    );
    let files: String = (0..=most)
        .map(|n| format!("\"/{n}\" = {{ host = \".\" }},"))
        .collect();
    let text = format!("{SMALL}\"(module)\"\n[component.a.grants]\nfiles = {{ {files} }}\n");
    assert_eq!(first_error(manifest(&dir, &text)).0, Kind::TooMany);
}

#[test]
fn a_megabyte_of_anything_is_judged() {
    // Each would take minutes if its pieces were compared with one another.
    let dir = folder(&[]);
    let letters = |n: usize| -> String {
        (0..4)
            .map(|at| char::from(b'A' + (n / 26_usize.pow(at) % 26) as u8))
            .collect()
    };
    let methods = |range: std::ops::Range<usize>| -> String {
        range.map(|n| format!("\"{}\",", letters(n))).collect()
    };
    let one_route =
        |methods| format!("[[http]]\nroute = \"/\"\ncomponent = \"a\"\nmethods = [{methods}]\n");
    let routes: String = (0..2)
        .map(|half| one_route(methods(half * 60_000..(half + 1) * 60_000)))
        .collect();
    manifest(&dir, &format!("{routes}{SMALL}\"(module)\"")).expect("many methods");
    let unknown: String = (0..50_000).map(|n| format!("\nmemor{n} = 1")).collect();
    let strangers: String = (0..9_000)
        .map(|n| format!("[[http]]\nroute = \"/{n}\"\ncomponent = \"b{n}\"\n"))
        .collect();
    for (text, kind) in [
        (
            format!("{SMALL}\"(module)\"\n[component.a.limits]{unknown}"),
            Kind::UnknownKey,
        ),
        (
            format!("{strangers}{SMALL}\"(module)\""),
            Kind::UnknownComponent,
        ),
        ("= \n".repeat(300_000), Kind::Syntax),
        ("x = [\n".repeat(150_000), Kind::Syntax),
        (format!("a = \"{}", "\\q".repeat(500_000)), Kind::Syntax),
    ] {
        assert_eq!(first_error(manifest(&dir, &text)).0, kind);
    }
}

fn length(text: &Text) -> usize {
    text.constant().expect("no variable is left").len()
}

#[test]
fn expansion_is_bounded() {
    let dir = folder(&[]);
    let most = limits::EXPANDED_BYTES_MAX.size();
    let text = |uses: usize, rest: usize| {
        format!(
            "{SMALL}\"(module)\"\nargs = [\"{}\"]\nenv = {{ E = \"{}\" }}\n[variables]\nv = \"{}\"\n",
            "{{v}}".repeat(uses),
            "x".repeat(rest),
            "x".repeat(4096)
        )
    };
    let app = manifest(&dir, &text(most / 4096 - 1, 4096))
        .expect("exactly as much as may be")
        .app;
    assert_eq!(
        length(&app.components[0].args[0]) + length(&app.components[0].env[0].1),
        most
    );
    assert_eq!(
        first_error(manifest(&dir, &text(most / 4096 - 1, 4097))).0,
        Kind::TooMany
    );
    assert_eq!(
        first_error(manifest(&dir, &text(50_000, 1))).0,
        Kind::TooMany
    );
}

// Hostile and unlucky input.

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_trouble() {
    let dir = folder(&[]);
    let text = format!("\u{feff}{SMALL}\"(module)\"\n").replace('\n', "\r\n");
    manifest(&dir, &text).expect("a good manifest");
    let errors = manifest(&dir, &text.replace("name", "nmae"))
        .expect_err("an unknown key")
        .0;
    assert_eq!((errors[1].line, errors[1].column), (Some(2), Some(1)));
    let errors = manifest(&dir, "\u{feff}nmae = 1\r\n")
        .expect_err("an unknown key")
        .0;
    assert_eq!((errors[0].line, errors[0].column), (Some(1), Some(1)));
}

#[test]
fn deep_nesting_is_refused_without_overflowing_the_stack() {
    let dir = folder(&[]);
    let many = 300_000;
    for text in [
        format!("a = {}", "[".repeat(many)),
        format!("a = {}", "{a=".repeat(many)),
        format!("{}b = 1", "a.".repeat(many)),
        format!("[{}b]", "a.".repeat(many)),
        format!("[[{}b]]", "a.".repeat(many)),
        format!("a = {}{}", "[".repeat(79), "]".repeat(79)),
        format!("[component.{}b]", "a.".repeat(70)),
    ] {
        assert!(matches!(
            first_error(manifest(&dir, &text)).0,
            Kind::Syntax | Kind::UnknownKey | Kind::MissingKey
        ));
    }
}

#[test]
fn what_is_no_manifest_is_refused() {
    let dir = folder(&[
        ("hostel.toml", b""),
        ("nul.toml", b"\0\0\0\0"),
        ("dir.toml/", b""),
        ("short", b"\0as"),
    ]);
    let error = |path: PathBuf| first_error(resolve(&path, &Operator::default())).0;
    assert_eq!(error(dir.path().to_owned()), Kind::MissingKey);
    assert_eq!(error(dir.path().join("nul.toml")), Kind::Syntax);
    assert_eq!(error(dir.path().join("dir.toml")), Kind::Unreadable);
    assert_eq!(error(dir.path().join("short")), Kind::NotAManifest);
    assert_eq!(error(dir.path().join("hostel.toml/x")), Kind::Unreadable);
    assert_eq!(error(dir.path().join("a\0b")), Kind::Unreadable);
    assert_eq!(error(PathBuf::new()), Kind::Unreadable);
    assert_eq!(error(PathBuf::from("/dev/null")), Kind::NotAManifest);
    assert_eq!(error(PathBuf::from("/dev/zero")), Kind::NotAManifest);
}

#[test]
fn a_source_that_never_ends_is_not_read() {
    let dir = folder(&[]);
    for device in ["/dev/zero", "/dev/null"] {
        let (kind, what) = first_error(manifest(&dir, &format!("{SMALL}\"{device}\"")));
        assert_eq!(
            (kind, what),
            (
                Kind::BadSource,
                format!("cannot read the component \"{device}\": it is not a file")
            )
        );
    }
}

mod any_text {
    use proptest::prelude::*;

    use super::*;

    /// Pieces that manifests are made of, so that random text gets past the parser now and then.
    fn piece() -> impl Strategy<Value = String> {
        let known = [
            "[app]",
            "[[app]]",
            "name",
            "=",
            "\"a\"",
            "\n",
            "[component.a]",
            "source",
            "\"(module)\"",
            "[[http]]",
            "route",
            "\"/...\"",
            "\"/:x/%41\"",
            "component",
            "[variables]",
            "{",
            "}",
            "[",
            "]",
            ",",
            ".",
            "limits",
            "grants",
            "memory",
            "\"1MiB\"",
            "reuse",
            "0",
            "-1",
            "1.5",
            "true",
            "files",
            "host",
            "write",
            "methods",
            "\"GET\"",
            "tcp",
            "\"10.0.0.5:*\"",
            "http",
            "\"*://*:*\"",
            "config",
            "env",
            "args",
            "\"{{ a }}\"",
            "\"{{\"",
            "required",
            "default",
            "1979-05-27",
            "\"\"\"",
            "'",
            "#",
            "\u{feff}",
            "\0",
            "ü",
        ];
        prop_oneof![9 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => ".{0,3}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn never_panics_and_never_fails_silently(pieces in proptest::collection::vec(piece(), 0..60)) {
            let dir = folder(&[]);
            if let Err(errors) = manifest(&dir, &pieces.join(" ")) {
                prop_assert!(!errors.0.is_empty());
                prop_assert!(errors.0.iter().all(|error| !error.what.is_empty()));
                prop_assert!(errors.to_string().starts_with("error: "));
            }
        }

        /// A good manifest with one stretch of it replaced.
        #[test]
        fn a_damaged_manifest_never_panics(at in 0..FULL.len(), length in 0..40_usize, instead in "\\PC{0,8}|[\\[\\]{}=\"\\n.]{0,8}") {
            let dir = folder(&[("web.wasm", WASM), ("site/", b""), ("data/", b"")]);
            let end = (at + length).min(FULL.len());
            let text = format!("{}{instead}{}", &FULL[..at], &FULL[end..]);
            if let Err(errors) = manifest(&dir, &text) {
                prop_assert!(!errors.0.is_empty());
                prop_assert!(errors.0.iter().all(|error| error.line.is_none_or(|line| line <= text.lines().count() + 1)));
            }
        }
    }
}

#[test]
fn components_name_each_other_and_callees_come_first() {
    let text = r#"
[app]
name = "shop"
[component.a]
source = "(module)"
[component.a.bind]
"shop:pricing/api@1.0.0" = "b"
[component.a.grants]
http = ["http://D.app.internal"]
[component.b]
source = "(module)"
[component.b.bind]
"shop:stock/api" = "c"
[component.c]
source = "(module)"
[component.d]
source = "(module)"
[[http]]
route = "/..."
component = "a"
"#;
    let folder = folder(&[("hostel.toml", text.as_bytes())]);
    let app = resolve(folder.path(), &Operator::default())
        .expect("an app")
        .app;
    assert_eq!(app.components[0].bind["shop:pricing/api@1.0.0"], "b");
    assert_eq!(app.callees_first(), [2, 3, 1, 0]);
    let bound: Vec<bool> = (0..4).map(|index| app.is_bound(index)).collect();
    assert_eq!(bound, [false, true, true, false]);
    let called: Vec<bool> = (0..4).map(|index| app.is_neighbour(index)).collect();
    assert_eq!(called, [false, false, false, true]);
    let other = text.replace("= \"c\"", "= \"d\"");
    let folder = self::folder(&[("hostel.toml", other.as_bytes())]);
    let changed = resolve(folder.path(), &Operator::default()).expect("an app");
    assert_ne!(changed.app.digest, app.digest);
}
