//! Manifests of other hosts: what their fields become, and what is said of those that become nothing.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // the lints' exception for tests misses helpers

use std::fs;
use std::path::Path;

use hostel_app::grant::FileGrant;
use hostel_app::route::{Match, Route};
use hostel_app::{App, Operator, Source, files, has_manifest, listens_on, resolve};
use tempfile::TempDir;

/// The files that the manifests of these tests name.
const FILES: [&str; 4] = ["a.wasm", "b.wat", "sub/a.wasm", "data/page.txt"];

fn folder(name: &str, text: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in FILES {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, file).expect("a file");
    }
    fs::write(folder.path().join(name), text).expect("a manifest");
    folder
}

fn app_of(path: &Path) -> App {
    let resolved = resolve(path, &Operator::default());
    resolved.unwrap_or_else(|errors| panic!("{errors}")).app
}

fn app(name: &str, text: &str) -> App {
    app_of(&folder(name, text).path().join(name))
}

fn errors(name: &str, text: &str, operator: &Operator) -> String {
    let folder = folder(name, text);
    let outcome = resolve(&folder.path().join(name), operator);
    outcome.expect_err("an error").to_string()
}

/// The route that answers.
fn found<'a>(app: &'a App, method: &str, path: &str) -> Option<&'a Route> {
    match app.routes.find(None, method, path) {
        Match::Found(route) => Some(route),
        _ => None,
    }
}

/// The component and the entry point that answer.
fn answers<'a>(app: &'a App, method: &str, path: &str) -> Option<(&'a str, Option<&'a str>)> {
    let route = found(app, method, path)?;
    let component = &app.components[route.component];
    Some((&component.name, route.entrypoint.as_deref()))
}

/// What is said of a manifest, without its path in front.
fn notes(app: &App) -> Vec<&str> {
    app.notes
        .iter()
        .map(|note| {
            note.split_once(".toml:")
                .map_or(note.as_str(), |(_, note)| note)
        })
        .collect()
}

/// As serverless-wasm's own, with other files.
const CONFIG: &str = r#"
listen_address = "127.0.0.1:8080"

[[applications]]
file_path = "./a.wasm"
method = "GET"
url_path = "/hello"
function = "hello"

[[applications]]
file_path = "./a.wasm"
method = "GET"
url_path = "/bonjour"
function = "bonjour"

[[applications]]
file_path = "b.wat"
method = "POST"
url_path = "/:literal/..."
env = { "/env/backend"= "127.0.0.1:8181", text = "{{ not a variable }}" }
"#;

#[test]
fn a_config_toml_becomes_an_app() {
    let app = app("config.toml", CONFIG);
    assert_eq!(
        app.listen.as_ref().map(ToString::to_string).as_deref(),
        Some("127.0.0.1:8080")
    );
    assert_eq!(app.notes, [] as [&str; 0]);
    let names: Vec<&str> = app.components.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(
        names,
        ["a", "b"],
        "two functions of one file are one component"
    );
    let config: Vec<_> = app.components[1].config.iter().collect();
    let texts: Vec<_> = config
        .iter()
        .map(|(name, value)| (name.as_str(), value.constant().map(|text| text.to_string())))
        .collect();
    assert_eq!(
        texts,
        [
            ("/env/backend", Some("127.0.0.1:8181".to_owned())),
            ("text", Some("{{ not a variable }}".to_owned()))
        ]
    );
    assert!(app.components[1].env.is_empty());
    let grants = &app.components[1].grants;
    assert!(grants.tcp.is_empty() && grants.http.is_empty() && grants.files.is_empty());
    assert_eq!(app.health, None);
}

