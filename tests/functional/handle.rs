//! Modules of serverless-wasm: the functions of the module `env`, those of the original and those that are new.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::harness::app::App;
use crate::harness::command::hostel;
use crate::harness::message::{chunk, chunked_head, get, last_chunk, post, request};
use crate::harness::server::Server;
use crate::harness::{PATIENCE, built, guest};

/// The component `web` is this module, with these grants and values.
fn probe(settings: &str) -> App {
    App::of("handle-probe", settings)
}

/// Answers each connection's first bytes with `answer`, and then ends it; what it was sent comes with the answer.
fn backend(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            let mut heard = [0; 100];
            let length = stream.read(&mut heard).unwrap_or(0);
            let _gone = stream.write_all(&[answer.as_bytes(), &heard[..length]].concat());
        }
    });
    address
}

/// A module in the original's form as text: it imports its memory, of which `data` is the beginning.
fn text(data: &str, functions: &str) -> String {
    format!(
        r#"(module
            (import "env" "log" (func $log (param i32 i64)))
            (import "env" "response_set_status_line" (func $status (param i32 i32 i64)))
            (import "env" "response_set_header" (func $header (param i32 i64 i32 i64)))
            (import "env" "response_set_body" (func $body (param i32 i64)))
            (import "env" "memory" (memory 1))
            (data (i32.const 0) "{data}")
            {functions})"#
    )
}

fn wat(data: &str, functions: &str) -> App {
    App::of_manifest(
        "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n[component.web]\nsource = \"web.wat\"\n",
    )
    .with_file("web.wat", text(data, functions))
}

#[test]
fn a_module_answers_by_the_functions_that_its_routes_name() {
    let app = App::new(
        "[app]\nname = \"test\"\n[component.web]\nsource = \"handle-hello.wasm\"\n\
         [[http]]\nroute = \"/hello\"\ncomponent = \"web\"\nentrypoint = \"hello\"\nmethods = [\"GET\", \"HEAD\"]\n\
         [[http]]\nroute = \"/bonjour\"\ncomponent = \"web\"\nentrypoint = \"bonjour\"\n",
    );
    let server = app.up();
    let mut client = server.connect();
    for _ in 0..2 {
        let answer = client.ask(&get("/hello"));
        assert_eq!(
            (answer.status, answer.text()),
            (200, "Hello from a module!\n".into())
        );
        assert_eq!(answer.field("content-length"), Some("21"));
        let answer = client.ask(&get("/bonjour?a=b"));
        assert_eq!(answer.text(), "Bonjour depuis un module !\n");
    }
    server.stderr().wait_for("info: hello is called");
}

