//! `cargo xtask guests`: builds every guest into `guests/out/NAME.wasm`, and the examples' components.
//!
//! A guest is a package of the `guests` workspace with a program or a cdylib. It is built for
//! wasm32-wasip2 unless its manifest names `targets` under `[package.metadata.guest]`; with more than one
//! target the output's name carries the ABI (`run-exit-p1`, `run-exit-p2`). It is optimised unless its manifest has
//! `profile = "dev"` there. A file in `guests/wat` is
//! turned into its binary form. Cargo decides what is up to date; a file in `out` that nothing makes any
//! more is removed, so that no test passes on a guest that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;
use crate::wasm_std::{self, Toolchain};

const P1: &str = "wasm32-wasip1";
const P2: &str = "wasm32-wasip2";
const UNKNOWN: &str = "wasm32-unknown-unknown";

/// How cargo builds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Profile {
    /// Optimised.
    Release,
    /// As authors build while they develop.
    Dev,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "dev",
        }
    }

    /// What cargo calls its folder.
    fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "debug",
        }
    }
}

/// One file to be made: what cargo builds, and what it is to be called.
#[derive(Debug, PartialEq)]
struct Guest {
    /// The package, as cargo names it.
    package: String,
    /// The file that cargo leaves in its release folder.
    artifact: String,
    target: String,
    profile: Profile,
    /// The name in `out`, without `.wasm`.
    name: String,
}

/// What a run did.
#[derive(Default)]
struct Tally {
    written: usize,
    unchanged: usize,
}

/// Builds all guests and examples.
///
/// # Errors
/// Where no std can be had, a guest does not build, or an argument is given.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        bail!("unexpected argument `{argument}`: this chore takes none");
    }
    let toolchain = wasm_std::ensure(&[P2, P1, UNKNOWN])?;
    build_guests(&toolchain)?;
    for app in folders_in(&shell::root().join("examples"))? {
        build_example(&toolchain, &app)?;
    }
    Ok(())
}

/// Builds one example alone, all of whose components are of WASI 0.2, setting up the one target that they need.
///
/// # Errors
/// As `run`.
pub(crate) fn example(app: &str) -> Result<()> {
    build_example(&wasm_std::ensure(&[P2])?, &shell::root().join(app))
}

/// The crates of the examples' components.
///
/// # Errors
/// A folder that cannot be read.
pub(crate) fn example_crates() -> Result<Vec<PathBuf>> {
    let apps = folders_in(&shell::root().join("examples"))?;
    let mut crates = Vec::new();
    for app in apps {
        crates.extend(crates_in(&app)?);
    }
    Ok(crates)
}

/// Builds the `guests` workspace, one cargo call per target, and fills `out`.
fn build_guests(toolchain: &Toolchain) -> Result<()> {
    let dir = shell::root().join("guests");
    let out = dir.join("out");
    std::fs::create_dir_all(&out)?;
    forget_old_std(toolchain, &dir)?;
    let guests = guests_in(&metadata(toolchain, &dir)?)?;
    let mut tally = Tally::default();
    let mut names = BTreeSet::new();
    for ((target, profile), group) in by_target(&guests) {
        println!("guests: {} for {target}", group.len());
        let packages = group.iter().map(|guest| guest.package.as_str());
        build(toolchain, &dir, (target, profile), packages)?;
        let built = dir.join("target").join(target).join(profile.folder());
        for guest in group {
            let to = place(&out, &guest.name, &mut names)?;
            copy(&built.join(&guest.artifact), &to, &mut tally)?;
        }
    }
    for path in files_in(&dir.join("wat"), "wat")? {
        let to = place(&out, &stem(&path), &mut names)?;
        let binary = wat::parse_file(&path)?;
        note(shell::write_if_changed(&to, &binary)?, &to, &mut tally);
    }
    remove_stale(&out, &names)?;
    println!(
        "guests: {} in guests/out ({} new or changed)",
        tally.written + tally.unchanged,
        tally.written
    );
    Ok(())
}

/// Builds each crate of an app `examples/APP/COMPONENT/` into `examples/APP/COMPONENT.wasm`, beside the manifest.
fn build_example(toolchain: &Toolchain, app: &Path) -> Result<()> {
    let mut tally = Tally::default();
    for component in crates_in(app)? {
        forget_old_std(toolchain, &component)?;
        for guest in guests_in(&metadata(toolchain, &component)?)? {
            println!("guests: example {}, component {}", stem(app), guest.name);
            build(toolchain, &component, (&guest.target, guest.profile), [])?;
            let built = component.join("target").join(&guest.target);
            let built = built.join(guest.profile.folder());
            let to = app.join(format!("{}.wasm", guest.name));
            copy(&built.join(&guest.artifact), &to, &mut tally)?;
        }
    }
    Ok(())
}

