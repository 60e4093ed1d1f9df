//! Every message that a manifest can cause, as its author sees it.
//!
//! Each folder in `golden/` is one case: `hostel.toml`, the message in `expected.txt`, and where needed `path.txt`
//! (what is resolved instead of the manifest), `server.toml` (the operator's file, read first) and `options.txt`
//! (`--var NAME=VALUE` or `--limit NAME=VALUE`, one on each line). Files that are too large or too broken to keep are made by [`prepare`]. To accept changed messages, run
//! the test with `HOSTEL_BLESS=1` and read the difference.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // the lints' exception for tests misses helpers

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hostel_app::error::{Kind, ManifestErrors};
use hostel_app::{Operator, Resolved, ServerConfig, resolve};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = fs::read_dir(folder).expect("the golden folder");
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    cases.sort();
    cases
}

/// Resolves a copy of a case, with its folder's name left out of the message.
fn outcome(case: &Path) -> (ManifestErrors, String) {
    let name = case
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    let copy = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(case).expect("a case") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a copy");
    }
    prepare(name, copy.path());
    let written = |file: &str| fs::read_to_string(case.join(file)).unwrap_or_default();
    let path = match written("path.txt").trim_end() {
        "" => copy.path().join("hostel.toml"),
        other => copy.path().join(other),
    };
    let errors = outcome_of(copy.path(), &path, &written("options.txt")).expect_err(name);
    assert!(!errors.0.is_empty(), "{name}: an error that says nothing");
    let here = format!("{}/", copy.path().display());
    let text = errors
        .to_string()
        .replace(&here, "")
        .replace(here.trim_end_matches('/'), "FOLDER");
    (errors, text + "\n")
}

fn outcome_of(folder: &Path, path: &Path, options: &str) -> Result<Resolved, ManifestErrors> {
    let server = folder.join("server.toml");
    let server = match server.exists() {
        true => ServerConfig::read(&server)?,
        false => ServerConfig::default(),
    };
    resolve(path, &operator(options, server))
}

fn operator(options: &str, server: ServerConfig) -> Operator {
    let mut operator = Operator {
        server: Arc::new(server),
        ..Operator::default()
    };
    for line in options.lines() {
        let (option, pair) = line.split_once(' ').expect("--OPTION NAME=VALUE");
        let (name, value) = pair.split_once('=').expect("NAME=VALUE");
        match option {
            "--grant" => operator.grants.push(pair.parse().expect("a grant")),
            "--var" => drop(operator.vars.insert(name.to_owned(), value.to_owned())),
            "--limit" => operator.limits.push((name.to_owned(), value.to_owned())),
            "--ceiling" => operator.ceilings.push((name.to_owned(), value.to_owned())),
            other => panic!("no option {other}"),
        }
    }
    operator
}

/// Makes what a repository should not hold.
fn prepare(name: &str, folder: &Path) {
    let manifest = folder.join("hostel.toml");
    let component = "[app]\nname = \"a\"\n[[http]]\nroute = \"/...\"\ncomponent = \"a\"\n[component.a]\nsource = ";
    match name {
        "server-too-large" => {
            fs::write(folder.join("server.toml"), "#".repeat((1 << 20) + 1)).expect("a file");
        }
        "server-not-utf8" => {
            fs::write(folder.join("server.toml"), b"[keyvalue.caf\xe9]\n").expect("a file");
        }
        "manifest-too-large" => fs::write(manifest, "#".repeat((1 << 20) + 1)).expect("a file"),
        "manifest-not-utf8" => fs::write(manifest, b"[app]\nname = \"caf\xe9\"\n").expect("a file"),
        "source-is-a-folder" => fs::create_dir(folder.join("web.wasm")).expect("a folder"),
        "source-too-large" => {
            let file = fs::File::create(folder.join("web.wasm")).expect("a file");
            file.set_len((256 << 20) + 1).expect("a sparse file");
        }
        "components-too-large" => {
            let mut text = format!("{component}\"large.wasm\"\n");
            for name in ["b", "c", "d", "e"] {
                text += &format!("[component.{name}]\nsource = \"large.wasm\"\n");
            }
            fs::write(manifest, text).expect("a file");
            let file = fs::File::create(folder.join("large.wasm")).expect("a file");
            file.set_len(256 << 20).expect("a sparse file");
        }
        "components-too-many" => {
            let mut text = format!("{component}\"(module)\"\n");
            for number in 0..1000 {
                text += &format!("[component.b{number}]\nsource = \"(module)\"\n");
            }
            fs::write(manifest, text).expect("a file");
        }
        "routes-too-many" => {
            let mut text = String::new();
            for number in 0..10_000 {
                text += &format!("[[http]]\nroute = \"/{number}\"\ncomponent = \"a\"\n");
            }
            fs::write(manifest, format!("{text}{component}\"(module)\"\n")).expect("a file");
        }
        "values-too-long" => {
            let text = format!(
                "{component}\"(module)\"\nconfig = {{ x = \"{}\" }}\n[variables]\nv = \"{}\"\n",
                "{{v}}".repeat(2_000),
                "x".repeat(3_000)
            );
            fs::write(manifest, text).expect("a file");
        }
        "errors-too-many" => {
            let keys: String = (0..150)
                .map(|number| format!("unknown-{number} = 1\n"))
                .collect();
            fs::write(manifest, format!("{component}\"(module)\"\n{keys}")).expect("a file");
        }
        "files-leads-outside" => {
            std::os::unix::fs::symlink("/", folder.join("site")).expect("a link");
        }
        "files-not-a-directory" => fs::write(folder.join("site"), "a file").expect("a file"),
        _ => {}
    }
}

#[test]
fn every_message_has_its_golden_file() {
    let bless = std::env::var_os("HOSTEL_BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let (_, found) = outcome(&case);
        let golden = case.join("expected.txt");
        if bless {
            fs::write(&golden, &found).expect("the golden file");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            wrong.push(format!(
                "{}\n--- expected\n{expected}\n--- found\n{found}",
                case.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_kind_of_error_has_a_golden_file() {
    let seen: BTreeSet<Kind> = cases()
        .iter()
        .flat_map(|case| outcome(case).0.0.into_iter().map(|error| error.kind))
        .collect();
    let missing: Vec<&Kind> = Kind::ALL
        .iter()
        .filter(|kind| !seen.contains(kind))
        .collect();
    assert!(missing.is_empty(), "no golden file for {missing:?}");
    assert!(cases().len() >= 30);
}

/// In every `server.toml` here a value that could be a secret is this one.
const SECRET: &str = "hunter2";

#[test]
fn no_error_about_the_operator_s_file_quotes_a_value() {
    let with_secret = |case: &&PathBuf| {
        let text = fs::read_to_string(case.join("server.toml")).unwrap_or_default();
        text.contains(SECRET)
    };
    let cases = cases();
    let with_secret: Vec<&PathBuf> = cases.iter().filter(with_secret).collect();
    for case in &with_secret {
        let (errors, text) = outcome(case);
        let json = serde_json::to_string(&errors).expect("JSON");
        let all = format!("{text}{json}{errors:?}");
        assert!(!all.contains(SECRET), "{}: {all}", case.display());
    }
    assert!(with_secret.len() >= 5);
}

#[test]
fn every_error_says_how_to_mend_it() {
    for case in cases() {
        for error in outcome(&case).0.0 {
            assert!(error.help.is_some(), "{}: {error}", case.display());
        }
    }
}
