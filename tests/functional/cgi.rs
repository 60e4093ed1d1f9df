//! Programs that answer requests, as CGI and WAGI have it. The contract is docs/abi/cgi.md.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::app::App;
use crate::harness::command::hostel;
use crate::harness::guest;
use crate::harness::message::{Answer, chunk, chunked_head, last_chunk, post, request};
use crate::harness::server::{Server, refused_start};

/// A preview-1 module, and components of WASI 0.2 and 0.3.
const ALL: [&str; 3] = ["cgi-p1", "cgi-p2", "cgi-p3"];

/// The arguments and the variables that a program lists.
fn listed(text: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let mut arguments = Vec::new();
    let mut variables = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, value)) = line.split_once(" = ") {
            let before = variables.insert(name.to_owned(), value.to_owned());
            assert_eq!(before, None, "{name} is there twice");
        } else if let Some(argument) = line.strip_prefix("arg ") {
            arguments.push(argument.split_once(": ").expect("a number").1.to_owned());
        }
    }
    (arguments, variables)
}

fn variables(text: &str) -> BTreeMap<String, String> {
    listed(text).1
}

/// An app with one component at these routes.
fn at_routes(guest: &str, routes: &[&str], settings: &str) -> App {
    let routes = routes
        .iter()
        .map(|route| format!("[[http]]\nroute = \"{route}\"\ncomponent = \"web\"\n\n"));
    let routes: String = routes.collect();
    App::new(&format!(
        "[app]\nname = \"test\"\n\n{routes}[component.web]\nsource = \"{guest}.wasm\"\n{settings}\n"
    ))
}

/// What a program answers whose output is this.
fn printed(server: &Server, output: impl AsRef<[u8]>) -> Answer {
    server.connect().ask(&post("/?do=raw", output))
}

