//! `wasi_experimental_http`: every code, in the order in which a request is checked, and the interface's own client library.
//!
//! What is small is a program in text under `hostel run`, whose exit code is 100 and the code that it got; a program that
//! answers requests shows the rest.

use std::fmt::Write;
use std::net::TcpListener;

use crate::harness::app::App;
use crate::harness::command::{Outcome, run};
use crate::harness::server::Server;
use crate::harness::upstream::Upstream;

/// What an upstream says.
const ANSWER: &str = "HTTP/1.1 203 Fine\r\nconnection: close\r\ncontent-type: text/plain\r\nx-two: a\r\nx-two: b\r\n\
                      content-length: 10\r\n\r\n0123456789";

/// One request; a place that is not said is where its text was put.
struct Asked<'a> {
    url: &'a [u8],
    method: &'a [u8],
    headers: &'a [u8],
    body: &'a [u8],
    /// Names of fields that are asked for behind it.
    names: &'a [u8],
    url_at: u32,
    status_out: u32,
    handle_out: u32,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self {
            url: b"",
            method: b"GET",
            headers: b"",
            body: b"",
            names: b"",
            url_at: 0,
            status_out: 9000,
            handle_out: 9004,
        }
    }
}

/// Where the texts are.
const METHOD: u32 = 1024;
const HEADERS: u32 = 2048;
const BODY: u32 = 4096;
const NAMES: u32 = 6000;

