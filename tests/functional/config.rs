//! Configuration values and secrets: what a guest gets of them, where they come from, and that a changed one reaches the next
//! call.

use std::fs;
use std::path::Path;

use crate::harness::app::App;
use crate::harness::command::{hostel, run};
use crate::harness::server::Server;
use crate::harness::{HOST_SECRET, eventually, guest};

const MANIFEST: &str = r#"
[app]
name = "shop"

[variables]
title = "Shop"
region = { required = true }
api-key = { secret = true }
other-key = { secret = true }

[component.web]
source = "config-p2.wasm"
reuse = 1000
args = ["--in", "{{ region }}"]
env = { REGION = "in {{ region }}" }
config = { title = "{{ title }}", where = "in {{ region }}", signed = "{{ title }}:{{ api-key }}" }

[component.web.grants]
secrets = ["api-key"]

[[http]]
route = "/..."
component = "web"
"#;

const SERVER: &str = r#"
[variables]
region = { file = "region" }
other-key = "withheld-value"

[[provider]]
kind = "directory"
path = "secrets"
"#;

/// The app with a server.toml, and values in files.
fn shop() -> App {
    App::new(MANIFEST)
        .with_file("server.toml", SERVER)
        .with_file("region", "eu\n")
        .with_file("secrets/api-key", "hunter2\n")
}

fn up(app: &App) -> Server {
    let config = app.path("server.toml").display().to_string();
    app.up_with(&["--config", &config, "--threads", "1"])
}

/// What the guest says, without the number of the instance's answers.
fn said(server: &Server, query: &str) -> String {
    numbered(server, query).1
}

/// How many answers the instance has given, and what it says. Asked for once the instance before is certainly idle.
fn numbered(server: &Server, query: &str) -> (u32, String) {
    server.comes_to_rest();
    let page = server.page(&format!("/?{query}"));
    let (number, text) = page.trim_end().split_once(": ").expect("a number in front");
    (number.parse().expect("a number"), text.to_owned())
}

fn write(app: &App, file: &str, text: &str) {
    fs::write(app.path(file), text).expect("a file");
}

#[test]
fn values_variables_and_secrets_arrive() {
    let app = shop();
    let server = up(&app);
    for draft in ["", "&draft=1"] {
        let get = |key: &str| said(&server, &format!("key={key}{draft}"));
        assert_eq!(get("title"), "<Shop>");
        assert_eq!(get("where"), "<in eu>");
        assert_eq!(get("api-key"), "<hunter2>");
        assert_eq!(get("signed"), "<Shop:hunter2>");
        assert_eq!(get("region"), "none", "a variable is no key");
        assert_eq!(get("nothing"), "none");
        assert_eq!(
            said(&server, &format!("all=1{draft}")),
            "title=Shop where=in eu",
            "no secret is listed"
        );
    }
    assert_eq!(said(&server, "env=REGION"), "in eu");
    assert_eq!(said(&server, "args=1"), "web.wasm --in eu");
}

#[test]
fn a_secret_that_was_not_granted_is_refused_and_the_log_names_the_line() {
    let app = shop();
    let server = up(&app);
    let told = said(&server, "key=other-key");
    assert!(told.contains("access denied"), "{told}");
    let line = "add secrets = [\"other-key\"] to [component.web.grants]";
    server
        .stderr()
        .find("the line", |text| text.contains(line).then_some(()));
    assert!(!told.contains("withheld-value"), "{told}");
}

#[test]
fn a_changed_value_reaches_the_next_call_of_a_warm_instance() {
    let app = shop();
    let server = up(&app);
    assert_eq!(
        numbered(&server, "key=api-key"),
        (1, "<hunter2>".to_owned())
    );
    write(&app, "secrets/api-key", "hunter3\n");
    assert_eq!(
        numbered(&server, "key=api-key"),
        (2, "<hunter3>".to_owned())
    );
    assert_eq!(
        numbered(&server, "key=signed"),
        (3, "<Shop:hunter3>".to_owned())
    );

    // A provider that has no value leaves the default; one that gets it has the word.
    write(&app, "secrets/title", "Store");
    assert_eq!(numbered(&server, "key=title"), (4, "<Store>".to_owned()));
    fs::remove_file(app.path("secrets/title")).expect("a file");
    assert_eq!(numbered(&server, "key=title"), (5, "<Shop>".to_owned()));

    // As mounted secrets change: another file takes the place.
    write(&app, "secrets/next", "hunter4");
    fs::rename(app.path("secrets/next"), app.path("secrets/api-key")).expect("a rename");
    assert_eq!(
        numbered(&server, "key=api-key"),
        (6, "<hunter4>".to_owned())
    );
}

