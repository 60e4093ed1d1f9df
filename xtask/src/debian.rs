//! Reads single packages out of Debian's archive without installing anything.
//!
//! Everything lives in one folder of the caller's: an own apt configuration, own package lists, own
//! downloads. Which mirror and which key to use is taken from the machine's own source list; only the
//! suites differ. Nothing here knows what the packages are for.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// The suites that are read, newest packages first: stable's backports, then stable.
const SUITES: &[&str] = &["trixie-backports", "trixie"];

/// A private view of Debian's archive.
pub(crate) struct Archive {
    dir: PathBuf,
}

/// Where the machine itself gets its Debian packages from.
#[derive(Debug, PartialEq)]
struct Mirror {
    uri: String,
    signed_by: Option<String>,
}

impl Archive {
    /// Sets the private apt up in `dir` and reads the package lists.
    ///
    /// # Errors
    /// Where this is no Debian machine, or its mirror does not answer.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let mirror = mirror_of(&source_lists())
            .context("no Debian mirror in this machine's apt source list")?;
        for folder in [
            "lists/partial",
            "cache/archives/partial",
            "preferences",
            "debs",
        ] {
            std::fs::create_dir_all(dir.join(folder))?;
        }
        std::fs::write(dir.join("debian.sources"), sources(&mirror))?;
        std::fs::write(dir.join("apt.conf"), configuration(dir))?;
        let archive = Self {
            dir: dir.to_path_buf(),
        };
        shell::run(archive.apt("apt-get").args(["update", "-qq"]))?;
        Ok(archive)
    }

    /// The newest version of `package` that `wanted` accepts.
    ///
    /// # Errors
    /// Where apt fails; a package that does not exist is `None`.
    pub(crate) fn newest(
        &self,
        package: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<String>> {
        let table = shell::output(self.apt("apt-cache").args(["madison", package]))?;
        // Rows `package | version | origin`, newest version first.
        let versions = table.lines().filter_map(|row| row.split('|').nth(1));
        Ok(versions
            .map(str::trim)
            .find(|v| wanted(v))
            .map(String::from))
    }

    /// Downloads one version of a package and unpacks it; returns the folder that stands for `/`.
    ///
    /// # Errors
    /// Where the package cannot be had or unpacked.
    pub(crate) fn unpack(&self, package: &str, version: &str) -> Result<PathBuf> {
        let debs = self.dir.join("debs").join(package);
        std::fs::create_dir_all(&debs)?;
        let wanted = format!("{package}={version}");
        shell::run(
            self.apt("apt-get")
                .args(["download", "-qq", &wanted])
                .current_dir(&debs),
        )?;
        let Some(deb) = std::fs::read_dir(&debs)?.flatten().next() else {
            bail!("apt-get download {wanted} left no file");
        };
        let files = self.dir.join("files").join(package);
        std::fs::create_dir_all(&files)?;
        shell::run(Command::new("dpkg").arg("-x").arg(deb.path()).arg(&files))?;
        Ok(files)
    }

    /// An apt program that sees the private configuration only.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.dir.join("apt.conf"));
        command
    }
}

/// The text of every source list of the machine, in apt's order.
fn source_lists() -> Vec<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = std::fs::read_dir("/etc/apt/sources.list.d") {
        let mut more: Vec<PathBuf> = folder.flatten().map(|entry| entry.path()).collect();
        more.sort();
        files.extend(more);
    }
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect()
}

/// The mirror of the Debian archive proper: a binary source with `main` whose address ends in `debian`,
/// which security updates and other vendors' archives do not.
fn mirror_of(lists: &[String]) -> Option<Mirror> {
    let entries = lists.iter().flat_map(|text| {
        let paragraphs = text.split("\n\n").filter_map(paragraph);
        paragraphs.chain(text.lines().filter_map(one_line))
    });
    let is_archive = |mirror: &Mirror| {
        let path = mirror.uri.trim_end_matches('/');
        // A snapshot's address carries a date behind the archive's name.
        path.ends_with("/debian") || path.contains("/debian/")
    };
    entries.into_iter().find(is_archive)
}