#[test]
fn its_requests_are_chosen_by_method_and_exact_path() {
    let app = app("config.toml", CONFIG);
    for (method, path, expected) in [
        ("GET", "/hello", Some(("a", Some("hello")))),
        ("HEAD", "/hello", Some(("a", Some("hello")))),
        ("GET", "/bonjour", Some(("a", Some("bonjour")))),
        ("POST", "/hello", None),
        ("GET", "/hello/", None),
        ("GET", "/", None),
        ("POST", "/:literal/...", Some(("b", Some("handle")))),
        ("POST", "/x/...", None),
        ("POST", "/:literal/y", None),
        ("HEAD", "/:literal/...", None),
    ] {
        assert_eq!(answers(&app, method, path), expected, "{method} {path}");
    }
}

#[test]
fn whoever_answers_get_leaves_head_to_whoever_asked_for_it() {
    let text = CONFIG.to_owned()
        + "[[applications]]\nfile_path = \"b.wat\"\nmethod = \"HEAD\"\nurl_path = \"/%68ello\"\n";
    let app = app("config.toml", &text);
    assert_eq!(
        answers(&app, "HEAD", "/hello"),
        Some(("b-2", Some("handle"))),
        "another env"
    );
    assert_eq!(answers(&app, "GET", "/hello"), Some(("a", Some("hello"))));
}

#[test]
fn of_two_applications_for_one_request_the_first_answers_and_that_is_said() {
    let text = CONFIG.to_owned()
        + "[[applications]]\nfile_path = \"gone.wasm\"\nmethod = \"GET\"\nurl_path = \"/hello\"\n";
    let app = app("config.toml", &text);
    assert_eq!(answers(&app, "GET", "/hello"), Some(("a", Some("hello"))));
    assert_eq!(
        notes(&app),
        ["21: GET /hello is answered by the application on line 4; this one is never called"]
    );
}

#[test]
fn an_app_is_named_after_its_folder_or_its_file() {
    let folder = folder("config.toml", CONFIG);
    let shop = folder.path().join("my shop");
    fs::create_dir(&shop).expect("a folder");
    let text = CONFIG
        .replace("a.wasm", "../a.wasm")
        .replace("b.wat", "../b.wat");
    for (name, expected) in [
        ("config.toml", "my-shop"),
        ("modules.toml", "my-shop"),
        ("shop.toml", "shop"),
    ] {
        fs::write(shop.join(name), &text).expect("a manifest");
        assert_eq!(app_of(&shop.join(name)).name, expected);
    }
}

/// All that a `modules.toml` can say, but for what is refused.
const MODULES: &str = r#"
default_host = "localhost:3000"

[[module]]
route = "/"
module = "b.wat"

[[module]]
route = "/hello/..."
module = "a.wasm"
entrypoint = "hello"
bindle_server = "http://localhost:8080/v1"
repository = "none"

[[module]]
route = "/full/:x"
module = "a.wasm"
volumes = { "/data" = "data", "/gone" = "nowhere" }
allowed_hosts = ["https://www.fermyon.com", "http://user@[2001:db8::1]:80/path?q"]
http_max_concurrency = 7
argv = "${SCRIPT_NAME} ${ARGS}"

[[module]]
route = "/hello/world"
module = "a.wasm"
entrypoint = "world"
"#;

