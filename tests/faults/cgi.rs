//! Programs that answer requests badly: each has a result that docs/abi/cgi.md lists, and the server answers the next request.

use std::fs;
use std::io::Write;

use crate::harness::app::App;
use crate::harness::message::{Answer, get, post, sized_head};
use crate::harness::server::{Server, refused_start};

const ALL: [&str; 3] = ["cgi-p1", "cgi-p2", "cgi-p3"];

/// What WAGI answers where a program does not say what it answers.
const INSUFFICIENT: &str = "Exactly one of 'location' or 'content-type' must be specified";

fn printed(server: &Server, output: impl AsRef<[u8]>) -> Answer {
    server.connect().ask(&post("/?do=raw", output))
}

/// The answer is the host's for this fault, the operator is told why, and the next request is answered.
fn fails(server: &Server, answer: &Answer, (status, fault): (u16, &str), why: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert!(
        answer.text().starts_with(&format!("{fault}: request ")),
        "{}",
        answer.text()
    );
    server.stderr().wait_for(why);
    server.is_alive("/");
}

#[test]
fn output_that_is_no_answer_is_an_error_with_the_words_of_wagi() {
    for name in ALL {
        let server = Server::of(name);
        for output in [
            "",
            "\n",
            "hello, world",
            "content-type: text/plain\n",
            "content-type: text/plain\nhello",
            "\n\ncontent-type: text/plain\n\n",
            "x-mine: 1\n\nhello",
            "no field\n\nhello",
        ] {
            let answer = printed(&server, output);
            let told = (answer.status, &*answer.text());
            assert_eq!(told, (500, INSUFFICIENT), "{name}: {output:?}");
        }
        server.stderr().wait_for("fault=bad-guest");
        server.is_alive("/");
    }
}

#[test]
fn a_status_that_is_none_is_502() {
    let server = Server::of("cgi-p1");
    for status in ["42", "abc", "", "-1", "1000", "2 00", "100 Continue", "101"] {
        let answer = printed(
            &server,
            format!("status: {status}\ncontent-type: a/b\n\nhi"),
        );
        let why = format!("its answer's status \"{status}\" is none");
        fails(&server, &answer, (502, "bad-guest"), &why);
    }
}

#[test]
fn lines_that_are_no_fields_are_left_out_and_told() {
    let server = Server::of("cgi-p1");
    let output = b"content-type: a/b\nx-\xffname: 1\nx-zero: a\0b\nx-latin: \xe9\nno colon\n: no name\n\nhello";
    let answer = printed(&server, output);
    assert_eq!((answer.status, &*answer.text()), (200, "hello"));
    for field in ["x-name", "x-zero"] {
        assert_eq!(answer.field(field), None);
    }
    assert!(answer.field("x-latin").is_some());
    server
        .stderr()
        .wait_for("4 line(s) of the head of its answer are no fields and were left out; the first: \"x-\\xffname: 1\"");
}

#[test]
fn a_head_is_bounded() {
    for name in ["cgi-p1", "cgi-p2"] {
        let server = Server::of(name);
        let before = server.memory_now();
        for bytes in ["bytes=10485760", "bytes=70000", ""] {
            let answer = server.get(&format!("/?do=head&{bytes}"));
            let why = "the head of its answer is longer than 65536 bytes";
            fails(&server, &answer, (502, "bad-guest"), why);
        }
        assert!(server.memory_peak() - before < 64 << 20, "{name}");
    }
    let server = Server::of("cgi-p3");
    let answer = printed(&server, "x-line: 1\n".repeat(1 << 20));
    assert_eq!(answer.status, 502);
    server.is_alive("/");
    // One that fits leaves as it is.
    let head = format!("content-type: a/b\nx-long: {}\n\nhello", "x".repeat(8000));
    assert_eq!(printed(&server, head).text(), "hello");
}

#[test]
fn an_exit_is_an_end_and_its_code_a_remark() {
    for name in ["cgi-p1", "cgi-p3"] {
        let server = Server::of(name);
        let ask = |query: &str, output: &str| {
            server
                .connect()
                .ask(&post(&format!("/?do=raw&{query}"), output))
        };
        let whole = "content-type: a/b\n\nhello";
        for end in ["end=0", "end=1", "end=255"] {
            let answer = ask(end, whole);
            assert_eq!(
                (answer.status, &*answer.text()),
                (200, "hello"),
                "{name} {end}"
            );
        }
        server
            .stderr()
            .wait_for("it exited with code 255 behind its answer");
        let answer = ask("end=0", "content-type: a/b\n");
        assert_eq!(
            (answer.status, &*answer.text()),
            (500, INSUFFICIENT),
            "{name}"
        );
        for output in ["", "content-type: a/b\n"] {
            let answer = ask("end=1", output);
            let why = "it exited with code 1 before the head of its answer";
            fails(&server, &answer, (500, "trap"), why);
        }
    }
    // The error that a component of WASI returns is the exit code 1.
    let server = Server::of("cgi-p3");
    let answer = server.connect().ask(&post("/?do=raw&end=err", ""));
    assert_eq!(answer.status, 500);
}

