//! Scripts of an interpreter: which file answers for a path, and what its program is told. The guest shows its script instead of
//! running it.

use std::fs;

use crate::harness::app::App;
use crate::harness::message::{Answer, chunk, chunked_head, get, last_chunk, request};

const SCRIPTS: &str = "args = [\"-o\", \"x\"]\n\
    [component.web.cgi]\n\
    scripts = { root = \"/site\", extensions = [\"one\", \"two\"], index = [\"index.two\", \"index.one\"], assets = [\"css\"] }\n\
    [component.web.grants]\n\
    files = { \"/site\" = { host = \"site\" } }";

fn app() -> App {
    App::of("run-script-p1", SCRIPTS)
        .with_file("site/a.one", "text of a\n")
        .with_file("site/blog/index.one", "the blog\n")
        .with_file("site/style.css", "body {}\n")
        .with_file("site/a.one.old", "a secret\n")
        .with_file("site/.git/config.one", "a secret\n")
        .with_file("secret.one", "a secret\n")
}

#[test]
fn a_script_is_found_by_the_path_and_gets_the_rest_of_it() {
    let app = app();
    let server = app.up();
    let body = "name=value";
    let posted = request("POST", "/a.one/more/of%20it?x=1&-h", &[], body);
    let text = server.connect().ask(&posted).text();
    let expected = [
        "arguments: [\"/a.one\", \"-o\", \"x\", \"/site/a.one\"]",
        "DOCUMENT_ROOT=/site",
        "PATH_INFO=/more/of it",
        "PATH_TRANSLATED=/site/more/of it",
        "QUERY_STRING=x=1&-h",
        "REDIRECT_STATUS=200",
        "REQUEST_URI=/a.one/more/of%20it?x=1&-h",
        "SCRIPT_FILENAME=/site/a.one",
        "SCRIPT_NAME=/a.one",
        "body: Ok(10) name=value",
        "script: text of a",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_folder_is_answered_by_its_index() {
    let app = app();
    let server = app.up();
    assert!(
        server
            .page("/blog/")
            .contains("SCRIPT_NAME=/blog/index.one\n")
    );
    let without = server.get("/blog?x=1");
    assert_eq!(without.status, 308);
    assert_eq!(without.field("location"), Some("/blog/?x=1"));
    assert_eq!(server.get("/").status, 404);
}

#[test]
fn what_is_no_script_is_not_shown() {
    let app = app();
    std::os::unix::fs::symlink("../secret.one", app.path("site/link.one")).expect("a link");
    let server = app.up();
    for path in [
        "/missing.one",
        "/a.one.old",
        "/.git/config.one",
        "/%2egit/config.one",
        "/..%2fsecret.one",
        "/%2e%2e/secret.one",
        "/link.one",
        "/style.css/x",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.text().contains("secret"), "{path}");
    }
    server.is_alive("/a.one");
}

#[test]
fn files_beside_the_scripts_are_sent_by_the_host() {
    let app = app();
    let large = vec![b'x'; 300_000];
    fs::write(app.path("site/large.css"), &large).expect("a file");
    let server = app.up();
    let answer = server.get("/style.css");
    assert_eq!((answer.status, answer.text().as_str()), (200, "body {}\n"));
    let content_type = answer.field("content-type");
    assert_eq!(content_type, Some("text/css; charset=utf-8"));
    assert_eq!(server.get("/large.css").body, large);
    let ask = |method: &str, fields: &[(&str, &str)]| -> Answer {
        let request = request(method, "/style.css", fields, "");
        server.connect().ask(&request)
    };
    let head = ask("HEAD", &[]);
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some("8"))
    );
    assert_eq!(ask("DELETE", &[]).status, 405);
    let tag = answer.field("etag").expect("a tag");
    assert_eq!(ask("GET", &[("If-None-Match", tag)]).status, 304);
    fs::write(app.path("site/style.css"), "p {}\n").expect("a file");
    let changed = ask("GET", &[("If-None-Match", tag)]);
    assert_eq!((changed.status, changed.text().as_str()), (200, "p {}\n"));
}

#[test]
fn slow_readers_keep_no_more_files_open_than_there_may_be_calls() {
    let limits = "[component.web.limits]\nconcurrency = 1";
    let app = App::of("run-script-p1", &format!("{SCRIPTS}\n{limits}"))
        .with_file("site/a.one", "text of a\n")
        .with_file("site/large.css", "x".repeat(32 << 20));
    let server = app.up();
    let mut slow = server.connect();
    slow.send(get("/large.css"));
    assert_eq!(slow.head().status, 200);
    let refused = server.get("/large.css");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.text(), "too many files are being sent\n");
    server.is_alive("/a.one");
    drop(slow);
    let sent = |_| server.get("/large.css").status == 200;
    assert!((0..100).any(sent), "its place is given back");
}

#[test]
fn a_script_that_is_edited_is_the_one_that_answers() {
    let app = app();
    let server = app.up();
    assert!(server.page("/a.one").ends_with("script: text of a\n"));
    fs::write(app.path("site/a.one"), "another text\n").expect("a file");
    assert!(server.page("/a.one").ends_with("script: another text\n"));
    fs::write(app.path("site/new.two"), "a new one\n").expect("a file");
    assert!(server.page("/new.two").ends_with("script: a new one\n"));
    fs::remove_file(app.path("site/a.one")).expect("it was there");
    assert_eq!(server.get("/a.one").status, 404);
}

#[test]
fn a_template_of_arguments_may_name_the_script() {
    let argv = "[component.web.cgi]\nargv = \"two ${SCRIPT_FILENAME} --at=${SCRIPT_NAME}\"\n";
    let app = App::of(
        "run-script-p1",
        &SCRIPTS.replace("[component.web.cgi]\n", argv),
    )
    .with_file("site/a b.one", "");
    let text = app.up().page("/a%20b.one?-x");
    let first = text.lines().next();
    let expected = "arguments: [\"two\", \"/site/a b.one\", \"--at=/a b.one\"]";
    assert_eq!(first, Some(expected));
}

#[test]
fn a_body_of_unknown_length_is_refused_because_scripts_would_miss_it() {
    let app = app();
    let server = app.up();
    let mut connection = server.connect();
    connection.send(chunked_head("/a.one", &[]));
    connection.send(chunk("name=value"));
    connection.send(last_chunk(&[]));
    assert_eq!(connection.answer().status, 411);
    server.is_alive("/a.one");
}

#[test]
fn a_path_that_leads_nowhere_can_have_a_script() {
    let fallback = "fallback = \"front/app.two\", assets";
    let app = App::of("run-script-p1", &SCRIPTS.replace("assets", fallback))
        .with_file("site/front/app.two", "the front\n");
    let server = app.up();
    let text = server.page("/2026/a%20post?x=1");
    for line in [
        "PATH_INFO=/2026/a post\n",
        "REQUEST_URI=/2026/a%20post?x=1\n",
        "SCRIPT_NAME=/front/app.two\n",
        "script: the front\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn a_site_whose_directory_has_gone_is_a_fault_of_the_host() {
    let app = app();
    let server = app.up();
    server.is_alive("/a.one");
    fs::remove_dir_all(app.path("site")).expect("it was there");
    assert_eq!(server.get("/a.one").status, 500);
    fs::create_dir(app.path("site")).expect("a folder");
    fs::write(app.path("site/a.one"), "back\n").expect("a file");
    server.is_alive("/a.one");
}
