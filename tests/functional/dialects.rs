//! Manifests of other hosts, served as they are.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use crate::harness::app::App;
use crate::harness::command::{Outcome, hostel, hostel_in};
use crate::harness::message::request;
use crate::harness::server::Server;
use crate::harness::{data, eventually, guest};

/// A program in WebAssembly text whose exports print one text each.
fn printer(exports: &[(&str, &str)]) -> String {
    let mut text = "(module (import \"wasi_snapshot_preview1\" \"fd_write\" \
                    (func $write (param i32 i32 i32 i32) (result i32)))\n\
                    (memory (export \"memory\") 1)\n"
        .to_owned();
    let mut at = 64;
    for (name, printed) in exports {
        let escaped: String = printed
            .bytes()
            .map(|byte| format!("\\{byte:02x}"))
            .collect();
        let length = printed.len();
        text += &format!(
            "(data (i32.const {at}) \"{escaped}\")\n(func (export \"{name}\")\n\
             (i32.store (i32.const 0) (i32.const {at})) (i32.store (i32.const 4) (i32.const {length}))\n\
             (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))\n"
        );
        at += length;
    }
    text + ")"
}

/// What an entry point prints for this to be its page.
fn page(text: &str) -> String {
    format!("content-type: text/plain\n\n{text}")
}

/// A program with these pages, each an entry point, and perhaps with routes to print.
fn program(pages: &[&str], routes: Option<&str>) -> String {
    let printed: Vec<(&str, String)> = pages.iter().map(|name| (*name, page(name))).collect();
    let routes = routes.map(|routes| ("_routes", routes.to_owned()));
    let all: Vec<(&str, String)> = printed.into_iter().chain(routes).collect();
    let all: Vec<(&str, &str)> = all
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    printer(&all)
}

/// A module of serverless-wasm whose exports answer with a text each, and `value` with what `db_get` has for `key`.
fn module(exports: &[&str]) -> String {
    let mut text = "(module\n\
        (import \"env\" \"response_set_status_line\" (func $status (param i32 i32 i64)))\n\
        (import \"env\" \"response_set_header\" (func $header (param i32 i64 i32 i64)))\n\
        (import \"env\" \"response_set_body\" (func $body (param i32 i64)))\n\
        (import \"env\" \"db_get\" (func $get (param i32 i64 i32 i64) (result i64)))\n\
        (import \"env\" \"memory\" (memory 1))\n\
        (data (i32.const 0) \"OK\") (data (i32.const 8) \"key\")\n\
        (func (export \"value\") (local $length i64)\n\
        (local.set $length (call $get (i32.const 8) (i64.const 3) (i32.const 1024) (i64.const 1000)))\n\
        (call $status (i32.const 200) (i32.const 0) (i64.const 2))\n\
        (call $body (i32.const 1024) (local.get $length)))\n"
        .to_owned();
    let mut at = 64;
    for name in exports {
        let length = name.len();
        text += &format!(
            "(data (i32.const {at}) \"{name}\")\n(func (export \"{name}\")\n\
             (call $status (i32.const 200) (i32.const 0) (i64.const 2))\n\
             (call $body (i32.const {at}) (i64.const {length})))\n"
        );
        at += length;
    }
    text + ")"
}

fn ask(server: &Server, method: &str, target: &str) -> (u16, String) {
    let answer = server.connect().ask(&request(method, target, &[], ""));
    (answer.status, answer.text())
}

fn up_fails(app: &App, manifest: &str) -> String {
    let path = app.path(manifest);
    let arguments = ["up", "--listen", "127.0.0.1:0"].map(str::to_owned);
    let rest = [
        "--data",
        &data().display().to_string(),
        &path.display().to_string(),
    ]
    .map(str::to_owned);
    hostel(&[arguments.as_slice(), &rest].concat()).failure(1)
}

/// The test modules of WAGI with what answers them: exact and wildcard routes, named entry points.
const MODULES: &str = r#"
[[module]]
route = "/"
module = "pages.wat"

[[module]]
route = "/ep1"
module = "pages.wat"
entrypoint = "ep1"

[[module]]
route = "/wild/..."
module = "pages.wat"
entrypoint = "wild"

[[module]]
route = "/wild/exact"
module = "pages.wat"
entrypoint = "ep1"

[[module]]
route = "/:x/.../y"
module = "pages.wat"
entrypoint = "literal"
"#;

