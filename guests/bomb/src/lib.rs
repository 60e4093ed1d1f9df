//! What the hostile guests do without WASI, and so in the same way for each version of it.

use std::arch::wasm32::memory_grow;
use std::hint::black_box;
use std::mem::forget;

/// Bytes of a page of linear memory.
pub const PAGE_BYTES: usize = 64 << 10;

/// Grows by ever smaller steps until not even one page is given, and touches every page.
pub fn memory() -> String {
    let pages = grow(|first, pages| {
        for page in first..first + pages {
            // SAFETY: the page was added just now, and nothing else knows of it.
            unsafe { ((page * PAGE_BYTES) as *mut u8).write_volatile(1) };
        }
    });
    format!("{} MiB", pages / 16)
}

/// Grows until refused and returns the number of pages; each step is shown to `with` as its first page and its pages.
pub fn grow(mut with: impl FnMut(usize, usize)) -> usize {
    let (mut step, mut total) = (1 << 14, 0);
    while step > 0 {
        let first = memory_grow::<0>(step);
        if first == usize::MAX {
            step /= 2;
            continue;
        }
        with(first, step);
        total += step;
    }
    total
}

/// Calls itself with a frame that no compiler removes.
#[expect(unconditional_recursion, reason = "that is the attack")]
pub fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1))) + 1
}

/// Never ends.
pub fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Makes that many and gives none back.
pub fn keep<T>(count: u64, make: impl Fn() -> T) -> String {
    for _ in 0..count {
        forget(make());
    }
    format!("{count} kept")
}