#[test]
fn the_request_is_the_arguments_and_the_environment() {
    for name in ALL {
        let server = at_routes(name, &["/exact", "/wild/..."], "").up();
        let port = server.address().port().to_string();
        let host = format!("127.0.0.1:{port}");
        let ask = |target: &str, method: &str, body: &str| {
            let fields = [("X-Two-Words", "a b"), ("Content-Type", "text/css")];
            let bytes = request(method, target, &fields, body);
            let bytes = String::from_utf8(bytes).unwrap();
            let bytes = bytes.replace("Host: localhost\r\n", &format!("Host: {host}\r\n"));
            let answer = server.connect().ask(bytes.as_bytes());
            assert_eq!(answer.status, 200, "{name} {target}: {}", answer.text());
            assert_eq!(answer.field("content-type"), Some("text/plain"));
            listed(&answer.text())
        };
        let (arguments, seen) = ask("/wild/a%20b/%2e%zz%00?x=1&y=%20z", "POST", "12345");
        assert_eq!(
            arguments,
            ["/wild/a%20b/%2e%zz%00", "x=1", "y=%20z"],
            "{name}"
        );
        let url = format!("http://{host}/wild/a%20b/%2e%zz%00?x=1&y=%20z");
        let expected = [
            ("AUTH_TYPE", ""),
            ("CONTENT_LENGTH", "5"),
            ("CONTENT_TYPE", "text/css"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("HTTP_CONTENT_LENGTH", "5"),
            ("HTTP_CONTENT_TYPE", "text/css"),
            ("HTTP_HOST", &host),
            ("HTTP_X_TWO_WORDS", "a b"),
            ("PATH_INFO", "/a b/.%zz%00"),
            ("PATH_TRANSLATED", "/a b/.%zz%00"),
            ("QUERY_STRING", "x=1&y=%20z"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REMOTE_HOST", "127.0.0.1"),
            ("REMOTE_USER", ""),
            ("REQUEST_METHOD", "POST"),
            ("SCRIPT_NAME", "/wild"),
            ("SERVER_NAME", "127.0.0.1"),
            ("SERVER_PORT", &port),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_SOFTWARE", "WAGI/1"),
            ("X_FULL_URL", &url),
            ("X_MATCHED_ROUTE", "/wild/..."),
            ("X_RAW_PATH_INFO", "/a%20b/%2e%zz%00"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(seen, BTreeMap::from(expected), "{name}");

        let (arguments, seen) = ask("/exact", "GET", "");
        assert_eq!(arguments, ["/exact"], "{name}");
        let of = |name: &str| seen.get(name).map(String::as_str);
        for (variable, value) in [
            ("CONTENT_LENGTH", "0"),
            ("PATH_INFO", ""),
            ("PATH_TRANSLATED", ""),
            ("QUERY_STRING", ""),
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", "/exact"),
            ("X_MATCHED_ROUTE", "/exact"),
            ("X_RAW_PATH_INFO", ""),
        ] {
            assert_eq!(of(variable), Some(value), "{name}: {variable}");
        }
    }
}

#[test]
fn a_path_is_cut_where_its_route_ends() {
    let routes = ["/...", "/users/:id", "/shops/:shop/items/...", "/a/b/..."];
    let server = at_routes("cgi-p1", &routes, "").up();
    for (path, route, script, info) in [
        ("/", "/...", "/", "/"),
        ("/x/y", "/...", "/", "/x/y"),
        ("/users/4%202", "/users/:id", "/users/4 2", ""),
        (
            "/shops/9/items",
            "/shops/:shop/items/...",
            "/shops/9/items",
            "",
        ),
        (
            "/shops/9/items/",
            "/shops/:shop/items/...",
            "/shops/9/items",
            "/",
        ),
        ("/a/b/c%2Fd", "/a/b/...", "/a/b", "/c/d"),
        // The same segments in another spelling.
        ("/%61/b/c", "/a/b/...", "/a/b", "/c"),
    ] {
        let seen = variables(&server.page(path));
        assert_eq!(seen["X_MATCHED_ROUTE"], route, "{path}");
        assert_eq!(seen["SCRIPT_NAME"], script, "{path}");
        assert_eq!(seen["PATH_INFO"], info, "{path}");
    }
}

#[test]
fn fields_become_variables_but_not_those_that_would_deceive() {
    let server = Server::of("cgi-p1");
    let fields = [
        ("Authorization", "Basic c2VjcmV0"),
        ("Proxy", "http://evil.example"),
        ("Proxy-Authorization", "Basic c2VjcmV0"),
        ("X_Forwarded-For", "1.2.3.4"),
        ("X-List", "a"),
        ("X-List", "b"),
        ("Cookie", "a=1"),
        ("Cookie", "b=2"),
        ("X-Text", "\u{e9}"),
    ];
    let mut bytes = request("GET", "/", &fields, "");
    let end = bytes.len() - 2;
    bytes.splice(end..end, *b"X-Corrupt: \xff\r\n");
    let seen = variables(&server.connect().ask(&bytes).text());
    let http: Vec<(&str, &str)> = seen
        .iter()
        .filter(|(name, _)| name.starts_with("HTTP_"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let expected = [
        ("HTTP_COOKIE", "a=1; b=2"),
        ("HTTP_HOST", "localhost"),
        ("HTTP_X_CORRUPT", "CORRUPT VALUE"),
        ("HTTP_X_LIST", "a, b"),
        ("HTTP_X_TEXT", "\u{e9}"),
    ];
    assert_eq!(http, expected);
    assert_eq!(seen["SERVER_PORT"], "80");
}

#[test]
fn what_the_component_says_stands_behind_what_the_request_says() {
    let settings = "env = { SERVER_SOFTWARE = \"mine\", HTTP_X_A = \"mine\", MINE = \"yes\" }\n\
                    args = [\"-q\", \"{{ word }}\"]\n[variables]\nword = \"w\"";
    let server = App::of("cgi-p1", settings).up();
    let bytes = request("GET", "/p?-r&x", &[("X-A", "theirs")], "");
    let (arguments, seen) = listed(&server.connect().ask(&bytes).text());
    // Words of the query are no arguments of a program that has its own.
    assert_eq!(arguments, ["/p", "-q", "w"]);
    assert_eq!(seen["SERVER_SOFTWARE"], "WAGI/1");
    assert_eq!(seen["HTTP_X_A"], "theirs");
    assert_eq!(seen["MINE"], "yes");
}

#[test]
fn arguments_may_be_a_template() {
    let template = |argv: &str| App::of("cgi-p1", &format!("[component.web.cgi]\nargv = '{argv}'"));
    let server = template("  prog ${SCRIPT_NAME}  -x ${ARGS} ${OTHER}").up();
    let arguments = |path: &str| listed(&server.page(path)).0;
    assert_eq!(
        arguments("/a/b?x=1&y"),
        ["prog", "/a/b", "-x", "x=1", "y", "${OTHER}"]
    );
    assert_eq!(arguments("/a"), ["prog", "/a", "-x", "${OTHER}"]);
    // A path cannot bring what stands for something.
    assert_eq!(
        arguments("/$%7BARGS%7D?x"),
        ["prog", "/$%7BARGS%7D", "-x", "x", "${OTHER}"]
    );
}

#[test]
fn bodies_stream_in_both_directions() {
    for name in ["cgi-p1", "cgi-p2"] {
        let server = Server::of(name);
        let mut connection = server.connect();
        connection.send(chunked_head("/?do=echo", &[("Content-Type", "text/x")]));
        connection.send(chunk("first "));
        // The head and the first piece are here while the request is not at its end.
        let head = connection.head();
        assert_eq!(head.status, 200, "{name}");
        connection.send(chunk("second"));
        connection.send(last_chunk(&[]));
        let answer = connection.body_of(head);
        assert_eq!(answer.text(), "first second", "{name}");
        assert_eq!(answer.field("content-type"), Some("text/x"), "{name}");

        let large = vec![b'x'; 3 << 20];
        let answer = server.connect();
        let mut writer = answer.stream();
        let bytes = post("/?do=echo", &large);
        let sending = std::thread::spawn(move || {
            std::io::Write::write_all(&mut writer, &bytes).expect("the server reads");
        });
        let mut answer = answer;
        assert!(answer.answer().body == large, "{name}");
        sending.join().expect("all was sent");
    }
}

#[test]
fn a_body_leaves_as_it_is_written() {
    let server = Server::of("cgi-p1");
    let answer = server.get("/?do=wait&ms=30");
    assert_eq!(answer.text(), "first\nlast\n");
    assert_eq!(answer.chunks, [6, 5]);
    // What was written at once leaves in one piece, with its length.
    let answer = server.get("/?do=write&bytes=5");
    assert_eq!(answer.field("content-length"), Some("5"));
}

#[test]
fn a_head_is_what_the_program_prints() {
    for name in ALL {
        let server = Server::of(name);
        for (output, status, text) in [
            ("content-type: text/plain\n\nhello", 200, "hello"),
            ("CONTENT-TYPE:text/plain\r\n\r\nhi\r\n", 200, "hi\r\n"),
            ("status: 404 Not Found\ncontent-type: a/b\n\nno", 404, "no"),
            ("Status: 500\n\n", 500, ""),
            ("location: /there\n\n", 302, ""),
            ("location: /there\nstatus: 301\n\n", 301, ""),
            ("status: 303 See Other\nlocation: /there\n\n", 303, ""),
            ("status: 201\nstatus: 202\n\n", 202, ""),
            (
                "\ncontent-type: a/b\n\n\nbehind one line",
                200,
                "\nbehind one line",
            ),
        ] {
            let answer = printed(&server, output);
            assert_eq!(
                (answer.status, &*answer.text()),
                (status, text),
                "{name}: {output:?}"
            );
            assert_eq!(answer.field("status"), None, "{name}: {output:?}");
            let located = output.contains("location").then_some("/there");
            assert_eq!(answer.field("location"), located, "{name}: {output:?}");
        }
        let answer = printed(
            &server,
            "content-type: a/b\ncontent-type: c/d\nset-cookie: a=1\nset-cookie: b=2\n\
             connection: close\ntransfer-encoding: gzip\nx-mine:  yes \n\nhello",
        );
        let all = |name: &str| {
            let fields = answer.fields.iter().filter(|(other, _)| other == name);
            fields.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(all("content-type"), ["c/d"], "{name}");
        assert_eq!(all("set-cookie"), ["a=1", "b=2"], "{name}");
        assert_eq!(all("x-mine"), ["yes"], "{name}");
        assert_eq!(all("connection"), Vec::<String>::new(), "{name}");
        assert_eq!(all("content-length"), ["5"], "{name}");
        assert_eq!(answer.text(), "hello", "{name}");
    }
}

#[test]
fn an_answer_to_head_and_one_without_a_body_need_none() {
    let server = Server::of("cgi-p1");
    let head = |target: &str| server.connect().ask(&request("HEAD", target, &[], ""));
    let answer = head("/?do=write&bytes=5&length=5");
    assert_eq!(
        (answer.status, answer.field("content-length")),
        (200, Some("5"))
    );
    // As programs do that know the method.
    let answer = head("/?do=write&bytes=0&length=5");
    assert_eq!(
        (answer.status, answer.field("content-length")),
        (200, Some("5"))
    );
    for status in [204, 205, 304] {
        let answer = printed(&server, format!("status: {status}\ncontent-length: 5\n\n"));
        assert_eq!(answer.status, status);
    }
    server.is_alive("/");
}

#[test]
fn standard_error_is_the_log() {
    for name in ["cgi-p1", "cgi-p2"] {
        let server = Server::of(name);
        assert_eq!(server.get("/?say=heard").status, 200);
        server.stderr().wait_for("heard");
    }
}

#[test]
fn a_route_may_name_another_entry_point() {
    let app = |entrypoint: &str| {
        App::new(&format!(
            "[app]\nname = \"test\"\n[component.web]\nsource = \"cgi-routes-p1.wasm\"\n\
             [[http]]\nroute = \"/main\"\ncomponent = \"web\"\n\
             [[http]]\nroute = \"/exact\"\ncomponent = \"web\"\nentrypoint = \"exact\"\n\
             [[http]]\nroute = \"/wild/...\"\ncomponent = \"web\"\nentrypoint = \"{entrypoint}\"\n"
        ))
    };
    let server = app("wildcard").up();
    for (path, who) in [
        ("/main", "main"),
        ("/exact", "exact"),
        ("/wild/a", "wildcard"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            answer.text().starts_with(&format!("answered by {who}\n")),
            "{path}"
        );
    }
    let seen = variables(&server.page("/wild/a"));
    assert_eq!(seen["X_MATCHED_ROUTE"], "/wild/...");
    for (entrypoint, told) in [
        ("wildcart", "did you mean `wildcard`?"),
        ("twice", "takes or returns something"),
        ("nothing-of-the-kind", "it exports: "),
    ] {
        let text = refused_start(app(entrypoint).folder(), &[]);
        assert!(text.contains(told) && text.contains(entrypoint), "{text}");
        let check = hostel(&["check".as_ref(), app(entrypoint).folder().as_os_str()]).failure(1);
        assert!(check.contains(told), "{check}");
    }
    // A component is called by what it exports for everybody.
    let component = App::new(
        "[app]\nname = \"test\"\n[component.web]\nsource = \"cgi-p2.wasm\"\n\
         [[http]]\nroute = \"/...\"\ncomponent = \"web\"\nentrypoint = \"exact\"\n",
    );
    let text = refused_start(component.folder(), &[]);
    assert!(text.contains("leave `entrypoint` out"), "{text}");
}

#[test]
fn a_module_prints_routes_of_its_own() {
    let server = at_routes("cgi-routes-p1", &["/app/..."], "env = { MINE = \"1\" }").up();
    for (path, who, route) in [
        ("/app/exact", "exact", "/app/exact"),
        ("/app/wildcard", "wildcard", "/app/wildcard/..."),
        ("/app/wildcard/a/b", "wildcard", "/app/wildcard/..."),
        ("/app/main", "main", "/app/main"),
        ("/app/other", "main", "/app/..."),
        ("/app/exact/more", "main", "/app/..."),
        // Without variables and arguments.
        ("/app/told/0/0", "main", "/app/told/0/0"),
    ] {
        let text = server.page(path);
        assert!(
            text.starts_with(&format!("answered by {who}\n")),
            "{path}: {text}"
        );
        assert_eq!(variables(&text)["X_MATCHED_ROUTE"], route, "{path}");
    }
    assert_eq!(server.get("/elsewhere").status, 404);
}

/// The shape of the examples that are written by hand.
const BY_HAND: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory 1)
    (export "memory" (memory 0))
    (data (i32.const 8) "content-type: text/plain\0d\0a\0d\0aby hand\0d\0a")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 8))
        (i32.store (i32.const 4) (i32.const 37))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 60)))))"#;