fn modules(text: &str) -> App {
    let pages = program(&["_start", "ep1", "wild", "literal"], None);
    App::empty()
        .with_file("modules.toml", text)
        .with_file("pages.wat", pages)
}

#[test]
fn a_modules_toml_is_served_from_its_folder_and_by_its_name() {
    let app = modules(MODULES);
    for path in [app.folder().to_owned(), app.path("modules.toml")] {
        let server = Server::start(&path, &[]);
        for (path, page) in [
            ("/", "_start"),
            ("/?a=b", "_start"),
            ("/ep1", "ep1"),
            ("/wild", "wild"),
            ("/wild/a/b", "wild"),
            ("/wild/exact", "ep1"),
            ("/:x/.../y", "literal"),
        ] {
            assert_eq!(server.page(path), page, "{path}");
        }
        for path in ["/ep1/", "/ep2", "/wildly", "/a/.../y", "/:x/a/y"] {
            assert_eq!(server.get(path).status, 404, "{path}");
        }
        assert_eq!(ask(&server, "POST", "/ep1"), (200, "ep1".to_owned()));
    }
}

#[test]
fn the_health_check_answers_before_every_module() {
    let text = MODULES.replace("\"/ep1\"", "\"/healthz\"")
        + "[[module]]\nroute = \"/...\"\nmodule = \"pages.wat\"\n";
    let server = modules(&text).up();
    let answer = server.get("/healthz?x");
    assert_eq!((answer.status, answer.text().as_str()), (200, "OK"));
    assert_eq!(
        answer.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let head = server.connect().ask(&request("HEAD", "/healthz", &[], ""));
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some("2"))
    );
    assert_eq!(ask(&server, "POST", "/healthz").0, 405);
    assert_eq!(server.page("/healthz/deeper"), "_start");
    let said = server.stderr().text();
    assert!(
        said.contains(
            "note: the route \"/healthz\" is never called: the health check answers there"
        ),
        "{said}"
    );
}

#[test]
fn the_health_check_answers_before_what_a_module_prints() {
    let program = program(&["_start"], Some("/healthz _start\n/a _start\n"));
    let text = "[[module]]\nroute = \"/...\"\nmodule = \"d.wat\"\n";
    let app = App::empty()
        .with_file("modules.toml", text)
        .with_file("d.wat", program);
    let server = app.up();
    assert_eq!(server.page("/healthz"), "OK");
    let note = "note: of what `_routes` printed, the route \"/healthz\" is never called: the health check answers there";
    server
        .stderr()
        .find("the note", |text| text.contains(note).then_some(()));
}

#[test]
fn an_app_of_hostel_may_have_a_health_check_too() {
    let manifest = "[app]\nname = \"a\"\nhealth = \"/up\"\n[[http]]\nroute = \"/...\"\ncomponent = \"p\"\n\
                    [component.p]\nsource = \"p.wat\"\n";
    let app = App::of_manifest(manifest).with_file("p.wat", program(&["_start"], None));
    let server = app.up();
    assert_eq!(server.page("/up"), "OK");
    assert_eq!(server.page("/healthz"), "_start");
}

#[test]
fn routes_that_a_program_prints_are_served() {
    let routes = "/exact on_exact\n/wildcard/... on_wildcard\n\n/main _start\n";
    let program = program(&["_start", "on_exact", "on_wildcard"], Some(routes));
    let text = "[[module]]\nroute = \"/\"\nmodule = \"d.wat\"\n[[module]]\nroute = \"/exactparent\"\nmodule = \"d.wat\"\n\
                [[module]]\nroute = \"/exactparentslash/\"\nmodule = \"d.wat\"\n[[module]]\nroute = \"/wildcardparent/...\"\nmodule = \"d.wat\"\n";
    let app = App::empty()
        .with_file("modules.toml", text)
        .with_file("d.wat", program);
    let server = app.up();
    for parent in ["", "/exactparent", "/exactparentslash", "/wildcardparent"] {
        for (path, page) in [
            ("/exact", "on_exact"),
            ("/wildcard", "on_wildcard"),
            ("/wildcard/a/b", "on_wildcard"),
            ("/main", "_start"),
        ] {
            let path = format!("{parent}{path}");
            assert_eq!(server.page(&path), page, "{path}");
        }
    }
    assert_eq!(server.page("/wildcardparent/other"), "_start");
    assert_eq!(server.get("/exactparent/other").status, 404);
}

