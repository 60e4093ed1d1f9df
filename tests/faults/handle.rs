//! Modules of serverless-wasm that fail, and those that mean harm: each costs its own request, and the host goes on.

use std::io::Read;
use std::net::TcpListener;
use std::thread;

use crate::harness::app::App;
use crate::harness::message::{get, sized_head};
use crate::harness::server::Server;
use crate::harness::{PATIENCE, eventually};

const FINE: &str = "/?do=answer";

fn probe(settings: &str) -> App {
    App::of("handle-probe", settings)
}

/// Asks for something that fails with this status and fault, and then for something that works.
fn fails(server: &Server, path: &str, status: u16, fault: &str) {
    let answer = server.get(path);
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    assert!(
        answer.text().starts_with(&format!("{fault}: request ")),
        "{path}: {}",
        answer.text()
    );
    server.is_alive(FINE);
}

#[test]
fn a_module_that_says_too_little_answers_500() {
    let server = probe("").up();
    for (path, told) in [
        (
            "/?do=nothing",
            "it returned without a status: response_set_status_line",
        ),
        (
            "/?do=no-status",
            "it returned without a status: response_set_status_line",
        ),
        (
            "/?do=no-body",
            "it returned without a body: response_set_body",
        ),
        ("/?do=answer&status=42", "the status 42"),
        ("/?do=answer&status=100", "the status 100"),
        ("/?do=answer&status=1000", "the status 1000"),
        ("/?do=answer&status=-1", "the status 65535"),
    ] {
        fails(&server, path, 500, "bad-guest");
        server.stderr().wait_for(told);
    }
}

#[test]
fn a_trap_is_one_500() {
    let server = probe("").up();
    for _ in 0..20 {
        fails(&server, "/?do=trap", 500, "trap");
    }
}

#[test]
fn a_panic_of_the_host_in_one_of_its_functions_costs_the_request() {
    for (function, path) in [
        ("env#log", "/?do=log"),
        ("env#tcp_connect", "/?do=tcp&to=127.0.0.1:9"),
        ("later:env#request_body", "/?do=echo"),
    ] {
        let app = probe("");
        let server = Server::panicking_in(function, app.folder());
        fails(&server, path, 500, "host");
    }
}

#[test]
fn a_place_outside_of_its_memory_is_a_trap() {
    let server = probe("").up();
    for of in ["body", "read", "tcp", "log"] {
        for (at, length) in [
            ("-1", "2"),
            ("-1", "4294967297"),
            ("0", "-1"),
            ("8", "-9223372036854775808"),
            ("8", "9223372036854775807"),
            ("2147483647", "2147483647"),
            ("0", "4294967296"),
        ] {
            let path = format!("/?do=place&of={of}&at={at}&length={length}");
            fails(&server, &path, 500, "trap");
        }
    }
    server.stderr().wait_for("outside of its memory");
    // Nothing has no place.
    assert_eq!(server.page("/?do=place&of=body&at=-1&length=0"), "");
}

#[test]
fn more_than_a_host_call_may_copy_is_a_trap() {
    let server = probe("[component.web.limits]\nhost_call = \"64KiB\"").up();
    assert_eq!(server.page("/?do=answer&bytes=65536").len(), 65_536);
    fails(&server, "/?do=answer&bytes=65537", 500, "trap");
    server.stderr().wait_for("`host_call` is 65536");
    let server = probe("[component.web.limits]\nhost_bytes = \"64KiB\"").up();
    fails(&server, "/?do=answer&bytes=70000", 500, "trap");
    server.stderr().wait_for("its limit `host_bytes`");
}

#[test]
fn an_endless_loop_and_one_before_the_first_call_end_at_their_limit() {
    let server = probe("[component.web.limits]\ncpu = \"100ms\"").up();
    fails(&server, "/?do=loop", 504, "cpu");
    let manifest = "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n[component.web]\n\
                    source = \"web.wat\"\n[component.web.limits]\ncpu = \"100ms\"\n";
    let start = r#"(module (import "env" "memory" (memory 1)) (import "env" "log" (func (param i32 i64)))
        (func $start (loop (br 0))) (start $start) (func (export "handle")))"#;
    let app = App::of_manifest(manifest).with_file("web.wat", start);
    let server = app.up();
    for _ in 0..3 {
        let answer = server.get("/");
        assert_eq!(answer.status, 504, "{}", answer.text());
        assert!(
            answer.text().starts_with("cpu: request "),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn memory_grows_to_its_limit_and_no_further() {
    let server = probe("[component.web.limits]\nmemory = \"4MiB\"").up();
    assert_eq!(server.page("/?do=grow&pages=10"), "grown");
    assert_eq!(server.page("/?do=grow&pages=100"), "refused");
    assert_eq!(server.page("/?do=grow&pages=65535"), "refused");
    // The module's own maximum.
    let module = |maximum: &str| {
        format!(
            r#"(module (import "env" "memory" (memory 1 {maximum}))
                (import "env" "response_set_status_line" (func $status (param i32 i32 i64)))
                (import "env" "response_set_body" (func $body (param i32 i64)))
                (func (export "handle")
                    (call $status (i32.add (i32.const 300) (memory.grow (i32.const 4))) (i32.const 0) (i64.const 0))
                    (call $body (i32.const 0) (i64.const 0))))"#
        )
    };
    let manifest = "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n[component.web]\nsource = \"web.wat\"\n";
    for (maximum, status) in [("3", 299), ("5", 301), ("", 301)] {
        let app = App::of_manifest(manifest).with_file("web.wat", module(maximum));
        assert_eq!(app.up().get("/").status, status, "{maximum}");
    }
}

#[test]
fn what_is_not_granted_is_not_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a socket");
    // The manifest alone does not open the machine's own addresses.
    let granted = format!("[component.web.grants]\ntcp = [\"{address}\", \"169.254.169.254:80\"]");
    let server = probe(&granted).up();
    for to in [
        address.to_string(),
        format!("localhost:{}", address.port()),
        format!("[::ffff:127.0.0.1]:{}", address.port()),
        "169.254.169.254:80".to_owned(),
        "10.0.0.1:80".to_owned(),
        format!("web.app.internal:{}", address.port()),
    ] {
        assert_eq!(
            server.page(&format!("/?do=tcp&to={to}")),
            "connect: -1",
            "{to}"
        );
    }
    server
        .stderr()
        .wait_for("not of the public internet (loopback)");
    assert!(listener.accept().is_err(), "nobody came");
}

