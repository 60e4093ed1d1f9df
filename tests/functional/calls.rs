//! Exports called by their names: `hostel call`, the export that an instance is started with, and the functions that core
//! modules of server-side-wasm import.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::harness::app::App;
use crate::harness::command::{Outcome, hostel_in};
use crate::harness::server::{Server, refused_start};
use crate::harness::upstream::Upstream;
use crate::harness::{data, eventually, golden, guest};

const SHOP: &str = r#"
[app]
name = "shop"

[[http]]
route = "/..."
component = "web"

[component.web]
source = "calls-p2.wasm"
"#;

/// Called from the command line only: `hostel up` would want a trigger for it.
const LATER: &str = "\n[component.later]\nsource = \"calls-p3.wasm\"\n";

/// `hostel call ARGUMENTS`, in the folder of an app.
fn call_in(folder: &Path, arguments: &[&str]) -> Outcome {
    let data = data();
    let data = data.to_str().expect("text");
    hostel_in(folder, &[&["call", "--data", data], arguments].concat())
}

fn call(arguments: &[&str]) -> Outcome {
    call_in(App::new(&format!("{SHOP}{LATER}")).folder(), arguments)
}

/// What it returned.
fn returned(arguments: &[&str]) -> String {
    call(arguments).success()
}

#[test]
fn functions_are_called_with_wave_and_with_json() {
    for (arguments, result) in [
        (&["shop.web.greet", "you"][..], "\"hello you\"\n"),
        (&["shop.web.greet", "\"a \\\" b\""], "\"hello a \\\" b\"\n"),
        (
            &[
                "shop.web.stock.total",
                "[{name: \"a\", count: 2}, {name: \"b\", count: 3, note: some(\"x\")}]",
            ],
            "5\n",
        ),
        (&["shop.web.test:calls/stock@1.2.0#total", "[]"], "0\n"),
        (
            &[
                "shop.web.test:calls/stock#weigh",
                "some-of(3)",
                "large",
                "{sold}",
            ],
            "(\"Marks { bits: 2 }\", 7.5)\n",
        ),
        (
            &[
                "--json",
                "shop.web.stock.weigh",
                r#"{"all-of": [{"name": "a", "count": 1}]}"#,
                r#""small""#,
                "[]",
            ],
            "(\"Marks { bits: 0 }\", 0.5)\n",
        ),
        (
            &[
                "--json",
                "--format",
                "json",
                "shop.web.stock.weigh",
                r#""nothing""#,
                r#""large""#,
                "[]",
            ],
            "[\"Marks { bits: 0 }\",0.0]\n",
        ),
        (
            &["--format", "json", "shop.web.refuse", "\"\""],
            "{\"ok\":7}\n",
        ),
        (&["shop.later.at-once", "2", "3"], "5\n"),
        (&["shop.later.later", "5"], "\"after 5 ms\"\n"),
    ] {
        assert_eq!(returned(arguments), result, "{arguments:?}");
    }
}

#[test]
fn what_a_guest_prints_is_not_what_it_returns() {
    let outcome = call(&["shop.web.greet", "you"]);
    assert!(
        outcome.stderr.contains("greeting you"),
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.success(), "\"hello you\"\n");
}

#[test]
fn exports_are_listed_with_their_types() {
    golden::check("call/list.txt", &returned(&["--list"]));
    golden::check(
        "call/list-one.json",
        &returned(&["--list", "--format", "json", "shop.later"]),
    );
}

#[test]
fn what_cannot_be_called_is_a_usage_error() {
    let cases: [&[&str]; 11] = [
        &[],
        &["shop.web"],
        &["store.web.greet", "x"],
        &["shop.wep.greet", "x"],
        &["shop.web.great", "x"],
        &["shop.web.total", "[]"],
        &["shop.web.greet"],
        &["shop.web.stock.total", "[{name: \"a\"}]"],
        &["shop.later.at-once", "-1", "2"],
        &["--json", "shop.later.at-once", "1", "x"],
        &[
            "--json",
            "shop.web.stock.weigh",
            "{\"some-of\": -1}",
            "\"small\"",
            "[]",
        ],
    ];
    let errors = cases.map(|arguments| {
        let told = call(arguments).failure(2);
        format!("$ hostel call {}\n{told}\n", arguments.join(" "))
    });
    golden::check("call/errors.txt", &errors.concat());
}

