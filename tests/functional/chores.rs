//! `check`, `build` and `completions`.

use std::fs;

use crate::harness::app::App;
use crate::harness::command::{hostel, hostel_in};
use crate::harness::{data, golden, guest};

fn check(app: &App, flags: &[&str]) -> crate::harness::command::Outcome {
    let data = data();
    let words = [&["check", "--data", data.to_str().expect("text")], flags].concat();
    hostel_in(app.folder(), &words)
}

/// Lengths and digests belong to the toolchain that built the guests, not to Hostel.
fn without_sizes(text: &str) -> String {
    let sized = |line: &str| {
        line.split_once(", ")
            .map_or(line.to_owned(), |(rest, _)| format!("{rest}, SIZE"))
    };
    text.lines().map(|line| sized(line) + "\n").collect()
}

const TWO: &str = "[app]\nname = \"two\"\nversion = \"1.2.3\"\n\
    [component.web]\nsource = \"hello-p2.wasm\"\n\
    [component.other]\nsource = \"hello-p3.wasm\"\n\
    [[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
    [[http]]\nroute = \"/other/:id\"\nhost = \"shop.example.com\"\nmethods = [\"GET\", \"HEAD\"]\ncomponent = \"other\"\n";

#[test]
fn check_shows_components_and_routes() {
    let text = check(&App::new(TWO), &[]).success();
    golden::check("check/two.txt", &without_sizes(&text));
}

#[test]
fn check_in_json_has_what_a_program_needs() {
    let text = check(&App::new(TWO), &["--format", "json"]).success();
    assert_eq!(text.lines().count(), 1, "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (report["app"].as_str(), report["version"].as_str()),
        (Some("two"), Some("1.2.3"))
    );
    assert_eq!(report["components"][1]["component"], "web");
    assert_eq!(report["components"][1]["abi"], "http-p2");
    let bytes = fs::metadata(guest("hello-p2")).expect("the guest").len();
    assert_eq!(report["components"][1]["bytes"], bytes);
    assert_eq!(
        report["routes"][1]["methods"],
        serde_json::json!(["GET", "HEAD"])
    );
}

#[test]
fn check_takes_a_bare_file_of_either_kind() {
    for name in ["hello-p2", "run-exit-p1", "run-exit-p2", "run-exit-p3"] {
        let data = data();
        let path = guest(name);
        let words = [
            "check",
            "--data",
            data.to_str().expect("text"),
            path.to_str().expect("text"),
        ];
        assert!(hostel(&words).success().contains(": ok\n"), "{name}");
    }
}

#[test]
fn check_names_every_component_that_does_not_link() {
    let manifest = TWO
        .replace("hello-p3.wasm", "unknown-import.wasm")
        .replace("hello-p2.wasm", "newer-wasi.wasm");
    let text = check(&App::new(&manifest), &[]).failure(1);
    golden::check("check/broken.txt", &text);
}

#[test]
fn check_in_json_puts_errors_where_programs_look_for_them() {
    let app = App::new("[app]\nname = \"a\"\nnme = 1\n");
    let text = check(&app, &["--format", "json"]).failure(1);
    assert_eq!(text.lines().count(), 1, "{text}");
    let error: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(error["error"]["kind"], "manifest");
    let problem = &error["error"]["problems"][0];
    assert_eq!(
        (problem["kind"].as_str(), problem["line"].as_u64()),
        (Some("unknown-key"), Some(3)),
        "{text}"
    );
}

#[test]
fn build_runs_every_command_in_the_folder_of_the_manifest() {
    let app = App::new(
        "[app]\nname = \"built\"\n\
         [component.a]\nsource = \"a.txt\"\nbuild = \"echo made > a.txt; echo said\"\n\
         [component.b]\nsource = \"b.txt\"\nbuild = \"cat a.txt > b.txt\"\n\
         [[http]]\nroute = \"/...\"\ncomponent = \"a\"\n",
    );
    let text = hostel_in(app.folder(), &["build"]).success();
    assert_eq!(
        fs::read_to_string(app.path("b.txt")).expect("made in order"),
        "made\n"
    );
    assert!(
        text.starts_with("said\nbuilt a in ") && text.contains("\nbuilt b in "),
        "{text}"
    );
}

#[test]
fn build_in_json_keeps_the_commands_output_apart() {
    let app = App::of("hello-p2", "build = \"echo said\"");
    let outcome = hostel_in(app.folder(), &["build", "--format", "json"]);
    assert_eq!(outcome.stderr, "said\n");
    let report: serde_json::Value = serde_json::from_str(&outcome.success()).expect("JSON");
    assert_eq!(report["steps"][0]["component"], "web");
    assert_eq!(report["steps"][0]["command"], "echo said");
}

#[test]
fn a_build_that_fails_names_the_component_and_the_command() {
    let app = App::of("hello-p2", "build = \"exit 7\"");
    let text = hostel_in(app.folder(), &["build"]).failure(1);
    assert!(
        text.starts_with(
            "error: component \"web\": its build command exited with code 7: exit 7\n"
        ),
        "{text}"
    );
}

#[test]
fn up_builds_before_it_serves_when_it_is_asked_to() {
    let app = App::new(
        "[app]\nname = \"built\"\n\
         [component.web]\nsource = \"missing-yet.wasm\"\nbuild = \"cp kept missing-yet.wasm; echo built\"\n\
         [[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
         ",
    );
    let app = app.with_file("kept", fs::read(guest("hello-p2")).expect("the guest"));
    let server = app.up_with(&["--build"]);
    server.is_alive("/");
    server.stdout().wait_for("built\n");
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = hostel(&["completions", shell]).success();
        for command in ["up", "run", "inspect", "check", "build", "completions"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for words in [
        &["serve-me"][..],
        &["up", "--evn", "A=1"],
        &["check", "--format", "xml"],
        &["run"],
        &["up", "--grant", "htpp=https://a.example"],
        &["up", "--listen", "example.com:80"],
        &["up", "--dir", "/nowhere-at-all::/x"],
        &[],
    ] {
        let text = hostel(words).failure(2);
        assert!(
            text.contains("Usage: hostel") || text.contains("try '--help'"),
            "{words:?}: {text}"
        );
    }
}

#[test]
fn version_and_help_are_data() {
    assert_eq!(
        hostel(&["--version"]).success(),
        format!("hostel {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(
        hostel(&["--help"])
            .success()
            .contains("Runs server-side WebAssembly")
    );
}
