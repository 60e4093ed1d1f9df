//! Answers with a value of `wasi:config`: `key=NAME` one of them, `all=1` all of them, `draft=1` through the older draft.
//! `env=NAME` is a variable of its environment, `args=1` its arguments. In front of each answer stands how many this instance
//! has given.

use std::sync::atomic::{AtomicU32, Ordering};

use query::value;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

mod candidate {
    wit_bindgen::generate!({ path: "../../wit/config", world: "wasi:config/imports" });
}

mod draft {
    wit_bindgen::generate!({ path: "../../wit/config-draft", world: "wasi:config/imports" });
}

static ANSWERS: AtomicU32 = AtomicU32::new(0);

struct Config;

wasip2::http::proxy::export!(Config);

impl Guest for Config {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let number = ANSWERS.fetch_add(1, Ordering::Relaxed) + 1;
        http_p2::answer(out, 200, &format!("{number}: {}\n", answer(&path)));
    }
}

fn answer(path: &str) -> String {
    if let Some(name) = value(path, "env") {
        return std::env::var(name).unwrap_or_else(|_| "none".to_owned());
    }
    if value(path, "args").is_some() {
        return std::env::args().collect::<Vec<_>>().join(" ");
    }
    let draft = value(path, "draft").is_some();
    if value(path, "all").is_some() {
        let all = match draft {
            true => draft::wasi::config::store::get_all().map_err(|error| format!("{error:?}")),
            false => {
                candidate::wasi::config::store::get_all().map_err(|error| format!("{error:?}"))
            }
        };
        return match all {
            Ok(pairs) => pairs
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error,
        };
    }
    let key = value(path, "key").unwrap_or_default();
    let found = match draft {
        true => draft::wasi::config::store::get(&key).map_err(|error| format!("{error:?}")),
        false => candidate::wasi::config::store::get(&key).map_err(|error| format!("{error:?}")),
    };
    match found {
        Ok(Some(value)) => format!("<{value}>"),
        Ok(None) => "none".to_owned(),
        Err(error) => error,
    }
}