#[test]
fn a_value_that_an_instance_began_with_is_changed_with_the_instance() {
    let app = shop();
    let server = up(&app);
    assert_eq!(numbered(&server, "env=REGION"), (1, "in eu".to_owned()));
    assert_eq!(numbered(&server, "env=REGION"), (2, "in eu".to_owned()));
    write(&app, "region", "us\n");
    assert_eq!(numbered(&server, "env=REGION"), (1, "in us".to_owned()));
    assert_eq!(
        numbered(&server, "args=1"),
        (2, "web.wasm --in us".to_owned())
    );
    write(&app, "region", "us");
    assert_eq!(
        numbered(&server, "env=REGION"),
        (3, "in us".to_owned()),
        "the same value: the instance stays"
    );
}

#[test]
fn a_value_that_is_gone_is_an_error_and_an_instance_goes_on_with_its_own() {
    let app = shop();
    let server = up(&app);
    assert_eq!(said(&server, "env=REGION"), "in eu");
    fs::remove_file(app.path("region")).expect("a file");
    assert_eq!(numbered(&server, "env=REGION"), (2, "in eu".to_owned()));
    let told = said(&server, "key=where");
    assert!(told.contains("cannot be had"), "{told}");
    server.stderr().find("the operator learns of it", |text| {
        text.contains("the variable \"region\" has no value")
            .then_some(())
    });
    write(&app, "region", "back");
    assert_eq!(said(&server, "key=where"), "<in back>");
}

#[test]
fn every_provider_has_its_turn_and_the_command_line_the_last_word() {
    let manifest = "[app]\nname = \"a\"\n[variables]\na = \"default\"\nb = \"default\"\nc = \"default\"\nd = \"default\"\n\
                    [component.web]\nsource = \"config-p2.wasm\"\n\
                    config = { v = \"{{ a }} {{ b }} {{ c }} {{ d }}\" }\n\
                    [[http]]\nroute = \"/...\"\ncomponent = \"web\"\n";
    let name = HOST_SECRET.0;
    let (prefix, variable) = name.split_once("TEST_").expect("a name with a prefix");
    assert_eq!((prefix, variable), ("HOSTEL_", "SECRET"));
    let server = "[variables]\na = { env = \"HOSTEL_TEST_SECRET\" }\n\
                  [[provider]]\nkind = \"dotenv\"\npath = \".env\"\nprefix = \"MY_\"\n\
                  [[provider]]\nkind = \"directory\"\npath = \"d\"\n[[provider]]\nkind = \"env\"\n";
    let app = App::new(manifest)
        .with_file("server.toml", server)
        .with_file(".env", "MY_B='from the file'\nA=x\n")
        .with_file("d/b", "later")
        .with_file("d/c", "from the folder");
    let config = app.path("server.toml").display().to_string();
    let server = app.up_with(&["--config", &config]);
    assert_eq!(
        said(&server, "key=v"),
        format!("<{} from the file from the folder default>", HOST_SECRET.1)
    );
    drop(server);
    let server = app.up_with(&["--config", &config, "--var", "a=given", "--var", "b=given"]);
    assert_eq!(
        said(&server, "key=v"),
        "<given given from the folder default>"
    );
}

#[test]
fn a_component_without_a_manifest_gets_secrets_by_the_operator_s_word() {
    let app = App::new("").with_file("server.toml", "[variables]\nkey = { file = \"key\" }\n");
    let app = app.with_file("key", "hunter2");
    let config = app.path("server.toml").display().to_string();
    let server = Server::with(
        "config-p2",
        &["--config", &config, "--grant", "secrets=key"],
    );
    assert_eq!(said(&server, "key=key"), "<hunter2>");
    let none = Server::with("config-p2", &["--config", &config]);
    assert_eq!(said(&none, "key=key"), "none");
}

#[test]
fn a_program_in_the_foreground_has_the_operator_s_file_too() {
    let app = App::new("").with_file("server.toml", "[variables]\nkey = { file = \"missing\" }\n");
    let config = app.path("server.toml").display().to_string();
    let flags = ["--config", &config, "--grant", "secrets=key"];
    let outcome = run(&flags, &guest("run-exit-p2"), &["0"], b"");
    let error = outcome.failure(1);
    assert!(
        error.contains("the variable \"key\" has no value"),
        "{error}"
    );
    let outcome = run(&flags[..2], &guest("run-exit-p2"), &["0"], b"");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
}

const SECRET: &str = "s3cr3t-v4lue";

