//! A command: prints the wall clock in seconds since 1970, sleeps `run-clocks MS` milliseconds (20 without an
//! argument) and prints how many milliseconds went by on the monotonic clock.

use std::env;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    println!("wall {}", wall.map_or(0, |since| since.as_secs()));
    let ms = env::args().nth(1).and_then(|ms| ms.parse().ok());
    let start = Instant::now();
    thread::sleep(Duration::from_millis(ms.unwrap_or(20)));
    println!("slept {} ms", start.elapsed().as_millis());
}
