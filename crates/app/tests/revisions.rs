//! What is the same, and what is not, in another revision of an app; and which files decide that.

#![allow(clippy::expect_used)] // the lints' exception for tests misses helpers

use std::fs;
use std::path::{Path, PathBuf};

use hostel_app::{App, Operator, files, resolve};

/// An app of two components: `web` with this code and these settings, and `other`.
fn app(code: &str, settings: &str) -> App {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = format!(
        "[app]\nname = \"test\"\n[variables]\nkey = {{ required = true, secret = true }}\n\
         [[http]]\nroute = \"/...\"\ncomponent = \"web\"\n[component.other]\nsource = \"other.wasm\"\n[component.web]\nsource = \"web.wasm\"\n{settings}\n"
    );
    fs::write(folder.path().join("hostel.toml"), manifest).expect("a manifest");
    fs::write(folder.path().join("web.wasm"), code).expect("a file");
    fs::write(folder.path().join("other.wasm"), "other").expect("a file");
    let operator = Operator {
        vars: [("key".to_owned(), "k".to_owned())].into(),
        ..Operator::default()
    };
    let resolved = resolve(folder.path(), &operator);
    resolved.expect("an app").app
}

#[test]
fn a_component_is_the_same_as_long_as_nothing_of_it_changes() {
    let first = app("a", "");
    assert!(first.has_same_component(&app("a", ""), "web"));
    for (code, settings) in [
        ("b", ""),
        ("a", "env = { A = \"1\" }"),
        ("a", "args = [\"-v\"]"),
        ("a", "config = { title = \"t\" }"),
        ("a", "reuse = 2"),
        ("a", "[component.web.limits]\nmemory = \"1MiB\""),
        ("a", "[component.web.grants]\nkeyvalue = [\"default\"]"),
        ("a", "bind = { \"shop:pricing/api\" = \"other\" }"),
    ] {
        let other = app(code, settings);
        assert!(!first.has_same_component(&other, "web"), "{settings}");
        assert!(first.has_same_component(&other, "other"), "{settings}");
    }
    assert!(!first.has_same_component(&first, "nobody"));
}

#[test]
fn the_value_of_a_secret_counts_although_the_digest_leaves_it_out() {
    let with = |value: &str| {
        let settings =
            "config = { key = \"{{ key }}\" }\n[component.web.grants]\nsecrets = [\"key\"]";
        let mut app = app("a", settings);
        let origin = hostel_app::Origin::Given(hostel_app::Secret::new(value));
        for variable in app
            .components
            .iter_mut()
            .flat_map(|one| one.variables.values_mut())
        {
            variable.origins = vec![origin.clone()];
        }
        app
    };
    assert!(with("1").has_same_component(&with("1"), "web"));
    assert!(!with("1").has_same_component(&with("2"), "web"));
}

/// Paths below the folder.
fn below(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| folder.join(name)).collect()
}

#[test]
fn the_files_of_an_app_are_known_before_they_are_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let any = ["hostel.toml", "modules.toml", "config.toml"];
    assert_eq!(files(folder), below(folder, &any));
    let manifest = folder.join("hostel.toml");
    fs::write(
        &manifest,
        "[app]\nname = \"a\"\n[component.a]\nsource = \"out/a.wasm\"\n[component.b]\nsource = \"(module)\"\n",
    )
    .expect("a manifest");
    let all = below(folder, &["hostel.toml", "out/a.wasm"]);
    assert_eq!(files(folder), all);
    assert_eq!(files(&manifest), all);
    fs::write(&manifest, "[app\n").expect("a manifest");
    assert_eq!(files(folder), below(folder, &["hostel.toml"]));
}

#[test]
fn a_bare_component_is_its_only_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("web.wasm");
    assert_eq!(files(&file).as_slice(), std::slice::from_ref(&file));
    fs::write(&file, "").expect("a file");
    assert_eq!(files(&file), [file]);
}
