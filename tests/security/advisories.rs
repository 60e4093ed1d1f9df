//! What guests of published advisories did to hosts of WebAssembly, done to this one: the guest fails or is answered, the
//! process lives, and a neighbour is answered next. The advisory of each case stands in its guest; a case shows the class of
//! the defect as far as a guest can bring it about on the features that this host has, not the original program.

use std::fs;

use super::{beside_a_neighbour, outcome};
use crate::harness::app::App;
use crate::harness::command::{Outcome, run};
use crate::harness::message::post;
use crate::harness::server::Server;
use crate::harness::{fixture, guest};

/// Asks the attacker once; then the neighbour must be answered.
fn attack(server: &Server, path: &str) -> (u16, String) {
    let mut connection = server.connect();
    connection.send(post(path, "a body"));
    let answer = outcome(connection);
    server.is_alive("/");
    answer
}

/// Cases of a guest, with the status and the beginning of the text behind the case's name that each must be answered.
fn cases(server: &Server, cases: &[(&str, u16, &str)]) {
    for (case, status, text) in cases {
        let (was, said) = attack(server, &format!("/bad?case={case}"));
        let said = said.strip_prefix(&format!("{case}: ")).unwrap_or(&said);
        assert!(
            was == *status && said.starts_with(text),
            "{case}: {was} {said}"
        );
    }
}

#[test]
fn wasi_0_2_is_asked_for_what_it_cannot_give() {
    let server = beside_a_neighbour("advisory-p2", "").up();
    cases(
        &server,
        &[
            ("empty-poll", 500, "trap: "),
            ("zero-timer", 200, "ready true true true"),
            ("late-timer", 200, "ready false false true"),
            ("random", 500, "trap: "),
            ("insecure-random", 500, "trap: "),
            ("stdout", 200, "true"),
            ("unchecked-write", 200, "Ok"),
            ("udp-connect", 200, "no socket: "),
            ("pending", 500, "trap: "),
            ("parent", 500, "trap: "),
        ],
    );
}

#[test]
fn requests_of_guests_that_once_crashed_a_host_or_reached_another_one() {
    let server = beside_a_neighbour("advisory-p2", "").up();
    cases(
        &server,
        &[
            ("long-path", 200, "invalid path"),
            ("long-authority", 200, "ErrorCode::"),
            ("long-scheme", 200, "invalid scheme"),
            ("absolute-form", 200, "invalid path"),
            ("authority-form", 200, "ErrorCode::HttpRequestDenied"),
            ("zero-timeouts", 200, "ErrorCode::"),
            ("late-timeouts", 200, "ErrorCode::"),
            ("fields-at-once", 500, "trap: "),
            ("fields-one-name", 500, "trap: "),
            (
                "fields-broken",
                200,
                "names [false, false, false, false, false, false, false, false, false]",
            ),
        ],
    );
}

/// All that went wrong was the guest's own doing, or nothing did.
fn no_client_is_blamed(server: &Server) {
    server.comes_to_rest();
    let told = server.stderr().text();
    assert!(!told.contains("fault=cancelled"), "{told}");
}

#[test]
fn responses_whose_framing_lies_are_never_whole() {
    for guest in ["advisory-p2", "advisory-p3"] {
        let server = beside_a_neighbour(guest, "").up();
        for case in ["length-short", "length-long", "splice"] {
            if (guest, case) == ("advisory-p3", "splice") {
                continue;
            }
            let (status, text) = attack(&server, &format!("/bad?case={case}"));
            let whole = status == 200 && !text.starts_with("cut: ");
            assert!(!whole, "{guest} {case}: {status} {text}");
        }
        no_client_is_blamed(&server);
    }
    let server = beside_a_neighbour("advisory-p2", "").up();
    cases(
        &server,
        &[
            ("length-invalid", 200, "HeaderError::InvalidSyntax"),
            ("length-signed", 200, "HeaderError::InvalidSyntax"),
            ("lengths", 200, "HeaderError::InvalidSyntax"),
        ],
    );
}

