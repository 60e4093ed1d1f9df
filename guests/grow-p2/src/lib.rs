//! Asks for `?mib=N` MiB more linear memory (2048 without it) with one `memory.grow`, and says whether it
//! got them. `?touch=1` then writes one byte to each page, so that the memory is really there.

use std::arch::wasm32::memory_grow;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Grow;

wasip2::http::proxy::export!(Grow);

const PAGE_BYTES: usize = 64 << 10;
const PAGES_PER_MIB: usize = 16;

impl Guest for Grow {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let mib = http_p2::number(&request, "mib", 2048) as usize;
        let pages = mib.saturating_mul(PAGES_PER_MIB);
        let old = memory_grow::<0>(pages);
        if old == usize::MAX {
            return http_p2::answer(out, 200, &format!("refused {mib} MiB\n"));
        }
        if http_p2::number(&request, "touch", 0) == 1 {
            touch(old, pages);
        }
        http_p2::answer(out, 200, &format!("got {mib} MiB\n"));
    }
}

/// Writes one byte to each of `pages` pages behind the page `first`.
fn touch(first: usize, pages: usize) {
    for page in first..first + pages {
        // SAFETY: these pages were added to this memory just now, and nothing else knows of them.
        unsafe { ((page * PAGE_BYTES) as *mut u8).write_volatile(1) };
    }
}
