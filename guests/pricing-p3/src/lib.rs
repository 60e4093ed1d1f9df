//! Exports `shop:pricing/api` as `pricing-p2` does, from a component that imports WASI 0.3. `act` knows `trap` only.

use wasip3::clocks::monotonic_clock;

wit_bindgen::generate!({ path: "../pricing-p2/wit", world: "pricing" });

use exports::shop::pricing::api::{Guest, Line, Refusal};

struct Pricing;

export!(Pricing);

impl Guest for Pricing {
    fn price(item: String) -> Result<u64, Refusal> {
        Ok(100 * item.len() as u64)
    }

    fn total(lines: Vec<Line>) -> (u64, Vec<Line>) {
        (0, lines)
    }

    fn asked() -> u64 {
        monotonic_clock::now()
    }

    fn act(what: String) -> String {
        match what.as_str() {
            "trap" => panic!("as it was told"),
            _ => format!("cannot {what}, at {}", monotonic_clock::now()),
        }
    }
}
