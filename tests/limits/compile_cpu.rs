//! CPU time of one compilation, whatever its size.

use std::time::Duration;

use hostel_host::CompileCaps;

use super::compiled;
use crate::harness::bombs;

#[test]
fn no_size_allows_more_cpu_time_than_that() {
    let caps = CompileCaps {
        cpu: Duration::from_secs(1),
        ..CompileCaps::default()
    };
    let told = compiled(&bombs::nested_blocks(200_000), caps).expect_err("it takes seconds");
    assert!(told.contains("the limit `compile_cpu` is 1s"), "{told}");
    assert_eq!(compiled(&bombs::calls(1_000), caps), Ok(()));
}
