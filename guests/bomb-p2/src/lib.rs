//! Uses as much of one thing as the host lets it. `?what=` says of which:
//!
//! - `memory`: grows its memory until refused and touches each page; `fill`: the same memory in one cold `memory.fill`
//! - `stack`: calls itself without end; `trap`: traps at once; `loop`: never ends
//! - `resources`: makes header lists and keeps them, `streams`: output streams, `pollables`: timers; `&count=` of them
//! - `fields`: keeps `&count=` header lists of some 60 KiB each, `copies`: copies of one, each changed a little;
//!   `bodies`: responses that are never sent, each with 64 KiB of body
//! - `polls`: waits for one timer, named `&count=` times in one list
//! - `string`: hands over a header value of `&bytes=` bytes (1 GiB) that its memory does not have; with `&real=1` one as
//!   large as its memory
//! - `list`: hands over `&count=` header fields whose values are all the same piece of `&bytes=` bytes of its memory
//! - `headers`: adds `&count=` fields (33,000) to one header list
//! - `random`: `&bytes=` random bytes (4 GiB) in one call; with `&chunk=` in calls of that many
//! - `body`: writes a body of `&bytes=` bytes (4 GiB)
//! - `log`: prints `&bytes=` bytes of short lines (without it: for ever)
//!
//! Whoever is refused says how far it came; the status is 200 then.

use std::hint::black_box;
use std::io::Write;
use std::mem::{ManuallyDrop, forget};

use bomb::{PAGE_BYTES, grow, keep, memory, recurse, spin};
use wasip2::cli::stdout::get_stdout;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::poll::poll;
use wasip2::random::random::get_random_bytes;

struct Bomb;

wasip2::http::proxy::export!(Bomb);

const GIB: u64 = 1 << 30;
/// More than any limit allows.
const MANY: u64 = 1_000_000;

impl Guest for Bomb {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let number = |key, default| http_p2::number(&request, key, default);
        let count = |default| number("count", default);
        let what = http_p2::query(&request, "what").unwrap_or_default();
        let done = match what.as_str() {
            "memory" => memory(),
            "fill" => fill(),
            "stack" => format!("came back with {}", recurse(0)),
            "trap" => std::arch::wasm32::unreachable(),
            "loop" => spin(),
            "resources" => keep(count(MANY), Fields::new),
            "streams" => keep(count(MANY), get_stdout),
            "pollables" => keep(count(MANY), || subscribe_duration(u64::MAX)),
            "fields" => keep(count(MANY), full_list),
            "copies" => copies(count(MANY)),
            "bodies" => keep(count(MANY), unsent),
            "polls" => polls(count(MANY)),
            "string" => string(number("bytes", GIB), number("real", 0) == 1),
            "list" => list(count(10_000), number("bytes", 1 << 20)),
            "headers" => headers(count(33_000)),
            "random" => random(number("bytes", 4 * GIB), number("chunk", 0)),
            "body" => return body(out, number("bytes", 4 * GIB)),
            "log" => log(number("bytes", u64::MAX)),
            _ => return http_p2::answer(out, 400, "say what\n"),
        };
        http_p2::answer(out, 200, &format!("{what}: {done}\n"));
    }
}

/// All memory that is to be had, written by one instruction for each step.
fn fill() -> String {
    let pages = grow(|first, pages| {
        // SAFETY: the pages were added just now, and nothing else knows of them.
        unsafe {
            ((first * PAGE_BYTES) as *mut u8).write_bytes(0xAB, black_box(pages * PAGE_BYTES))
        };
    });
    format!("{} MiB", pages / 16)
}

/// A header list that is as large as one may be, nearly.
fn full_list() -> Fields {
    let fields = Fields::new();
    for number in 0..60 {
        fields
            .append(&format!("x-{number}"), &[b'x'; 1000])
            .expect("within the limit of one list");
    }
    fields
}