#[test]
fn what_is_no_list_of_routes_is_told_at_the_start() {
    let text = "[[module]]\nroute = \"/...\"\nmodule = \"d.wat\"\n";
    let many = "/a _start\n".repeat(1001);
    for (routes, what, help) in [
        (
            "/a on_a\n",
            "line 1 of what `_routes` printed: it exports no function `on_a`",
            "_start",
        ),
        (
            "/a _start\n/b\n",
            "line 2 of what `_routes` printed, \"/b\", is not a path and an entry point",
            "/hello hello",
        ),
        ("", "`_routes` printed nothing", "do not export `_routes`"),
        (&many, "`_routes` printed more than 1000 routes", "/..."),
    ] {
        let program = program(&["_start"], Some(routes));
        let app = App::empty()
            .with_file("modules.toml", text)
            .with_file("d.wat", program);
        let said = up_fails(&app, "modules.toml");
        for part in ["component \"d\"", what, help] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let trap = "(module (memory (export \"memory\") 1) (func (export \"_start\")) (func (export \"_routes\") unreachable))";
    let app = App::empty()
        .with_file("modules.toml", text)
        .with_file("d.wat", trap);
    let said = up_fails(&app, "modules.toml");
    assert!(
        said.contains("its export `_routes`, which prints its routes, failed: the guest trapped"),
        "{said}"
    );
}

#[test]
fn a_new_build_is_asked_for_its_routes_anew() {
    let manifest = "[app]\nname = \"a\"\n[[http]]\nroute = \"/p/...\"\ncomponent = \"p\"\n[component.p]\nsource = \"p.wat\"\n";
    let program = |routes| program(&["_start", "one", "two"], routes);
    let app = App::of_manifest(manifest).with_file("p.wat", program(Some("/a one\n")));
    let server = app.up_with(&["--watch"]);
    assert_eq!(server.page("/p/a"), "one");
    assert_eq!(server.page("/p/b"), "_start");
    let says =
        |text: &str| eventually(text, || server.stderr().text().contains(text).then_some(()));
    fs::write(app.path("p.wat"), program(Some("/a two\n/b one\n"))).expect("a file");
    eventually("the new routes", || {
        (server.page("/p/b") == "one").then_some(())
    });
    assert_eq!(server.page("/p/a"), "two");
    fs::write(app.path("p.wat"), program(Some("/a three\n"))).expect("a file");
    says("it exports no function `three`");
    assert_eq!(server.page("/p/a"), "two", "the app goes on as it was");
    // Another route of the same build.
    fs::write(app.path("p.wat"), program(Some("/a two\n/b one\n"))).expect("a file");
    fs::write(app.path("hostel.toml"), manifest.replace("/p/", "/q/")).expect("a file");
    eventually("the other route", || {
        (server.get("/q/b").text() == "one").then_some(())
    });
    assert_eq!(server.get("/p/b").status, 404);
    fs::write(app.path("p.wat"), program(None)).expect("a file");
    eventually("no routes", || {
        (server.page("/q/b") == "_start").then_some(())
    });
}

#[test]
fn what_was_said_of_printed_routes_is_not_said_again() {
    let of_page = |text: &str| printer(&[("_start", &page(text))]);
    let text = "[[module]]\nroute = \"/a\"\nmodule = \"p.wat\"\n[[module]]\nroute = \"/...\"\nmodule = \"d.wat\"\n";
    let app = App::empty()
        .with_file("modules.toml", text)
        .with_file("p.wat", of_page("one"))
        .with_file("d.wat", program(&["_start"], Some("/a _start\n")));
    let server = app.up_with(&["--watch"]);
    let note = "the route \"/a\" answers the same requests as \"/a\" on line 2";
    let said = |text: &str| server.stderr().text().matches(text).count();
    eventually("the note", || (said(note) == 1).then_some(()));
    fs::write(app.path("p.wat"), of_page("two")).expect("a file");
    eventually("the new build", || {
        (said("component \"p\" replaced") == 1).then_some(())
    });
    assert_eq!((server.page("/a").as_str(), said(note)), ("two", 1));
}

/// As the sample of serverless-wasm, with an address of its own.
fn config(address: &str) -> String {
    format!(
        "listen_address = \"{address}\"\n\n\
         [[applications]]\nfile_path = \"./samples/testfunc.wat\"\nmethod = \"GET\"\nurl_path = \"/hello\"\nfunction = \"hello\"\n\n\
         [[applications]]\nfile_path = \"./samples/testfunc.wat\"\nmethod = \"GET\"\nurl_path = \"/bonjour\"\nfunction = \"bonjour\"\n\n\
         [[applications]]\nfile_path = \"./samples/testfunc.wat\"\nmethod = \"POST\"\nurl_path = \"/default\"\n\n\
         [[applications]]\nfile_path = \"./samples/testfunc.wat\"\nmethod = \"GET\"\nurl_path = \"/backend\"\nfunction = \"value\"\n\
         env = {{ \"key\" = \"127.0.0.1:8181 {{{{ x }}}}\" }}\n"
    )
}

fn applications(address: &str) -> App {
    let module = module(&["hello", "bonjour", "handle"]);
    App::empty()
        .with_file("config.toml", config(address))
        .with_file("samples/testfunc.wat", module)
}

#[test]
fn a_config_toml_is_served() {
    let server = applications("127.0.0.1:1").up();
    for (path, page) in [
        ("/hello", "hello"),
        ("/hello?name=x", "hello"),
        ("/bonjour", "bonjour"),
        ("/backend", "127.0.0.1:8181 {{ x }}"),
    ] {
        assert_eq!(server.page(path), page, "{path}");
    }
    assert_eq!(ask(&server, "POST", "/default"), (200, "handle".to_owned()));
    assert_eq!(server.get("/nothing").status, 404);
    let refused = server.connect().ask(&request("GET", "/default", &[], ""));
    assert_eq!(
        (refused.status, refused.field("allow")),
        (405, Some("POST"))
    );
}

/// Answers each of its clients' first words with the same ones.
fn backend() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let accepting = listener.try_clone().expect("the same socket");
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = accepting.accept() {
            let mut words = [0; 100];
            let length = client.read(&mut words).unwrap_or(0);
            if length == 0 || client.write_all(&words[..length]).is_err() {
                return;
            }
        }
    });
    (listener, address)
}

