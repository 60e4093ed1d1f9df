//! The `deny` step of `cargo xtask test`: licences, duplicates, sources and advisories of every dependency.
//!
//! `deny.toml` holds the rules. cargo-deny is installed into the build folder where the machine has none, so
//! that nothing of the machine changes. The advisory database lies outside of the package registry; where
//! it cannot be had, everything else is still checked and the caller is told what was left out.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::shell;

/// How long the advisory database may take to arrive.
const FETCH_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Checks the workspace; returns what had to be left out, and why.
///
/// # Errors
/// Where a rule is broken, or cargo-deny cannot be installed.
pub(crate) fn check() -> Result<Option<String>> {
    let program = program()?;
    let deny = || {
        let mut command = Command::new(&program);
        command.current_dir(shell::root());
        command
    };
    // Locked: with a lockfile that lags behind, the check would be about another tree.
    let arguments = [
        "--locked",
        "--all-features",
        "check",
        "--hide-inclusion-graph",
    ];
    if fetched(deny().args(["fetch", "db"]))? {
        shell::run(deny().args(arguments))?;
        return Ok(None);
    }
    shell::run(deny().args(arguments).args(["licenses", "bans", "sources"]))?;
    Ok(Some(
        "cargo deny advisories (the advisory database cannot be reached from here)".to_string(),
    ))
}

/// cargo-deny as the machine has it, or as it was installed here before, or installed now.
fn program() -> Result<PathBuf> {
    let tools = shell::root().join("target/tools");
    let own = tools.join("bin/cargo-deny");
    for candidate in [PathBuf::from("cargo-deny"), own.clone()] {
        if shell::answers(Command::new(&candidate).arg("--version")) {
            return Ok(candidate);
        }
    }
    println!("test: installing cargo-deny into target/tools (once, some minutes)");
    shell::run(
        shell::cargo()
            // A development build: it checks one tree in a second and compiles in half the time.
            .args([
                "install",
                "cargo-deny",
                "--locked",
                "--quiet",
                "--debug",
                "--root",
            ])
            .arg(&tools),
    )
    .context("cannot install cargo-deny")?;
    Ok(own)
}

/// Runs a download; false where it fails or takes too long.
fn fetched(command: &mut Command) -> Result<bool> {
    let mut child = command.spawn().context("cannot start cargo-deny")?;
    let deadline = Instant::now() + FETCH_MAX;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::park_timeout(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_that_fails_is_not_an_error_but_a_missing_program_is() {
        assert!(fetched(&mut Command::new("true")).unwrap());
        assert!(!fetched(&mut Command::new("false")).unwrap());
        let error = fetched(&mut Command::new("no-such-program-here")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start cargo-deny");
    }
}
