//! A guest is served from a bare file, and an app from its folder or manifest.

use crate::harness::server::Server;
use crate::harness::{built, fixture};

#[test]
fn a_bare_p2_component_is_served() {
    assert_eq!(
        Server::of("hello-p2").page("/"),
        "hello from wasi:http 0.2\n"
    );
}

#[test]
fn a_bare_p3_component_is_served() {
    assert_eq!(
        Server::of("hello-p3").page("/any/path?q"),
        "hello from wasi:http 0.3\n"
    );
}

#[test]
fn a_component_of_the_oldest_wasi_release_is_served() {
    assert_eq!(
        Server::of("hello-p2-small").page("/"),
        "hello from wasi:http 0.2\n"
    );
}

#[test]
fn the_example_is_served_from_its_folder() {
    let _component = built("examples/hello/web.wasm");
    let server = Server::start(&built("examples/hello/hostel.toml"), &[]);
    let answer = server.get("/some/path?a&b");
    assert_eq!(
        (answer.status, answer.field("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(
        answer
            .text()
            .contains("You asked for <code>/some/path?a&amp;b</code>."),
        "{}",
        answer.text()
    );
    let from_folder = Server::start(
        built("examples/hello/hostel.toml")
            .parent()
            .expect("a folder"),
        &[],
    );
    assert_eq!(from_folder.page("/some/path?a&b"), answer.text());
}

#[test]
fn webassembly_text_is_assembled_and_served() {
    // It is loaded and called, and never answers.
    let answer = Server::start(&fixture("silent-server.wat"), &[]).get("/");
    assert_eq!(answer.status, 502);
    assert!(
        answer.text().starts_with("bad-guest: request "),
        "{}",
        answer.text()
    );
}

#[test]
fn the_switch_that_measures_what_budgets_cost_serves_as_usual() {
    for name in ["hello-p2", "hello-p3"] {
        Server::with(name, &["--unmetered"]).is_alive("/");
    }
}