#[test]
fn a_status_line_is_passed_on_with_its_words() {
    let server = probe("").up();
    for (query, line) in [
        ("?do=answer&reason=Ok", "HTTP/1.1 200 Ok\r\n"),
        (
            "?do=answer&reason=Such%20Fun&status=299",
            "HTTP/1.1 299 Such Fun\r\n",
        ),
        ("?do=answer&status=404", "HTTP/1.1 404 Not Found\r\n"),
        ("?do=answer&status=65736", "HTTP/1.1 200 OK\r\n"),
        ("?do=answer&reason=a%0d%0ab:%20c", "HTTP/1.1 200 OK\r\n"),
    ] {
        let mut stream = server.connect().stream();
        let request = request("GET", &format!("/{query}"), &[("Connection", "close")], "");
        stream.write_all(&request).expect("to be read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with(line), "{query}: {answer}");
    }
}

#[test]
fn the_last_status_and_body_count_and_fields_are_added() {
    let server = probe("").up();
    let answer = server.get("/?do=twice");
    assert_eq!((answer.status, answer.text()), (404, "second".into()));
    let fields = answer.fields.iter();
    let both: Vec<&str> = fields
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-field"))
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(both, ["1", "2"]);
}

#[test]
fn what_is_no_field_is_left_out_and_told() {
    let server = probe("").up();
    for (query, name) in [
        ("name=a%20b&value=c", "`a b`"),
        ("name=x-a&value=b%0d%0ac:d", "`x-a`"),
        ("name=&value=c", "``"),
    ] {
        let answer = server.get(&format!("/?do=answer&body=x&{query}"));
        assert_eq!((answer.status, answer.text()), (200, "x".into()), "{query}");
        let told = format!("its name or value is none of HTTP: {name}");
        server.stderr().wait_for(&told);
    }
    let fields = "/?do=answer&name=x-field&times=100&value=";
    let answer = server.get(&format!("{fields}{}", "v".repeat(1000)));
    let kept = answer
        .fields
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-field"));
    assert_eq!(kept.count(), 65, "of 1007 bytes each");
    server
        .stderr()
        .wait_for("more than its limit `headers` allows");
}

#[test]
fn the_length_of_an_answer_is_that_of_its_body() {
    let server = probe("").up();
    let mut client = server.connect();
    for wrong in ["2", "4", "x", "-1"] {
        let query = format!("/?do=answer&body=abc&name=Content-length&value={wrong}");
        let answer = client.ask(&get(&query));
        assert_eq!(
            (answer.status, answer.text()),
            (200, "abc".into()),
            "{wrong}"
        );
        server
            .stderr()
            .wait_for(&format!("has `{wrong}` bytes, and it has 3"));
    }
}

#[test]
fn values_come_from_the_configuration() {
    let server = probe("config = { \"/env/a\" = \"one\", empty = \"\" }").up();
    assert_eq!(server.page("/?do=get&key=/env/a"), "3 on. one");
    assert_eq!(server.page("/?do=get&key=empty"), "0 ... ");
    assert_eq!(server.page("/?do=get&key=other"), "-1 ... -1");
    assert_eq!(server.page("/?do=set&key=a&value=b"), "-1 -1");
    server.stderr().wait_for("add keyvalue = [\"default\"]");
}

#[test]
fn values_are_kept_in_the_store_and_stand_before_configured_ones() {
    let app = probe(
        "config = { a = \"one\" }\n[component.web.grants]\nkeyvalue = [\"default\"]\n\
         [component.web.limits]\nstore_value = \"1KiB\"",
    );
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start_in(data.path(), app.folder());
    assert_eq!(server.page("/?do=get&key=a"), "3 on. one");
    assert_eq!(server.page("/?do=set&key=a&value=stored"), "0 stored");
    assert_eq!(server.page("/?do=set&key=b&value="), "0 ");
    drop(server);
    let server = Server::start_in(data.path(), app.folder());
    assert_eq!(server.page("/?do=get&key=a"), "6 st. stored");
    assert_eq!(server.page("/?do=delete&key=a"), "0 one");
    assert_eq!(server.page("/?do=delete&key=b"), "0 -1");
    assert_eq!(server.page("/?do=set&key=c&bytes=1025"), "-1 -1");
    server.stderr().wait_for("the limit `store_value`");
}

#[test]
fn a_server_is_asked_over_tcp_where_the_operator_allows_it() {
    let address = backend("heard ");
    let settings = format!("config = {{ \"/env/backend\" = \"{address}\" }}");
    let app = App::of("handle-backend", &settings);
    let grant = format!("tcp={address}");
    let server = app.up_with(&["--grant", &grant]);
    for _ in 0..3 {
        assert_eq!(server.page("/"), "the server says: heard hello\n\n");
    }
    let server = app.up();
    assert_eq!(
        server.page("/"),
        format!("could not connect to {address}: -1\n")
    );
    server
        .stderr()
        .wait_for(&format!("start with --grant {grant}"));
}

#[test]
fn a_connection_carries_what_is_written_and_ends_with_the_other_side() {
    let address = backend("");
    let app = probe("");
    let server = app.up_with(&["--grant", &format!("tcp={address}")]);
    let page = server.page(&format!("/?do=tcp&to={address}&send=abc"));
    assert_eq!(page, "wrote 3 read 3 last 0 other -1: abc");
    // By name, whose addresses have to be granted.
    let named = format!("localhost:{}", address.port());
    let page = server.page(&format!("/?do=tcp&to={named}&send=abc"));
    assert_eq!(page, "wrote 3 read 3 last 0 other -1: abc");
    for wrong in ["", "localhost", "1.2.3.4", "%ff:80", "http://localhost:80"] {
        assert_eq!(server.page(&format!("/?do=tcp&to={wrong}")), "connect: -1");
    }
    server.stderr().wait_for("`localhost` is no address");
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = nobody.local_addr().expect("an address");
    drop(nobody);
    let server = app.up_with(&["--grant", &format!("tcp={closed}")]);
    assert_eq!(server.page(&format!("/?do=tcp&to={closed}")), "connect: -1");
}

#[test]
fn everything_is_written_however_slowly_it_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let taken = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let (mut total, mut piece) = (0, vec![0; 100_000]);
        while total < 4_000_000 {
            total += stream.read(&mut piece).expect("bytes");
        }
        total
    });
    let server = probe("").up_with(&["--grant", &format!("tcp={address}")]);
    let page = server.page(&format!("/?do=tcp&to={address}&bytes=4000000"));
    assert_eq!(page, "wrote 4000000 read 0 last 0 other -1: ");
    assert_eq!(taken.join().expect("a count"), 4_000_000);
}

