//! Starts that fail: a clear error, exit code 1, nothing left listening.

use std::path::Path;

use crate::harness::app::App;
use crate::harness::command::hostel_in;
use crate::harness::server::{Server, refused_start};
use crate::harness::{data, golden, guest};

#[test]
fn a_port_that_is_in_use() {
    let first = Server::of("hello-p2");
    let address = first.address().to_string();
    let text = refused_start(&guest("hello-p2"), &["--listen", &address]);
    let text = text
        .replace(&address, "127.0.0.1:PORT")
        .replace(&format!(":{}", first.address().port()), ":PORT");
    golden::check("start/port-in-use.txt", &text);
    first.is_alive("/");
}

#[test]
fn an_address_of_another_machine() {
    let text = refused_start(&guest("hello-p2"), &["--listen", "203.0.113.1:3000"]);
    golden::check("start/not-local.txt", &text);
}

/// What `hostel up` says in a folder.
fn up_in(app: &App, path: &str) -> String {
    let data = data();
    let words = [
        "up",
        path,
        "--listen",
        "127.0.0.1:0",
        "--data",
        data.to_str().expect("text"),
    ];
    hostel_in(app.folder(), &words).failure(1)
}

#[test]
fn a_malformed_manifest_is_shown_with_its_place() {
    let app = App::new("[app]\nname = \"a\"\n\n[[http]]\nrout = \"/...\"\ncomponent = web\n");
    golden::check("start/malformed-manifest.txt", &up_in(&app, "."));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let app = App::new(
        "[app]\nname = \"a\"\nnme = \"b\"\n\n[component.web]\nsource = \"missing.wasm\"\n\n[[http]]\nroute = \"no slash\"\ncomponent = \"wbe\"\n",
    );
    golden::check("start/several-errors.txt", &up_in(&app, "hostel.toml"));
}

#[test]
fn a_path_that_is_not_there() {
    let app = App::of("hello-p2", "");
    golden::check("start/missing-path.txt", &up_in(&app, "nowhere.wasm"));
}

#[test]
fn a_folder_without_a_manifest() {
    let app = App::of("hello-p2", "").with_file("empty/notes.txt", "");
    golden::check("start/no-manifest.txt", &up_in(&app, "empty"));
}

#[test]
fn an_app_without_a_route() {
    let app = App::new("[app]\nname = \"a\"\n\n[component.web]\nsource = \"hello-p2.wasm\"\n");
    golden::check("start/no-route.txt", &up_in(&app, "."));
}

#[test]
fn a_route_to_a_handler_of_messages() {
    golden::check(
        "start/route-to-handler.txt",
        &up_in(&App::of("handler-p2", ""), "."),
    );
}

#[test]
fn a_folder_for_compiled_code_that_cannot_be_used() {
    let app = App::of("hello-p2", "").with_file("file", "");
    let words = ["up", ".", "--listen", "127.0.0.1:0", "--data", "file"];
    golden::check(
        "start/data-is-a-file.txt",
        &hostel_in(app.folder(), &words).failure(1),
    );
}

#[test]
fn a_limit_beyond_the_ceiling() {
    let text = refused_start(Path::new(&guest("hello-p2")), &["--limit", "memory=2GiB"]);
    golden::check("start/limit-above-ceiling.txt", &text);
}
