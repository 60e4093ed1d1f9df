//! A WASI 0.3 command: prints its arguments and its environment, a line each, then exits with the code
//! that the first argument names (0 without one; `trap` traps instead, `err` returns the error result).

use std::fmt::Write;

use wasip3::cli::{environment, exit, stdout};
use wasip3::exports::cli::run::Guest;
use wasip3::{spawn_local, wit_stream};

struct Exit;

wasip3::cli::command::export!(Exit);

impl Guest for Exit {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        print(list(&arguments)).await;
        match arguments.get(1).map(String::as_str) {
            None => Ok(()),
            Some("err") => Err(()),
            Some("trap") => core::arch::wasm32::unreachable(),
            Some(code) => {
                exit::exit_with_code(code.parse().unwrap_or(u8::MAX));
                Ok(())
            }
        }
    }
}

/// Arguments and environment, a line each.
fn list(arguments: &[String]) -> String {
    let mut text = String::new();
    for (place, argument) in arguments.iter().enumerate() {
        writeln!(text, "arg {place}: {argument}").expect("a string takes every line");
    }
    let mut variables = environment::get_environment();
    variables.sort();
    for (name, value) in variables {
        writeln!(text, "env {name}={value}").expect("a string takes every line");
    }
    text
}

/// Writes to standard output and waits until the host has taken it.
async fn print(text: String) {
    let (mut writer, reader) = wit_stream::new();
    let written = stdout::write_via_stream(reader);
    spawn_local(async move {
        writer.write_all(text.into_bytes()).await;
    });
    // An output that is closed is no reason to fail: the exit code is what this guest is about.
    let _ = written.await;
}
