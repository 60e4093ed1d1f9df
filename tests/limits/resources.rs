//! Host objects that one instance may hold.

use super::run_text;
use crate::harness::command::Outcome;

/// Runs a program that asks the clock for so many timers and keeps them all.
pub(super) fn hold(timers: u32, limits: &[&str]) -> Outcome {
    let text = include_str!("../fixtures/hold-timers.wat").replace("TIMERS", &timers.to_string());
    run_text(&text, limits)
}

/// Runs a preview-1 program that opens a directory so many times and closes none of them.
fn open(files: u32, limits: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = format!("{}::/data:ro", folder.path().display());
    let text = include_str!("../fixtures/hold-files.wat").replace("FILES", &files.to_string());
    run_text(&text, &[&["--dir", &directory], limits].concat())
}

#[test]
fn a_preview_1_program_that_takes_more_traps() {
    let limits = ["--limit", "resources=64"];
    assert_eq!(open(50, &limits).code, Some(0));
    let outcome = open(80, &limits);
    assert_eq!(outcome.code, Some(134), "{}", outcome.stderr);
    assert_eq!(open(80, &[]).code, Some(0));
}

#[test]
fn an_instance_that_takes_more_traps() {
    let limits = ["--limit", "resources=64", "--limit", "handles=100000"];
    assert_eq!(hold(20, &limits).code, Some(0));
    let outcome = hold(80, &limits);
    assert_eq!(outcome.code, Some(134), "{}", outcome.stderr);
    assert_eq!(hold(80, &[]).code, Some(0));
}
