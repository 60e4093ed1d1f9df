//! `cargo xtask test`: everything that must hold before a change is merged, in one command.
//!
//! The steps run in the order of `STEPS`, all of them even after a failure, and what they need is set up on
//! the way. The Rust tests come last, so that the output ends with the test runner's own summary, followed
//! by one line that sums it up: `N passed, N failed`. A step that this machine cannot do is `SKIPPED`,
//! never silently passed over.
//!
//! `--all` adds the guests of other languages, whose tool chains are large, and their tests (`languages.rs`); without
//! it they are `SKIPPED` too.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::{backends, deny, guests, interpreters, languages, shell, tidy};

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
    Step {
        name: PHP,
        run: interpreters::php,
    },
];
/// The step that fetches PHP.
const PHP: &str = "php";
/// The step that makes the guests of other languages; only with `--all`, or by its name.
const LANGUAGES: &str = "languages";
/// The step that runs the Rust tests; always the last.
const CARGO: &str = "cargo";

/// What the caller asked for.
#[derive(Debug, Default, PartialEq)]
struct Selection {
    /// Only tests whose path contains this.
    filter: Option<String>,
    /// With the guests of other languages.
    all: bool,
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
    let languages = other_languages(&selection, &mut skipped, &mut broken);
    if selection.includes(CARGO) {
        let step_ran = selection.includes(PHP);
        skipped.extend(interpreters::unsaid(interpreters::has_php(), step_ran));
    }
    for what in &skipped {
        println!("SKIPPED: {what}");
    }
    if !broken.is_empty() {
        println!("FAILED: {}", broken.join(", "));
    }
    if selection.includes(CARGO) {
        println!("==> {CARGO}");
        let (sum, succeeded) = cargo_test(selection.filter.as_deref(), languages.as_deref())?;
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

/// Makes the guests of other languages where they were asked for. Returns the tests that cannot run although they are
/// compiled; `None` if none is to be compiled at all.
fn other_languages(
    selection: &Selection,
    skipped: &mut Vec<String>,
    broken: &mut Vec<&'static str>,
) -> Option<Vec<&'static str>> {
    if !selection.includes(LANGUAGES) {
        if selection.includes(CARGO) {
            let names = languages::LANGUAGES.iter().map(|language| language.name);
            let names = names.collect::<Vec<_>>().join(", ");
            skipped.push(format!(
                "the tests of guests in other languages ({names}); `--all` runs them"
            ));
        }
        return None;
    }
    println!("==> {LANGUAGES}");
    let outcome = languages::ensure();
    skipped.extend(outcome.skipped);
    for error in &outcome.failed {
        eprintln!("FAILED: {LANGUAGES}: {error}");
    }
    if !outcome.failed.is_empty() {
        broken.push(LANGUAGES);
    }
    Some(outcome.without)
}

impl Selection {
    /// Whether a step was asked for.
    fn includes(&self, step: &str) -> bool {
        self.steps.iter().any(|name| name == step)
    }
}

/// Reads the arguments; a filter alone means the tests and what they need.
fn select(arguments: &[String]) -> Result<Selection> {
    let steps = STEPS.iter().map(|step| step.name);
    let known: Vec<&str> = steps.chain([LANGUAGES, CARGO]).collect();
    let mut selection = Selection::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--only" {
            let list = rest.next().context("--only needs a list of steps")?;
            selection.steps.extend(list.split(',').map(String::from));
        } else if argument == "--all" {
            selection.all = true;
        } else if argument.starts_with('-') || selection.filter.is_some() {
            bail!(
                "usage: cargo xtask test [NAME] [--all] [--only {}]",
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
        let mut default = match selection.filter {
            Some(_) => vec!["guests", "backends", PHP, LANGUAGES, CARGO],
            None => known,
        };
        default.retain(|step| selection.all || *step != LANGUAGES);
        selection.steps = default.into_iter().map(String::from).collect();
    } else if selection.all && !selection.includes(LANGUAGES) {
        selection.steps.push(LANGUAGES.to_owned());
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
        "--features",
        languages::FEATURE,
        "--",
        "-D",
        "warnings",
    ];
    shell::run(shell::cargo().args(arguments))?;
    Ok(None)
}

/// Runs the Rust tests, printing as they run; returns the sum and whether the runner was content. The tests of other
/// languages are compiled if there is a list of those that cannot run.
fn cargo_test(filter: Option<&str>, without: Option<&[&str]>) -> Result<(Sum, bool)> {
    let mut cargo = shell::cargo();
    cargo.args([
        "test",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--no-fail-fast",
    ]);
    if without.is_some() {
        cargo.args(["--features", languages::FEATURE]);
    }
    cargo.args(filter);
    let mut without = without.unwrap_or_default().to_vec();
    if !interpreters::has_php() {
        without.push(interpreters::PHP_TESTS);
    }
    if !without.is_empty() {
        cargo.arg("--");
        cargo.args(without.iter().flat_map(|tests| ["--skip", tests]));
    }
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
                "fmt", "tidy", "clippy", "deny", "guests", "backends", "php", "cargo"
            ]
        );
        assert_eq!(all.filter, None);
    }

    #[test]
    fn a_name_runs_the_tests_and_what_they_need() {
        let some = select(&arguments(&["routing"])).unwrap();
        assert_eq!(some.steps, ["guests", "backends", "php", "cargo"]);
        assert_eq!(some.filter.as_deref(), Some("routing"));
    }

    #[test]
    fn all_adds_the_other_languages_before_the_tests() {
        let all = select(&arguments(&["--all"])).unwrap();
        assert_eq!(all.steps[6..], ["php", "languages", "cargo"]);
        let some = select(&arguments(&["--all", "polyglot"])).unwrap();
        assert_eq!(
            some.steps,
            ["guests", "backends", "php", "languages", "cargo"]
        );
        let only = select(&arguments(&["--only", "cargo", "--all"])).unwrap();
        assert_eq!(only.steps, ["cargo", "languages"]);
        let mut skipped = Vec::new();
        let plain = select(&[]).unwrap();
        assert_eq!(other_languages(&plain, &mut skipped, &mut Vec::new()), None);
        assert_eq!(
            skipped,
            [
                "the tests of guests in other languages (go, c, zig, ruby, python); `--all` runs them"
            ]
        );
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
