//! How chores start programs, and where the repository is.
//!
//! Every failure names the whole command line, so that it can be repeated by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The repository's root folder.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// The cargo that runs this chore, at the repository's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds the release binary, `target/release/hostel`.
///
/// # Errors
/// It cannot be built.
pub(crate) fn build_release() -> Result<()> {
    let flags = ["build", "--release", "--package", "hostel"];
    run(cargo().args(flags).args(["--target-dir", "target"]))
}

/// Runs a program with this process's own input and outputs.
///
/// # Errors
/// Where it cannot be started or ends in failure.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs a program and returns what it wrote to standard output; its standard error passes through.
///
/// # Errors
/// Where it cannot be started, ends in failure, or writes something else than text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", line(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}`: no text", line(command)))
}

/// Whether a program is there and succeeds, quietly.
pub(crate) fn answers(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Writes `bytes` to `path` unless they are there already; says whether it wrote. What did not change
/// keeps its time stamp.
///
/// # Errors
/// Where the file cannot be written.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<bool> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// A command as one would type it.
fn line(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_its_arguments() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c exit 3` failed (exit status: 3)");
        let error = output(Command::new("sh").args(["-c", "exit 4"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c exit 4` failed (exit status: 4)");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-program-here`");
        assert!(!answers(&mut Command::new("no-such-program-here")));
        assert!(answers(&mut Command::new("true")));
    }

    #[test]
    fn an_unchanged_file_is_left_alone() {
        let path = std::env::temp_dir().join(format!("xtask-shell-{}", std::process::id()));
        assert!(write_if_changed(&path, b"one").unwrap());
        assert!(!write_if_changed(&path, b"one").unwrap());
        assert!(write_if_changed(&path, b"two").unwrap());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_root_is_where_this_package_lies() {
        assert!(root().join("xtask/src/shell.rs").is_file());
    }
}