/// Copies that share everything until each is written to.
fn copies(count: u64) -> String {
    let original = Fields::new();
    for number in 0..300 {
        original
            .append(&format!("x-{number}"), b"1")
            .expect("within the limit of one list");
    }
    keep(count, || {
        let copy = original.clone();
        copy.append("x-own", b"1").expect("one more field");
        copy
    })
}

/// A response that nobody will get, with the beginning of its body.
fn unsent() -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the first call for the body");
    forget(response);
    let stream = body.write().expect("the first call for the stream");
    if stream.check_write().is_ok_and(|room| room > 0) {
        // What does not fit is none of the attack's business.
        let _ = stream.write(&[b'x'; PAGE_BYTES]);
    }
    forget(stream);
    body
}

/// One timer, many times in one list.
fn polls(count: u64) -> String {
    let timer = subscribe_duration(0);
    let list = vec![&timer; count as usize];
    format!("{} ready", poll(&list).len())
}

/// A piece of memory that begins here and is said to be this long.
///
/// Nothing in the guest looks at it: its place and length go to the host as they are, as an attacker's would.
fn claim<'a>(start: usize, bytes: usize) -> &'a [u8] {
    // SAFETY: none is claimed. The slice is never read on this side.
    unsafe { std::slice::from_raw_parts(black_box(start) as *const u8, black_box(bytes)) }
}

/// A header value that is longer than the memory, or all of it.
fn string(bytes: u64, real: bool) -> String {
    let bytes = match real {
        true => grow(|_, _| ()) * PAGE_BYTES,
        false => bytes as usize,
    };
    let set = Fields::new().append("x-bomb", claim(16, bytes));
    format!("{bytes} bytes: {set:?}")
}

/// Header fields that all share one value: a small list that is huge once it is copied piece by piece.
fn list(count: u64, bytes: u64) -> String {
    let value = vec![b'x'; bytes as usize];
    let entry = || {
        // SAFETY: an alias that is never written, and never freed.
        let alias =
            unsafe { Vec::from_raw_parts(value.as_ptr().cast_mut(), value.len(), value.len()) };
        ("x-bomb".to_string(), alias)
    };
    let entries: ManuallyDrop<Vec<_>> = ManuallyDrop::new((0..count).map(|_| entry()).collect());
    format!(
        "{count} times {bytes} bytes: {:?}",
        Fields::from_list(&entries).map(forget)
    )
}

/// One field after another until one is refused.
fn headers(count: u64) -> String {
    let fields = Fields::new();
    for number in 0..count {
        if let Err(error) = fields.append(&format!("x-{number}"), b"1") {
            return format!("{number} of {count}, then {error:?}");
        }
    }
    format!("{count} fields")
}

/// Random bytes, at once or piece by piece.
fn random(bytes: u64, chunk: u64) -> String {
    let chunk = if chunk == 0 { bytes } else { chunk };
    let mut got = 0;
    while got < bytes {
        got += get_random_bytes(chunk).len() as u64;
    }
    format!("{got} bytes")
}

/// A body of that many bytes, as fast as the host takes it.
fn body(out: ResponseOutparam, bytes: u64) {
    let body = http_p2::head(out, 200, &[("content-type", "text/plain")]);
    let mut stream = body.write().expect("the first call for the stream");
    let chunk = vec![b'x'; PAGE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(chunk.len() as u64);
        if stream.write_all(&chunk[..length as usize]).is_err() {
            return;
        }
        left -= length;
    }
    drop(stream);
    http_p2::end(body, None);
}

/// Short lines to both outputs.
fn log(bytes: u64) -> String {
    let line =
        b"all work and no play makes this guest a flood of lines, each of which is much the same\n";
    let mut printed = 0;
    while printed < bytes {
        // An output that is closed is no fault.
        let _ = std::io::stdout().write_all(line);
        let _ = std::io::stderr().write_all(line);
        printed += 2 * line.len() as u64;
    }
    format!("{printed} bytes")
}
