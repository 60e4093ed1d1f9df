//! The project's own chores: `cargo xtask CHORE`.
//!
//! One file per chore. This file only finds the chore and hands it its arguments; a new chore is a module
//! with a `run(&[String]) -> anyhow::Result<()>` and one row in `CHORES`. Read `shell` first: it is how
//! every chore starts a program.

mod backends;
mod bench;
mod debian;
mod demo;
mod deny;
mod guests;
mod interpreters;
mod languages;
mod shell;
mod soak;
mod suite;
mod tidy;
mod wasm_std;

use std::process::ExitCode;

/// One chore: its name, its arguments, what it does, and the function that does it.
struct Chore {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const CHORES: &[Chore] = &[
    Chore {
        name: "bench",
        usage: "http [ARGUMENTS]",
        about: "measure what a small answer costs, beside native hyper; `bench http --help` says how",
        run: |arguments| bench::main(arguments.to_vec()),
    },
    Chore {
        name: "demo",
        usage: "[--check]",
        about: "build Hostel and its example, serve it and say where; --check requests it once and ends",
        run: demo::run,
    },
    Chore {
        name: "guests",
        usage: "",
        about: "build every guest into guests/out, and the examples; sets up the wasm targets first",
        run: guests::run,
    },
    Chore {
        name: "soak",
        usage: "[--row NAME] [ARGUMENTS]",
        about: "attack the release binary at full size and judge what it did; `soak --help` says how",
        run: soak::run,
    },
    Chore {
        name: "test",
        usage: "[NAME] [--all] [--only STEP]",
        about: "set up what the tests need and run them; NAME: only those that match it; --all: with guests in other languages",
        run: suite::run,
    },
    Chore {
        name: "tidy",
        usage: "",
        about: "check the promises of ARCHITECTURE.md and SPECIFICATION.md that a program can check",
        run: tidy::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", help());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(chore) = CHORES.iter().find(|chore| chore.name == name) else {
        eprint!("xtask: there is no chore `{name}`\n\n{}", help());
        return ExitCode::from(2);
    };
    match (chore.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The list of chores as `cargo xtask help` prints it.
fn help() -> String {
    let mut text = "usage: cargo xtask CHORE [ARGUMENTS]\n\n".to_string();
    for chore in CHORES {
        let call = format!("{} {}", chore.name, chore.usage);
        text.push_str(&format!("  {call:<32}{}\n", chore.about));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_chore() {
        for chore in CHORES {
            assert!(help().contains(chore.name) && help().contains(chore.about));
        }
    }

    #[test]
    fn chores_are_sorted_and_named_once() {
        let names: Vec<&str> = CHORES.iter().map(|chore| chore.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
