//! Uses as much of one thing as the host lets it, as `bomb-p2` does, and of what only WASI 0.3 has. `?what=` says of
//! which:
//!
//! - `streams`, `futures`: makes pairs and keeps both ends; `waitables`: makes waitable sets; `resources`: header lists;
//!   `&count=` of them
//! - `fields`: keeps `&count=` header lists of some 60 KiB each
//! - `subtasks`: starts `&count=` waits of the host's that never end, and looks at none again; with `&for=MS` each of
//!   that many milliseconds
//! - `string`: hands over a header value of `&bytes=` bytes (1 GiB) that its memory does not have
//! - `memory`: grows its memory until refused and touches each page
//! - `random`: `&bytes=` random bytes (4 GiB) in one call
//! - `body`: writes a body of `&bytes=` bytes (4 GiB)
//! - `trap`: traps at once; `stack`: calls itself without end; `loop`: never ends
//!
//! Whoever is refused says how far it came; the status is 200 then.

use std::future::Future;
use std::hint::black_box;
use std::mem::forget;
use std::pin::pin;
use std::task::Poll;

use bomb::{PAGE_BYTES, keep, memory, recurse, spin};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Trailers};
use wasip3::random::random::get_random_bytes;
use wasip3::{spawn_local, wit_future, wit_stream};

struct Bomb;

wasip3::http::service::export!(Bomb);

const GIB: u64 = 1 << 30;
/// More than any limit allows.
const MANY: u64 = 1_000_000;
/// Longer than any call lives.
const FOREVER_MS: u64 = 24 * 3_600_000;

#[link(wasm_import_module = "$root")]
unsafe extern "C" {
    #[link_name = "[waitable-set-new]"]
    fn waitable_set_new() -> u32;
}

impl Guest for Bomb {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let number = |key, default| http_p3::number(&request, key, default);
        let count = number("count", MANY);
        let what = http_p3::query(&request, "what").unwrap_or_default();
        let done = match what.as_str() {
            "streams" => keep(count, wit_stream::new::<u8>),
            "futures" => keep(count, || {
                wit_future::new::<Result<Option<Trailers>, ErrorCode>>(|| Ok(None))
            }),
            // SAFETY: a built-in of the component model without arguments.
            "waitables" => keep(count, || unsafe { waitable_set_new() }),
            "resources" => keep(count, Fields::new),
            "fields" => keep(count, full_list),
            "subtasks" => subtasks(count, number("for", FOREVER_MS)).await,
            "string" => string(number("bytes", GIB)),
            "memory" => memory(),
            "random" => format!("{} bytes", get_random_bytes(number("bytes", 4 * GIB)).len()),
            "body" => return Ok(body(number("bytes", 4 * GIB))),
            "trap" => std::arch::wasm32::unreachable(),
            "stack" => format!("came back with {}", recurse(0)),
            "loop" => spin(),
            _ => return Ok(http_p3::answer(400, "say what\n")),
        };
        Ok(http_p3::answer(200, format!("{what}: {done}\n")))
    }
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

/// Starts that many calls of the host that are not over at once.
async fn subtasks(count: u64, ms: u64) -> String {
    for _ in 0..count {
        let mut wait = Box::pin(wait_for(ms * 1_000_000));
        std::future::poll_fn(|cx| {
            let _ = pin!(&mut wait).poll(cx);
            Poll::Ready(())
        })
        .await;
        forget(wait);
    }
    format!("{count} started")
}

/// A header value that begins in the memory and ends far behind it.
fn string(bytes: u64) -> String {
    // SAFETY: none is claimed. Nothing on this side reads the slice: place and length go to the host as they are.
    let value =
        unsafe { std::slice::from_raw_parts(black_box(16_usize) as *const u8, bytes as usize) };
    let set = Fields::new().append("x-bomb", value);
    format!("{bytes} bytes: {set:?}")
}

/// A body of that many bytes, as fast as the host takes it.
fn body(bytes: u64) -> Response {
    let (response, mut body) = http_p3::head(200, &[("content-type", "text/plain")]);
    spawn_local(async move {
        let mut left = bytes;
        while left > 0 {
            let length = left.min(PAGE_BYTES as u64);
            if !body.write_all(vec![b'x'; length as usize]).await.is_empty() {
                return;
            }
            left -= length;
        }
    });
    response
}