#[test]
fn a_text_of_webassembly_is_served_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hand.wat");
    fs::write(&path, BY_HAND).expect("a file");
    let answer = Server::start(&path, &[]).get("/");
    assert_eq!((answer.status, &*answer.text()), (200, "by hand\r\n"));
    assert_eq!(answer.field("content-type"), Some("text/plain"));
}

#[test]
fn another_component_may_call_a_program() {
    let app = App::new(
        "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
         [component.web]\nsource = \"outgoing-p2.wasm\"\n[component.web.grants]\nhttp = [\"http://program.app.internal\"]\n\
         [component.program]\nsource = \"cgi-p1.wasm\"\n",
    );
    let server = app.up();
    let seen = variables(&server.page("/?url=http://program.app.internal/a/b?c"));
    assert_eq!(seen["PATH_INFO"], "/a/b");
    assert_eq!(seen["SCRIPT_NAME"], "/");
    assert_eq!(seen["REMOTE_ADDR"], "127.0.0.1");
    assert_eq!(seen["SERVER_NAME"], "program.app.internal");
}

#[test]
fn inspect_says_how_a_program_is_served() {
    for name in ["cgi-p1", "cgi-p2", "run-exit-p3"] {
        let path = guest(name);
        let text = hostel(&["inspect".as_ref(), path.as_os_str()]).success();
        assert!(text.contains("hostel up"), "{name}: {text}");
        assert!(text.contains("CGI"), "{name}: {text}");
    }
}
