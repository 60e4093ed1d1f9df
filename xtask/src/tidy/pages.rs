//! That the documents name what exists: the files of a request's journey, and the tests that keep promises.
//!
//! `ARCHITECTURE.md` has a section "A request's journey"; every file in backticks there must exist.
//! `SPECIFICATION.md` has tables of promises: a row whose first cell is a number such as `H3` or `12` names
//! its test in backticks, or says "pending". A test is named by its function, with as much of the module
//! path before it as helps the reader (`functional::http::streams_a_body`).

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::source::test_names;
use super::{Findings, texts_below};

const MAP: &str = "ARCHITECTURE.md";
const JOURNEY: &str = "A request's journey";
const PROMISES: &str = "SPECIFICATION.md";
/// Where tests live.
const TESTED: &[&str] = &["crates", "tests", "xtask", "bench"];

/// Checks both documents; one that is not there yet is skipped, loudly.
pub(super) fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    match std::fs::read_to_string(root.join(MAP)) {
        Ok(text) => journey(&text, |path| root.join(path).is_file(), findings),
        Err(_) => findings.skipped.push(format!("there is no {MAP}")),
    }
    match std::fs::read_to_string(root.join(PROMISES)) {
        Ok(text) => promises(&text, &all_tests(root)?, findings),
        Err(_) => findings.skipped.push(format!("there is no {PROMISES}")),
    }
    Ok(())
}

/// The names of all tests of the repository.
fn all_tests(root: &Path) -> Result<BTreeSet<String>> {
    let mut tests = BTreeSet::new();
    for folder in TESTED {
        for (_, text) in texts_below(&root.join(folder), &["rs"])? {
            tests.extend(test_names(&text).into_iter().map(String::from));
        }
    }
    Ok(tests)
}

/// Complains about files of the journey that do not exist.
fn journey(text: &str, exists: impl Fn(&str) -> bool, findings: &mut Findings) {
    let mut inside = false;
    let mut named = 0;
    for (line, number) in text.lines().zip(1..) {
        if line.starts_with('#') {
            // Subsections belong to their section; only a heading of the same depth or higher ends it.
            inside = line.contains(JOURNEY) || (inside && line.starts_with("###"));
        }
        if !inside {
            continue;
        }
        for path in quoted(line).filter(|word| word.contains('/') && word.ends_with(".rs")) {
            named += 1;
            if !exists(path) {
                findings.complaints.push(format!(
                    "{MAP}:{number}: {path} does not exist; name the file that took its place"
                ));
            }
        }
    }
    if named == 0 {
        findings.complaints.push(format!(
            "{MAP}: the section \"{JOURNEY}\" names no file; name them in backticks, in order"
        ));
    }
}

/// Complains about promises without a test, and about tests that do not exist.
fn promises(text: &str, tests: &BTreeSet<String>, findings: &mut Findings) {
    let mut rows = 0;
    for (line, number) in text.lines().zip(1..) {
        if !is_promise(line) {
            continue;
        }
        rows += 1;
        let named: Vec<&str> = quoted(line).filter(|word| is_test_path(word)).collect();
        for path in &named {
            let name = path.rsplit("::").next().unwrap_or(path);
            if !tests.contains(name) {
                findings.complaints.push(format!(
                    "{PROMISES}:{number}: there is no test {path}; name the one that keeps this promise"
                ));
            }
        }
        if named.is_empty() && !line.contains("pending") {
            findings.complaints.push(format!(
                "{PROMISES}:{number}: no test; name it in backticks, or say \"pending\""
            ));
        }
    }
    if rows == 0 {
        findings.complaints.push(format!(
            "{PROMISES}: no numbered promise; see `xtask/src/tidy/pages.rs`"
        ));
    }
}

/// Whether a line is a table row that begins with a promise's number, such as `| H3 |` or `| 2.1 |`.
fn is_promise(line: &str) -> bool {
    let Some(cell) = line.strip_prefix('|').and_then(|row| row.split('|').next()) else {
        return false;
    };
    let cell = cell.trim().trim_matches('*');
    let letters = cell.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let dotted = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
    letters.chars().any(|c| c.is_ascii_digit()) && letters.chars().all(dotted)
}

/// Whether a word in backticks names a test: a path of modules that ends in a function. A file or an option
/// has no `::`.
fn is_test_path(word: &str) -> bool {
    let snake = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    word.contains("::") && word.split("::").all(snake)
}

/// The words of a line that stand in backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(judge: impl Fn(&mut Findings)) -> Vec<String> {
        let mut findings = Findings::default();
        judge(&mut findings);
        findings.complaints
    }

    #[test]
    fn the_journey_names_files_that_exist() {
        let text = "# Map\n`crates/old.rs`\n## A request's journey\n1. `crates/a.rs` and `GET /x`\n\
                    ### In detail\n2. `crates/b.rs`\n## Next\n`crates/c.rs`\n";
        let complaints = found(|f| journey(text, |path| path == "crates/a.rs", f));
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].starts_with("ARCHITECTURE.md:6: crates/b.rs does not exist"));
    }

    #[test]
    fn a_map_without_a_journey_is_a_complaint() {
        let complaints = found(|f| journey("# Map\n", |_| true, f));
        assert!(complaints[0].contains("names no file"), "{complaints:?}");
    }

    #[test]
    fn promises_name_tests_that_exist_or_are_pending() {
        let text = "| id | promise | test |\n|----|----|----|\n\
                    | H1 | answers | `functional::http::answers` |\n\
                    | H2 | streams | `functional::http::streams` |\n\
                    | 2.1 | waits | (pending) |\n\
                    | **H4** | sleeps | by `--sleep` |\n";
        let tests = BTreeSet::from(["answers".to_string()]);
        let complaints = found(|f| promises(text, &tests, f));
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].starts_with("SPECIFICATION.md:4: there is no test functional::"));
        assert!(complaints[1].starts_with("SPECIFICATION.md:6: no test;"));
    }

    #[test]
    fn a_page_without_promises_is_a_complaint() {
        let complaints = found(|f| promises("# Promises\n", &BTreeSet::new(), f));
        assert_eq!(complaints.len(), 1);
    }

    #[test]
    fn missing_pages_are_skipped_loudly() {
        let scratch = super::super::Scratch::new("pages", &[("x.txt", "")]);
        let mut findings = Findings::default();
        check(&scratch.0, &mut findings).unwrap();
        assert_eq!(
            findings.skipped,
            [
                "there is no ARCHITECTURE.md",
                "there is no SPECIFICATION.md"
            ]
        );
        assert_eq!(findings.complaints, [""; 0]);
    }
}
