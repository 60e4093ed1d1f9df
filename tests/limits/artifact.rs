//! A guest with more machine code than it may have.

use hostel_host::CompileCaps;

use super::compiled;
use crate::harness::bombs;

#[test]
fn more_machine_code_than_that_is_refused() {
    let caps = CompileCaps {
        artifact_bytes: 1 << 20,
        ..CompileCaps::default()
    };
    let told = compiled(&bombs::calls(300_000), caps).expect_err("3 MiB of code");
    assert!(told.contains("the limit `artifact` is 1MiB"), "{told}");
    assert_eq!(compiled(&bombs::calls(1_000), caps), Ok(()));
}
