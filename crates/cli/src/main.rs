//! The binary `hostel`: from arguments to calls into the other rooms, and from their results to text, JSON and exit codes.
//!
//! No logic lives here: what runs is decided in `hostel_app`, how it runs in `hostel_host`, when in `hostel_server`.
//! Read in this order: [`args`] (the command line as a whole and the flags that commands share), one file per command,
//! [`output`] (everything that is printed), [`failure`] (everything that can go wrong, and its exit code),
//! [`runtime`] (where compiled code is kept), [`supervise`] (the processes of `--supervise`), [`watch`] (what `--watch` does).

mod args;
mod backends;
mod build;
mod call;
mod check;
mod compile_guest;
mod completions;
mod compose;
mod env_file;
mod failure;
mod inspect;
mod output;
mod run;
mod runtime;
mod supervise;
mod up;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.command.format();
    let outcome = match &cli.command {
        Command::Up(args) => up::main(args),
        Command::Run(args) => run::main(args),
        Command::Call(args) => call::main(args),
        Command::Inspect(args) => inspect::main(args),
        Command::Check(args) => check::main(args),
        Command::Build(args) => build::main(args),
        Command::Compose(args) => compose::main(args),
        Command::Completions(args) => completions::main(args),
        Command::CompileGuest(args) => Ok(compile_guest::main(args)),
    };
    outcome.unwrap_or_else(|failure| {
        output::failure(format, &failure);
        failure.exit_code()
    })
}
