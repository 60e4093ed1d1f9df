//! Sees to it that guests can be built: a Rust standard library for each wasm target.
//!
//! In this order: one that is installed; `rustup target add`, unless `HOSTEL_GUEST_STD=debian` is set;
//! one built here from the compiler's own sources as Debian packages them. The last way needs no nightly
//! compiler and no registry but Debian's and cargo's: `rust-src` of exactly the compiler's version, and
//! for the WASI targets the C library `wasi-libc`. Where Debian no longer has the sources of this version,
//! its own pair of compiler and sources (`rustc-web`, `rust-web-src`) serves as a second compiler, for
//! guests alone; that one is installed, so it needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian::Archive;
use crate::shell;

/// Setting this to `debian` keeps rustup out of it.
const CHOICE: &str = "HOSTEL_GUEST_STD";

/// The compiler that Debian keeps for building browsers; always there together with its sources.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// The first day of the `wasi-libc` snapshots that have what a current std calls: with an older one a
/// guest links and then fails to start.
const WASI_LIBC_SINCE: u32 = 20250101;

/// A compiler that has a std for every target asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Toolchain {
    /// Whether a std was built just now: what was built with an older one has to go.
    pub(crate) renewed: bool,
    /// `None` is the compiler that runs this chore.
    rustc: Option<PathBuf>,
    /// Where that other compiler finds the programs it lacks: the folder of the first one's linkers.
    linkers: Option<PathBuf>,
}

impl Toolchain {
    /// This toolchain's cargo in `dir`, free of settings that are meant for the host's own code.
    pub(crate) fn cargo(&self, dir: &Path) -> Command {
        let mut cargo = match self.rustc {
            Some(_) => Command::new(DEBIAN_CARGO),
            None => shell::cargo(),
        };
        cargo.current_dir(dir);
        for setting in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(setting);
        }
        if let Some(rustc) = &self.rustc {
            cargo.env("RUSTC", rustc);
        }
        if let Some(linkers) = &self.linkers {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::env::split_paths(&path).chain([linkers.clone()]);
            cargo.env("PATH", std::env::join_paths(folders).unwrap_or(path));
        }
        cargo
    }

    /// The compiler itself.
    fn rustc(&self) -> Command {
        let default = || std::env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from);
        let mut command = Command::new(self.rustc.clone().unwrap_or_else(default));
        command.current_dir(shell::root());
        command
    }

    /// The folder in which the compiler looks for the targets' libraries.
    fn targets(&self) -> Result<PathBuf> {
        let sysroot = shell::output(self.rustc().args(["--print", "sysroot"]))?;
        Ok(Path::new(sysroot.trim()).join("lib/rustlib"))
    }

    /// Those of `targets` that have no std yet.
    fn missing<'a>(&self, targets: &[&'a str]) -> Result<Vec<&'a str>> {
        let folder = self.targets()?;
        let lacks = |target: &&&str| !has_std(&folder.join(target).join("lib"));
        Ok(targets.iter().filter(lacks).copied().collect())
    }
}

/// Returns a toolchain that builds for all `targets`, setting up what is missing.
///
/// # Errors
/// Where no way leads to a std; the message says what to install.
pub(crate) fn ensure(targets: &[&str]) -> Result<Toolchain> {
    let own = Toolchain {
        renewed: false,
        rustc: None,
        linkers: None,
    };
    let missing = own.missing(targets)?;
    if missing.is_empty() {
        return Ok(own);
    }
    let debian_only = std::env::var(CHOICE).is_ok_and(|choice| choice == "debian");
    if !debian_only && shell::answers(Command::new("rustup").arg("--version")) {
        println!("guests: rustup target add {}", missing.join(" "));
        let added = shell::run(
            Command::new("rustup")
                .args(["target", "add"])
                .args(&missing),
        );
        if added.is_ok() && own.missing(targets)?.is_empty() {
            return Ok(own);
        }
    }
    if !shell::answers(Command::new("apt-get").arg("--version")) {
        bail!(
            "no Rust standard library for {}: install it with your toolchain's installer \
             (`rustup target add {}`)",
            missing.join(", "),
            missing.join(" ")
        );
    }
    from_debian(&own, targets)
}