/// An entry in the newer form: a paragraph of `Field: value` lines.
fn paragraph(text: &str) -> Option<Mirror> {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let has = |name: &str, word: &str| field(name)?.split_whitespace().find(|w| *w == word);
    has("Types", "deb")?;
    has("Components", "main")?;
    Some(Mirror {
        uri: field("URIs")?.split_whitespace().next()?.to_string(),
        // A key that stands in the list itself begins on the next line: apt then uses its own keyring.
        signed_by: field("Signed-By")
            .filter(|key| !key.is_empty())
            .map(String::from),
    })
}

/// An entry in the older form: `deb [options] address suite components…`.
fn one_line(line: &str) -> Option<Mirror> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracket) => bracket.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uri = words.next()?.to_string();
    words.find(|word| *word == "main")?;
    let key = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="));
    Some(Mirror {
        uri,
        signed_by: key.map(String::from),
    })
}

/// The private source list.
fn sources(mirror: &Mirror) -> String {
    let mut text = String::new();
    for suite in SUITES {
        text.push_str(&format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n",
            mirror.uri
        ));
        if let Some(key) = &mirror.signed_by {
            text.push_str(&format!("Signed-By: {key}\n"));
        }
        text.push('\n');
    }
    text
}

/// The private apt configuration: every folder that apt would write to lies below `dir`.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "Dir::Etc::SourceList \"{dir}/debian.sources\";\n\
         Dir::Etc::SourceParts \"-\";\n\
         Dir::Etc::PreferencesParts \"{dir}/preferences\";\n\
         Dir::State::Lists \"{dir}/lists\";\n\
         Dir::Cache \"{dir}/cache\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         # Files of the caller's own folder, which apt's download user may not read.\n\
         APT::Sandbox::User \"root\";\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(uri: &str, signed_by: Option<&str>) -> Option<Mirror> {
        Some(Mirror {
            uri: uri.to_string(),
            signed_by: signed_by.map(String::from),
        })
    }

    #[test]
    fn reads_a_paragraph_and_passes_over_security_and_strangers() {
        let list = "Types: deb\nURIs: http://m.test/debian-security\nSuites: x-security\n\
                    Components: main\n\n\
                    Types: deb\n# a note\nURIs: http://m.test/debian\nSuites: x x-updates\n\
                    Components: main contrib\nSigned-By: /k.gpg\n";
        let stranger = "Types: deb\nURIs: http://m.test/node\nSuites: x\nComponents: main\n";
        assert_eq!(
            mirror_of(&[stranger.to_string(), list.to_string()]),
            mirror("http://m.test/debian", Some("/k.gpg"))
        );
    }

    #[test]
    fn reads_one_line_entries_with_and_without_options() {
        let plain = "# deb http://no.test/debian x main\ndeb http://m.test/debian/ x main\n";
        assert_eq!(
            mirror_of(&[plain.to_string()]),
            mirror("http://m.test/debian/", None)
        );
        let options = "deb [arch=amd64 signed-by=/k.asc] http://m.test/archive/debian/2026Z x main";
        assert_eq!(
            mirror_of(&[options.to_string()]),
            mirror("http://m.test/archive/debian/2026Z", Some("/k.asc"))
        );
    }

    #[test]
    fn a_list_without_the_archive_has_no_mirror() {
        assert_eq!(
            mirror_of(&["deb-src http://m.test/debian x main".into()]),
            None
        );
        assert_eq!(
            mirror_of(&["deb http://m.test/debian x contrib".into()]),
            None
        );
        assert_eq!(mirror_of(&[]), None);
    }

    #[test]
    fn private_sources_name_both_suites_and_the_key() {
        let text = sources(&mirror("http://m.test/debian", Some("/k.gpg")).unwrap());
        assert_eq!(text.matches("Signed-By: /k.gpg").count(), SUITES.len());
        assert!(text.contains("Suites: trixie-backports\n"));
    }
}