impl Asked<'_> {
    /// The call, which leaves its code.
    fn call(&self) -> String {
        format!(
            "(call $req (i32.const {}) (i32.const {}) (i32.const {METHOD}) (i32.const {}) (i32.const {HEADERS}) \
             (i32.const {}) (i32.const {BODY}) (i32.const {}) (i32.const {}) (i32.const {}))",
            self.url_at.cast_signed(),
            self.url.len(),
            self.method.len(),
            self.headers.len(),
            self.body.len(),
            self.status_out.cast_signed(),
            self.handle_out.cast_signed()
        )
    }

    /// A program that has these texts and does this, whose value is its exit code.
    fn program(&self, memory: &str, code: &str) -> String {
        let texts = [
            (0, self.url),
            (METHOD, self.method),
            (HEADERS, self.headers),
            (BODY, self.body),
            (NAMES, self.names),
        ];
        let mut data = String::new();
        for (at, text) in texts {
            write!(data, "(data (i32.const {at}) \"").expect("text");
            for byte in text {
                write!(data, "\\{byte:02x}").expect("text");
            }
            data.push_str("\")\n");
        }
        format!(
            r#"(module
            (import "wasi_experimental_http" "req" (func $req
                (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_experimental_http" "close" (func $close (param i32) (result i32)))
            (import "wasi_experimental_http" "header_get" (func $header
                (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_experimental_http" "headers_get_all" (func $headers
                (param i32 i32 i32 i32) (result i32)))
            (import "wasi_experimental_http" "body_read" (func $read
                (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory {memory} 1)
            {data}
            (func (export "_start") (call $exit (i32.add (i32.const 100) {code}))))"#
        )
    }

    /// What `req` returns.
    fn code(&self, flags: &[&str]) -> i32 {
        code(&self.program("(export \"memory\")", &self.call()), flags)
    }

    /// What this returns behind a request that was answered.
    fn then(&self, what: &str, flags: &[&str]) -> i32 {
        let code = format!("(block (result i32) (drop {}) {what})", self.call());
        self.value(&code, flags)
    }

    fn value(&self, code_text: &str, flags: &[&str]) -> i32 {
        code(&self.program("(export \"memory\")", code_text), flags)
    }
}

fn ran(text: &str, flags: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("program.wat");
    std::fs::write(&file, text).expect("a file");
    run(flags, &file, &[], b"")
}

fn code(text: &str, flags: &[&str]) -> i32 {
    let outcome = ran(text, flags);
    let code = outcome.code.unwrap_or_default() - 100;
    assert!((0..28).contains(&code), "{code}: {}", outcome.stderr);
    code
}

/// An upstream, its URL, and the grant for it.
fn upstream() -> (Upstream, String, String) {
    let upstream = Upstream::saying(ANSWER);
    let url = format!("http://{}/page", upstream.address());
    let grant = format!("http=http://{}", upstream.address());
    (upstream, url, grant)
}

/// What is otherwise in a request that would be answered.
enum But<'a> {
    Url(&'a [u8]),
    Method(&'a [u8]),
    Headers(&'a [u8]),
    UrlAt(u32),
    StatusOut(u32),
    HandleOut(u32),
}

impl<'a> But<'a> {
    fn of(&self, url: &'a [u8]) -> Asked<'a> {
        let mut asked = Asked {
            url,
            ..Asked::default()
        };
        match *self {
            Self::Url(url) => asked.url = url,
            Self::Method(method) => asked.method = method,
            Self::Headers(headers) => asked.headers = headers,
            Self::UrlAt(at) => asked.url_at = at,
            Self::StatusOut(at) => asked.status_out = at,
            Self::HandleOut(at) => asked.handle_out = at,
        }
        asked
    }
}

/// Requests that are granted and not sent.
const REFUSED: [(But<'static>, i32); 16] = [
    (But::UrlAt(65_530), 3),
    (But::UrlAt(u32::MAX), 3),
    (But::StatusOut(65_535), 3),
    (But::HandleOut(u32::MAX), 3),
    (But::Url(b"http://\xff/"), 6),
    (But::Method(b"\xff"), 6),
    (But::Headers(b"a:\xff\n"), 6),
    (But::Url(b"http://example.com/"), 7),
    (But::Method(b"GE T"), 8),
    (But::Method(b"CONNECT"), 8),
    (But::Headers(b"no colon\n"), 9),
    (But::Headers(b"a b:c\n"), 9),
    (But::Headers(b":c\n"), 9),
    (But::Url(b"no url"), 10),
    (But::Url(b""), 10),
    (But::Url(b"ftp://127.0.0.1/"), 10),
];

#[test]
fn every_way_in_which_a_request_comes_to_nothing_has_its_code() {
    let (upstream, url, grant) = upstream();
    let granted = ["--grant", grant.as_str()];
    let good = Asked {
        url: url.as_bytes(),
        ..Asked::default()
    };
    assert_eq!(good.code(&granted), 0);
    let asked = upstream.connections();
    for (number, (but, expected)) in REFUSED.iter().enumerate() {
        let code = but.of(url.as_bytes()).code(&granted);
        assert_eq!(code, *expected, "case {number}");
    }
    assert_eq!(good.code(&[]), 7);
    for (limit, expected) in [("outbound=0", 12), ("http_sessions=0", 13)] {
        let flags = [&granted[..], &["--limit", limit]].concat();
        assert_eq!(good.code(&flags), expected, "{limit}");
    }
    let hidden = good.program("", &good.call());
    assert_eq!(code(&hidden, &granted), 2);
    assert_eq!(upstream.connections(), asked, "nothing was sent");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let granted = ["--grant".to_owned(), format!("http={nobody}")];
    let granted = granted.each_ref().map(String::as_str);
    assert_eq!(But::Url(nobody.as_bytes()).of(b"").code(&granted), 11);
}

#[test]
fn the_first_of_several_reasons_is_told() {
    let (_upstream, url, grant) = upstream();
    let granted = ["--grant", grant.as_str()];
    let none = [&granted[..], &["--limit", "http_sessions=0"]].concat();
    let all = |url| Asked {
        url,
        method: b"\xff",
        headers: b"\xff",
        ..Asked::default()
    };
    assert_eq!(all(b"\xff").code(&none), 13);
    assert_eq!(all(b"\xff").code(&granted), 6);
    assert_eq!(all(b"http://example.com/").code(&granted), 7);
    let method = Asked {
        method: b"GE T",
        ..all(url.as_bytes())
    };
    assert_eq!(method.code(&granted), 8);
}

#[test]
fn an_answer_is_read_by_its_handle() {
    let (_upstream, url, grant) = upstream();
    let granted = ["--grant", grant.as_str()];
    let asked = Asked {
        url: url.as_bytes(),
        names: b"Content-Typex-absent\xff",
        ..Asked::default()
    };
    let then = |what: &str| asked.then(what, &granted);
    // 203 is 0xcb.
    assert_eq!(
        then("(i32.and (i32.load16_u (i32.const 9000)) (i32.const 15))"),
        0xb
    );
    let header = |name: &str, buffer: &str| {
        format!("(call $header (i32.const 0) {name} {buffer} (i32.const 9008))")
    };
    let field = "(i32.const 6000) (i32.const 12)";
    let absent = "(i32.const 6012) (i32.const 8)";
    let room = "(i32.const 10000) (i32.const 10)";
    assert_eq!(then(&header(field, room)), 0);
    let written = format!(
        "(block (result i32) (drop {}) (i32.load (i32.const 9008)))",
        header(field, room)
    );
    assert_eq!(then(&written), 10);
    assert_eq!(then(&header(field, "(i32.const 10000) (i32.const 9)")), 4);
    assert_eq!(then(&header(field, "(i32.const 65530) (i32.const 10)")), 3);
    assert_eq!(then(&header(absent, room)), 5);
    assert_eq!(then(&header("(i32.const 6020) (i32.const 1)", room)), 6);
    assert_eq!(then(&header("(i32.const -1) (i32.const 1)", room)), 3);
    let all = |room| {
        format!(
            "(call $headers (i32.const 0) (i32.const 10000) (i32.const {room}) (i32.const 9008))"
        )
    };
    assert_eq!(then(&all(1000)), 0);
    assert_eq!(then(&all(20)), 4);
    for gone in [
        "(call $close (i32.const 1))",
        "(call $header (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 9008))",
        "(call $headers (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 9008))",
        "(call $read (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 9008))",
    ] {
        assert_eq!(then(gone), 1, "{gone}");
    }
}

#[test]
fn a_body_is_read_in_pieces_until_nothing_comes() {
    let (_upstream, url, grant) = upstream();
    let granted = ["--grant", grant.as_str()];
    let asked = Asked {
        url: url.as_bytes(),
        ..Asked::default()
    };
    let read = |at: &str, room: u32| {
        format!("(call $read (i32.const 0) (i32.const {at}) (i32.const {room}) (i32.const 9008))")
    };
    let length = "(i32.load (i32.const 9008))";
    let last = "(i32.sub (i32.load8_u (i32.const 10000)) (i32.const 48))";
    let after = |reads: &[(&str, u32)], value: &str| {
        let reads: String = reads
            .iter()
            .map(|(at, room)| format!("(drop {})", read(at, *room)))
            .collect();
        asked.then(&format!("(block (result i32) {reads} {value})"), &granted)
    };
    assert_eq!(after(&[("10000", 4)], length), 4);
    assert_eq!(after(&[("10000", 4), ("10000", 4)], last), 4);
    assert_eq!(
        after(&[("10000", 4), ("10000", 4), ("10000", 4)], length),
        2
    );
    let all = [("10000", 10), ("10000", 10)];
    assert_eq!(after(&all, length), 0);
    assert_eq!(after(&all, &read("10000", 10)), 0);
    // Room for nothing is no end, and what could not be written is not lost.
    assert_eq!(after(&[("10000", 0), ("65535", 4), ("10000", 4)], last), 0);
    assert_eq!(after(&[], &read("65535", 4)), 3);
}

#[test]
fn handles_are_the_lowest_that_are_free() {
    let (_upstream, url, grant) = upstream();
    let granted = ["--grant", grant.as_str()];
    let asked = Asked {
        url: url.as_bytes(),
        ..Asked::default()
    };
    let call = format!("(drop {})", asked.call());
    let handle = "(i32.load (i32.const 9004))";
    let value =
        |what: &str| asked.value(&format!("(block (result i32) {what} {handle})"), &granted);
    assert_eq!(value(&call), 0);
    assert_eq!(value(&call.repeat(3)), 2);
    let close = "(drop (call $close (i32.const 1)))";
    assert_eq!(value(&format!("{}{close}{call}", call.repeat(3))), 1);
    assert_eq!(
        value(&format!("{}{close}{}", call.repeat(3), call.repeat(2))),
        3
    );
    let flags = [&granted[..], &["--limit", "http_sessions=2"]].concat();
    let third = format!("(block (result i32) {} {})", call.repeat(2), asked.call());
    assert_eq!(asked.value(&third, &flags), 13);
    let again = format!(
        "(block (result i32) {}{close} {})",
        call.repeat(2),
        asked.call()
    );
    assert_eq!(asked.value(&again, &flags), 0);
}

#[test]
fn answers_that_are_closed_leave_room_for_others() {
    let upstream = Upstream::http("x".repeat(40_000).leak());
    let url = format!("http://{}/", upstream.address());
    let grant = format!("http=http://{}", upstream.address());
    let flags = ["--grant", grant.as_str(), "--limit", "host_bytes=64KiB"];
    let asked = Asked {
        url: url.as_bytes(),
        ..Asked::default()
    };
    let call = format!("(drop {})", asked.call());
    let kept = format!("(block (result i32) {call} {})", asked.call());
    let outcome = ran(&asked.program("(export \"memory\")", &kept), &flags);
    assert_eq!(outcome.code, Some(112), "{}", outcome.stderr);
    let close = "(drop (call $close (i32.const 0)))";
    let closed = format!(
        "(block (result i32) {} {})",
        format!("{call}{close}").repeat(5),
        asked.call()
    );
    assert_eq!(asked.value(&closed, &flags), 0);
}

#[test]
fn the_client_library_of_the_interface_works_unchanged() {
    let (upstream, url, grant) = upstream();
    let server = Server::with("cgi-fetch", &["--grant", &grant]);
    let page = server.page(&format!("/?url={url}&name=X-Asked&value=yes"));
    assert_eq!(
        page,
        "status 203 Fine\ntype \"text/plain\"\nabsent true\nfields 3\n\n0123456789"
            .replace(" Fine", " Non Authoritative Information")
    );
    let heard = upstream.heard().concat();
    assert!(
        heard.starts_with("GET /page HTTP/1.1\r\n") && heard.contains("x-asked: yes\r\n"),
        "{heard}"
    );
    let sink = Upstream::taking("the body", |_| 200);
    let posting = Server::with(
        "cgi-fetch",
        &["--grant", &format!("http=http://{}", sink.address())],
    );
    let path = format!(
        "/?url=http://{}/in&method=POST&body=the%20body",
        sink.address()
    );
    // Its answer has no type, which is what the program says then.
    assert!(posting.get(&path).text().contains("Wasi error 5"));
    let heard = sink.heard().concat();
    assert!(
        heard.starts_with("POST /in HTTP/1.1\r\n") && heard.ends_with("\r\n\r\nthe body"),
        "{heard}"
    );
    let denied = posting.get(&format!("/?url={url}"));
    assert_eq!(denied.status, 502);
    assert!(denied.text().contains("Wasi error 7"), "{}", denied.text());
}

#[test]
fn a_component_says_how_many_answers_it_holds() {
    let (_upstream, url, grant) = upstream();
    let app = App::of("cgi-fetch", "[component.web.limits]\nhttp_sessions = 2");
    let server = app.up_with(&["--grant", &grant]);
    let two = server.get(&format!("/?url={url}&times=2&close=0"));
    assert_eq!(two.status, 200, "{}", two.text());
    let three = server.get(&format!("/?url={url}&times=3&close=0"));
    assert_eq!(three.status, 502);
    assert!(three.text().contains("Wasi error 13"), "{}", three.text());
    let closed = server.get(&format!("/?url={url}&times=5"));
    assert_eq!(closed.status, 200, "{}", closed.text());
}