#[test]
fn an_error_is_exit_code_1_and_a_fault_has_its_own() {
    let told = call(&["shop.web.refuse", "not today"]).failure(1);
    assert_eq!(told, "error: `refuse` returned an error: not today\n");
    let outcome = call(&["--format", "json", "shop.web.refuse", "not today"]);
    assert_eq!(
        (outcome.code, outcome.text().as_str()),
        (Some(1), "{\"err\":\"not today\"}\n")
    );
    let told = call(&["shop.web.fail", "now"]).failure(134);
    assert!(
        told.contains("the guest trapped") && told.contains("unreachable"),
        "{told}"
    );
    let told = call(&["--limit", "deadline=100ms", "shop.web.fail", "loop"]).failure(124);
    assert!(told.contains("deadline of 100 ms"), "{told}");
}

#[test]
fn a_file_of_its_own_is_called_too_with_the_operator_s_grants() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(guest("calls-p2"), folder.path().join("calls.wasm")).expect("a copy");
    let module = r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8))
        (func (export "second") (param i32 i32) (result i32) (i32.load8_u offset=1 (local.get 0)))
        (func (export "halve") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
        (func (export "swap") (param i32 i64) (result i64 i32) (local.get 1) (local.get 0)))"#;
    std::fs::write(folder.path().join("plain.wat"), module).expect("a file");
    for (arguments, result) in [
        (&["calls.wasm", "greet", "x"][..], "\"hello x\"\n"),
        (&["plain.wat", "second", "AB"], "66\n"),
        (&["plain.wat", "halve", "-3"], "-1.5\n"),
        (&["plain.wat", "swap", "1", "-9"], "(-9, 1)\n"),
        (
            &["--format", "json", "plain.wat", "swap", "1", "-9"],
            "[-9,1]\n",
        ),
        (
            &["--list", "plain.wat"],
            "plain.plain\n  second: func(i32, i32) -> i32\n  halve: func(f64) -> f64\n  \
             swap: func(i32, i64) -> tuple<i64, i32>\n",
        ),
    ] {
        assert_eq!(
            call_in(folder.path(), arguments).success(),
            result,
            "{arguments:?}"
        );
    }
    let told = call_in(folder.path(), &["plain.wat", "halve", "x"]).failure(2);
    assert!(told.contains("argument 1 is the string `x`"), "{told}");
}

/// An app whose web component is started with `init`.
fn started(settings: &str) -> App {
    let start = format!("source = \"calls-p2.wasm\"\non_start = \"init\"\n{settings}");
    App::new(&SHOP.replace("source = \"calls-p2.wasm\"", &start))
}

#[test]
fn every_fresh_instance_is_started_once() {
    let app = started("config = { greeting = \"hi\", times = \"3\" }\nreuse = 3\n");
    let server = app.up();
    for _ in 0..7 {
        assert_eq!(server.page("/"), "started with hi Some(3)\n");
    }
    let called = call_in(app.folder(), &["shop.web.started"]).success();
    assert_eq!(called, "\"hi Some(3)\"\n");
    let app = started("config = { greeting = \"no number\" }\n");
    assert_eq!(app.up().page("/"), "started with no number None\n");
}

#[test]
fn an_instance_that_does_not_start_is_a_fault_of_the_call() {
    let app = started("config = { greeting = \"refuse\" }\n");
    let server = app.up();
    assert_eq!(server.get("/").status, 502);
    let said = "its on_start export `init` failed: this greeting is none";
    server.stderr().wait_for(said);
    let told = call_in(app.folder(), &["shop.web.started"]).failure(65);
    assert!(told.contains(said), "{told}");
    let server = started("config = { greeting = \"trap\" }\n").up();
    assert_eq!(server.get("/").status, 500);
    server.stderr().wait_for("in the on_start export `init`");
}

