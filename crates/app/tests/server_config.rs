//! What `server.toml` becomes, and what it makes of a manifest's variables.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // the lints' exception for tests misses helpers

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hostel_app::error::{Kind, ManifestErrors};
use hostel_app::server_config::Provider;
use hostel_app::{
    Component, Operator, Origin, Resolved, Secret, ServerConfig, Text, limits, resolve,
};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn read(folder: &Path, text: &str) -> Result<ServerConfig, ManifestErrors> {
    let path = folder.join("server.toml");
    fs::write(&path, text).expect("a file");
    ServerConfig::read(&path)
}

const FULL: &str = r#"
[keyvalue.default]
url = "redis://:{{ redis-password }}@127.0.0.1"
timeout = "500ms"

[keyvalue.sessions]
url = "memory:"

[blobstore.uploads]
url = "s3://bucket"

[sql.main]
url = "postgres://db/shop"

[messaging.default]
url = "nats://127.0.0.1"

[network]
allow = ["127.0.0.1", "10.0.0.0/8"]
ca = ["root.pem", "/etc/other.pem"]
identity = { certificate = "me.pem", key = "me.key" }
connect_timeout = "1s"
total_timeout = "1m"

[variables]
title = "Guests"
redis-password = { file = "secrets/redis" }
region = { env = "REGION" }

[[provider]]
kind = "directory"
path = "/run/secrets"

[[provider]]
kind = "dotenv"
path = ".env"
prefix = "SHOP_"

[[provider]]
kind = "env"
"#;

#[test]
fn an_empty_file_is_a_server() {
    let dir = folder();
    let config = read(dir.path(), "# nothing\n").expect("a good file");
    assert!(config.stores().iter().all(|(_, labels)| labels.is_empty()));
    assert!(config.variables.is_empty() && config.providers.is_empty());
    assert_eq!(
        config.file,
        dir.path().join("server.toml").display().to_string()
    );
}

#[test]
fn every_key_arrives() {
    let dir = folder();
    let config = read(dir.path(), FULL).expect("a good file");
    let default = &config.keyvalue["default"];
    assert_eq!(
        default.url.to_string(),
        "redis://:{{ redis-password }}@127.0.0.1"
    );
    assert_eq!(
        (default.timeout, default.line),
        (Some(Duration::from_millis(500)), 2)
    );
    assert_eq!(config.keyvalue["sessions"].timeout, None);
    assert_eq!(config.blobstore["uploads"].url, "s3://bucket");
    assert_eq!(config.sql["main"].url, "postgres://db/shop");
    assert_eq!(config.messaging["default"].url, "nats://127.0.0.1");
    assert_eq!(
        config.own_variables().into_iter().collect::<Vec<_>>(),
        ["redis-password"]
    );

    let network = &config.network;
    assert_eq!(network.allow, ["127.0.0.1", "10.0.0.0/8"]);
    let here = |name: &str| dir.path().join(name);
    assert_eq!(
        network.ca_files,
        [here("root.pem"), PathBuf::from("/etc/other.pem")]
    );
    assert_eq!(network.identity, Some((here("me.pem"), here("me.key"))));
    assert_eq!(network.connect_timeout, Some(Duration::from_secs(1)));
    assert_eq!(network.total_timeout, Some(Duration::from_secs(60)));

    assert_eq!(
        config.origins("title"),
        [Origin::Given(Secret::new("Guests"))]
    );
    assert_eq!(
        config.origins("redis-password"),
        [Origin::File(here("secrets/redis"))]
    );
    assert_eq!(config.origins("region"), [Origin::Env("REGION".to_owned())]);
    assert_eq!(config.providers.len(), 3);
    assert_eq!(
        config.providers[0],
        Provider::Directory("/run/secrets".into())
    );
    let elsewhere = [
        Origin::File("/run/secrets/api-key".into()),
        Origin::Dotenv {
            path: here(".env"),
            key: "SHOP_API_KEY".to_owned(),
        },
        Origin::Env("HOSTEL_VAR_API_KEY".to_owned()),
    ];
    assert_eq!(config.origins("api-key"), elsewhere);
}

