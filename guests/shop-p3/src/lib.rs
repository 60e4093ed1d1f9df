//! The same as `shop-p2` in WASI 0.3, as far as it asks for one price: `?item=NAME`, or whatever else, `?act=WHAT`.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response};

wit_bindgen::generate!({ path: "../pricing-p2/wit", world: "shop" });

use self::shop::pricing::api;

struct Shop;

wasip3::http::service::export!(Shop);

impl Guest for Shop {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let text = match http_p3::query(&request, "act") {
            Some(what) => api::act(&what),
            None => {
                let item = http_p3::query(&request, "item").unwrap_or_default();
                match api::price(&item) {
                    Ok(price) => price.to_string(),
                    Err(refusal) => refusal.text,
                }
            }
        };
        Ok(http_p3::answer(200, text + "\n"))
    }
}
