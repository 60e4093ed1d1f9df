//! A command: prints its arguments and its environment, a line each, then exits with the code that
//! the first argument names (0 without one; `trap` traps instead).

use std::env;
use std::process::{self, ExitCode};

fn main() -> ExitCode {
    for (place, argument) in env::args().enumerate() {
        println!("arg {place}: {argument}");
    }
    let mut variables: Vec<(String, String)> = env::vars().collect();
    variables.sort();
    for (name, value) in variables {
        println!("env {name}={value}");
    }
    match env::args().nth(1).as_deref() {
        None => ExitCode::SUCCESS,
        Some("trap") => process::abort(),
        Some(code) => ExitCode::from(code.parse().unwrap_or(u8::MAX)),
    }
}
