//! The machine's description: what somebody needs to judge whether two results can be compared. No names, no paths.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The first two CPUs this process may use: one for the servers, one for the load generator.
pub(super) fn two_cores() -> Result<(usize, usize)> {
    let status = fs::read_to_string("/proc/self/status")
        .context("/proc/self/status cannot be read: the bench needs Linux")?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .context("/proc/self/status has no Cpus_allowed_list")?;
    match cpu_list(list.trim())?.as_slice() {
        [server, load, ..] => Ok((*server, *load)),
        few => bail!(
            "the bench needs two CPUs, one for the server and one for the load; this process may use {}",
            few.len()
        ),
    }
}

/// Parses the kernel's list format: `0-1,4`.
fn cpu_list(text: &str) -> Result<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| -> Result<usize> {
            text.parse()
                .with_context(|| format!("`{part}` is no list of CPUs"))
        };
        cpus.extend(number(first)?..=number(last)?);
    }
    Ok(cpus)
}

/// CPU, memory, kernel and compiler.
pub(crate) fn describe() -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory_kib = field(&meminfo, "MemTotal").trim_end_matches("kB").trim();
    let memory_mib = memory_kib.parse::<u64>().unwrap_or_default() / 1024;
    json!({
        "cpu": field(&cpuinfo, "model name"),
        "architecture": std::env::consts::ARCH,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_mib": memory_mib,
        "kernel": kernel.trim(),
        "rustc": first_line(Command::new("rustc").arg("--version")),
    })
}

/// The value of `key: value`; empty where the machine does not say.
fn field<'a>(text: &'a str, key: &str) -> &'a str {
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    });
    values.next().unwrap_or_default()
}

/// Today in UTC, `YYYY-MM-DD`: the results' file name.
pub(crate) fn today() -> Result<String> {
    let date = first_line(Command::new("date").args(["-u", "+%F"]));
    date.context("`date` could not be run; name the results' file with --out")
}

/// The commit that is measured, `-dirty` when the tree has changes.
pub(crate) fn revision(root: &Path) -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--exclude=*"]);
    first_line(git.current_dir(root))
}

/// The first line that `program --version` prints.
pub(super) fn version(program: &Path) -> Option<String> {
    first_line(Command::new(program).arg("--version"))
}

/// The libraries of the control, as its lockfile has them.
pub(super) fn native_version(lockfile: &Path) -> Result<String> {
    let text = fs::read_to_string(lockfile)
        .with_context(|| format!("cannot read {}", lockfile.display()))?;
    let version = |name: &str| {
        let wanted = format!("name = \"{name}\"");
        let mut lines = text.lines().skip_while(|line| *line != wanted);
        let version = lines.nth(1)?.strip_prefix("version = ")?;
        Some(version.trim_matches('"').to_owned())
    };
    let found = |name: &str| version(name).unwrap_or_else(|| "unknown".to_owned());
    Ok(format!(
        "hyper {}, tokio {}",
        found("hyper"),
        found("tokio")
    ))
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_of_cpus_is_understood() {
        assert_eq!(cpu_list("0-2,5").unwrap(), [0, 1, 2, 5]);
        assert_eq!(cpu_list("3").unwrap(), [3]);
        let error = cpu_list("0-x").unwrap_err().to_string();
        assert!(error.contains("`0-x`"), "{error}");
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 2\nmodel name\t: Fast: 9000\n";
        assert_eq!(field(text, "model name"), "Fast: 9000");
        assert_eq!(field(text, "cores"), "");
    }

    #[test]
    fn today_is_a_date() {
        let today = today().unwrap();
        assert_eq!(today.len(), 10, "{today}");
        assert!(
            today
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'-')
        );
    }

    #[test]
    fn a_program_that_fails_has_no_version() {
        assert_eq!(version(Path::new("false")), None);
        assert_eq!(version(Path::new("./no-such-program")), None);
    }

    #[test]
    fn the_controls_libraries_come_from_its_lockfile() {
        let folder = std::env::temp_dir().join(format!("hostel-lock-{}", std::process::id()));
        let lock = "[[package]]\nname = \"hyper\"\nversion = \"1.12.0\"\n\n[[package]]\nname = \"hyper-util\"\nversion = \"0.1.0\"\n";
        fs::write(&folder, lock).unwrap();
        assert_eq!(
            native_version(&folder).unwrap(),
            "hyper 1.12.0, tokio unknown"
        );
        fs::remove_file(&folder).unwrap();
        assert!(native_version(&folder).is_err());
    }
}
