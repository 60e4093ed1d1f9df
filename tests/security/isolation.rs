//! A guest without grants sees the request and nothing else.

use crate::harness::HOST_SECRET;
use crate::harness::app::App;
use crate::harness::server::Server;
use crate::harness::upstream::Upstream;

#[test]
fn no_environment() {
    let page = Server::of("env-p2").page("/");
    assert!(
        page.starts_with("arg 0: ") && page.lines().count() == 1,
        "{page}"
    );
}

#[test]
fn the_host_s_environment_is_not_the_guest_s_under_run_either() {
    for name in ["run-exit-p1", "run-exit-p2", "run-exit-p3"] {
        let outcome = crate::harness::command::run(&[], &crate::harness::guest(name), &[], b"");
        let text = outcome.success();
        assert!(
            !text.contains("env ") && !text.contains(HOST_SECRET.1),
            "{name}: {text}"
        );
    }
}

#[test]
fn no_files() {
    let server = Server::of("files-p2");
    for query in [
        "/?read=/etc/hostname",
        "/?list=/",
        "/?list=.",
        "/?write=/tmp/x&text=x",
        "/?read=../../etc/hostname",
    ] {
        let page = server.page(query);
        assert!(page.starts_with("error: "), "{query}: {page}");
    }
}

#[test]
fn no_sockets_and_no_names() {
    let upstream = Upstream::tcp();
    let server = Server::of("sockets-p2");
    let address = upstream.address();
    for query in [
        format!("/?tcp={address}"),
        format!("/?udp={address}"),
        "/?listen=127.0.0.1:0".into(),
        "/?name=localhost".into(),
    ] {
        let page = server.page(&query);
        assert!(page.starts_with("error: "), "{query}: {page}");
    }
    assert_eq!(upstream.heard(), [""; 0]);
}

#[test]
fn no_outgoing_requests() {
    let upstream = Upstream::http("reached");
    for guest in ["outgoing-p2", "outgoing-p3"] {
        let answer = Server::of(guest).get(&format!("/?url=http://{}/", upstream.address()));
        assert_eq!(answer.status, 502, "{guest}");
        assert!(
            answer.text().contains("HttpRequestDenied"),
            "{guest}: {}",
            answer.text()
        );
    }
    assert_eq!(upstream.heard(), [""; 0]);
}

#[test]
fn a_granted_directory_has_no_way_out() {
    let app = App::of(
        "files-p2",
        "[component.web.grants]\nfiles = { \"/site\" = { host = \"site\", write = true } }",
    )
    .with_file("site/page.txt", "text")
    .with_file("secret.txt", "secret");
    std::os::unix::fs::symlink(app.path("secret.txt"), app.path("site/link")).expect("a link");
    std::os::unix::fs::symlink("..", app.path("site/up")).expect("a link");
    let server = app.up();
    for path in [
        "/site/../secret.txt",
        "/site/link",
        "/site/up/secret.txt",
        "/secret.txt",
        "/site//../../etc/hostname",
    ] {
        let page = server.page(&format!("/?read={path}"));
        assert!(page.starts_with("error: "), "{path}: {page}");
    }
    let page = server.page("/?write=/site/up/planted.txt&text=x");
    assert!(
        page.starts_with("error: ") && !app.path("planted.txt").exists(),
        "{page}"
    );
}

#[test]
fn one_request_leaves_nothing_behind_for_the_next() {
    let server = Server::of("counter-p2");
    let mut connection = server.connect();
    for _ in 0..20 {
        assert_eq!(
            connection.ask(&crate::harness::message::get("/")).text(),
            "1\n"
        );
    }
}

#[test]
fn a_fault_tells_the_client_its_name_and_no_detail() {
    let server = Server::of("trap-p2");
    let text = server.get("/?when=before").text();
    let (name, request) = text
        .trim_end()
        .split_once(": request ")
        .expect("a name and a request");
    assert_eq!((name, request.len()), ("trap", 16), "{text}");
    // The operator has the rest, under the same request.
    server.stderr().wait_for(&format!("request={request}"));
    server.stderr().wait_for("unreachable");
}