#[test]
fn the_samples_of_serverless_wasm_answer_and_dial_what_the_operator_granted() {
    let (listener, backend) = backend();
    let text = "listen_address = \"127.0.0.1:8080\"\n\n\
        [[applications]]\nfile_path = \"./samples/testfunc.wasm\"\nmethod = \"GET\"\nurl_path = \"/hello\"\nfunction = \"hello\"\n\n\
        [[applications]]\nfile_path = \"./samples/testfunc.wasm\"\nmethod = \"GET\"\nurl_path = \"/bonjour\"\nfunction = \"bonjour\"\n\n\
        [[applications]]\nfile_path = \"./samples/testbackend.wasm\"\nmethod = \"GET\"\nurl_path = \"/backend\"\nfunction = \"handle\"\n\
        env = { \"/env/backend\"= \"127.0.0.1:8181\"}\n";
    let code = |name| fs::read(guest(name)).expect("a guest");
    let app = App::empty()
        .with_file("config.toml", text.replace("127.0.0.1:8181", &backend))
        .with_file("samples/testfunc.wasm", code("handle-hello"))
        .with_file("samples/testbackend.wasm", code("handle-backend"));
    let server = app.up();
    assert_eq!(server.page("/hello"), "Hello from a module!\n");
    assert_eq!(server.page("/bonjour"), "Bonjour depuis un module !\n");
    let refused = format!("could not connect to {backend}: -1\n");
    assert_eq!(server.page("/backend"), refused, "nothing was granted");
    let granted = app.up_with(&["--grant", &format!("tcp={backend}")]);
    assert_eq!(granted.page("/backend"), "the server says: hello\n\n");
    drop(listener);
}

#[test]
fn head_and_options_are_answered_sensibly() {
    let server = applications("127.0.0.1:1").up();
    let head = server.connect().ask(&request("HEAD", "/hello", &[], ""));
    assert_eq!((head.status, head.text().as_str()), (200, ""));
    assert_eq!(server.page("/hello"), "hello");
    let options = server.connect().ask(&request("OPTIONS", "/hello", &[], ""));
    assert_eq!(
        (options.status, options.field("allow")),
        (204, Some("GET, HEAD, OPTIONS"))
    );
    assert_eq!(
        (options.text().as_str(), options.field("content-length")),
        ("", None)
    );
    assert_eq!(
        server
            .connect()
            .ask(&request("OPTIONS", "/nothing", &[], ""))
            .status,
        404
    );
}

