//! A program of WASI 0.3 that answers requests as CGI has it: its arguments and its environment, a line each; with `do=raw` what
//! came on standard input is its standard output, head and all. `end=err` returns the error, `end=trap` traps, `end=N` exits.

use wasip3::cli::{environment, exit, stdin, stdout};
use wasip3::exports::cli::run::Guest;
use wasip3::{spawn_local, wit_stream};

struct Cgi;

wasip3::cli::command::export!(Cgi);

impl Guest for Cgi {
    async fn run() -> Result<(), ()> {
        match asked("do").as_deref() {
            Some("raw") => {
                let (bytes, _ended) = stdin::read_via_stream();
                let _ = stdout::write_via_stream(bytes).await;
            }
            _ => print(list()).await,
        }
        match asked("end").as_deref() {
            None => Ok(()),
            Some("err") => Err(()),
            Some("trap") => core::arch::wasm32::unreachable(),
            Some(code) => {
                exit::exit_with_code(code.parse().unwrap_or(1));
                Ok(())
            }
        }
    }
}

/// A switch of the query.
fn asked(key: &str) -> Option<String> {
    let variables = environment::get_environment();
    let mut variables = variables.into_iter();
    let (_, query) = variables.find(|(name, _)| name == "QUERY_STRING")?;
    query::value(&format!("?{query}"), key)
}

fn list() -> String {
    let mut text = String::from("Content-Type: text/plain\n\n");
    for (place, argument) in environment::get_arguments().iter().enumerate() {
        text.push_str(&format!("arg {place}: {argument}\n"));
    }
    let mut variables = environment::get_environment();
    variables.sort();
    for (name, value) in variables {
        text.push_str(&format!("{name} = {value}\n"));
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
    let _ = written.await;
}