#[test]
fn a_modules_toml_becomes_an_app() {
    let folder = folder("modules.toml", MODULES);
    let app = app_of(&folder.path().join("modules.toml"));
    let names: Vec<&str> = app.components.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(
        names,
        ["a", "a-2", "b"],
        "one with the same settings is the same"
    );
    for (path, expected) in [
        ("/", Some(("b", None))),
        ("/hello", Some(("a", Some("hello")))),
        ("/hello/there/you", Some(("a", Some("hello")))),
        ("/hello/world", Some(("a", Some("world")))),
        ("/full/:x", Some(("a-2", None))),
        ("/full/y", None),
        ("/elsewhere", None),
    ] {
        assert_eq!(answers(&app, "PATCH", path), expected, "{path}");
    }
    let full = &app.components[1];
    let hosts: Vec<String> = full.grants.http.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["*://www.fermyon.com:*", "*://[2001:db8::1]:*"]);
    assert!(
        full.grants.operator.http.is_empty(),
        "the file's author is not the operator"
    );
    let files = &full.grants.files;
    assert_eq!(
        (files.len(), files[0].guest.as_str(), files[0].write),
        (1, "/data", true)
    );
    assert_eq!(files[0].host, folder.path().join("data"));
    assert_eq!(full.limits.http_sessions, 7);
    assert_eq!(full.cgi.argv.as_deref(), Some("${SCRIPT_NAME} ${ARGS}"));
    assert_eq!(app.components[0].limits.http_sessions, 42);
    assert_eq!(
        (app.health.as_deref(), app.listen.as_ref()),
        (Some("/healthz"), None)
    );
    assert_eq!(
        notes(&app),
        [
            "2: the key \"default_host\" is ignored",
            "13: the key \"repository\" is ignored",
            "18: there is no directory \"nowhere\"; the module runs without its volume \"/gone\"",
        ]
    );
}

#[test]
fn the_first_of_two_modules_with_one_route_answers_and_the_health_check_before_all() {
    let text = "[[modules]]\nroute = \"/a\"\nmodule = \"a.wasm\"\n[[modules]]\nroute = \"/a\"\nmodule = \"b.wat\"\n\
                [[modules]]\nroute = \"/healthz\"\nmodule = \"b.wat\"\n";
    let app = app("modules.toml", text);
    assert_eq!(answers(&app, "GET", "/a"), Some(("a", None)));
    assert_eq!(
        notes(&app),
        [
            "5: the route \"/a\" is answered by the module on line 1; this one is never called",
            "the route \"/healthz\" is never called: the health check answers there",
        ]
    );
}

#[test]
fn a_module_is_a_path_or_a_file_url() {
    let folder = folder("modules.toml", "");
    let here = folder.path().display().to_string();
    for (reference, file) in [
        ("a.wasm".to_owned(), "a.wasm"),
        ("./sub/a.wasm".to_owned(), "sub/a.wasm"),
        (format!("{here}/a.wasm"), "a.wasm"),
        (format!("file://{here}/a.wasm"), "a.wasm"),
        // A template whose folder begins with a slash of its own.
        (format!("file:///{here}/a.wasm"), "a.wasm"),
        (format!("file://localhost{here}/a%2ewasm"), "a.wasm"),
        ("file:sub/a.wasm".to_owned(), "sub/a.wasm"),
    ] {
        let text = format!("[[module]]\nroute = \"/...\"\nmodule = \"{reference}\"\n");
        fs::write(folder.path().join("modules.toml"), text).expect("a manifest");
        let resolved = resolve(folder.path(), &Operator::default());
        let resolved = resolved.unwrap_or_else(|errors| panic!("{reference}: {errors}"));
        assert_eq!(resolved.code[0], file.as_bytes(), "{reference}");
        assert!(matches!(
            &resolved.app.components[0].source,
            Source::File(_)
        ));
    }
}

#[test]
fn a_volume_outside_the_folder_is_the_operator_s_to_give() {
    let outside = tempfile::tempdir().expect("a folder");
    let host = outside.path().display().to_string();
    let text = format!(
        "[[module]]\nroute = \"/...\"\nmodule = \"a.wasm\"\nvolumes = {{ \"/data\" = \"{host}\" }}\n"
    );
    let refused = errors("modules.toml", &text, &Operator::default());
    assert!(
        refused.contains("is outside the manifest's folder"),
        "{refused}"
    );
    assert!(
        refused.contains(&format!("--dir {host}::/data")),
        "{refused}"
    );
    let folder = folder("modules.toml", &text);
    let grant = FileGrant::new("/data", outside.path(), false).expect("a grant");
    let operator = Operator {
        dirs: vec![grant.clone()],
        ..Operator::default()
    };
    let resolved = resolve(folder.path(), &operator).expect("the operator gave it");
    assert_eq!(resolved.app.components[0].grants.files, [grant]);
}