#[test]
fn the_address_in_the_file_is_where_it_is_served_unless_the_operator_says_otherwise() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    let app = applications(&address);
    let taken = hostel(&["up".into(), app.path("config.toml")]).failure(1);
    assert!(
        taken.contains(&format!("cannot listen on {address}: the port is in use")),
        "{taken}"
    );
    drop(free);
    let server = Server::as_declared(&app.path("config.toml"), &[]);
    assert_eq!(server.address().to_string(), address);
    assert_eq!(server.page("/hello"), "hello");
    drop(server);
    let server = Server::as_declared(&app.path("config.toml"), &["--supervise"]);
    assert_eq!(server.address().to_string(), address);
    assert_eq!(server.page("/hello"), "hello");
}

/// Runs `hostel ARGUMENTS` in the folder of an app.
fn hostel_here(app: &App, arguments: &[&str]) -> Outcome {
    let data = data().display().to_string();
    let all = [&arguments[..1], &["--data", &data], &arguments[1..]].concat();
    hostel_in(app.folder(), &all)
}

#[test]
fn check_says_what_a_manifest_of_another_host_is() {
    let app = applications("127.0.0.1:1");
    let said = hostel_here(&app, &["check"]).success();
    for line in [
        "  testfunc    handle, ",
        "  GET,HEAD/hello -> testfunc",
        "  POST/default -> testfunc",
        "  GET,HEAD/backend -> testfunc-2",
    ] {
        let squeezed = |text: &str| text.replace(' ', "");
        assert!(squeezed(&said).contains(&squeezed(line)), "{line}: {said}");
    }
    let program = program(&["_start"], Some("/a _start\n"));
    let text = "unknown = 1\n[[module]]\nroute = \"/...\"\nmodule = \"d.wat\"\nentrypont = \"x\"\n";
    let app = App::empty()
        .with_file("modules.toml", text)
        .with_file("d.wat", program);
    let checked = hostel_here(&app, &["check"]);
    for note in [
        "note: modules.toml:1: the key \"unknown\" is ignored\n",
        "note: modules.toml:5: the key \"entrypont\" is ignored; did you mean \"entrypoint\"?\n",
        "note: component \"d\": it exports `_routes`, so `hostel up` asks it for further routes below its own\n",
    ] {
        assert!(checked.stderr.contains(note), "{note}: {}", checked.stderr);
    }
    assert!(checked.success().contains("/... -> d"));
}

#[test]
fn an_entry_point_that_is_not_there_is_told_at_the_start() {
    let text = "[[module]]\nroute = \"/...\"\nmodule = \"pages.wat\"\nentrypoint = \"ep9\"\n";
    let said = up_fails(&modules(text), "modules.toml");
    assert!(
        said.contains("component \"pages\": it exports no function `ep9`"),
        "{said}"
    );
    let app =
        applications("127.0.0.1:1").with_file("samples/testfunc.wat", module(&["hello", "handle"]));
    let said = up_fails(&app, "config.toml");
    assert!(
        said.contains("component \"testfunc\": it exports no function `bonjour`"),
        "{said}"
    );
}

/// Prints its whole environment as its page, with a NUL behind each variable.
fn greeter() -> String {
    r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "content-type: text/plain\0a\0a")
        (func (export "_start")
            (drop (call $sizes (i32.const 0) (i32.const 4)))
            (drop (call $get (i32.const 1024) (i32.const 8192)))
            (i32.store (i32.const 48) (i32.const 16)) (i32.store (i32.const 52) (i32.const 26))
            (i32.store (i32.const 56) (i32.const 8192)) (i32.store (i32.const 60) (i32.load (i32.const 4)))
            (drop (call $write (i32.const 1) (i32.const 48) (i32.const 1) (i32.const 8)))
            (drop (call $write (i32.const 1) (i32.const 56) (i32.const 1) (i32.const 8)))))"#
        .to_owned()
}

#[test]
fn variables_come_from_files_and_the_command_line_wins() {
    let text = "[[module]]\nroute = \"/...\"\nmodule = \"env.wat\"\n";
    let app = App::empty()
        .with_file("modules.toml", text)
        .with_file("env.wat", greeter())
        .with_file(
            "one.env",
            "# greetings\nTEST_NAME = \"test value\"\nA=one\nB=one\nREQUEST_METHOD=forged\n",
        )
        .with_file("two.env", "A=two\n");
    let files = ["one.env", "two.env"].map(|name| app.path(name).display().to_string());
    let server = app.up_with(&[
        "--env-file",
        &files[0],
        "--env-file",
        &files[1],
        "--env",
        "B=flag",
    ]);
    let page = server.page("/");
    let variables: Vec<&str> = page.split('\0').collect();
    for variable in [
        "TEST_NAME=test value",
        "A=two",
        "B=flag",
        "REQUEST_METHOD=GET",
    ] {
        assert!(variables.contains(&variable), "{variable}: {variables:?}");
    }
    assert!(
        !page.contains("forged") && !page.contains("greetings"),
        "{variables:?}"
    );
    let bad = app.with_file("bad.env", "A=1\nhunter2\n");
    let told = hostel(&["up".into(), "--env-file".into(), bad.path("bad.env")]).failure(2);
    assert!(
        told.contains("line 2 is not NAME=VALUE") && !told.contains("hunter2"),
        "{told}"
    );
}

