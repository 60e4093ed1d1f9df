//! `hostel completions SHELL`.

use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Failure;
use crate::output;

/// The flags of `hostel completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell to write for.
    shell: Shell,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    let mut shown = shown(&Cli::command());
    clap_complete::generate(args.shell, &mut shown, "hostel", &mut script);
    output::to_stdout(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// The command line without what processes of Hostel say to each other: completion would offer hidden flags, too.
fn shown(command: &Command) -> Command {
    let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
    let commands = command.get_subcommands().filter(|it| !it.is_hide_set());
    // clap wants names that live as long as the program, which ends after this.
    let name: &str = command.get_name().to_owned().leak();
    let copy = Command::new(name)
        .about(command.get_about().cloned().unwrap_or_default())
        .args(flags.cloned())
        .subcommands(commands.map(shown));
    if command.is_propagate_version_set() {
        copy.version(env!("CARGO_PKG_VERSION"))
            .propagate_version(true)
    } else {
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_not_offered_and_all_else_is() {
        let whole = Cli::command();
        let copy = shown(&whole);
        for command in whole.get_subcommands() {
            let copied = copy.find_subcommand(command.get_name());
            assert_eq!(copied.is_some(), !command.is_hide_set(), "{command}");
            let Some(copied) = copied else { continue };
            for flag in command.get_arguments() {
                let offered = copied
                    .get_arguments()
                    .any(|it| it.get_id() == flag.get_id());
                assert_eq!(offered, !flag.is_hide_set(), "{flag}");
            }
        }
        let up = copy.find_subcommand("up").expect("a command");
        let has = |name: &str| up.get_arguments().any(|it| it.get_long() == Some(name));
        assert!(has("supervise") && !has("supervised"));
    }
}