#[test]
fn what_an_instance_cannot_be_started_with_is_told_before_it_serves() {
    let told = |settings: &str| refused_start(started(settings).folder(), &[]);
    let text = told("");
    assert!(
        text.contains("the parameter `greeting: string` has no value in `config`"),
        "{text}"
    );
    let text = told("config = { greeting = \"hi\", times = \"many\" }\n");
    assert!(
        text.contains("the parameter `times: option<u32>` does not take the value of `config`"),
        "{text}"
    );
    let app = App::new(&SHOP.replace(
        "source = \"calls-p2.wasm\"",
        "source = \"calls-p2.wasm\"\non_start = \"inti\"",
    ));
    let text = refused_start(app.folder(), &[]);
    assert!(
        text.contains("no function `inti`") && text.contains("did you mean `init`?"),
        "{text}"
    );
}

/// An app with a module that imports what server-side-wasm offered.
fn probe(settings: &str) -> App {
    App::new(&format!(
        "[app]\nname = \"old\"\n\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\n[component.web]\nsource = \
         \"hello-p2.wasm\"\n\n[component.probe]\nsource = \"init-probe.wasm\"\n{settings}\n"
    ))
}

const TOPICS: &str =
    "[component.probe.grants]\nmessaging = { publish = [\"alerts\"], subscribe = [\"alerts\"] }";

/// What the probe told of a call that succeeded.
fn told_by_probe(app: &App, arguments: &[&str]) -> Vec<String> {
    let outcome = call_in(app.folder(), arguments);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let lines = outcome.stderr.lines();
    let lines = lines.filter_map(|line| line.split_once("info probe: "));
    lines.map(|(_, text)| text.to_owned()).collect()
}

#[test]
fn original_guests_speak_through_the_app_s_broker() {
    let told = told_by_probe(&probe(TOPICS), &["old.probe.talk", "alerts", "it is hot"]);
    assert_eq!(
        told,
        ["subscribed to alerts", "alerts it is hot", "alerts empty"]
    );
}

#[test]
fn original_guests_have_the_topics_that_the_manifest_names_and_no_other() {
    let app = probe(TOPICS);
    for (arguments, line) in [
        (
            &["old.probe.say", "secrets", "x"][..],
            "messaging = { publish = [\"secrets\"] }",
        ),
        (
            &["old.probe.hear", "secrets"],
            "messaging = { subscribe = [\"secrets\"] }",
        ),
    ] {
        let told = call_in(app.folder(), arguments).failure(134);
        assert!(told.contains("the topic secrets is not granted"), "{told}");
        assert!(told.contains(line), "{told}");
    }
}

#[test]
fn a_topic_is_granted_by_the_flag_that_the_log_names() {
    let app = probe("");
    let subscribe = ["old.probe.subscribe_to", "1"];
    let told = call_in(app.folder(), &subscribe).failure(134);
    let flag = told
        .lines()
        .find_map(|line| line.split_once("or start with --grant "))
        .map(|(_, flag)| flag.trim().to_owned())
        .expect("a flag");
    let granted = [&["--grant", &flag], &subscribe[..]].concat();
    assert_eq!(call_in(app.folder(), &granted).success(), "1\n");
}

#[test]
fn an_instance_reads_so_many_topics_and_no_more() {
    let topics = "[component.probe.grants]\nmessaging = { subscribe = [\"*\"] }";
    let app = probe(topics);
    let counted = call_in(app.folder(), &["old.probe.subscribe_to", "64"]).success();
    assert_eq!(counted, "64\n");
    let told = call_in(app.folder(), &["old.probe.subscribe_to", "65"]).failure(134);
    assert!(told.contains("it has subscribed to 64 topics"), "{told}");
}