#[test]
fn allowed_hosts_are_urls_of_which_the_host_counts() {
    let module = |hosts: &str| {
        format!("[[module]]\nroute = \"/...\"\nmodule = \"a.wasm\"\nallowed_hosts = [{hosts}]\n")
    };
    let all = app("modules.toml", &module("\"insecure:allow-all\""));
    let grant = &all.components[0].grants.http[0];
    assert!(grant.permits("http", "any.example", 8080) && grant.permits("https", "10.0.0.1", 1));
    let one = app(
        "modules.toml",
        &module("\"https://api.example.com:8443/v1\""),
    );
    let grant = &one.components[0].grants.http[0];
    assert!(grant.permits("http", "api.example.com", 80));
    assert!(!grant.permits("https", "www.example.com", 443));
    let text = errors(
        "modules.toml",
        &module("\"api.example.com\""),
        &Operator::default(),
    );
    assert!(text.contains("\"api.example.com\" is not a URL"), "{text}");
    assert!(text.contains("write \"https://api.example.com\""), "{text}");
}

#[test]
fn more_answers_at_once_than_there_can_be_are_as_many_as_there_can_be() {
    let text =
        "[[module]]\nroute = \"/...\"\nmodule = \"a.wasm\"\nhttp_max_concurrency = 4294967295\n";
    let app = app("modules.toml", text);
    assert_eq!(app.components[0].limits.http_sessions, 1024);
    assert_eq!(
        notes(&app),
        ["4: \"http_max_concurrency\" is 1024, the most that there can be"]
    );
}

#[test]
fn a_dialect_is_told_by_its_content_and_a_folder_by_its_only_manifest() {
    let named = folder("anything.toml", MODULES);
    assert_eq!(app_of(&named.path().join("anything.toml")).name, "anything");
    assert!(!has_manifest(named.path()));
    let large = folder(
        "modules.toml",
        &format!("#{}\n{MODULES}", "x".repeat(1 << 20)),
    );
    let told = resolve(large.path(), &Operator::default()).expect_err("too large");
    assert!(
        told.to_string().contains("larger than 1MiB"),
        "not that there is none: {told}"
    );
    let one = folder("config.toml", CONFIG);
    assert!(has_manifest(one.path()));
    assert_eq!(app_of(one.path()).components.len(), 2);
    fs::write(one.path().join("modules.toml"), "[package]\nname = \"x\"\n").expect("a file");
    assert_eq!(
        app_of(one.path()).components.len(),
        2,
        "that is no manifest"
    );
    fs::write(one.path().join("modules.toml"), MODULES).expect("a file");
    let both = resolve(one.path(), &Operator::default()).expect_err("two manifests");
    assert!(
        both.to_string().contains("name the one that is meant"),
        "{both}"
    );
    let ours = "[app]\nname = \"ours\"\n[[http]]\nroute = \"/...\"\ncomponent = \"a\"\n[component.a]\nsource = \"a.wasm\"\n";
    fs::write(one.path().join("hostel.toml"), ours).expect("a file");
    assert_eq!(app_of(one.path()).name, "ours");
}

#[test]
fn the_address_is_read_from_the_text_alone_and_the_files_are_watched() {
    let folder = folder("config.toml", &CONFIG.replace("a.wasm", "gone.wasm"));
    let listen = listens_on(folder.path()).map(|place| place.to_string());
    assert_eq!(listen.as_deref(), Some("127.0.0.1:8080"));
    assert_eq!(listens_on(&folder.path().join("a.wasm")), None);
    let names = ["config.toml", "gone.wasm", "b.wat"];
    let watched = files(folder.path());
    for name in names {
        assert!(
            watched.iter().any(|file| file.ends_with(name)),
            "{name}: {watched:?}"
        );
    }
    // It may come back where the command runs.
    let here = std::path::absolute("gone.wasm").expect("a path");
    assert!(watched.contains(&here), "{watched:?}");
    assert_eq!(watched.len(), 4, "{watched:?}");
    fs::write(folder.path().join("config.toml"), "listen").expect("a file");
    let watched = files(folder.path());
    assert!(
        watched.contains(&folder.path().join("config.toml")),
        "{watched:?}"
    );
}