#[test]
fn a_volume_is_the_guest_s_directory() {
    let text = "[[module]]\nroute = \"/...\"\nmodule = \"files.wat\"\nvolumes = { \"/site\" = \"public\", \"/gone\" = \"nowhere\" }\n";
    // Prints the name under which it has its first directory, descriptor 3.
    let guest = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $name (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $stat (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "content-type: text/plain\0a\0a")
        (func (export "_start")
            (drop (call $stat (i32.const 3) (i32.const 0)))
            (drop (call $name (i32.const 3) (i32.const 1024) (i32.load (i32.const 4))))
            (i32.store (i32.const 48) (i32.const 16)) (i32.store (i32.const 52) (i32.const 26))
            (i32.store (i32.const 56) (i32.const 1024)) (i32.store (i32.const 60) (i32.load (i32.const 4)))
            (drop (call $write (i32.const 1) (i32.const 48) (i32.const 1) (i32.const 8)))
            (drop (call $write (i32.const 1) (i32.const 56) (i32.const 1) (i32.const 8)))))"#;
    let app = App::empty()
        .with_file("modules.toml", text)
        .with_file("files.wat", guest)
        .with_file("public/index.html", "x");
    let server = app.up();
    assert_eq!(server.page("/"), "/site");
    let said = server.stderr().text();
    assert!(
        said.contains(
            "there is no directory \"nowhere\"; the module runs without its volume \"/gone\""
        ),
        "{said}"
    );
}

#[test]
fn a_folder_of_another_host_is_watched() {
    let app = modules(MODULES);
    let server = app.up_with(&["--watch"]);
    assert_eq!(server.page("/ep1"), "ep1");
    let edit = |text: &str| fs::write(app.path("modules.toml"), text).expect("a manifest");
    edit("[[module");
    let says =
        |text: &str| eventually(text, || server.stderr().text().contains(text).then_some(()));
    says("the change is not taken over");
    edit(&MODULES.replace("/ep1", "/ep7"));
    eventually("the new route", || {
        (server.get("/ep7").status == 200).then_some(())
    });
    assert_eq!(server.get("/ep1").status, 404);
    let pages = program(&["_start", "ep1", "wild", "literal"], None);
    fs::write(
        app.path("pages.wat"),
        pages.replace("\\65\\70\\31", "\\65\\70\\32"),
    )
    .expect("a file");
    eventually("the new build", || {
        (server.page("/ep7") == "ep2").then_some(())
    });
}

#[test]
fn files_are_found_where_the_other_host_looked_for_them() {
    let app = applications("127.0.0.1:1");
    fs::rename(app.path("config.toml"), app.path("samples/config.toml")).expect("a rename");
    let checked = hostel_here(&app, &["check", "samples/config.toml"]);
    let note = "\"./samples/testfunc.wat\" is not beside this file; it is taken from the working directory, where serverless-wasm looked";
    assert!(checked.stderr.contains(note), "{}", checked.stderr);
    let said = checked.success();
    assert!(said.starts_with("samples: ok"), "{said}");
    // As WAGI's own example was started: from the folder above.
    let text = "default_host = \"localhost:3000\"\n\n[[module]]\n# Example executing a Web Assembly Text file\nroute = \"/\"\n\
                module = \"examples/hello.wat\"\n\n[[module]]\nroute = \"/hello/...\"\nmodule = \"examples/hello.wasm\"";
    let page = program(&["_start"], None);
    let app = App::empty()
        .with_file("examples/modules.toml", text)
        .with_file("examples/hello.wat", &page)
        .with_file("examples/hello.wasm", &page);
    let checked = hostel_here(&app, &["check", "examples/modules.toml"]);
    let notes = checked.stderr.matches("is not beside this file").count();
    assert_eq!(notes, 2, "{}", checked.stderr);
    let said = checked.success();
    assert!(said.contains("/hello/... -> hello-2"), "{said}");
}
