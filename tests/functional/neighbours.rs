//! Components of an app that call each other: requests to `http://NAME.app.internal/`, answered inside the process.

use crate::harness::app::App;
use crate::harness::command::hostel;
use crate::harness::message::{chunk, chunked_head, last_chunk, post, request};
use crate::harness::server::refused_start;
use crate::harness::{eventually, guest};

/// `web` answers everything and may call `callee`; `settings` are further lines of the callee's.
fn pair(caller: &str, callee: &str, settings: &str) -> App {
    App::new(&manifest(
        caller,
        callee,
        settings,
        "http://callee.app.internal",
    ))
}

fn manifest(caller: &str, callee: &str, settings: &str, grant: &str) -> String {
    format!(
        "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
         [component.web]\nsource = \"{caller}.wasm\"\n[component.web.grants]\nhttp = [\"{grant}\"]\n\
         [component.callee]\nsource = \"{callee}.wasm\"\n{settings}\n"
    )
}

const GET: &str = "/?url=http://callee.app.internal/";

#[test]
fn every_abi_calls_every_other() {
    for (callee, text) in [
        ("hello-p2", "hello from wasi:http 0.2\n"),
        ("hello-p3", "hello from wasi:http 0.3\n"),
    ] {
        for caller in ["outgoing-p2", "outgoing-p3"] {
            for reuse in ["", "reuse = 10"] {
                let server = pair(caller, callee, reuse).up();
                for _ in 0..3 {
                    assert_eq!(server.page(GET), text, "{caller} {callee} {reuse}");
                }
            }
        }
    }
}

#[test]
fn the_callee_sees_the_request_as_one_from_outside() {
    let server = pair("relay-p3", "headers-p2", "").up();
    let to = "/?to=http://Callee.App.Internal:80/some/path";
    let fields = [("X-Own", "yes"), ("Connection", "x-hop"), ("X-Hop", "no")];
    let answer = server.connect().ask(&request("PUT", to, &fields, ""));
    let text = answer.text();
    let head = "method: PUT\npath: /some/path\nscheme: http\nauthority: callee.app.internal\n";
    assert!(text.starts_with(head), "{text}");
    assert!(text.contains("\nx-own: yes\n"), "{text}");
    assert!(!text.contains("x-hop"), "{text}");
}

#[test]
fn bodies_stream_in_both_directions_with_their_trailers() {
    for callee in ["echo-p2", "echo-p3"] {
        let server = pair("relay-p3", callee, "").up();
        let to = "/?to=http://callee.app.internal/";
        let mut connection = server.connect();
        connection.send(chunked_head(to, &[]));
        connection.send(chunk("one"));
        // The head comes before the body is whole: nothing waits for its end.
        let head = connection.head();
        connection.send([chunk("two"), last_chunk(&[])].concat());
        let answer = connection.body_of(head);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "onetwo"),
            "{callee}"
        );
    }
    let server = pair("relay-p3", "trailers-p2", "").up();
    let fields = [("TE", "trailers")];
    let to = "/?to=http://callee.app.internal/";
    let answer = server.connect().ask(&request("GET", to, &fields, ""));
    assert_eq!(answer.text(), "a body with trailers behind it\n");
    let trailers: Vec<&str> = answer
        .trailers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(trailers, ["x-count", "x-note"]);
}

#[test]
fn a_body_of_some_megabytes_comes_back_whole() {
    let server = pair("relay-p3", "echo-p2", "").up();
    let body: Vec<u8> = (0..4 << 20).map(|at| (at % 251) as u8).collect();
    let to = "/?to=http://callee.app.internal/";
    let mut connection = server.connect();
    let mut stream = connection.stream();
    let sent = post(to, &body);
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stream, &sent));
    let answer = connection.answer();
    writer.join().expect("it ended").expect("all was sent");
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "{} bytes", answer.body.len());
}

#[test]
fn what_a_callee_fails_of_is_a_status_without_detail_and_the_log_names_the_callee() {
    let cases = [
        ("trap-p2", "", 500, "trap"),
        ("no-answer-p2", "", 502, "bad-guest"),
        (
            "loop-p2",
            "[component.callee.limits]\ncpu = \"50ms\"",
            504,
            "cpu",
        ),
        (
            "slow-p2",
            "[component.callee.limits]\ndeadline = \"50ms\"",
            504,
            "deadline",
        ),
    ];
    for (callee, settings, status, fault) in cases {
        for caller in ["outgoing-p2", "outgoing-p3"] {
            let server = pair(caller, callee, settings).up();
            let answer = server.get(GET);
            let text = answer.text();
            assert_eq!(answer.status, status, "{caller} {callee}: {text}");
            assert!(
                text.starts_with(&format!("{fault}: request ")),
                "{caller} {callee}: {text}"
            );
            let log = server.stderr();
            eventually("the callee's fault is in the log", || {
                let text = log.text();
                let mut lines = text.lines();
                let told = |line: &&str| {
                    line.contains("callee") && line.contains(&format!("fault={fault}"))
                };
                lines.find(told).map(drop)
            });
            assert!(!log.text().contains("component=web"), "{}", log.text());
        }
    }
}

#[test]
fn a_component_that_calls_itself_and_has_no_permit_left_is_told_so() {
    let app = App::new(
        "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
         [component.web]\nsource = \"outgoing-p2.wasm\"\n\
         [component.web.grants]\nhttp = [\"http://web.app.internal\"]\n\
         [component.web.limits]\nconcurrency = 1\nqueue_wait = \"100ms\"\n",
    );
    let server = app.up();
    let answer = server.get("/?url=http://web.app.internal/");
    assert_eq!(
        (answer.status, answer.text().starts_with("busy: ")),
        (503, true)
    );
    // `say url` is the answer of the guest itself: the permit is back.
    assert_eq!(server.get("/").status, 400);
}