#[test]
fn a_string_that_is_not_utf_8_traps() {
    let told = call_in(probe("").folder(), &["old.probe.not_utf8"]).failure(134);
    assert!(told.contains("a string that is not UTF-8"), "{told}");
}

#[test]
fn original_guests_send_requests_to_what_is_granted() {
    let sink = Upstream::saying(
        "HTTP/1.1 201 Made\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 24\r\n\r\n\
         more than sixteen bytes.",
    );
    let url = format!("http://{}/in", sink.address());
    let grant = format!("http=http://{}", sink.address());
    let app = probe("");
    let told = told_by_probe(&app, &["--grant", &grant, "old.probe.post", &url, "\"\""]);
    assert_eq!(
        told,
        [
            "type Ok(\"text/plain\")",
            "absent Err(5)",
            "small buffer Err(4)",
            "headers true",
            "body more than sixteen bytes.",
            "closed 0 1",
        ]
    );
    let heard = sink.heard().concat();
    assert!(
        heard.starts_with("POST /in HTTP/1.1\r\n") && heard.contains("x-probe: yes"),
        "{heard}"
    );
    let code = |arguments: &[&str]| call_in(app.folder(), arguments).success();
    assert_eq!(code(&["old.probe.post", &url, "\"\""]), "7\n");
    assert_eq!(
        code(&["--grant", &grant, "old.probe.post", "\"no url\"", "\"\""]),
        "10\n"
    );
}

#[test]
fn an_instance_holds_so_many_answers_and_no_more() {
    let sink = Upstream::http("x");
    let url = format!("http://{}/", sink.address());
    let grant = format!("http=http://{}", sink.address());
    let app = probe("");
    let code = |count: &str| {
        let arguments = ["--grant", &grant, "old.probe.hold", &url, count];
        call_in(app.folder(), &arguments).success()
    };
    assert_eq!(code("42"), "0\n");
    assert_eq!(code("43"), "13\n");
}

#[test]
fn an_instance_holds_so_many_bytes_of_answers_and_no_more() {
    let sink = Upstream::http("x".repeat(40_000).leak());
    let url = format!("http://{}/", sink.address());
    let grant = format!("http=http://{}", sink.address());
    let flags = ["--grant", &grant, "--limit", "host_bytes=64KiB"];
    let app = probe("");
    let hold = |count| {
        let arguments = [&flags[..], &["old.probe.hold", &url, count]].concat();
        call_in(app.folder(), &arguments)
    };
    assert_eq!(hold("1").success(), "0\n");
    let refused = hold("2");
    assert!(
        refused
            .stderr
            .contains("it would hold more than 65536 bytes of answers, its limit `host_bytes`"),
        "{}",
        refused.stderr
    );
    assert_eq!(refused.success(), "12\n");
}

#[test]
fn original_guests_speak_to_a_broker_guest_where_they_are_told_to() {
    let broker = Upstream::saying("alerts it was hot");
    let address = broker.address().to_string();
    let app = probe(&format!("config = {{ broker = \"{address}\" }}"));
    let grant = format!("tcp={address}");
    let told = call_in(app.folder(), &["old.probe.say", "alerts", "x"]).failure(134);
    assert!(
        told.contains(&format!("{address} may not be dialled")),
        "{told}"
    );
    call_in(
        app.folder(),
        &["--grant", &grant, "old.probe.say", "alerts", "it is hot"],
    )
    .success();
    // The guest has gone on before that is read.
    eventually("the broker hears of it", || {
        (broker.heard() == ["alerts it is hot"]).then_some(())
    });
}

#[test]
fn a_broker_guest_that_says_nothing_is_not_waited_for_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let app = probe(&format!("config = {{ broker = \"{address}\" }}"));
    let grant = format!("tcp={address}");
    let told = call_in(
        app.folder(),
        &["--grant", &grant, "old.probe.hear", "alerts"],
    )
    .failure(134);
    assert!(told.contains("timed out"), "{told}");
}

/// A server on a data folder of its own.
struct Running {
    app: App,
    data: tempfile::TempDir,
    server: Server,
}

