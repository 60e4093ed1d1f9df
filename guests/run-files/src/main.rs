//! A command: `run-files IN OUT` prints the file IN and writes its text, in capital letters, to the file OUT.
//! Whatever fails is printed with its kind, and the exit code is 1.

use std::env;
use std::fs;
use std::io::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: run-files IN OUT");
        return ExitCode::from(2);
    };
    let fail = |what: &str, path: &str, error: Error| {
        eprintln!("cannot {what} {path}: {:?}: {error}", error.kind());
        ExitCode::FAILURE
    };
    let text = match fs::read_to_string(&from) {
        Ok(text) => text,
        Err(error) => return fail("read", &from, error),
    };
    print!("{text}");
    match fs::write(&to, text.to_uppercase()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("write", &to, error),
    }
}
