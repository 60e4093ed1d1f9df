//! Handles that the component model keeps for one instance.

use super::resources::hold;

#[test]
fn an_instance_that_takes_more_traps() {
    let limits = ["--limit", "handles=64", "--limit", "resources=100000"];
    assert_eq!(hold(50, &limits).code, Some(0));
    let outcome = hold(80, &limits);
    assert_eq!(outcome.code, Some(134), "{}", outcome.stderr);
    assert_eq!(hold(80, &[]).code, Some(0));
}
