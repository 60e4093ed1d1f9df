//! `examples/polyglot`: programs in Go, C and Zig answer requests, each by its part of the example's manifest.
//!
//! Their tool chains are large: `cargo xtask test --all` sets them up and compiles these tests. What cannot be had is
//! left out by the beginning of a test's name.

use std::fs;

use crate::harness::app::App;
use crate::harness::message::request;
use crate::harness::server::Server;
use crate::harness::{built, root};

/// The example with this one component and its route.
fn example(language: &str) -> App {
    let manifest = root().join("examples/polyglot/hostel.toml");
    let manifest = fs::read_to_string(manifest).expect("the example's manifest");
    let parts = manifest.split("\n\n").filter(|part| {
        part.contains("[app]")
            || part.starts_with(&format!("[component.{language}]"))
            || part.contains(&format!("component = \"{language}\""))
    });
    let parts: Vec<&str> = parts.collect();
    assert_eq!(parts.len(), 3, "{manifest}");
    let guest = built(&format!("examples/polyglot/{language}.wasm"));
    App::of_manifest(&parts.join("\n\n")).with_file(
        &format!("{language}.wasm"),
        fs::read(guest).expect("the guest"),
    )
}

/// Asks in every way that the three programs know.
fn answers(language: &str) {
    let app = example(language);
    let server = app.up();
    page(&server, language);
    body(&server, language);
    many(&server, language);
}

fn page(server: &Server, language: &str) {
    let mut connection = server.connect();
    let path = format!("/{language}/a%20b/c");
    let fields = [("X-Greeting", "hello there")];
    let answer = connection.ask(&request("GET", &format!("{path}?x=1&y=%2F"), &fields, ""));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.field("x-language"), Some(language));
    assert_eq!(
        answer.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(
        answer.text(),
        format!(
            "language: {language}\nmethod: GET\npath: /a b/c\nquery: x=1&y=%2F\n\
             greeting: hello there\nbytes: 0\n\n"
        )
    );
    // The same connection goes on, behind an answer without a body too.
    let head = connection.ask(&request("HEAD", &path, &[], ""));
    assert_eq!((head.status, head.body.len()), (200, 0));
    let put = connection.ask(&request("PUT", &path, &[], "x"));
    assert_eq!(put.status, 201, "{}", put.text());
}

fn body(server: &Server, language: &str) {
    // Every value of a byte, and more than any buffer on the way.
    let sent: Vec<u8> = (0..300_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let answer = server
        .connect()
        .ask(&request("POST", &format!("/{language}"), &[], &sent));
    assert_eq!(answer.status, 200);
    let end = answer.body.windows(2).position(|two| two == b"\n\n");
    let (head, echo) = answer.body.split_at(end.expect("an empty line") + 2);
    let head = String::from_utf8_lossy(head);
    assert!(
        head.contains("method: POST\npath: \nquery: \n") && head.contains("bytes: 300000\n"),
        "{head}"
    );
    assert!(echo == sent, "{} bytes came back", echo.len());
}

/// Nothing is left of a request that the next one could see.
fn many(server: &Server, language: &str) {
    let mut connection = server.connect();
    for number in 0..20 {
        let path = format!("/{language}/{number}");
        let answer = connection.ask(&request("POST", &path, &[], format!("number {number}")));
        let text = answer.text();
        assert!(text.contains(&format!("path: /{number}\n")), "{text}");
        assert!(text.ends_with(&format!("\n\nnumber {number}")), "{text}");
    }
}

#[test]
fn go_answers_as_a_program() {
    answers("go");
}

#[test]
fn c_answers_as_a_program() {
    answers("c");
}

#[test]
fn zig_answers_as_a_program() {
    answers("zig");
}