#[test]
fn trailers_that_would_change_the_message_do_not_leave() {
    for guest in ["advisory-p2", "advisory-p3"] {
        let server = beside_a_neighbour(guest, "").up();
        let mut connection = server.connect();
        connection.send(crate::harness::message::request(
            "GET",
            "/bad?case=trailers",
            &[("te", "trailers")],
            "",
        ));
        let answer = connection.answer();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "five!"),
            "{guest}"
        );
        for name in ["content-length", "transfer-encoding", "host"] {
            let sent = answer
                .trailers
                .iter()
                .any(|(trailer, _)| trailer.eq_ignore_ascii_case(name));
            assert!(!sent, "{guest}: {:?}", answer.trailers);
        }
        no_client_is_blamed(&server);
    }
}

#[test]
fn wasi_0_3_is_asked_for_what_it_cannot_give() {
    let server = beside_a_neighbour("advisory-p3", "limits = { deadline = \"2s\" }").up();
    cases(
        &server,
        &[
            ("pending-trap", 500, "trap: "),
            ("cancelled", 200, "given up"),
            ("zero-length", 200, "nothing"),
            ("stream-memory", 200, "written"),
            ("drop-ends", 200, "dropped"),
            ("own-stream", 200, "from itself"),
            ("zero-timer", 200, "over"),
            ("late-timer", 200, "given up"),
            ("random", 200, "65536 bytes"),
            ("long-path", 200, "invalid"),
            ("long-authority", 200, "Err(ErrorCode::HttpRequestDenied)"),
            ("absolute-form", 200, "invalid"),
            ("fields-at-once", 200, "Err(HeaderError::SizeExceeded)"),
            ("length-invalid", 500, "trap: "),
            ("no-body-end", 200, "cut: "),
        ],
    );
}

#[test]
fn files_outside_a_directory_and_beyond_its_grant_stay_as_they_are() {
    for write in [true, false] {
        let grants = format!(
            "[component.bad.grants]\nfiles = {{ \"/site\" = {{ host = \"site\", write = {write} }} }}"
        );
        let app = beside_a_neighbour("advisory-p2", &grants)
            .with_file("site/page.txt", "text")
            .with_file("secret.txt", "secret");
        std::os::unix::fs::symlink(app.path("secret.txt"), app.path("site/link")).expect("a link");
        std::os::unix::fs::symlink("..", app.path("site/up")).expect("a link");
        let server = app.up();
        let mut refused = vec![
            "rename-slash",
            "rename-out",
            "link-out",
            "symlink-out",
            "open-out",
            "long-name",
            "zero-name",
        ];
        if !write {
            refused.extend(["create", "truncate", "mutate", "timestamp"]);
        }
        for case in refused {
            let (status, text) = attack(&server, &format!("/bad?case={case}"));
            assert!(
                status == 200 && text.contains("Some(Err("),
                "{case}, write = {write}: {status} {text}"
            );
        }
        if write {
            // Whether there is such a time is the file system's to say.
            assert_eq!(attack(&server, "/bad?case=timestamp").0, 200);
        }
        let read = |name: &str| fs::read_to_string(app.path(name)).ok();
        assert_eq!(read("site/page.txt").as_deref(), Some("text"));
        assert_eq!(read("secret.txt").as_deref(), Some("secret"));
        for planted in ["planted.txt", "site/planted.txt", "site/planted"] {
            assert!(!app.path(planted).exists(), "{planted}");
        }
    }
}

/// GHSA-hmmr: a socket that may listen is not one that may send.
#[test]
fn a_grant_to_listen_is_none_to_connect() {
    let grants = "[component.bad.grants]\nlisten = [\"127.0.0.1:*\", \"0.0.0.0:*\"]";
    let server = beside_a_neighbour("advisory-p2", grants).up();
    let (status, text) = attack(&server, "/bad?case=udp-connect");
    assert_eq!(status, 200, "{text}");
    assert!(
        text.contains("bind Ok(()), connect Err(ErrorCode { code: 1, name: \"access-denied\""),
        "{text}"
    );
}

/// Servers as text, with what a request of each must be answered: 502 where the guest came to its end.
const SERVERS: &[(&str, u16, &str)] = &[
    ("realloc-calls-host", 500, "trap: "),
    ("realloc-far", 500, "trap: "),
    ("realloc-far-nothing", 500, "trap: "),
    ("transcode-odd-place", 500, "trap: "),
    ("transcode-far-place", 500, "trap: "),
    ("transcode-too-long", 500, "trap: "),
    ("transcode-too-long-wide", 500, "trap: "),
    ("transcode-tagged", 500, "trap: "),
    ("transcode-broken", 500, "trap: "),
    ("borrows-kept", 500, "trap: "),
    ("borrows-dropped", 502, "bad-guest: "),
    ("flags", 502, "bad-guest: "),
    ("table-size", 502, "bad-guest: "),
    ("wrong-code", 502, "bad-guest: "),
    ("bulk-loop", 504, "deadline: "),
];

