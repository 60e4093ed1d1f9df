//! Shows whether an instance sees what another one left behind in the place that both had.
//!
//! `?write=SECRET` fills the stack, the static memory and two MiB of fresh memory with a pattern: a mark, then the
//! secret, again and again. `?look=1` first counts the bytes of static and fresh memory that are not zero, then the
//! patterns in all of its memory, the unused stack included, and answers `foreign N patterns M`; both are 0 where nothing
//! was left. With both switches it looks at what it wrote itself, which shows that it can see. A table has no bytes to look at: `canary-table-p2` in `wat/` does the same with references.
//!
//! The mark itself is nowhere in this program's own memory as it stands: it is compared byte by byte with its inverse.

use std::arch::wasm32::{memory_grow, memory_size};
use std::hint::black_box;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Canary;

wasip2::http::proxy::export!(Canary);

const PAGE_BYTES: usize = 64 << 10;
/// Fresh memory that is written or looked at.
const FRESH_PAGES: usize = 32;
const STATIC_BYTES: usize = 256 << 10;
/// Levels of recursion, each of which writes one KiB of stack.
const STACK_FRAMES: usize = 256;
/// The mark of every pattern, each bit turned round.
const INVERSE_MARK: [u8; 8] = [0x15, 0x3a, 0xc1, 0x5e, 0x97, 0x08, 0x6b, 0xd2];

/// Zero at the start, like everything without a value of its own.
static mut STATIC: [u8; STATIC_BYTES] = [0; STATIC_BYTES];

impl Guest for Canary {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let secret = http_p2::query(&request, "write");
        if let Some(secret) = &secret {
            write(secret.as_bytes());
        }
        let text = match (secret, http_p2::query(&request, "look")) {
            (Some(_), None) => "written\n".to_string(),
            _ => look(),
        };
        http_p2::answer(out, 200, &text);
    }
}

/// Writes the pattern everywhere.
fn write(secret: &[u8]) {
    let mark: Vec<u8> = INVERSE_MARK.iter().map(|byte| !black_box(*byte)).collect();
    let pattern = [mark.as_slice(), secret].concat();
    let fill = |start: usize, bytes: usize| {
        for at in 0..bytes {
            // SAFETY: the callers name memory that is theirs.
            unsafe { ((start + at) as *mut u8).write_volatile(pattern[at % pattern.len()]) };
        }
    };
    fill(&raw mut STATIC as usize, STATIC_BYTES);
    let first = memory_grow::<0>(FRESH_PAGES);
    if first != usize::MAX {
        fill(first * PAGE_BYTES, FRESH_PAGES * PAGE_BYTES);
    }
    deep(STACK_FRAMES, &fill);
}

/// Fills a KiB of the stack in each of many frames.
fn deep(frames: usize, fill: &dyn Fn(usize, usize)) {
    let mut frame = [0_u8; 1024];
    fill(frame.as_mut_ptr() as usize, frame.len());
    if frames > 0 {
        deep(frames - 1, fill);
    }
    black_box(&frame);
}

/// Counts what should not be there.
fn look() -> String {
    let mut foreign = nonzero(&raw const STATIC as usize, STATIC_BYTES);
    let first = memory_grow::<0>(FRESH_PAGES);
    if first != usize::MAX {
        foreign += nonzero(first * PAGE_BYTES, FRESH_PAGES * PAGE_BYTES);
    }
    let patterns = marks(memory_size::<0>() * PAGE_BYTES);
    format!("foreign {foreign} patterns {patterns}\n")
}

fn nonzero(start: usize, bytes: usize) -> usize {
    (start..start + bytes).filter(|at| byte(*at) != 0).count()
}

/// The marks in the whole memory, from its first byte to `end`.
fn marks(end: usize) -> usize {
    let is_mark = |start: &usize| {
        let mut bytes = INVERSE_MARK.iter().enumerate();
        bytes.all(|(at, inverse)| byte(start + at) ^ black_box(*inverse) == 0xff)
    };
    (1..end - INVERSE_MARK.len()).filter(is_mark).count()
}

fn byte(at: usize) -> u8 {
    // SAFETY: the callers stay below the end of the memory; any byte may be read.
    unsafe { (at as *const u8).read_volatile() }
}
