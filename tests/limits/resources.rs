//! Host objects that one instance may hold.

use super::run_text;
use crate::harness::command::Outcome;

/// Runs a program that asks the clock for so many timers and keeps them all.
pub(super) fn hold(timers: u32, limits: &[&str]) -> Outcome {
    let text = include_str!("../fixtures/hold-timers.wat").replace("TIMERS", &timers.to_string());
    run_text(&text, limits)
}

#[test]
fn an_instance_that_takes_more_traps() {
    let limits = ["--limit", "resources=64", "--limit", "handles=100000"];
    assert_eq!(hold(20, &limits).code, Some(0));
    let outcome = hold(80, &limits);
    assert_eq!(outcome.code, Some(134), "{}", outcome.stderr);
    assert_eq!(hold(80, &[]).code, Some(0));
}
