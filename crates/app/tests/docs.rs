//! What the guide to the manifest says is so.

#![allow(clippy::expect_used, clippy::panic)] // the lints' exception for tests misses helpers

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use hostel_app::limits::{self, Limit, Limits};
use hostel_app::{Operator, resolve};

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manifest.md")
}

fn text() -> String {
    fs::read_to_string(guide()).expect("docs/manifest.md")
}

fn is_of_component(limit: &Limit) -> bool {
    Limits::keys().any(|key| key.name == limit.name)
}

fn table(of_component: bool) -> String {
    let head = if of_component { "limit" } else { "bound" };
    let mut out =
        format!("| {head} | default | smallest | largest | |\n| --- | --- | --- | --- | --- |\n");
    for limit in limits::ALL
        .iter()
        .filter(|limit| is_of_component(limit) == of_component)
    {
        let shown = |default| Limit { default, ..**limit }.shown();
        let (default, floor, ceiling) = (
            shown(limit.default),
            shown(limit.floor),
            shown(limit.ceiling),
        );
        writeln!(
            out,
            "| `{}` | {default} | {floor} | {ceiling} | {} |",
            limit.name, limit.doc
        )
        .expect("a row");
    }
    out
}

/// Replaces what stands between the comment with this beginning and the next `<!-- end -->`.
fn replaced(text: &str, comment: &str, table: &str) -> String {
    let start = text.find(comment).expect("the comment");
    let (before, rest) = text.split_at(start);
    let (comment, rest) = rest.split_once("-->\n").expect("the end of the comment");
    let (_, after) = rest
        .split_once("<!-- end -->")
        .expect("the end of the table");
    format!("{before}{comment}-->\n{table}<!-- end -->{after}")
}

#[test]
fn the_tables_of_limits_are_those_of_the_code() {
    let written = text();
    let expected = replaced(&written, "<!-- limits of a component:", &table(true));
    let expected = replaced(&expected, "<!-- other limits:", &table(false));
    if std::env::var_os("HOSTEL_BLESS").is_some() {
        fs::write(guide(), &expected).expect("docs/manifest.md");
    }
    assert_eq!(text(), expected, "run this test with HOSTEL_BLESS=1");
}

#[test]
fn every_complete_example_resolves() {
    let text = text();
    let examples: Vec<&str> = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(example, _)| example))
        .collect();
    assert!(!examples.is_empty());
    for example in examples {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("hostel.toml"), example).expect("a file");
        fs::write(dir.path().join("web.wasm"), b"\0asm").expect("a file");
        fs::create_dir(dir.path().join("site")).expect("a folder");
        let operator = Operator {
            vars: [("token".to_owned(), "x".to_owned())].into(),
            ..Operator::default()
        };
        resolve(dir.path(), &operator).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn the_error_shown_is_the_one_printed() {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/route-unknown-key/expected.txt");
    let printed = fs::read_to_string(golden).expect("the golden file");
    assert!(
        text().contains(&printed),
        "the example under Errors is not:\n{printed}"
    );
}
