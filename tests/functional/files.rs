//! Directories that a component is granted.

use crate::harness::app::App;
use crate::harness::server::Server;

/// One directory for reading, one for writing.
const FILES: &str = "[component.web.grants]\n\
    files = { \"/site\" = { host = \"site\" }, \"/data\" = { host = \"data\", write = true } }";

fn app() -> App {
    App::of("files-p2", FILES)
        .with_file("site/page.txt", "text")
        .with_file("site/deep/er.txt", "deep")
        .with_file("data/old", "old")
}

#[test]
fn a_granted_directory_is_read() {
    let app = app();
    let server = app.up();
    assert_eq!(server.page("/?read=/site/page.txt"), "ok: text\n");
    assert_eq!(server.page("/?read=/site/deep/er.txt"), "ok: deep\n");
    assert_eq!(server.page("/?list=/site"), "ok: deep page.txt\n");
}

#[test]
fn a_directory_for_reading_is_not_written() {
    let app = app();
    let server = app.up();
    for query in [
        "/?write=/site/new.txt&text=x",
        "/?write=/site/page.txt&text=x",
        "/?remove=/site/page.txt",
    ] {
        let page = server.page(query);
        assert!(page.starts_with("error: "), "{query}: {page}");
    }
    assert_eq!(
        std::fs::read_to_string(app.path("site/page.txt")).expect("it is there"),
        "text"
    );
    assert!(!app.path("site/new.txt").exists());
}

#[test]
fn a_directory_for_writing_is_written() {
    let app = app();
    let server = app.up();
    assert_eq!(
        server.page("/?write=/data/new.txt&text=fresh"),
        "ok: wrote 5 bytes\n"
    );
    assert_eq!(server.page("/?remove=/data/old"), "ok: removed\n");
    assert_eq!(server.page("/?list=/data"), "ok: new.txt\n");
    assert_eq!(
        std::fs::read_to_string(app.path("data/new.txt")).expect("it is there"),
        "fresh"
    );
}

#[test]
fn the_operator_shares_a_directory_and_can_make_it_read_only() {
    let shared = tempfile::tempdir().expect("a folder");
    std::fs::write(shared.path().join("a.txt"), "shared").expect("a file");
    let host = shared.path().display();
    let server = Server::with("files-p2", &["--dir", &format!("{host}::/in:ro")]);
    assert_eq!(server.page("/?read=/in/a.txt"), "ok: shared\n");
    assert!(
        server
            .page("/?write=/in/b.txt&text=x")
            .starts_with("error: ")
    );
    let server = Server::with("files-p2", &["--dir", &format!("{host}::/out")]);
    assert_eq!(
        server.page("/?write=/out/b.txt&text=x"),
        "ok: wrote 1 bytes\n"
    );
    assert_eq!(
        std::fs::read_to_string(shared.path().join("b.txt")).expect("it is there"),
        "x"
    );
}
