//! Wall clock of one compilation.

use std::time::Duration;

use hostel_host::CompileCaps;

use super::compiled;
use crate::harness::bombs;

#[test]
fn a_compilation_that_is_not_done_in_time_is_given_up() {
    let bomb = bombs::nested_blocks(200_000);
    let caps = CompileCaps {
        time: Duration::from_millis(300),
        ..CompileCaps::default()
    };
    let told = compiled(&bomb, caps).expect_err("it takes seconds");
    assert!(told.contains("the limit `compile_time` is 300ms"), "{told}");
    assert_eq!(
        compiled(&bombs::calls(1), CompileCaps::default()),
        Ok(()),
        "and the next one compiles"
    );
}
