//! Stack of one running guest.

use super::run_text;

/// Runs a program that calls itself so deep, with a frame that the compiler cannot make small.
fn recurse(depth: u32) -> crate::harness::command::Outcome {
    run_text(
        &format!(
            "(module (memory (export \"memory\") 1)
               (func $down (param i32) (result i32)
                 (if (result i32) (local.get 0)
                   (then (i32.add (local.get 0) (call $down (i32.sub (local.get 0) (i32.const 1)))))
                   (else (i32.const 0))))
               (func (export \"_start\") (drop (call $down (i32.const {depth})))))"
        ),
        &[],
    )
}

#[test]
fn deep_recursion_is_a_trap_and_not_the_end_of_the_process() {
    assert_eq!(recurse(1000).code, Some(0));
    let outcome = recurse(100_000_000);
    assert_eq!(outcome.code, Some(134), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("call stack exhausted"),
        "{}",
        outcome.stderr
    );
}
