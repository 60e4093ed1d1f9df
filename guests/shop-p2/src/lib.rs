//! A server that asks `shop:pricing/api`: `?item=NAME` a price, `?act=WHAT` whatever else, `?asked=1` how often, `?total=1` a
//! list of records there and back. `?times=N` asks for the price N times and tells how long that took, in nanoseconds by the
//! monotonic clock.

use wasip2::clocks::monotonic_clock::now;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({ path: "../pricing-p2/wit", world: "shop" });

use self::shop::pricing::api::{self, Line, Reason};

struct Shop;

wasip2::http::proxy::export!(Shop);

impl Guest for Shop {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let query = |key: &str| http_p2::query(&request, key);
        let text = match (query("act"), query("asked"), query("total"), query("times")) {
            (Some(what), ..) => api::act(&what),
            (_, Some(_), ..) => format!("{}, {}", api::asked(), api::asked()),
            (_, _, Some(_), _) => total(),
            (.., Some(times)) => measured(times.parse().unwrap_or(1)).to_string(),
            _ => price(&query("item").unwrap_or_default()),
        };
        http_p2::answer(out, 200, &format!("{text}\n"));
    }
}

fn price(item: &str) -> String {
    match api::price(item) {
        Ok(price) => price.to_string(),
        Err(refusal) => {
            let reason = match refusal.reason {
                Reason::Unknown => "unknown",
                Reason::SoldOut => "sold out",
            };
            format!("{reason}: {}", refusal.text)
        }
    }
}

fn total() -> String {
    let line = |item: &str, count, gift: Option<&str>| Line {
        item: item.to_string(),
        count,
        gift: gift.map(str::to_string),
        tags: vec!["a".to_string(); count as usize],
    };
    let (total, lines) = api::total(&[line("tea", 2, None), line("mug", 1, Some("Ada"))]);
    let shown = |line: &Line| {
        let gift = line.gift.as_deref().unwrap_or("nobody");
        format!(
            "{} x {} for {gift}, {} tags",
            line.count,
            line.item,
            line.tags.len()
        )
    };
    let lines: Vec<String> = lines.iter().map(shown).collect();
    format!("{total}: {}", lines.join("; "))
}

fn measured(times: u64) -> u64 {
    let begin = now();
    for _ in 0..times {
        assert_eq!(api::price("tea").ok(), Some(300));
    }
    now() - begin
}