/// The folders of an example that are crates.
fn crates_in(app: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = folders_in(app)?;
    folders.retain(|folder| folder.join("Cargo.toml").is_file());
    Ok(folders)
}

/// Builds packages of the workspace in `dir` (none named: the one that is there) for one target.
fn build<'a>(
    toolchain: &Toolchain,
    dir: &Path,
    (target, profile): (&str, Profile),
    packages: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let mut cargo = toolchain.cargo(dir);
    cargo.args(["build", "--profile", profile.name(), "--target", target]);
    // Said here, so that a setting of the caller's environment does not move the output elsewhere.
    cargo.arg("--target-dir").arg(dir.join("target"));
    for package in packages {
        cargo.args(["--package", package]);
    }
    shell::run(&mut cargo)
}

/// What was built with another std does not link with this one, and cargo cannot see the difference.
fn forget_old_std(toolchain: &Toolchain, dir: &Path) -> Result<()> {
    let target = dir.join("target");
    if toolchain.renewed && target.is_dir() {
        std::fs::remove_dir_all(&target)
            .with_context(|| format!("cannot remove {}", target.display()))?;
    }
    Ok(())
}

/// The workspace's packages as cargo describes them.
fn metadata(toolchain: &Toolchain, dir: &Path) -> Result<Value> {
    let mut cargo: Command = toolchain.cargo(dir);
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--quiet"]);
    Ok(serde_json::from_str(&shell::output(&mut cargo)?)?)
}

/// The guests among a workspace's packages.
fn guests_in(metadata: &Value) -> Result<Vec<Guest>> {
    let packages = metadata.get("packages").and_then(Value::as_array);
    let mut guests = Vec::new();
    for package in packages.context("cargo metadata without packages")? {
        let Some(artifact) = artifact_of(package) else {
            continue;
        };
        let package_name = text(package, "name");
        let targets = targets_of(package);
        for target in &targets {
            guests.push(Guest {
                package: package_name.to_string(),
                artifact: artifact.clone(),
                name: match targets.len() {
                    1 => package_name.to_string(),
                    _ => format!(
                        "{package_name}-{}",
                        target.trim_start_matches("wasm32-wasi")
                    ),
                },
                target: target.clone(),
                profile: profile_of(package),
            });
        }
    }
    Ok(guests)
}

/// The profile that a package names for itself.
fn profile_of(package: &Value) -> Profile {
    let named = package.pointer("/metadata/guest/profile");
    match named.and_then(Value::as_str) {
        Some("dev") => Profile::Dev,
        _ => Profile::Release,
    }
}

/// The file that a package's program or cdylib is built as; `None` for a plain library.
fn artifact_of(package: &Value) -> Option<String> {
    package
        .get("targets")?
        .as_array()?
        .iter()
        .find_map(|target| {
            let name = text(target, "name");
            let kinds = target.get("kind")?.as_array()?;
            let is = |kind: &str| kinds.iter().any(|k| k == kind);
            if is("cdylib") {
                Some(format!("{}.wasm", name.replace('-', "_")))
            } else if is("bin") {
                Some(format!("{name}.wasm"))
            } else {
                None
            }
        })
}

/// The wasm targets that a package names for itself.
fn targets_of(package: &Value) -> Vec<String> {
    let named = package
        .pointer("/metadata/guest/targets")
        .and_then(Value::as_array);
    match named {
        Some(targets) => targets
            .iter()
            .filter_map(Value::as_str)
            .map(String::from)
            .collect(),
        None => vec![P2.to_string()],
    }
}

/// Groups guests by target and profile; a package stands once in each group.
fn by_target(guests: &[Guest]) -> BTreeMap<(&str, Profile), Vec<&Guest>> {
    let mut groups: BTreeMap<_, Vec<&Guest>> = BTreeMap::new();
    for guest in guests {
        let group = (guest.target.as_str(), guest.profile);
        groups.entry(group).or_default().push(guest);
    }
    groups
}

/// The path of one output, whose name must not have been given before.
fn place(out: &Path, name: &str, names: &mut BTreeSet<String>) -> Result<PathBuf> {
    if !names.insert(name.to_string()) {
        bail!("two guests are called {name}: rename one");
    }
    Ok(out.join(format!("{name}.wasm")))
}

/// Copies a built file where it differs, and says so.
fn copy(from: &Path, to: &Path, tally: &mut Tally) -> Result<()> {
    let bytes =
        std::fs::read(from).with_context(|| format!("cargo did not leave {}", from.display()))?;
    note(shell::write_if_changed(to, &bytes)?, to, tally);
    Ok(())
}

/// Counts one output, and names it where it is new.
fn note(written: bool, to: &Path, tally: &mut Tally) {
    if written {
        println!("guests: made {}", stem(to));
        tally.written += 1;
    } else {
        tally.unchanged += 1;
    }
}