#[test]
fn a_trap_before_the_end_of_the_body_is_no_whole_answer() {
    for name in ALL {
        let server = Server::of(name);
        let answer = server
            .connect()
            .ask(&post("/?do=raw&end=trap", "content-type: a/b\n"));
        fails(&server, &answer, (500, "trap"), "fault=trap");
        for _ in 0..3 {
            let mut connection = server.connect();
            connection.send(post("/?do=raw&end=trap", "content-type: a/b\n\nhello"));
            match connection.try_answer() {
                Ok(answer) => assert_eq!(answer.status, 500, "{name}"),
                // What was written and had not left may be lost with it.
                Err(cut) => {
                    let part = cut.part.expect("a head").text();
                    assert!("hello".starts_with(&part), "{name}: {part}");
                }
            }
        }
        // When the head has certainly left.
        let mut connection = server.connect();
        connection.send(sized_head("/?do=raw&end=trap", 100));
        connection.send("content-type: a/b\n\nhello");
        let head = connection.head();
        assert_eq!(head.status, 200, "{name}");
        connection.send(vec![b'x'; 100 - "content-type: a/b\n\nhello".len()]);
        let rest = String::from_utf8(connection.rest()).unwrap();
        assert!(!rest.ends_with("0\r\n\r\n"), "{name}: {rest}");
        server.is_alive("/");
    }
}

#[test]
fn a_body_that_is_not_as_long_as_announced_is_no_whole_answer() {
    let server = Server::of("cgi-p1");
    for (query, why) in [
        (
            "length=6&bytes=5",
            "it promised a body of 6 bytes and wrote 5",
        ),
        (
            "length=5&bytes=6",
            "it wrote more than the 5 bytes that its Content-Length announced",
        ),
    ] {
        let answer = server.get(&format!("/?do=write&{query}"));
        fails(&server, &answer, (502, "bad-guest"), why);
    }
    for length in ["x", "5, 6", "-5", "", "5\ncontent-length: 6"] {
        let output = format!("content-type: a/b\ncontent-length: {length}\n\nhello");
        let answer = printed(&server, output);
        fails(
            &server,
            &answer,
            (502, "bad-guest"),
            "Content-Length is not one number",
        );
    }
    let answer = printed(&server, "content-type: a/b\ncontent-length: 5\n\nhello");
    assert_eq!(answer.text(), "hello");
}

#[test]
fn input_that_is_not_read_or_closed_early_is_no_fault() {
    for name in ["cgi-p1", "cgi-p2"] {
        let server = Server::of(name);
        for (query, text) in [("unread", "not read"), ("wait", "first\nlast\n")] {
            let mut connection = server.connect();
            connection.try_send(post(&format!("/?do={query}"), vec![b'x'; 1 << 20]));
            let answer = connection.answer();
            assert_eq!(answer.status, 200, "{name} {query}");
            assert_eq!(answer.text().trim_end(), text.trim_end(), "{name} {query}");
        }
        server.is_alive("/");
    }
}

#[test]
fn who_reads_for_ever_ends_with_its_client_or_its_deadline() {
    let limits = "[component.web.limits]\ndeadline = \"300ms\"";
    let server = App::of("cgi-p1", limits).up();
    let mut connection = server.connect();
    connection.send(sized_head("/?do=read", 100));
    connection.send("a part");
    let answer = connection.answer();
    fails(&server, &answer, (504, "deadline"), "fault=deadline");
    // A client that leaves in the middle of its request: the program is ended, or has read that its input broke off.
    let server = App::of("cgi-p1", "[component.web.limits]\nconcurrency = 1").up();
    let mut connection = server.connect();
    connection.send(sized_head("/?do=read", 100));
    connection.send("a part");
    drop(connection);
    server.comes_to_rest();
    server.is_alive("/");
}

#[test]
fn a_program_that_writes_forever_waits_for_its_client() {
    for name in ["cgi-p1", "cgi-p2"] {
        let server = Server::of(name);
        let mut connection = server.connect();
        connection.send(get("/?do=write"));
        assert_eq!(connection.head().status, 200, "{name}");
        // Nobody reads: it stands still, with little of its output in memory.
        server.comes_to_rest();
        assert!(server.memory_now() < 256 << 20, "{name}");
        drop(connection);
        server.stderr().wait_for("fault=cancelled");
        server.comes_to_rest();
        server.is_alive("/");
    }
}

#[test]
fn a_body_beyond_its_limit_is_cut() {
    let limits = "[component.web.limits]\nresponse_body = \"1MiB\"";
    let server = App::of("cgi-p1", limits).up();
    let mut connection = server.connect();
    connection.send(get("/?do=write"));
    let cut = connection.try_answer().expect_err("no end");
    assert!(cut.part.expect("a head").body.len() <= 1 << 20);
    let answer = server.get("/?do=write&bytes=1048577&length=1048577");
    assert_eq!(answer.status, 502);
    assert_eq!(server.get("/?do=write&bytes=1048576").body.len(), 1 << 20);
    server.is_alive("/");
}

