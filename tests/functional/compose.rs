//! `hostel compose`: components that are bound to each other, in one file.

use std::ffi::OsStr;

use crate::harness::app::App;
use crate::harness::command::hostel;
use crate::harness::server::Server;

const SHOP: &str = "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"shop\"\n\
    [component.pricing]\nsource = \"pricing-p2.wasm\"\n\
    [component.shop]\nsource = \"shop-p2.wasm\"\n\
    [component.shop.bind]\n\"shop:pricing/api\" = \"pricing\"\n";

fn words<'a>(app: &'a App, file: &'a OsStr, more: &'a [&'a str]) -> Vec<&'a OsStr> {
    let words = [
        "compose".as_ref(),
        app.folder().as_os_str(),
        "-o".as_ref(),
        file,
    ];
    let more = more.iter().map(OsStr::new);
    words.into_iter().chain(more).collect()
}

#[test]
fn the_file_is_served_and_imports_nothing_that_is_inside() {
    let app = App::new(SHOP);
    let file = app.path("out.wasm");
    let outcome = hostel(&words(&app, file.as_os_str(), &[]));
    let note = &outcome.stderr;
    assert!(note.contains("\"pricing\" has no grants"), "{note}");
    outcome.success();
    let server = Server::start(&file, &["--env", "WHO=one"]);
    assert_eq!(server.page("/?item=tea"), "300\n");
    assert_eq!(server.page("/?total=1").split(':').next(), Some("900"));
    // One component has one environment.
    assert_eq!(server.page("/?act=env:WHO"), "one\n");
    let inspected = hostel(&["inspect".as_ref(), file.as_os_str()]).success();
    assert!(
        !inspected.contains("shop:pricing") && inspected.contains("wasi:http"),
        "{inspected}"
    );
}

#[test]
fn one_component_is_composed_and_it_is_said_which() {
    let app = App::new(SHOP);
    let file = app.path("out.wasm");
    let json = ["--format", "json", "--component", "shop"];
    let text = hostel(&words(&app, file.as_os_str(), &json)).success();
    assert!(text.contains("\"parts\":[\"shop\",\"pricing\"]"), "{text}");
    let text = hostel(&words(&app, file.as_os_str(), &["--component", "shp"])).failure(2);
    assert!(text.contains("pricing, shop"), "{text}");
    let two = SHOP.replace(
        "[component.pricing]",
        "[[http]]\nroute = \"/b\"\ncomponent = \"pricing\"\n[component.pricing]",
    );
    let app = App::new(&two);
    let text = hostel(&words(&app, file.as_os_str(), &[])).failure(2);
    assert!(text.contains("--component NAME"), "{text}");
}

#[test]
fn what_does_not_fit_is_said_and_nothing_is_written() {
    let app = App::new(&SHOP.replace("pricing-p2.wasm", "hello-p2.wasm"));
    let file = app.path("out.wasm");
    let text = hostel(&words(&app, file.as_os_str(), &[])).failure(1);
    assert!(text.contains("does not export it"), "{text}");
    assert!(!file.exists());
}