#[test]
fn what_is_printed_of_it_has_no_values() {
    let dir = folder();
    let text = "[variables]\nkey = \"hunter2\"\n[keyvalue.default]\nurl = \"redis://:hunter2@a\"\n";
    let config = read(dir.path(), text).expect("a good file");
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[test]
fn providers_are_bounded() {
    let dir = folder();
    let text = |count: usize| "[[provider]]\nkind = \"env\"\n".repeat(count);
    let most = limits::PROVIDERS_MAX.size();
    let config = read(dir.path(), &text(most)).expect("as many as may be");
    assert_eq!(config.providers.len(), most);
    let errors = read(dir.path(), &text(most + 1)).expect_err("too many").0;
    assert_eq!(errors[0].kind, Kind::TooMany);
}

const MANIFEST: &str = r#"
[app]
name = "a"

[variables]
title = "default"
region = { required = true }
key = { secret = true }

[component.a]
source = "(module)"
args = ["{{ title }}"]
env = { WHERE = "{{ title }}-{{ region }}" }
config = { key = "<{{ key }}>", title = "{{ title }}" }

[component.a.grants]
secrets = ["key"]

[component.b]
source = "(module)"

[[http]]
route = "/..."
component = "a"
"#;

fn resolved(folder: &Path, operator: &Operator) -> Result<Resolved, ManifestErrors> {
    let path = folder.join("hostel.toml");
    fs::write(&path, MANIFEST).expect("a file");
    resolve(&path, operator)
}

fn operator(folder: &Path, server: &str, vars: &[(&str, &str)]) -> Operator {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let vars = vars.iter().map(pair).collect();
    let mut server = read(folder, server).expect("a good file");
    server.give(&vars);
    Operator {
        vars,
        server: Arc::new(server),
        ..Operator::default()
    }
}

fn component(folder: &Path, server: &str, vars: &[(&str, &str)]) -> Component {
    let resolved = resolved(folder, &operator(folder, server, vars)).expect("a good manifest");
    resolved.app.components[0].clone()
}

#[test]
fn what_is_given_is_filled_in_and_the_command_line_has_the_last_word() {
    let dir = folder();
    let server = "[variables]\nregion = \"eu\"\ntitle = \"server\"\nkey = \"hunter2\"\n";
    let web = component(dir.path(), server, &[]);
    assert_eq!(web.args, ["server"]);
    assert_eq!(web.env, [("WHERE".to_owned(), Text::literal("server-eu"))]);
    let web = component(dir.path(), server, &[("title", "line")]);
    assert_eq!(web.args, ["line"]);
    let web = component(dir.path(), "", &[("region", "eu"), ("key", "hunter2")]);
    assert_eq!(web.args, ["default"]);
}

#[test]
fn what_may_change_stays_a_name() {
    let dir = folder();
    let server = "[variables]\nregion = { file = \"region\" }\nkey = { env = \"KEY\" }\n";
    let web = component(dir.path(), server, &[]);
    assert_eq!(web.env[0].1.to_string(), "default-{{ region }}");
    let region = &web.variables["region"];
    assert_eq!(region.origins, [Origin::File(dir.path().join("region"))]);
    assert!(!region.secret);
    assert!(!web.variables.contains_key("title"), "it is filled in");

    // Asked of the providers, and the manifest's default after them.
    let server = "[[provider]]\nkind = \"directory\"\npath = \"d\"\n[variables]\nkey = \"x\"\n";
    let web = component(dir.path(), server, &[]);
    let title = &web.variables["title"].origins;
    let place = Origin::File(dir.path().join("d/title"));
    assert_eq!(*title, [place, Origin::Given(Secret::new("default"))]);
    // A place that was named is the only one.
    let server = "[variables]\ntitle = { file = \"t\" }\nregion = \"eu\"\nkey = \"x\"\n";
    let web = component(dir.path(), server, &[]);
    assert_eq!(web.variables["title"].origins.len(), 1);
}

#[test]
fn a_secret_is_in_no_text_and_not_in_the_digest() {
    let dir = folder();
    let app = |value: &str| {
        let vars = [("region", "eu"), ("key", value)];
        let operator = operator(dir.path(), "", &vars);
        resolved(dir.path(), &operator)
            .expect("a good manifest")
            .app
    };
    let one = app("hunter2");
    assert!(!format!("{one:?}").contains("hunter2"), "{one:?}");
    let a = &one.components[0];
    assert_eq!(a.config["key"].to_string(), "<{{ key }}>");
    assert_eq!(
        a.variables["key"].origins,
        [Origin::Given(Secret::new("hunter2"))]
    );
    assert!(a.variables["key"].secret && a.withheld.is_empty());
    let b = &one.components[1];
    assert!(b.variables.is_empty());
    assert_eq!(b.withheld.iter().collect::<Vec<_>>(), ["key"]);
    assert_eq!(one.digest, app("another").digest);
}

#[test]
fn values_that_are_kept_elsewhere_do_not_change_the_digest() {
    let dir = folder();
    let digest = |server: &str, region: &str| {
        let operator = operator(dir.path(), server, &[("key", "x"), ("region", region)]);
        resolved(dir.path(), &operator)
            .expect("a good manifest")
            .app
            .digest
    };
    let fixed = digest("", "eu");
    assert_ne!(fixed, digest("", "us"));
    let elsewhere = digest("[variables]\ntitle = { file = \"t\" }\n", "eu");
    assert_ne!(fixed, elsewhere);
    assert_eq!(
        elsewhere,
        digest("[variables]\ntitle = { env = \"T\" }\n", "eu")
    );
}

#[test]
fn a_component_without_a_manifest_gets_secrets_from_the_command_line() {
    let dir = folder();
    let path = dir.path().join("a.wat");
    fs::write(&path, "(module)").expect("a file");
    let server = "[variables]\napi-key = { file = \"k\" }\nother = \"x\"\n";
    let mut operator = operator(dir.path(), server, &[]);
    operator.grants = vec!["secrets=api-key".parse().expect("a grant")];
    let app = resolve(&path, &operator).expect("a component").app;
    let variables = &app.components[0].variables;
    assert_eq!(variables.keys().collect::<Vec<_>>(), ["api-key"]);
    assert!(variables["api-key"].secret);
}

#[test]
fn the_command_line_may_fill_the_operator_s_own_urls() {
    let dir = folder();
    let server = "[keyvalue.default]\nurl = \"redis://:{{ pass }}@a\"\n";
    let vars = [("pass", "x"), ("key", "x"), ("region", "eu")];
    let operator = operator(dir.path(), server, &vars);
    assert!(
        resolved(dir.path(), &operator).is_ok(),
        "the manifest need not declare it"
    );
    assert_eq!(
        operator.server.origins("pass"),
        [Origin::Given(Secret::new("x"))]
    );
}
