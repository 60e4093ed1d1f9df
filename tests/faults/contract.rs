//! Guests that break the contract of their ABI.

use crate::harness::app::App;
use crate::harness::server::Server;

#[test]
fn no_answer_is_502() {
    let server = Server::of("no-answer-p2");
    for _ in 0..2 {
        let answer = server.get("/");
        assert_eq!(answer.status, 502);
        assert!(
            answer.text().starts_with("bad-guest: request "),
            "{}",
            answer.text()
        );
    }
    server
        .stderr()
        .wait_for("it returned without answering the request");
}

#[test]
fn a_server_that_exits_is_502_and_the_process_stays() {
    let server = Server::of("exit-p2");
    for code in [0, 1, 7] {
        let answer = server.get(&format!("/?code={code}"));
        assert_eq!(answer.status, 502, "{code}");
        assert!(
            answer.text().starts_with("bad-guest: request "),
            "{}",
            answer.text()
        );
    }
    server.stderr().wait_for("it exited with code");
}

#[test]
fn a_server_that_exits_after_the_head_is_cut_off() {
    let server = Server::of("exit-p2");
    for code in [0, 1] {
        let mut connection = server.connect();
        connection.send(crate::harness::message::get(&format!(
            "/?when=after-head&code={code}"
        )));
        match connection.try_answer() {
            Ok(answer) => assert_eq!(answer.status, 502, "{code}: {}", answer.text()),
            Err(cut) => assert_eq!(cut.part.map(|part| part.status), Some(200), "{code}"),
        }
    }
    server.stderr().wait_for("fault=bad-guest");
}

#[test]
fn a_server_that_builds_endless_headers_is_stopped() {
    let server = Server::of("big-header-p2");
    for query in ["/?bytes=1048576", "/?bytes=10&count=33000"] {
        let answer = server.get(query);
        assert_eq!(answer.status, 500, "{query}: {}", answer.text());
    }
    assert_eq!(server.page("/?bytes=100"), "large\n");
}

#[test]
fn a_guest_that_answers_only_once_per_instance_is_told_which_line_to_change() {
    let server = App::of("no-answer-p2", "reuse = 10").up_with(&["--threads", "1"]);
    assert_eq!(server.page("/?after=1"), "answered\n");
    assert_eq!(server.get("/?after=1").status, 502);
    server.stderr().wait_for("had answered 1 request(s) before");
    server
        .stderr()
        .wait_for("set `reuse = 1` in [component.web]");
    // The instance is gone.
    assert_eq!(server.page("/?after=1"), "answered\n");
}

/// A body that is not ended: in a small answer the fault comes first, unless the guest was interrupted meanwhile, in a
/// large one the connection is cut.
#[test]
fn a_body_that_is_never_ended_is_no_answer() {
    for reuse in ["reuse = 1", "reuse = 10"] {
        let server = App::of("no-answer-p2", reuse).up_with(&["--threads", "1"]);
        for _ in 0..2 {
            let mut connection = server.connect();
            connection.send(crate::harness::message::get("/?part=11"));
            match connection.try_answer() {
                Ok(answer) => assert_eq!(answer.status, 502, "{reuse}: {}", answer.text()),
                Err(cut) => assert_eq!(cut.part.map(|part| part.status), Some(200), "{reuse}"),
            }
            let mut connection = server.connect();
            connection.send(crate::harness::message::get("/?part=1000000"));
            match connection.try_answer() {
                Ok(answer) => panic!("{reuse}: {} looks complete", answer.status),
                Err(cut) => assert_eq!(cut.part.map(|part| part.status), Some(200), "{reuse}"),
            }
        }
        server
            .stderr()
            .wait_for("it returned without ending its body");
        assert_eq!(server.page("/?after=1"), "answered\n", "{reuse}");
    }
}
