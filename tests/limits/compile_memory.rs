//! Memory of one compilation.

use hostel_host::CompileCaps;

use super::compiled;
use crate::harness::bombs;

#[test]
fn a_guest_that_takes_more_memory_to_compile_is_refused() {
    let caps = CompileCaps {
        memory_bytes: 64 << 20,
        ..CompileCaps::default()
    };
    let told = compiled(&bombs::calls(300_000), caps).expect_err("some 400 MiB");
    assert!(
        told.contains("the limit `compile_memory` is 64MiB"),
        "{told}"
    );
    assert_eq!(compiled(&bombs::calls(1_000), caps), Ok(()));
}
