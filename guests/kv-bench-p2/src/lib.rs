//! Writes one key of the store `default`, reads it `times` times and tells how long the reading took, in nanoseconds by the
//! monotonic clock. `bytes` is the size of the value. `empty=1` calls the clock as often instead: what a call into the host
//! costs by itself.

use wasip2::clocks::monotonic_clock::now;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({ path: "../../wit/keyvalue", world: "imports", generate_all });

use self::wasi::keyvalue::store::{Error, open};

struct Bench;

wasip2::http::proxy::export!(Bench);

impl Guest for Bench {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let number = |key, default| http_p2::number(&request, key, default);
        let (times, bytes) = (number("times", 1000), number("bytes", 100));
        let taken = match number("empty", 0) {
            0 => reads(times, bytes as usize),
            _ => Ok(calls(times)),
        };
        match taken {
            Ok(nanoseconds) => http_p2::answer(out, 200, &format!("{nanoseconds}\n")),
            Err(error) => http_p2::answer(out, 500, &format!("{error:?}\n")),
        }
    }
}

fn reads(times: u64, bytes: usize) -> Result<u64, Error> {
    let bucket = open("default")?;
    bucket.set("bench", &vec![7; bytes])?;
    let begin = now();
    for _ in 0..times {
        let value = bucket.get("bench")?;
        assert_eq!(value.map(|value| value.len()), Some(bytes));
    }
    Ok(now() - begin)
}

fn calls(times: u64) -> u64 {
    let begin = now();
    for _ in 0..times {
        now();
    }
    now() - begin
}