#[test]
fn what_is_not_beside_the_file_is_looked_for_where_the_command_runs() {
    // Tests run in the folder of their crate.
    let text = "[[module]]\nroute = \"/...\"\nmodule = \"tests/dialects.rs\"\nvolumes = { \"/t\" = \"tests/golden\" }\n";
    let folder = folder("modules.toml", text);
    let refused = resolve(folder.path(), &Operator::default()).expect_err("the volume");
    assert_eq!(refused.0.len(), 1, "{refused}");
    let golden = std::path::absolute("tests/golden").expect("a path");
    let golden = golden.display();
    let what = format!("the directory \"{golden}\" is outside the manifest's folder");
    let help = format!("on the command line: --dir {golden}::/t");
    for part in [what, help] {
        assert!(refused.to_string().contains(&part), "{part}: {refused}");
    }
    let text = text.replace("volumes", "x");
    fs::write(folder.path().join("modules.toml"), &text).expect("a manifest");
    let app = app_of(folder.path());
    let Source::File(file) = &app.components[0].source else {
        panic!("a file");
    };
    assert!(
        file.is_absolute() && file.ends_with("tests/dialects.rs"),
        "{file:?}"
    );
    let note = "3: \"tests/dialects.rs\" is not beside this file; it is taken from the working directory, where WAGI looked";
    assert_eq!(notes(&app)[0], note);
}

#[test]
fn the_same_content_has_the_same_digest_and_any_change_another() {
    for (name, text) in [("config.toml", CONFIG), ("modules.toml", MODULES)] {
        let first = folder(name, text);
        let named = first.path().join("app.toml");
        fs::rename(first.path().join(name), &named).expect("a rename");
        let second = folder("app.toml", text);
        let digest = app_of(&named).digest;
        assert_eq!(digest, app_of(&second.path().join("app.toml")).digest);
        for (from, to) in [
            ("\"/hello", "\"/hullo"),
            ("127.0.0.1:8080\"", "127.0.0.1:8081\""),
            ("127.0.0.1:8181", "127.0.0.1:8182"),
            ("= 7", "= 8"),
            ("ARGS", "ARG"),
            ("\"hello\"", "\"hullo\""),
        ] {
            if text.contains(from) {
                let path = second.path().join("app.toml");
                fs::write(&path, text.replace(from, to)).expect("a manifest");
                assert_ne!(digest, app_of(&path).digest, "{from}");
            }
        }
    }
}

#[test]
fn a_damaged_file_never_panics() {
    for (name, text) in [("config.toml", CONFIG), ("modules.toml", MODULES)] {
        let folder = folder(name, text);
        let path = folder.path().join(name);
        for at in (0..text.len()).step_by(3) {
            for damaged in [
                text[..at].to_owned(),
                text[..at].to_owned() + &text[at + 1..],
            ] {
                fs::write(&path, &damaged).expect("a manifest");
                if let Err(errors) = resolve(&path, &Operator::default()) {
                    assert!(!errors.0.is_empty(), "{damaged}");
                }
            }
        }
    }
}

#[test]
fn thousands_of_modules_are_judged() {
    let module = |number: usize| {
        format!("[[module]]\nroute = \"/{number}\"\nmodule = \"a.wasm\"\nargv = \"{number}\"\n")
    };
    let text: String = (0..14_000).map(module).collect();
    let refused = errors("modules.toml", &text, &Operator::default());
    assert!(refused.contains("more than 1000 modules"), "{refused}");
}
