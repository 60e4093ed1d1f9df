//! Elements of an instance's tables.

use super::run_text;

/// A program with two tables that exits with 1 where the second cannot grow to `elements`.
fn grow(elements: u32) -> Option<i32> {
    let text = format!(
        "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
           (memory (export \"memory\") 1) (table $first 60 funcref) (table $second 0 funcref)
           (func (export \"_start\")
             (call $exit (i32.eq (i32.const -1) (table.grow $second (ref.null func) (i32.const {elements}))))))"
    );
    run_text(&text, &["--limit", "table_elements=100"]).code
}

#[test]
fn the_sum_of_all_tables_is_bounded() {
    assert_eq!(grow(40), Some(0));
    assert_eq!(grow(41), Some(1));
}
