//! `cargo xtask test`: everything that must hold before a change is merged, in one command.
//!
//! The steps run in the order of `STEPS`, all of them even after a failure, and what they need is set up on
//! the way. The Rust tests come last, so that the output ends with the test runner's own summary, followed
//! by one line that sums it up: `N passed, N failed`. A step that this machine cannot do is `SKIPPED`,
//! never silently passed over.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::{backends, deny, guests, shell, tidy};

/// One check. It returns what it had to leave out, and why.
struct Step {
    name: &'static str,
    run: fn() -> Result<Option<String>>,
}

const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        run: fmt,
    },
    Step {
        name: "tidy",
        run: || tidy::run(&[]).map(|()| None),
    },
    Step {
        name: "clippy",
        run: clippy,
    },
    Step {
        name: "deny",
        run: deny::check,
    },
    Step {
        name: "guests",
        run: || guests::run(&[]).map(|()| None),
    },
    Step {
        name: "backends",
        run: || backends::ensure().map(|()| None),
    },
];
/// The step that runs the Rust tests; always the last.
const CARGO: &str = "cargo";

/// What the caller asked for.
#[derive(Debug, Default, PartialEq)]
struct Selection {
    /// Only tests whose path contains this.
    filter: Option<String>,
    /// The steps to run.
    steps: Vec<String>,
}

/// The sum over the test runner's result lines.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    passed: u64,
    failed: u64,
}

/// Runs the steps that the arguments select, or all.
///
/// # Errors
/// Where the arguments are wrong or the tests cannot be started. A step that fails ends the process with
/// exit code 1 once everything has run; which ones is printed before the sum.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let selection = select(arguments)?;
    let mut broken = Vec::new();
    let mut skipped = Vec::new();
    for step in STEPS.iter().filter(|step| selection.includes(step.name)) {
        println!("==> {}", step.name);
        match (step.run)() {
            Ok(None) => {}
            Ok(Some(what)) => skipped.push(what),
            Err(error) => {
                eprintln!("FAILED: {}: {error:#}", step.name);
                broken.push(step.name);
            }
        }
    }
    for what in &skipped {
        println!("SKIPPED: {what}");
    }
    if !broken.is_empty() {
        println!("FAILED: {}", broken.join(", "));
    }
    if selection.includes(CARGO) {
        println!("==> {CARGO}");
        let (sum, succeeded) = cargo_test(selection.filter.as_deref())?;
        println!("{} passed, {} failed", sum.passed, sum.failed);
        if !succeeded || sum.failed > 0 {
            broken.push(CARGO);
        }
    }
    if !broken.is_empty() {
        // All is said; an error returned from here would put a line behind the sum.
        std::process::exit(1);
    }
    Ok(())
}

impl Selection {
    /// Whether a step was asked for.
    fn includes(&self, step: &str) -> bool {
        self.steps.iter().any(|name| name == step)
    }
}

/// Reads the arguments; a filter alone means the tests and what they need.
fn select(arguments: &[String]) -> Result<Selection> {
    let known: Vec<&str> = STEPS.iter().map(|step| step.name).chain([CARGO]).collect();
    let mut selection = Selection::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--only" {
            let list = rest.next().context("--only needs a list of steps")?;
            selection.steps.extend(list.split(',').map(String::from));
        } else if argument.starts_with('-') || selection.filter.is_some() {
            bail!(
                "usage: cargo xtask test [NAME] [--only {}]",
                known.join(",")
            );
        } else {
            selection.filter = Some(argument.clone());
        }
    }
    if let Some(unknown) = selection
        .steps
        .iter()
        .find(|s| !known.contains(&s.as_str()))
    {
        bail!(
            "there is no step `{unknown}`; the steps are {}",
            known.join(", ")
        );
    }
    if selection.steps.is_empty() {
        let default = match selection.filter {
            Some(_) => vec!["guests", "backends", CARGO],
            None => known,
        };
        selection.steps = default.into_iter().map(String::from).collect();
    }
    Ok(selection)
}

fn fmt() -> Result<Option<String>> {
    if !shell::answers(shell::cargo().args(["fmt", "--version"])) {
        return Ok(Some("fmt (this toolchain has no rustfmt)".to_string()));
    }
    let workspaces = [shell::root().to_owned(), shell::root().join("guests")];
    for dir in workspaces.into_iter().chain(guests::example_crates()?) {
        shell::run(
            shell::cargo()
                .args(["fmt", "--all", "--check", "--", "-l"])
                .current_dir(dir),
        )?;
    }
    Ok(None)
}

fn clippy() -> Result<Option<String>> {
    if !shell::answers(shell::cargo().args(["clippy", "--version"])) {
        return Ok(Some("clippy (this toolchain has no clippy)".to_string()));
    }
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    shell::run(shell::cargo().args(arguments))?;
    Ok(None)
}

/// Runs the Rust tests, printing as they run; returns the sum and whether the runner was content.
fn cargo_test(filter: Option<&str>) -> Result<(Sum, bool)> {
    let mut cargo = shell::cargo();
    cargo.args([
        "test",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--no-fail-fast",
    ]);
    cargo.args(filter);
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut sum = Sum::default();
    let stdout = child.stdout.take().context("cargo without an output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        sum.add(&line);
    }
    Ok((sum, child.wait()?.success()))
}

impl Sum {
    /// Adds one `test result: ok. 3 passed; 0 failed; …` line; other lines count nothing.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |what: &str| {
            let words: Vec<&str> = rest.split([' ', ';']).filter(|w| !w.is_empty()).collect();
            let place = words.iter().position(|word| *word == what)?;
            words.get(place.checked_sub(1)?)?.parse::<u64>().ok()
        };
        self.passed += count("passed").unwrap_or(0);
        self.failed += count("failed").unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_string()).collect()
    }

    #[test]
    fn without_arguments_every_step_runs_and_cargo_is_last() {
        let all = select(&[]).unwrap();
        assert_eq!(
            all.steps,
            [
                "fmt", "tidy", "clippy", "deny", "guests", "backends", "cargo"
            ]
        );
        assert_eq!(all.filter, None);
    }

    #[test]
    fn a_name_runs_the_tests_and_what_they_need() {
        let some = select(&arguments(&["routing"])).unwrap();
        assert_eq!(some.steps, ["guests", "backends", "cargo"]);
        assert_eq!(some.filter.as_deref(), Some("routing"));
    }

    #[test]
    fn only_picks_steps_and_refuses_unknown_ones() {
        let some = select(&arguments(&["--only", "fmt,deny"])).unwrap();
        assert_eq!(some.steps, ["fmt", "deny"]);
        let error = select(&arguments(&["--only", "fnt"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("there is no step `fnt`; the steps are fmt, "),
            "{error}"
        );
        let error = select(&arguments(&["--only"])).unwrap_err().to_string();
        assert_eq!(error, "--only needs a list of steps");
    }

    #[test]
    fn two_names_or_an_unknown_switch_are_refused() {
        for words in [&["a", "b"][..], &["--quick"][..]] {
            let error = select(&arguments(words)).unwrap_err().to_string();
            assert!(error.starts_with("usage: cargo xtask test "), "{error}");
        }
    }

    #[test]
    fn result_lines_are_summed_and_others_are_not() {
        let mut sum = Sum::default();
        sum.add("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out");
        sum.add("test a::b ... ok");
        sum.add("7 passed; 7 failed");
        sum.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured");
        assert_eq!(
            sum,
            Sum {
                passed: 15,
                failed: 2
            }
        );
    }
}
