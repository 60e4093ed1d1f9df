//! Exports `shop:pricing/api` (in `wit`), for components that import it: no server and no command. What `act` does is for
//! the tests that look at whose grants, limits and log count.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasip2::http::types::ErrorCode;

wit_bindgen::generate!({ path: "wit", world: "pricing" });

use exports::shop::pricing::api::{Guest, Line, Reason, Refusal};

struct Pricing;

export!(Pricing);

static ASKED: AtomicU64 = AtomicU64::new(0);

impl Guest for Pricing {
    fn price(item: String) -> Result<u64, Refusal> {
        ASKED.fetch_add(1, Ordering::Relaxed);
        let refusal = |reason| Refusal {
            reason,
            text: format!("no {item}"),
        };
        match item.as_str() {
            "unicorn" => Err(refusal(Reason::SoldOut)),
            "" => Err(refusal(Reason::Unknown)),
            item => Ok(100 * item.len() as u64),
        }
    }

    fn total(lines: Vec<Line>) -> (u64, Vec<Line>) {
        let price = |line: &Line| 100 * line.item.len() as u64 * u64::from(line.count);
        (lines.iter().map(price).sum(), lines)
    }

    fn asked() -> u64 {
        ASKED.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn act(what: String) -> String {
        let (verb, value) = what.split_once(':').unwrap_or((&what, ""));
        let number = || value.parse::<u64>().unwrap_or_default();
        match verb {
            "trap" => panic!("as it was told"),
            "loop" => loop {
                black_box(number());
            },
            "sleep" => std::thread::sleep(Duration::from_millis(number())),
            "grow" => {
                let memory = vec![1_u8; number() as usize * (1 << 20)];
                return format!("{} bytes", black_box(memory).len());
            }
            "env" => return std::env::var(value).unwrap_or("none".to_string()),
            "get" => return status(value).unwrap_or_else(|error| format!("{error:?}")),
            "print" => println!("{value}"),
            _ => return format!("cannot {verb}"),
        }
        "done".to_string()
    }
}

/// The status of the answer to a GET.
fn status(url: &str) -> Result<String, ErrorCode> {
    Ok(http_p2::get(url)?.status().to_string())
}