#[test]
fn a_new_module_sees_its_request() {
    let server = probe("").up();
    let fields = [("X-Name", "one"), ("x-name", "two")];
    let answer = server
        .connect()
        .ask(&request("PUT", "/a/b?do=echo&x=%20", &fields, "the body"));
    assert_eq!(
        answer.text(),
        "PUT /a/b?do=echo&x=%20 host=localhost x-name=one, two missing=-1 fields=4\nthe body"
    );
    let big = "b".repeat(100_000);
    let answer = server.connect().ask(&post("/?do=echo", &big));
    assert!(answer.text().ends_with(&format!("\n{big}")));
    let answer = server.connect().ask(&post("/?do=echo&how=read", &big));
    assert!(
        answer.text().ends_with("\n100000 bytes, then 0\n"),
        "{}",
        answer.text()
    );
    let mut client = server.connect();
    client.send(chunked_head("/?do=echo", &[]));
    for piece in ["ab", "cd"] {
        client.send(chunk(piece));
    }
    client.send(last_chunk(&[]));
    assert!(client.answer().text().ends_with("\nabcd"));
}

#[test]
fn a_body_is_kept_up_to_a_limit_and_read_in_pieces_beyond_it() {
    let server = probe("[component.web.limits]\nhost_bytes = \"64KiB\"").up();
    let big = "b".repeat(1 << 20);
    let answer = server.connect().ask(&post("/?do=echo", &big));
    assert!(answer.text().ends_with("\n-1"), "{}", answer.text());
    server.stderr().wait_for("its limit `host_bytes`");
    let answer = server.connect().ask(&post("/?do=echo&how=read", &big));
    assert!(
        answer.text().ends_with("\n1048576 bytes, then 0\n"),
        "{}",
        answer.text()
    );
}

#[test]
fn files_of_a_granted_directory_are_read_and_no_others() {
    let settings = "[component.web.grants]\nfiles = { \"/site\" = { host = \"site\" } }";
    let content = "0123456789".repeat(30_000);
    let app = probe(settings)
        .with_file("site/a.txt", &content)
        .with_file("site/deep/empty", "")
        .with_file("secret", "secret");
    std::os::unix::fs::symlink("../secret", app.path("site/link")).expect("a link");
    let mut pipe = std::process::Command::new("mkfifo");
    let made = pipe.arg(app.path("site/pipe")).status().expect("mkfifo");
    assert!(made.success());
    let server = app.up();
    let sum: u64 = content.bytes().map(u64::from).sum();
    for chunk in ["7000", "300000", "1000000"] {
        let page = server.page(&format!("/?do=file&name=/site/a.txt&chunk={chunk}"));
        let told = format!("size=300000 read=300000 sum={sum} last=0 close=0,-1 after=-1 0123");
        assert!(page.contains(&told), "{page}");
    }
    let page = server.page("/?do=file&name=/site/deep/empty");
    assert_eq!(page, "fd=0 size=0 read=0 sum=0 last=0 close=0,-1 after=-1 ");
    for (name, code) in [
        ("/site/none", -1),
        ("/site/deep", -1),
        ("/site/pipe", -1),
        ("/site/", -3),
        ("/site/../secret", -3),
        ("/site/link", -3),
        ("/site/deep/../../secret", -3),
        ("/etc/passwd", -3),
        ("", -3),
        ("blob:a/b", -3),
        ("blob:", -1),
    ] {
        let page = server.page(&format!("/?do=file&name={name}"));
        assert_eq!(page, format!("open: {code}"), "{name}");
    }
    server.stderr().wait_for("--dir DIR::/etc:ro");
    server.stderr().wait_for("--grant blobstore=a");
}