impl Running {
    fn of(app: App) -> Self {
        Self::with(app, &[])
    }

    fn with(app: App, flags: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let server = Server::launch(app.folder(), data.path(), flags);
        Self { app, data, server }
    }

    fn call(&self, arguments: &[&str]) -> Outcome {
        let data = self.data.path().to_str().expect("text");
        let flags = ["call", "--data", data, "--running"];
        hostel_in(Path::new("/"), &[&flags[..], arguments].concat())
    }

    fn socket(&self, app: &str) -> PathBuf {
        self.data.path().join(format!("run/{app}.sock"))
    }
}

#[test]
fn a_running_app_is_called_by_its_control_socket() {
    let running = Running::of(App::new(SHOP));
    for (arguments, result) in [
        (&["shop.web.greet", "you"][..], "\"hello you\"\n"),
        (&["--json", "shop.web.stock.total", "[]"], "0\n"),
        (
            &["--format", "json", "shop.web.refuse", "\"\""],
            "{\"ok\":7}\n",
        ),
    ] {
        assert_eq!(running.call(arguments).success(), result, "{arguments:?}");
    }
    running.server.stdout().wait_for("greeting you");
    let told = running.call(&["shop.web.refuse", "no"]).failure(1);
    assert_eq!(told, "error: `refuse` returned an error: no\n");
    let told = running.call(&["shop.web.fail", "now"]).failure(134);
    assert!(told.contains("the guest trapped"), "{told}");
    let told = running.call(&["shop.web.great", "x"]).failure(2);
    assert!(told.contains("did you mean `greet`?"), "{told}");
    let told = running.call(&["shop.wep.greet", "x"]).failure(2);
    assert!(told.contains("did you mean `web`?"), "{told}");
    let told = running.call(&["other.web.greet", "x"]).failure(1);
    assert!(told.contains("no app `other` answers at"), "{told}");
    let mode = std::fs::metadata(running.socket("shop"))
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    running.server.is_alive("/");
}

#[test]
fn a_component_whose_file_has_changed_is_not_called_in_the_running_app() {
    let running = Running::of(App::new(SHOP));
    std::fs::copy(guest("hello-p2"), running.app.path("calls-p2.wasm")).expect("a copy");
    let told = running.call(&["shop.web.greet", "you"]).failure(2);
    assert!(
        told.contains("has changed since the app was started"),
        "{told}"
    );
}

/// A component that imports `imported` and exports `exported`, each with a function that returns 7.
fn between(imported: &str, exported: &str) -> String {
    format!(
        r#"(component
            (import "{imported}" (instance $c (export "f" (func (result u32)))))
            (core func $f (canon lower (func $c "f")))
            (core module $m (import "" "f" (func $f (result i32)))
                (func (export "f") (result i32) call $f))
            (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
            (func $g (result u32) (canon lift (core func $i "f")))
            (instance $x (export "f" (func $g)))
            (export "{exported}" (instance $x)))"#
    )
}

#[test]
fn a_component_that_others_are_bound_to_is_called_in_the_running_app() {
    let last = r#"(component
        (core module $m (func (export "f") (result i32) i32.const 7))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i "f")))
        (instance $x (export "f" (func $f)))
        (export "a:b/three" (instance $x)))"#;
    let (first, second) = (
        between("a:b/two", "a:b/one"),
        between("a:b/three", "a:b/two"),
    );
    let components = format!(
        "[component.first]\nsource = '''{first}'''\nbind = {{ \"a:b/two\" = \"second\" }}\n\
         [component.second]\nsource = '''{second}'''\nbind = {{ \"a:b/three\" = \"last\" }}\n\
         [component.last]\nsource = '''{last}'''\n\
         [[cron]]\nschedule = \"@yearly\"\ncomponent = \"first\"\nexport = \"a:b/one#f\"\n"
    );
    let running = Running::of(App::new(&format!("{SHOP}{components}")));
    for export in ["shop.last.three.f", "shop.second.two.f", "shop.first.one.f"] {
        assert_eq!(running.call(&[export]).success(), "7\n", "{export}");
    }
}

