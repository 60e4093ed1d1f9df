//! Answers with the arguments and the environment that it was given, a line each, the environment sorted.

use std::fmt::Write;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Env;

wasip2::http::proxy::export!(Env);

impl Guest for Env {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let mut text = String::new();
        for (place, argument) in std::env::args().enumerate() {
            writeln!(text, "arg {place}: {argument}").expect("a string takes every line");
        }
        let mut variables: Vec<(String, String)> = std::env::vars().collect();
        variables.sort();
        for (name, value) in variables {
            writeln!(text, "env {name}={value}").expect("a string takes every line");
        }
        http_p2::answer(out, 200, &text);
    }
}