#[test]
fn a_module_has_so_many_files_open_and_no_more() {
    let settings = "[component.web.grants]\nfiles = { \"/\" = { host = \"site\" } }";
    let app = probe(settings).with_file("site/a", "a");
    let server = app.up();
    let page = server.page("/?do=file&name=/a&open=64");
    assert!(page.starts_with("fd=63 size=1 read=1"), "{page}");
    assert_eq!(server.page("/?do=file&name=/a&open=65"), "open: -2");
}

#[test]
fn objects_of_a_granted_container_are_files_too() {
    let app = App::new(
        "[app]\nname = \"test\"\n\
         [[http]]\nroute = \"/...\"\ncomponent = \"web\"\n[component.web]\nsource = \"handle-probe.wasm\"\n\
         [component.web.grants]\nblobstore = [\"pictures\"]\n\
         [[http]]\nroute = \"/blobs\"\ncomponent = \"blobs\"\n[component.blobs]\nsource = \"blob-p2.wasm\"\n\
         [component.blobs.grants]\nblobstore = [\"pictures\"]\n",
    );
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start_in(data.path(), app.folder());
    let content = "x".repeat(200_000);
    let put = request("PUT", "/blobs?c=pictures&name=a/b.png", &[], &content);
    let answer = server.connect().ask(&put);
    assert!(answer.status < 300, "{} {}", answer.status, answer.text());
    let page = server.page("/?do=file&name=blob:pictures/a/b.png&chunk=3000");
    assert!(
        page.starts_with("fd=0 size=200000 read=200000 sum=24000000 last=0"),
        "{page}"
    );
    assert_eq!(server.page("/?do=file&name=blob:pictures/none"), "open: -1");
    assert_eq!(server.page("/?do=file&name=blob:others/a"), "open: -3");
}

#[test]
fn the_original_s_configuration_is_served_as_it_is() {
    let address = backend("heard ");
    let config = format!(
        r#"listen_address = "127.0.0.1:8080"

[[applications]]
file_path = "./samples/testfunc.wasm"
method = "GET"
url_path = "/hello"
function = "hello"

[[applications]]
file_path = "./samples/testfunc.wasm"
method = "GET"
url_path = "/bonjour"
function = "bonjour"

[[applications]]
file_path = "./samples/testbackend.wasm"
method = "GET"
url_path = "/backend"
env = {{ "/env/backend" = "{address}" }}
"#
    );
    let code = |name: &str| std::fs::read(guest(name)).expect("a guest");
    let app = App::of_manifest("")
        .with_file("config.toml", config)
        .with_file("samples/testfunc.wasm", code("handle-hello"))
        .with_file("samples/testbackend.wasm", code("handle-backend"));
    let grant = format!("tcp={address}");
    let server = Server::start(&app.path("config.toml"), &["--grant", &grant]);
    assert_eq!(server.page("/hello"), "Hello from a module!\n");
    assert_eq!(server.page("/bonjour?x=1"), "Bonjour depuis un module !\n");
    assert_eq!(server.page("/backend"), "the server says: heard hello\n\n");
    assert_eq!(server.get("/other").status, 404);
}

#[test]
fn the_example_answers() {
    let _module = built("examples/serverless/greeter.wasm");
    let server = Server::start(&built("examples/serverless/config.toml"), &[]);
    assert_eq!(server.page("/"), "Good day from a module.\n");
    let answer = server.connect().ask(&post("/echo", "a body"));
    assert_eq!((answer.status, answer.text()), (200, "a body".into()));
    assert_eq!(server.get("/echo").status, 405);
}

