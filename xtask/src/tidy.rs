//! `cargo xtask tidy`: the promises of this repository that a program can check.
//!
//! `rooms` checks who may depend on whom, `source` reads Rust files the way the rules need them, `rules`
//! checks the files of the rooms, `pages` checks that the documents name what exists. A rule is a function
//! from the repository to its complaints; each complaint says where, what, and how to mend it.

mod pages;
mod rooms;
mod rules;
mod source;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::shell;

/// What a rule found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// `file:line: what is wrong; how to mend it`.
    complaints: Vec<String>,
    /// What could not be checked, and why.
    skipped: Vec<String>,
}

/// Checks everything and prints each complaint.
///
/// # Errors
/// Where a promise is broken, the tree cannot be read, or an argument is given.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        bail!("unexpected argument `{argument}`: this chore takes none");
    }
    let root = shell::root();
    let mut findings = Findings::default();
    rooms::check(&mut findings)?;
    rules::check(&root, &mut findings)?;
    pages::check(&root, &mut findings)?;
    for reason in &findings.skipped {
        println!("SKIPPED: tidy: {reason}");
    }
    for complaint in &findings.complaints {
        println!("tidy: {complaint}");
    }
    match findings.complaints.len() {
        0 => println!("tidy: all promises hold"),
        count => bail!("broken promises: {count}"),
    }
    Ok(())
}

/// All files below `dir` with one of these extensions, sorted, with their text; build folders and hidden
/// ones are passed over.
///
/// # Errors
/// Where a file cannot be read.
fn texts_below(dir: &Path, extensions: &[&str]) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Links are not followed: the tree has none of its own.
            let kind = entry.file_type()?;
            if kind.is_dir() && !is_build_folder(&name) {
                open.push(path);
            } else if kind.is_file() && has_extension(&path, extensions) {
                // A file without an extension may be anything; words are found in it all the same.
                let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
                found.push((path, text));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_build_folder(name: &str) -> bool {
    // `.cargo` and `.ci` hold files of ours.
    let hidden = name.starts_with('.') && !matches!(name, ".cargo" | ".ci");
    hidden || matches!(name, "target" | "out" | "node_modules")
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let own = path.extension().unwrap_or_default().to_string_lossy();
    extensions.iter().any(|extension| *extension == own)
}

/// A path as complaints show it: relative to the repository.
fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root)
        .unwrap_or(path)
        .display()
        .to_string()
}

/// A folder for one test, removed again when it is dropped.
#[cfg(test)]
struct Scratch(PathBuf);

#[cfg(test)]
impl Scratch {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let dir = std::env::temp_dir().join(format!("xtask-tidy-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(dir)
    }
}

#[cfg(test)]
impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_folders_and_other_kinds_of_file_are_passed_over() {
        let scratch = Scratch::new(
            "walk",
            &[
                ("a/x.rs", "1"),
                ("a/target/y.rs", "2"),
                ("a/.hidden/z.rs", "3"),
                ("a/.cargo/config.toml", "4"),
                ("a/n.bin", "5"),
            ],
        );
        let texts = texts_below(&scratch.0, &["rs", "toml"]).unwrap();
        let names: Vec<String> = texts
            .iter()
            .map(|(path, _)| shown(&scratch.0, path))
            .collect();
        assert_eq!(names, ["a/.cargo/config.toml", "a/x.rs"]);
    }
}