/// The operator's file of an app whose variables are secret, with the store at this place.
fn secretive_file(url: &str) -> String {
    format!(
        "[variables]\nregion = \"eu\"\napi-key = \"{SECRET}\"\nother-key = {{ file = \"other\" }}\npass = \"{SECRET}\"\n\
         [keyvalue.default]\nurl = \"{url}\"\ntimeout = \"500ms\"\n"
    )
}

/// Such an app.
fn secretive(url: &str) -> App {
    let manifest = MANIFEST.replace(
        "secrets = [\"api-key\"]",
        "secrets = [\"api-key\"]\nkeyvalue = [\"default\"]",
    );
    App::new(&manifest)
        .with_file("other", SECRET)
        .with_file("server.toml", secretive_file(url))
}

/// Everything that the process says on its own, in every format, must not hold a secret's value.
#[test]
fn no_output_of_the_host_s_own_holds_a_secret() {
    let app = secretive("memory:");
    let folder = app.folder().display().to_string();
    let config = app.path("server.toml").display().to_string();
    let mut said_by_host = String::new();
    let mut hear = |arguments: &[&str]| {
        let outcome = hostel(arguments);
        said_by_host.push_str(&outcome.text());
        said_by_host.push_str(&outcome.stderr);
        outcome.code
    };
    // What is right, and what is wrong in every way that holds the value.
    assert_eq!(
        hear(&["check", &folder, "--config", &config, "--format", "json"]),
        Some(0)
    );
    assert_eq!(hear(&["check", &folder, "--config", &config]), Some(0));
    let wasm = app.path("config-p2.wasm").display().to_string();
    assert_eq!(hear(&["inspect", &wasm, "--format", "json"]), Some(0));
    for url in [
        "redis://u:{{ pass }}@127.0.0.1:1",
        "redis://u:{{ pass }}@[bad",
        "{{ pass }}",
        "mysql://u:{{ pass }}@127.0.0.1",
        &format!("nats://u:{SECRET}@127.0.0.1:1"),
        "{{ pass }}:{{ pass }}",
        "embedded:?{{ pass }}",
    ] {
        write(&app, "server.toml", &secretive_file(url));
        assert_eq!(
            hear(&["check", "--config", &config, "--format", "json"]),
            Some(1),
            "{url}"
        );
        assert_eq!(
            hear(&["check", &folder, "--config", &config]),
            Some(1),
            "{url}"
        );
    }
    for broken in [
        format!("[variables]\napi-key = {SECRET}\n"),
        format!("[variables]\napi-key = \"{SECRET}\n"),
        format!("[variables]\napi-key = [\"{SECRET}\"]\n"),
        format!("[keyvalue]\ndefault = \"{SECRET}\"\n"),
    ] {
        write(&app, "server.toml", &broken);
        assert_eq!(
            hear(&["check", &folder, "--config", &config]),
            Some(1),
            "{broken}"
        );
    }
    let wrong = format!("nothing={SECRET}");
    assert_eq!(hear(&["check", &folder, "--var", &wrong]), Some(1));
    assert!(said_by_host.len() > 1000, "{said_by_host}");
    assert!(!said_by_host.contains(SECRET), "{said_by_host}");
}

/// A server whose backend does not answer, with its log; the guest itself may say what it knows.
#[test]
fn no_line_of_the_log_holds_a_secret() {
    let app = secretive("redis://u:{{ pass }}@127.0.0.1:1");
    let server = up(&app);
    assert_eq!(said(&server, "key=api-key"), format!("<{SECRET}>"));
    assert!(said(&server, "key=other-key").contains("access denied"));
    server.stderr().find("the refusal", |text| {
        text.contains("other-key").then_some(())
    });
    let logged = server.stderr().text() + &server.stdout().text();
    assert!(!logged.contains(SECRET), "{logged}");
}

/// The folder of an app's stores is made when one stores something, and not before.
#[test]
fn nothing_is_made_that_is_not_needed() {
    let app = shop();
    let data = app.path("data");
    let flag = data.display().to_string();
    let config = app.path("server.toml").display().to_string();
    let folder = app.folder().display().to_string();
    let flags = [
        "--config",
        &config,
        "--data",
        &flag,
        "--grant",
        "keyvalue=default",
    ];
    let mut arguments = vec!["check", &folder];
    arguments.extend(flags);
    let _said = hostel(&arguments).success();
    assert!(data.join("compiled").is_dir() && !data.join("state").exists());
    fs::remove_dir_all(&data).expect("a folder");
    arguments.push("--no-cache");
    let _said = hostel(&arguments).success();
    assert!(!data.exists(), "{:?}", entries(app.folder()));
    eventually("nothing appears later", || (!data.exists()).then_some(()));
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect()
}