#[test]
fn budgets_hold_before_the_head_and_behind_it() {
    let limits = "[component.web.limits]\ndeadline = \"5s\"\ncpu = \"100ms\"\nmemory = \"16MiB\"";
    for name in ["cgi-p1", "cgi-p2"] {
        let server = App::of(name, limits).up();
        fails(&server, &server.get("/?do=spin"), (504, "cpu"), "fault=cpu");
        let mut connection = server.connect();
        connection.send(get("/?do=spin&head=1"));
        let cut = connection.try_answer();
        assert!(
            cut.is_err() || cut.is_ok_and(|answer| answer.status == 504),
            "{name}"
        );
        let answer = server.get("/?do=grow&mib=64");
        fails(&server, &answer, (500, "memory"), "fault=memory");
        assert_eq!(server.get("/?do=grow&mib=4").status, 200, "{name}");
    }
}

#[test]
fn ten_thousand_open_files_are_not_to_be_had() {
    for name in ["cgi-p1", "cgi-p2"] {
        let settings = "[component.web.grants]\nfiles = { \"/data\" = { host = \"data\" } }";
        let app = App::of(name, settings).with_file("data/file", "x");
        let server = app.up();
        assert_eq!(
            server.page("/?do=leak&count=500&open=/data/file"),
            "500 all\n"
        );
        server.comes_to_rest();
        let before = server.open_files();
        for _ in 0..3 {
            let answer = server.get("/?do=leak&count=10000&open=/data/file");
            let why = "resource table has no free keys";
            fails(&server, &answer, (500, "trap"), why);
        }
        server.comes_to_rest();
        assert!(server.open_files() < before + 100, "{name}");
    }
}

#[test]
fn what_is_no_program_is_refused_before_anything_listens() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = "(memory (export \"memory\") 1) (func (export \"_start\"))";
    for (text, told) in [
        (
            "(module (memory (export \"memory\") 1))".to_owned(),
            "no `_start`",
        ),
        (
            format!(
                "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32))) {start})"
            ),
            "fd_write",
        ),
        (
            format!("(module (import \"wasi_snapshot_preview1\" \"fork\" (func)) {start})"),
            "fork",
        ),
        (
            "(module (memory (export \"memory\") 1) (func (export \"_start\") (param i32)))"
                .to_owned(),
            "_start",
        ),
    ] {
        let path = folder.path().join("bad.wat");
        fs::write(&path, &text).expect("a file");
        let refused = refused_start(&path, &[]);
        assert!(refused.contains(told), "{text}\n{refused}");
    }
}

#[test]
fn a_client_that_sends_too_much_is_refused_whatever_the_program_makes_of_it() {
    let server = App::of("cgi-p1", "[component.web.limits]\nrequest_body = \"1KiB\"").up();
    let mut connection = server.connect();
    connection.send(crate::harness::message::chunked_head("/?do=read", &[]));
    let mut stream = connection.stream();
    for _ in 0..8 {
        let _closed = stream.write_all(&crate::harness::message::chunk([b'x'; 512]));
    }
    let answer = connection.answer();
    assert!([400, 413].contains(&answer.status), "{}", answer.status);
    server.is_alive("/");
}

#[test]
fn routes_of_its_own_are_bounded() {
    let app = |body: &str| {
        let app = App::of_manifest(
            "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
             [component.web]\nsource = \"web.wat\"\n[component.web.limits]\ncpu = \"100ms\"\n",
        );
        let text = format!(
            r#"(module
                (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (data (i32.const 16) "/a _start\n")
                (func (export "_start"))
                (func (export "_routes")
                    (i32.store (i32.const 0) (i32.const 16))
                    (i32.store (i32.const 4) (i32.const 10))
                    {body}))"#
        );
        app.with_file("web.wat", text)
    };
    let print = "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 40)))";
    for (body, told) in [
        (
            format!("(loop {print} (br 0))"),
            "printed 65536 bytes or more",
        ),
        (
            format!("{print} (loop (br 0))"),
            "used up its 100 ms of CPU",
        ),
        (format!("{print} unreachable"), "the guest trapped"),
        (
            format!("{print} (call $exit (i32.const 3))"),
            "exited with code 3",
        ),
        (String::new(), "printed nothing"),
        (
            "(i32.store8 (i32.const 18) (i32.const 255))".to_owned() + print,
            "what is no text",
        ),
    ] {
        let app = app(&body);
        let refused = refused_start(app.folder(), &[]);
        assert!(
            refused.contains("_routes") && refused.contains(told),
            "{refused}"
        );
    }
    let app = app(&format!("{print} (call $exit (i32.const 0))"));
    let server = app.up();
    assert_eq!(server.get("/a").status, 500, "it has no output");
}
