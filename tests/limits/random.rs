//! Random bytes of one call.

use super::run_text;
use crate::harness::command::Outcome;

/// Runs a program that asks for so many random bytes at once.
fn ask(bytes: u32, limits: &[&str]) -> Outcome {
    let text = include_str!("../fixtures/ask-random.wat").replace("BYTES", &bytes.to_string());
    run_text(&text, limits)
}

#[test]
fn a_call_that_asks_for_more_traps() {
    let limits = ["--limit", "random=1KiB"];
    assert_eq!(ask(1024, &limits).code, Some(0));
    let outcome = ask(1025, &limits);
    assert_eq!(outcome.code, Some(134), "{}", outcome.stderr);
    assert_eq!(ask(1025, &[]).code, Some(0));
}
