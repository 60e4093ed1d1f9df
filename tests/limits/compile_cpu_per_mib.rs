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
    let small = bombs::nested_blocks(100_000);
    let told = compiled(&small, caps).expect_err("it takes seconds");
    assert!(
        told.contains("the limit `compile_cpu_per_mib` is 1s"),
        "{told}"
    );
    // A custom section costs nothing to compile and makes the same guest five MiB large.
    let large = [bombs::calls(1_000), bombs::padding(5 << 20)].concat();
    assert_eq!(compiled(&large, caps), Ok(()));
    let large = [small, bombs::padding(2 << 20)].concat();
    let told = compiled(&large, caps).expect_err("it takes more seconds than three");
    assert!(
        told.contains("the limit `compile_cpu_per_mib` is 3s"),
        "{told}"
    );
}