/// Removes outputs that no guest makes any more.
fn remove_stale(out: &Path, names: &BTreeSet<String>) -> Result<()> {
    for path in files_in(out, "wasm")? {
        if !names.contains(&stem(&path)) {
            println!(
                "guests: removed {}, which nothing makes any more",
                stem(&path)
            );
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The files of a folder with this extension, sorted; none where there is no such folder.
fn files_in(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let wanted =
        |path: &PathBuf| path.is_file() && path.extension().is_some_and(|e| e == extension);
    Ok(entries(dir)?.into_iter().filter(wanted).collect())
}

/// The folders in a folder, sorted; none where there is no such folder.
fn folders_in(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(dir)?
        .into_iter()
        .filter(|path| path.is_dir())
        .collect())
}

/// Everything in a folder, sorted.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let folder =
        std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut paths: Vec<PathBuf> = folder.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// A path's last part without its extension.
fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// A text field of a JSON object, empty where it is missing.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, kind: &str, metadata: Value) -> Value {
        json!({ "name": name, "targets": [{ "name": name, "kind": [kind] }], "metadata": metadata })
    }

    #[test]
    fn a_cdylib_is_one_component_and_a_library_is_no_guest() {
        let metadata = json!({ "packages": [
            package("hello-p2", "cdylib", Value::Null),
            package("http-p2", "lib", Value::Null),
        ]});
        let guests = guests_in(&metadata).unwrap();
        assert_eq!(
            guests,
            [Guest {
                package: "hello-p2".into(),
                artifact: "hello_p2.wasm".into(),
                target: P2.into(),
                profile: Profile::Release,
                name: "hello-p2".into(),
            }]
        );
    }

    #[test]
    fn a_program_with_two_targets_carries_the_abi_in_its_names() {
        let targets = json!({ "guest": { "targets": [P1, P2] } });
        let metadata = json!({ "packages": [package("run-exit", "bin", targets)] });
        let guests = guests_in(&metadata).unwrap();
        let names: Vec<_> = guests
            .iter()
            .map(|g| (g.name.as_str(), g.target.as_str()))
            .collect();
        assert_eq!(names, [("run-exit-p1", P1), ("run-exit-p2", P2)]);
        assert!(guests.iter().all(|guest| guest.artifact == "run-exit.wasm"));
    }

    #[test]
    fn one_named_target_leaves_the_name_alone() {
        let targets = json!({ "guest": { "targets": [UNKNOWN] } });
        let metadata = json!({ "packages": [package("small", "cdylib", targets)] });
        let guests = guests_in(&metadata).unwrap();
        assert_eq!(guests[0].name, "small");
        let groups = by_target(&guests);
        let groups: Vec<_> = groups.keys().collect();
        assert_eq!(groups, [&(UNKNOWN, Profile::Release)]);
    }

    #[test]
    fn a_guest_that_is_not_optimised_is_built_apart() {
        let dev = json!({ "guest": { "targets": [P1], "profile": "dev" } });
        let metadata = json!({ "packages": [
            package("slow", "bin", dev),
            package("quick", "bin", json!({ "guest": { "targets": [P1] } })),
        ]});
        let guests = guests_in(&metadata).unwrap();
        let groups = by_target(&guests);
        let groups: Vec<_> = groups.keys().collect();
        assert_eq!(groups, [&(P1, Profile::Release), &(P1, Profile::Dev)]);
        assert_eq!(Profile::Dev.folder(), "debug");
    }

    #[test]
    fn two_guests_of_one_name_are_refused() {
        let mut names = BTreeSet::new();
        let out = Path::new("out");
        assert_eq!(place(out, "a", &mut names).unwrap(), out.join("a.wasm"));
        let error = place(out, "a", &mut names).unwrap_err().to_string();
        assert_eq!(error, "two guests are called a: rename one");
    }

    #[test]
    fn an_artifact_that_cargo_did_not_leave_is_named() {
        let error = copy(
            Path::new("/no/such.wasm"),
            Path::new("x"),
            &mut Tally::default(),
        );
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "cargo did not leave /no/such.wasm");
    }

    #[test]
    fn stale_outputs_are_removed_and_others_kept() {
        let dir = std::env::temp_dir().join(format!("xtask-stale-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for file in ["old.wasm", "new.wasm", "note.txt"] {
            std::fs::write(dir.join(file), "").unwrap();
        }
        remove_stale(&dir, &BTreeSet::from(["new".to_string()])).unwrap();
        let left: Vec<String> = entries(&dir).unwrap().iter().map(|p| stem(p)).collect();
        assert_eq!(left, ["new", "note"]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn arguments_are_refused() {
        let error = run(&["x".to_string()]).unwrap_err().to_string();
        assert_eq!(error, "unexpected argument `x`: this chore takes none");
    }
}