#[test]
fn components_that_misuse_the_border_between_them_and_the_host() {
    for (name, status, text) in SERVERS {
        let program = fs::read(fixture(&format!("advisories/{name}.wat"))).expect("a fixture");
        let app = App::new(
            "[app]\nname = \"attacked\"\n\
             [component.good]\nsource = \"hello-p2.wasm\"\n\
             [component.bad]\nsource = \"bad.wat\"\nlimits = { deadline = \"1s\" }\n\
             [[http]]\nroute = \"/bad\"\ncomponent = \"bad\"\n\
             [[http]]\nroute = \"/...\"\ncomponent = \"good\"\n",
        )
        .with_file("bad.wat", program);
        let server = app.up();
        let (was, said) = attack(&server, "/bad");
        assert!(
            was == *status && said.starts_with(text),
            "{name}: {was} {said}"
        );
    }
}

/// Runs a command; a host that panics or is killed by a signal fails here.
fn orderly(file: &std::path::Path, arguments: &[&str]) -> Outcome {
    let outcome = run(&["--limit", "deadline=1s"], file, arguments, b"");
    assert!(
        outcome.code.is_some(),
        "{}: ended by a signal",
        file.display()
    );
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    outcome
}

#[test]
fn commands_that_misuse_their_start_and_their_callback() {
    for (name, code) in [
        ("yield-in-start", 0),
        ("wait-in-start", 134),
        ("callback-results", 1),
        ("callback-unknown", 134),
        ("callback-forever", 124),
        ("block-in-start", 124),
    ] {
        let outcome = orderly(&fixture(&format!("advisories/{name}.wat")), &[]);
        assert_eq!(outcome.code, Some(code), "{name}: {}", outcome.stderr);
    }
}

#[test]
fn preview_1_is_asked_for_what_it_cannot_give() {
    for (case, code) in [
        ("renumber-same", 0),
        ("renumber-far", 0),
        ("renumber-often", 0),
        ("poll-none", 0),
        ("poll-now", 0),
        ("poll-late", 0),
        ("iovs", 0),
        ("random", 134),
        ("pointers", 134),
    ] {
        let outcome = orderly(&guest("run-advisory-p1"), &[case]);
        assert_eq!(outcome.code, Some(code), "{case}: {}", outcome.stderr);
    }
}

/// Proposals behind the other half of the advisories; none of them is there to be attacked.
#[test]
fn what_is_switched_off_is_refused_when_it_is_loaded() {
    let command = |fields: &str| {
        format!("(module {fields} (memory (export \"memory\") 1) (func (export \"_start\")))")
    };
    for program in [
        command("(type (struct (field i32)))"),
        command("(type (array i8))"),
        command("(func (result i31ref) (ref.i31 (i32.const 1)))"),
        command("(tag)"),
        command("(type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0)))"),
        command("(type $f (func)) (type $c (cont $f))"),
        "(module (memory (export \"memory\") 1 1 shared) (func (export \"_start\")))".to_owned(),
        "(module (memory (export \"memory\") i64 1) (func (export \"_start\")))".to_owned(),
        command("(table i64 1 funcref)"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("program.wat");
        fs::write(&file, &program).expect("a file");
        let outcome = orderly(&file, &[]);
        assert_eq!(outcome.code, Some(1), "{program}: {}", outcome.stderr);
    }
}

/// GHSA-wjc8: types within types, deeper than any stack.
#[test]
fn types_nested_without_end_are_refused_or_forgotten_in_good_order() {
    for depth in [50, 90, 1_000, 50_000] {
        let types: String = (1..=depth)
            .map(|level| format!("(type $t{level} (list $t{}))\n", level - 1))
            .collect();
        let program = format!(
            "(component (type $t0 (list u8)) {types}\n\
             (import \"wasi:cli/deep@0.2.0\" (func (param \"deep\" $t{depth}))))"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("program.wat");
        fs::write(&file, program).expect("a file");
        assert_eq!(orderly(&file, &[]).code, Some(1), "{depth}");
    }
}
