//! CPU time of one compilation, by the size of the functions.

use std::time::Duration;

use hostel_host::CompileCaps;

use super::compiled;
use crate::harness::bombs;

#[test]
fn a_small_guest_has_little_cpu_time_and_a_larger_one_more() {
    let caps = CompileCaps {
        cpu_per_mib: Duration::from_secs(1),
        ..CompileCaps::default()
    };
    let small = bombs::nested_blocks(200_000);
    let told = compiled(&small, caps).expect_err("it takes seconds");
    assert!(
        told.contains("the limit `compile_cpu_per_mib` is 1s"),
        "{told}"
    );
    // Data that nobody compiles buys no time.
    let padded = [small, bombs::padding(5 << 20)].concat();
    let told = compiled(&padded, caps).expect_err("it takes seconds");
    assert!(
        told.contains("the limit `compile_cpu_per_mib` is 1s"),
        "{told}"
    );
    // Three MiB of functions do.
    let larger = bombs::nested_blocks_beside(6, 200_000);
    let told = compiled(&larger, caps).expect_err("it takes more than four seconds");
    assert!(
        told.contains("the limit `compile_cpu_per_mib` is 4s"),
        "{told}"
    );
    assert_eq!(compiled(&bombs::calls(1_000), caps), Ok(()));
}