/// A listener whose connections are taken and never answered; how many are open is counted by whoever ends.
fn silent() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let mut all = Vec::new();
        for stream in listener.incoming() {
            all.push(stream);
        }
    });
    address
}

#[test]
fn connections_that_are_never_closed_have_an_end() {
    let address = silent();
    let grant = format!("tcp={address}");
    let flags = ["--grant", grant.as_str()];
    let many =
        "[component.web.limits]\noutbound = 10000\noutbound_open = 10000\noutbound_rate = 10000";
    let server = probe(many).up_with(&flags);
    let files = server.open_files();
    let page = server.page(&format!("/?do=tcp&to={address}&times=10000"));
    assert_eq!(page, "10000 attempts, highest 99, last -2");
    eventually("its connections to be closed", || {
        (server.open_files() <= files + 8).then_some(())
    });
    let page = server.page(&format!("/?do=tcp&to={address}&times=300&close=1"));
    assert_eq!(page, "300 attempts, highest 0, last 0");
    // What it may have of the network is less than its table.
    let server = probe("").up_with(&flags);
    let page = server.page(&format!("/?do=tcp&to={address}&times=10000"));
    assert_eq!(page, "10000 attempts, highest 63, last -1");
    server
        .stderr()
        .wait_for("its limit `outbound_open` is used up");
    server.is_alive(FINE);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let address = silent();
    let app = probe("[component.web.limits]\ndeadline = \"200ms\"");
    let server = app.up_with(&["--grant", &format!("tcp={address}")]);
    fails(
        &server,
        &format!("/?do=tcp&to={address}&send=x"),
        504,
        "deadline",
    );
    // Neither is one that takes nothing.
    fails(
        &server,
        &format!("/?do=tcp&to={address}&bytes=50000000"),
        504,
        "deadline",
    );
}

#[test]
fn connections_end_with_the_request_whatever_ends_that() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = probe("").up_with(&["--grant", &format!("tcp={address}")]);
    let mut client = server.connect();
    client.send(get(&format!("/?do=tcp&to={address}&send=x")));
    let (mut stream, _) = listener.accept().expect("the module");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    assert_eq!(stream.read(&mut [0; 10]).expect("its byte"), 1);
    // The client leaves.
    drop(client);
    assert_eq!(stream.read(&mut [0; 10]).expect("an end"), 0);
    server.stderr().wait_for("fault=cancelled");
    server.is_alive(FINE);
}

#[test]
fn a_body_that_never_comes_is_not_waited_for_for_ever() {
    let server = probe("[component.web.limits]\ndeadline = \"200ms\"").up();
    for how in ["", "&how=read"] {
        let mut client = server.connect();
        client.send(sized_head(&format!("/?do=echo{how}"), 100));
        client.send("half");
        assert_eq!(client.answer().status, 504, "{how}");
    }
    server.is_alive(FINE);
}

#[test]
fn a_flood_of_log_lines_is_cut() {
    let server = probe("").up();
    let page = server.page("/?do=log&bytes=1000000");
    assert_eq!(page, "logged");
    server.stderr().wait_for("info: \\xff\\xff");
    let longest = server.stderr().text().lines().map(str::len).max();
    assert!(
        longest.is_some_and(|longest| longest < 70_000),
        "{longest:?}"
    );
    server.is_alive(FINE);
}

#[test]
fn a_module_without_a_memory_that_it_shares_is_told_so() {
    let manifest = "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n[component.web]\nsource = \"web.wat\"\n";
    let hidden = r#"(module (memory 1) (import "env" "log" (func $log (param i32 i64)))
        (func (export "handle") (call $log (i32.const 0) (i64.const 1))))"#
        .replace(
            "(memory 1) (import \"env\" \"log\" (func $log (param i32 i64)))",
            "(import \"env\" \"log\" (func $log (param i32 i64))) (memory 1)",
        );
    let app = App::of_manifest(manifest).with_file("web.wat", hidden);
    let server = app.up();
    assert_eq!(server.get("/").status, 500);
    server
        .stderr()
        .wait_for("neither imports as `env.memory` nor exports as `memory`");
}

#[test]
fn a_module_of_assemblyscript_says_why_it_aborts() {
    let manifest = "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n[component.web]\nsource = \"web.wat\"\n";
    let aborts = r#"(module (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
        (import "env" "log" (func (param i32 i64))) (memory (export "memory") 1)
        (data (i32.const 8) "\04\00\00\00n\00o\00") (data (i32.const 20) "\04\00\00\00a\00s\00")
        (func (export "handle") (call $abort (i32.const 12) (i32.const 24) (i32.const 3) (i32.const 7))))"#;
    let app = App::of_manifest(manifest).with_file("web.wat", aborts);
    let server = app.up();
    assert_eq!(server.get("/").status, 500);
    server.stderr().wait_for("it aborted: no (as:3:7)");
}