#[test]
fn a_callee_has_no_more_time_than_its_caller() {
    for caller in ["outgoing-p2", "outgoing-p3"] {
        let manifest = manifest(caller, "slow-p2", "", "http://callee.app.internal");
        let limited = manifest.replace(
            "[component.callee]",
            "[component.web.limits]\ndeadline = \"200ms\"\n[component.callee]",
        );
        let server = App::new(&limited).up();
        let answer = server.get("/?url=http://callee.app.internal/?ms=60000");
        assert_eq!(answer.status, 504, "{caller}: {}", answer.text());
        let log = server.stderr();
        eventually("the callee has ended", || {
            let text = log.text();
            let mut lines = text.lines();
            lines
                .find(|line| line.contains("callee") && line.contains("fault="))
                .map(drop)
        });
    }
}

#[test]
fn when_the_client_leaves_the_callee_ends_too() {
    for caller in ["outgoing-p2", "outgoing-p3"] {
        let server = pair(caller, "slow-p2", "").up();
        let mut connection = server.connect();
        connection.send(crate::harness::message::get(
            "/?url=http://callee.app.internal/?ms=60000",
        ));
        server.comes_to_rest();
        drop(connection);
        let log = server.stderr();
        eventually("the callee is cancelled", || {
            let text = log.text();
            let mut lines = text.lines();
            lines
                .find(|line| line.contains("callee") && line.contains("fault=cancelled"))
                .map(drop)
        });
    }
}

#[test]
fn a_body_beyond_the_callee_s_limit_is_refused() {
    let limit = "[component.callee.limits]\nrequest_body = \"10B\"";
    let server = pair("relay-p3", "echo-p2", limit).up();
    let to = "/?to=http://callee.app.internal/";
    let mut connection = server.connect();
    assert_eq!(connection.ask(&post(to, "ten bytes!")).text(), "ten bytes!");
    assert_eq!(server.connect().ask(&post(to, "eleven byte")).status, 413);
}

#[test]
fn a_call_that_is_not_granted_is_denied_and_the_log_says_what_to_add() {
    for grant in ["*://*:*", "http://other.app.internal"] {
        for caller in ["outgoing-p2", "outgoing-p3"] {
            let other = "[component.other]\nsource = \"hello-p2.wasm\"";
            let manifest = manifest(caller, "hello-p2", other, grant);
            let server = App::new(&manifest).up();
            for _ in 0..2 {
                let answer = server.get(GET);
                assert_eq!(answer.status, 502, "{caller}");
                let text = answer.text();
                assert!(text.contains("HttpRequestDenied"), "{caller}: {text}");
            }
            let mend = "http = [\"http://callee.app.internal\"] to [component.web.grants]";
            let log = server.stderr();
            eventually("the log says it", || {
                log.text().contains(mend).then_some(())
            });
            assert_eq!(log.text().matches(mend).count(), 1, "{caller}");
        }
    }
}

#[test]
fn a_component_that_is_not_there_is_named_with_those_that_are() {
    let manifest = manifest("outgoing-p2", "hello-p2", "", "http://*.app.internal");
    let server = App::new(&manifest).up();
    assert_eq!(server.page(GET), "hello from wasi:http 0.2\n");
    let answer = server.get("/?url=http://calee.app.internal/");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("DnsError"), "{}", answer.text());
    let told = "answers requests to \"calee.app.internal\"; those that do are: callee, web";
    let log = server.stderr();
    eventually("the log names them", || {
        log.text().contains(told).then_some(())
    });
}

#[test]
fn a_grant_that_names_nobody_or_is_no_way_inside_is_refused_at_the_start() {
    for (grant, told) in [
        ("http://calle.app.internal", "did you mean \"callee\"?"),
        ("https://callee.app.internal", "http://NAME.app.internal"),
        ("http://callee.app.internal:8080", "without a port"),
    ] {
        let app = App::new(&manifest("outgoing-p2", "hello-p2", "", grant));
        let text = refused_start(app.folder(), &[]);
        assert!(text.contains(told), "{grant}: {text}");
    }
}

#[test]
fn a_callee_that_is_no_server_is_refused_at_the_start() {
    let app = pair(
        "outgoing-p2",
        "handler-p2",
        "[[message]]\ntopic = \"a\"\ncomponent = \"callee\"",
    );
    let text = refused_start(app.folder(), &[]);
    assert!(
        text.contains("\"callee\"") && text.contains("not a server"),
        "{text}"
    );
    let words = [
        "check".as_ref(),
        app.folder().as_os_str(),
        "--grant=publish=a".as_ref(),
    ];
    let text = hostel(&words).failure(1);
    assert!(text.contains("not a server"), "{text}");
}

/// Puts another guest in the place of a component's file.
fn rebuild(app: &App, file: &str, name: &str) {
    std::fs::copy(guest(name), app.path("new")).expect("a copy");
    std::fs::rename(app.path("new"), app.path(file)).expect("a file");
}

#[test]
fn a_callee_is_replaced_while_the_app_is_served() {
    let manifest = manifest("outgoing-p2", "hello-p2", "", "http://callee.app.internal");
    let app = App::new(&manifest);
    let server = app.up_with(&["--watch"]);
    assert_eq!(server.page(GET), "hello from wasi:http 0.2\n");
    rebuild(&app, "hello-p2.wasm", "hello-p3");
    eventually("the new build answers", || {
        let page = server.page(GET);
        (page == "hello from wasi:http 0.3\n").then_some(())
    });
}