#[test]
fn calls_of_a_running_app_meet_the_build_that_watch_took_over() {
    let running = Running::with(App::new(SHOP), &["--watch"]);
    let asked = ["shop.web.stock.total", "[]"];
    assert_eq!(running.call(&asked).success(), "0\n");
    std::fs::copy(guest("hello-p2"), running.app.path("calls-p2.wasm")).expect("a copy");
    running
        .server
        .stderr()
        .wait_for("component \"web\" replaced");
    let told = running.call(&asked).failure(2);
    assert!(told.contains("no function `stock.total`"), "{told}");
    std::fs::write(running.app.path("hostel.toml"), "no manifest").expect("a manifest");
    let stays = "the change is not taken over";
    running.server.stderr().wait_for(stays);
    let told = running.call(&asked).failure(2);
    assert!(told.contains("no function `stock.total`"), "{told}");
}

#[test]
fn a_call_of_a_running_app_has_its_neighbours_and_what_its_imports_are_bound_to() {
    let running = Running::of(App::new(
        "[app]\nname = \"shop\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
         [component.web]\nsource = \"shop-p2.wasm\"\n[component.web.bind]\n\"shop:pricing/api\" = \"pricing\"\n\
         [component.pricing]\nsource = \"pricing-p2.wasm\"\n[component.pricing.grants]\nhttp = \
         [\"http://web.app.internal\"]\n",
    ));
    let through = "get:http://web.app.internal/?item=tea";
    for _ in 0..2 {
        let told = running.call(&["shop.pricing.api.act", through]).success();
        assert_eq!(told, "\"200\"\n");
    }
    assert_eq!(running.server.page("/?item=tea"), "300\n");
}

#[test]
fn the_control_socket_goes_with_the_server_and_one_left_behind_is_replaced() {
    let mut running = Running::of(App::new(SHOP));
    running.server.signal(rustix::process::Signal::KILL);
    running.server.end();
    assert!(running.socket("shop").exists());
    running.server = Server::launch(running.app.folder(), running.data.path(), &[]);
    assert_eq!(
        running.call(&["shop.web.stock.total", "[]"]).success(),
        "0\n"
    );
    running.server.signal(rustix::process::Signal::TERM);
    running.server.end();
    assert!(!running.socket("shop").exists());
}