#[test]
fn a_module_may_use_wasi_beside() {
    let server = App::of("handle-wasi", "env = { GREETING = \"hello\" }").up();
    assert_eq!(server.page("/"), "hello");
    server.stdout().wait_for("printed by the module");
}

#[test]
fn a_module_in_text_with_its_memory_from_the_host_or_its_own() {
    let handle = r#"(func (export "handle") (call $status (i32.const 200) (i32.const 0) (i64.const 0))
        (call $header (i32.const 0) (i64.const 1) (i32.const 1) (i64.const 1)) (call $body (i32.const 2) (i64.const 2)))"#;
    let imported = text("abcd", handle);
    let own = imported.replace(
        r#"(import "env" "memory" (memory 1))"#,
        r#"(memory (export "memory") 1)"#,
    );
    let started = imported.replace(
        "(data",
        "(start $start) (func $start (i32.store8 (i32.const 2) (i32.const 67))) (data",
    );
    for (source, body) in [(imported, "cd"), (own, "cd"), (started, "Cd")] {
        let server = wat("", "").with_file("web.wat", source).up();
        let answer = server.get("/");
        assert_eq!(
            (answer.text().as_str(), answer.field("a")),
            (body, Some("b"))
        );
    }
}

#[test]
fn what_is_wrong_with_a_module_is_said_when_it_is_loaded() {
    let refused = |functions: &str, entrypoint: &str| {
        let manifest = format!(
            "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n{entrypoint}\n\
             [component.web]\nsource = \"web.wat\"\n"
        );
        let app = App::of_manifest(&manifest).with_file("web.wat", text("", functions));
        crate::harness::server::refused_start(app.folder(), &[])
    };
    let plain = r#"(func (export "handle"))"#;
    for (functions, entrypoint, told) in [
        (
            r#"(func (export "other"))"#,
            "",
            "it exports no function `handle`",
        ),
        (r#"(func (export "other"))"#, "", "it exports: other"),
        (plain, "entrypoint = \"handel\"", "did you mean `handle`?"),
        (
            r#"(func (export "handle") (param i32))"#,
            "",
            "takes or returns something",
        ),
        (
            r#"(global (export "handle") i32 (i32.const 1))"#,
            "",
            "it exports no function `handle`",
        ),
    ] {
        let error = refused(functions, entrypoint);
        assert!(error.contains(told), "{told}: {error}");
    }
    let module = |import: &str| {
        let app = wat("", "").with_file(
            "web.wat",
            format!(r#"(module {import} (import "env" "response_set_body" (func (param i32 i64))) {plain})"#),
        );
        crate::harness::server::refused_start(app.folder(), &[])
    };
    for (import, told) in [
        (
            r#"(import "env" "response_set_bodi" (func (param i32 i64)))"#,
            "nearest offered: `env.response_set_body`",
        ),
        (
            r#"(import "env" "log" (func (param i32 i32)))"#,
            "`env.log` with another type than serverless-wasm gives it",
        ),
        (
            r#"(import "env" "table" (table 1 funcref))"#,
            "imports `env.table`, which this host does not offer",
        ),
        (r#"(import "other" "log" (func))"#, "may import `env` and"),
        (
            r#"(import "env" "memory" (memory 9999))"#,
            "its limit `memory` is",
        ),
    ] {
        let error = module(import);
        assert!(error.contains(told), "{told}: {error}");
    }
}

#[test]
fn what_it_is_can_be_inspected() {
    let path = guest("handle-hello");
    let page = hostel(&["inspect", path.to_str().expect("text")]).success();
    assert!(page.contains("handle"), "{page}");
}

#[test]
fn every_request_has_an_instance_of_its_own() {
    let count = r#"(global $n (mut i32) (i32.const 47))
        (func (export "handle") (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (i32.store8 (i32.const 0) (global.get $n))
            (call $status (i32.const 200) (i32.const 0) (i64.const 0)) (call $body (i32.const 0) (i64.const 1)))"#;
    let app = wat("", count);
    let server = app.up();
    let pages = (0..50).map(|_| server.page("/"));
    assert!(pages.into_iter().all(|page| page == "0"));
    server.is_alive("/");
}