/// Builds what is missing from Debian's sources, for the own compiler if its sources are there.
fn from_debian(own: &Toolchain, targets: &[&str]) -> Result<Toolchain> {
    let web = Toolchain {
        renewed: false,
        rustc: Some(DEBIAN_RUSTC.into()),
        linkers: Some(host_tools(own)?),
    };
    let second_ready = Path::new(DEBIAN_RUSTC).is_file()
        && web.missing(targets).is_ok_and(|missing| missing.is_empty());
    if second_ready {
        return Ok(web);
    }
    let dir = shell::root().join("target/wasm-std");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)?;
    let archive = Archive::open(&dir)?;
    let release = release(own)?;
    let sources = archive.newest("rust-src", |version| {
        version.split_once('+').is_some_and(|(v, _)| v == release)
    })?;
    let (mut toolchain, library) = match sources {
        Some(version) => {
            println!("guests: std of Rust {release} from Debian's rust-src {version}");
            let files = archive.unpack("rust-src", &version)?;
            (own.clone(), library_in(&files.join("usr/src"))?)
        }
        None => {
            println!("guests: Debian has no sources of Rust {release}: installing its rustc-web");
            install_second_compiler()?;
            let library = web.targets()?.join("src/rust/library");
            (web, library)
        }
    };
    let libc = wasi_libc(&archive)?;
    for target in toolchain.missing(targets)? {
        println!("guests: building the std for {target} (about a minute)");
        build(&toolchain, target, &library, &dir)?;
        install(&toolchain, target, &libc, &dir)?;
    }
    std::fs::remove_dir_all(&dir)?;
    toolchain.renewed = true;
    Ok(toolchain)
}

/// Compiles the std for one target, with the compiler's unstable build-std opened by its bootstrap switch.
fn build(toolchain: &Toolchain, target: &str, library: &Path, dir: &Path) -> Result<()> {
    let empty = dir.join("empty");
    std::fs::create_dir_all(empty.join("src"))?;
    std::fs::write(empty.join("src/lib.rs"), "#![no_std]\n")?;
    std::fs::write(
        empty.join("Cargo.toml"),
        "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n",
    )?;
    shell::run(
        toolchain
            .cargo(&empty)
            .args(["build", "--release", "--quiet", "--target", target])
            .arg("-Zbuild-std=std,panic_abort,panic_unwind,test")
            .arg("--target-dir")
            .arg(dir.join("build"))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("__CARGO_TESTS_ONLY_SRC_ROOT", library)
            // As the official std has it: without bitcode no guest with `lto` links.
            .env("CARGO_ENCODED_RUSTFLAGS", "-Cembed-bitcode=yes"),
    )
}

/// Puts a target's libraries, and the C library's start files, where the compiler looks for them: as a whole
/// or not at all, so that a run that was broken off leaves no half std behind.
fn install(toolchain: &Toolchain, target: &str, libc: &Path, dir: &Path) -> Result<()> {
    let place = toolchain.targets()?.join(target);
    let (lib, staged) = (place.join("lib"), place.join("lib.new"));
    let _ = std::fs::remove_dir_all(&staged);
    std::fs::create_dir_all(&staged)
        .with_context(|| format!("cannot add a target to the toolchain: {}", place.display()))?;
    let built = dir.join("build").join(target).join("release/deps");
    for entry in std::fs::read_dir(&built)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libempty-") {
            std::fs::copy(entry.path(), staged.join(&name))?;
        }
    }
    if target.contains("wasip") {
        copy_start_files(libc, target, &staged.join("self-contained"))?;
    }
    let _ = std::fs::remove_dir_all(&lib);
    std::fs::rename(&staged, &lib)?;
    Ok(())
}

/// Copies what the linker takes from the C library. Snapshots differ in whether each target has its own.
fn copy_start_files(libc: &Path, target: &str, to: &Path) -> Result<()> {
    let own = libc.join(target);
    let from = if own.is_dir() {
        own
    } else {
        libc.join("wasm32-wasip2")
    };
    std::fs::create_dir_all(to)?;
    for file in ["crt1-command.o", "crt1-reactor.o", "libc.a"] {
        let path = from.join(file);
        std::fs::copy(&path, to.join(file))
            .with_context(|| format!("wasi-libc lacks {}", path.display()))?;
    }
    Ok(())
}

