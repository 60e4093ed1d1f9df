//! Writes one message to the log through `wasi:logging`: `level`, `context`, `message`; as many `times` as asked, or one of so
//! many `bytes`.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({ path: "../../wit/logging", world: "imports", generate_all });

use self::wasi::logging::logging::{Level, log};

struct Logging;

wasip2::http::proxy::export!(Logging);

impl Guest for Logging {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let text = |key| http_p2::query(&request, key).unwrap_or_default();
        let number = |key, default| http_p2::number(&request, key, default);
        let level = match text("level").as_str() {
            "trace" => Level::Trace,
            "debug" => Level::Debug,
            "warn" => Level::Warn,
            "error" => Level::Error,
            "critical" => Level::Critical,
            _ => Level::Info,
        };
        let message = match number("bytes", 0) as usize {
            0 => text("message"),
            bytes => "x".repeat(bytes),
        };
        for _ in 0..number("times", 1) {
            log(level, &text("context"), &message);
        }
        http_p2::answer(out, 200, "logged\n");
    }
}