#[test]
fn a_request_that_is_too_long_is_refused() {
    let running = Running::of(App::new(SHOP));
    let mut stream = UnixStream::connect(running.socket("shop")).expect("a connection");
    // It answers before it has all of it, and then nobody reads the rest.
    let _refused = stream.write_all(&vec![b'x'; (1 << 20) + 1]);
    let mut answer = String::new();
    let _cut = stream.read_to_string(&mut answer);
    assert!(answer.contains("no line of at most 1MiB"), "{answer}");
    let long = "x".repeat(100_000);
    let arguments = [&["shop.web.greet"], &[long.as_str(); 11][..]].concat();
    let told = running.call(&arguments).failure(2);
    assert!(told.contains("send fewer or shorter arguments"), "{told}");
    let mut stream = UnixStream::connect(running.socket("shop")).expect("a connection");
    stream.write_all(b"no JSON\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("the request is not JSON"), "{answer}");
}

#[test]
fn a_control_socket_answers_its_callers_in_turns() {
    let running = Running::of(App::new(SHOP));
    // More silent ones than are answered at once: each is given up in time.
    let silent: Vec<UnixStream> = (0..9)
        .map(|_| UnixStream::connect(running.socket("shop")).expect("a connection"))
        .collect();
    assert_eq!(
        running.call(&["shop.web.stock.total", "[]"]).success(),
        "0\n"
    );
    drop(silent);
}

/// The scenario of server-side-wasm, by modules of its kind: `broker` is further text of the manifest, `config` of components.
fn scenario(sink: &Upstream, config: &str, broker: &str) -> App {
    let manifest = format!(
        r#"
[app]
name = "old"

[component.telemetry]
source = "init-telemetry.wasm"
{config}
[component.telemetry.grants]
files = {{ "." = {{ host = "modules" }} }}
messaging = {{ publish = ["telemetry"] }}

[component.gateway]
source = "init-gateway.wasm"
args = ["gateway/other.toml"]
{config}
[component.gateway.grants]
files = {{ "." = {{ host = "modules" }} }}
messaging = {{ subscribe = ["telemetry"] }}

[[service]]
component = "telemetry"

[[service]]
component = "gateway"
{broker}
"#
    );
    let gateway = format!(
        "http_post_url = 'http://{}/events'\nhttp_post_interval_in_milliseconds = '5'\n\
         http_post_response_code = '200'\ntopic = 'telemetry'\n",
        sink.address()
    );
    let telemetry = "telemetry_interval_in_milliseconds = '20'\ncount = '100000'\n";
    App::new(&manifest)
        .with_file("modules/telemetry/config.toml", telemetry)
        .with_file("modules/gateway/other.toml", gateway)
        .with_file(
            "modules/server/config.toml",
            "topics = 'alert telemetry deadletter'\n",
        )
}

/// The numbers of the readings that were posted, once there are so many.
fn readings(sink: &Upstream, count: usize) -> Vec<u64> {
    let number = |request: &String| {
        let (_, number) = request.split_once("\"reading\":")?;
        number.trim_end_matches('}').parse::<u64>().ok()
    };
    eventually("readings", || {
        let numbers: Vec<u64> = sink.heard().iter().filter_map(number).collect();
        (numbers.len() >= count).then_some(numbers)
    })
}

/// Every reading follows on the one before it, or is the same again; how often it is the same.
fn repeated(readings: &[u64]) -> usize {
    let mut again = 0;
    for pair in readings.windows(2) {
        match pair[1].checked_sub(pair[0]) {
            Some(1) => {}
            Some(0) => again += 1,
            _ => panic!("{readings:?}"),
        }
    }
    again
}

#[test]
fn original_guests_run_as_services_over_the_app_s_broker_and_lose_nothing() {
    // The gateway insists on 200: the tenth answer ends it, and what it had is delivered to the one that takes its place.
    let sink = Upstream::taking("}", |number| if number == 9 { 500 } else { 200 });
    let app = scenario(&sink, "", "");
    let data = tempfile::tempdir().expect("a folder");
    let grant = format!("http=http://{}", sink.address());
    let server = Server::launch(app.folder(), data.path(), &["--grant", &grant]);
    server
        .stderr()
        .wait_for("info telemetry: configured by ./telemetry/config.toml");
    server.stderr().wait_for("info gateway: forwards telemetry");
    assert_eq!(repeated(&readings(&sink, 30)), 1);
}

#[test]
fn original_guests_run_as_services_over_a_broker_guest() {
    let sink = Upstream::taking("}", |_| 200);
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let broker = format!(
        "\n[component.server]\nsource = \"init-server.wasm\"\n[component.server.grants]\nfiles = {{ \".\" = {{ host = \
         \"modules\" }} }}\n[[service]]\ncomponent = \"server\"\nlisten = [\"{address}\"]\n"
    );
    let app = scenario(
        &sink,
        &format!("config = {{ broker = \"{address}\" }}"),
        &broker,
    );
    let data = tempfile::tempdir().expect("a folder");
    let (http, tcp) = (
        format!("http=http://{}", sink.address()),
        format!("tcp={address}"),
    );
    // Every exchange dials.
    let flags = [
        "--grant",
        &http,
        "--grant",
        &tcp,
        "--limit",
        "outbound=10000",
        "--limit",
        "outbound_rate=10000",
    ];
    let server = Server::launch(app.folder(), data.path(), &flags);
    server
        .stderr()
        .wait_for("info server: keeps 3 topics on descriptor 4");
    assert_eq!(repeated(&readings(&sink, 30)), 0);
}