/// Installs Debian's second compiler. The linkers that it lacks are lent to it by `Toolchain::cargo`.
fn install_second_compiler() -> Result<()> {
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell::run(apt().args(["update", "-qq"]))?;
    shell::run(
        apt()
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(DEBIAN_PACKAGES),
    )
    .context("no compiler for guests; as root, or with rustup, this would work")
}

/// Unpacks the WASI C library and returns the folder with one folder per target.
fn wasi_libc(archive: &Archive) -> Result<PathBuf> {
    let version = archive
        .newest("wasi-libc", |version| {
            snapshot_day(version).is_some_and(|day| day >= WASI_LIBC_SINCE)
        })?
        .context("Debian has no wasi-libc of 2025 or newer")?;
    Ok(archive.unpack("wasi-libc", &version)?.join("usr/lib"))
}

/// The folder in which a toolchain keeps its own linkers, `wasm-component-ld` among them.
fn host_tools(toolchain: &Toolchain) -> Result<PathBuf> {
    let host = shell::output(toolchain.rustc().args(["--print", "host-tuple"]))?;
    Ok(toolchain.targets()?.join(host.trim()).join("bin"))
}

/// A toolchain's version, such as `1.95.0`.
fn release(toolchain: &Toolchain) -> Result<String> {
    let text = shell::output(toolchain.rustc().arg("-vV"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("release: "));
    Ok(line.context("rustc -vV names no release")?.to_string())
}

/// The std's sources in `src`, which holds one folder named after the compiler's version.
fn library_in(src: &Path) -> Result<PathBuf> {
    let mut folders = std::fs::read_dir(src)?.flatten();
    folders
        .find_map(|entry| Some(entry.path().join("library")).filter(|path| path.is_dir()))
        .with_context(|| format!("no std sources below {}", src.display()))
}

/// Whether a target's library folder holds a std.
fn has_std(lib: &Path) -> bool {
    std::fs::read_dir(lib).is_ok_and(|folder| {
        folder.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    })
}

/// The day, as the number YYYYMMDD, of a package version that carries `~gitYYYYMMDD`.
fn snapshot_day(version: &str) -> Option<u32> {
    let (_, day) = version.split_once("~git")?;
    day.get(..8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_days_are_read_from_package_versions() {
        assert_eq!(
            snapshot_day("0.0~git20260129.ec0effd-3~bpo13+1"),
            Some(20260129)
        );
        assert_eq!(snapshot_day("0.0~git20241209.574b88d-2"), Some(20241209));
        assert_eq!(snapshot_day("1.2-3"), None);
        assert_eq!(snapshot_day("0.0~gitabc"), None);
    }

    #[test]
    fn a_folder_without_a_std_is_seen() {
        let dir = std::env::temp_dir().join(format!("xtask-std-{}", std::process::id()));
        assert!(!has_std(&dir));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("libcore-1.rlib"), "").unwrap();
        assert!(!has_std(&dir));
        std::fs::write(dir.join("libstd-1.rlib"), "").unwrap();
        assert!(has_std(&dir));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn start_files_come_from_the_target_or_else_from_the_newer_one() {
        let dir = std::env::temp_dir().join(format!("xtask-crt-{}", std::process::id()));
        let error = copy_start_files(&dir, "wasm32-wasip1", &dir.join("to")).unwrap_err();
        assert!(error.to_string().starts_with("wasi-libc lacks "), "{error}");
        std::fs::create_dir_all(dir.join("wasm32-wasip2")).unwrap();
        for file in ["crt1-command.o", "crt1-reactor.o", "libc.a"] {
            std::fs::write(dir.join("wasm32-wasip2").join(file), file).unwrap();
        }
        copy_start_files(&dir, "wasm32-wasip1", &dir.join("to")).unwrap();
        assert_eq!(std::fs::read(dir.join("to/libc.a")).unwrap(), b"libc.a");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn std_sources_are_found_below_a_versioned_folder() {
        let dir = std::env::temp_dir().join(format!("xtask-lib-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("rustc-1.0.0/library")).unwrap();
        assert_eq!(library_in(&dir).unwrap(), dir.join("rustc-1.0.0/library"));
        std::fs::remove_dir_all(dir.join("rustc-1.0.0/library")).unwrap();
        let error = library_in(&dir).unwrap_err().to_string();
        assert!(error.starts_with("no std sources below "), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
