//! `hostel compile-guest`, which is not for people: the other commands start it to compile a guest within bounds.
//!
//! What its words mean is between the two sides of `hostel_host`.

use std::process::ExitCode;

/// Its name.
pub(crate) const COMMAND: &str = "compile-guest";

/// What the host room says to its child.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(hide = true)]
    words: Vec<String>,
}

pub(crate) fn main(args: &Args) -> ExitCode {
    ExitCode::from(hostel_host::compile_guest(&args.words))
}
