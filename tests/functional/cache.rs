//! Compiled code is kept between starts, and only what this host itself has made is loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;

use crate::harness::command::{hostel, run};
use crate::harness::guest;
use crate::harness::server::Server;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The files of compiled code, with the time at which each was made.
fn entries(data: &Path) -> Vec<(PathBuf, SystemTime)> {
    let all = fs::read_dir(data.join("compiled")).expect("the folder of compiled code");
    let mut entries: Vec<_> = all
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "cwasm")
        })
        .map(|entry| {
            (
                entry.path(),
                entry
                    .metadata()
                    .and_then(|it| it.modified())
                    .expect("a time"),
            )
        })
        .collect();
    entries.sort();
    entries
}

#[test]
fn a_second_start_loads_what_the_first_compiled() {
    let data = folder();
    Server::start_in(data.path(), &guest("hello-p2")).is_alive("/");
    let first = entries(data.path());
    assert_eq!(first.len(), 1);
    Server::start_in(data.path(), &guest("hello-p2")).is_alive("/");
    assert_eq!(entries(data.path()), first, "it was compiled again");
}

#[test]
fn a_corrupted_entry_is_compiled_again_and_served() {
    let data = folder();
    Server::start_in(data.path(), &guest("hello-p2")).is_alive("/");
    let first = entries(data.path());
    let path = &first[0].0;
    let intact = fs::read(path).expect("the entry");
    for spoil in [flipped, cut, |_: &[u8]| Vec::new()] {
        fs::write(path, spoil(&intact)).expect("a spoilt entry");
        assert_eq!(
            Server::start_in(data.path(), &guest("hello-p2")).page("/"),
            "hello from wasi:http 0.2\n"
        );
        assert_eq!(fs::read(path).expect("a new entry").len(), intact.len());
    }
}

/// One bit in the middle, where the machine code is.
fn flipped(intact: &[u8]) -> Vec<u8> {
    let mut spoilt = intact.to_vec();
    spoilt[intact.len() / 2] ^= 1;
    spoilt
}

fn cut(intact: &[u8]) -> Vec<u8> {
    intact[..intact.len() / 2].to_vec()
}

#[test]
fn code_that_another_host_compiled_is_not_loaded() {
    let (ours, theirs) = (folder(), folder());
    Server::start_in(ours.path(), &guest("hello-p2")).is_alive("/");
    Server::start_in(theirs.path(), &guest("hello-p2")).is_alive("/");
    let (own, foreign) = (entries(ours.path()), entries(theirs.path()));
    assert_eq!(
        own[0].0.file_name(),
        foreign[0].0.file_name(),
        "the same content has the same name"
    );
    fs::copy(&foreign[0].0, &own[0].0).expect("a copy");
    let planted = fs::read(&own[0].0).expect("the entry");
    Server::start_in(ours.path(), &guest("hello-p2")).is_alive("/");
    assert_ne!(
        fs::read(&own[0].0).expect("the entry"),
        planted,
        "the foreign entry is still there"
    );
}

#[test]
fn commands_and_servers_share_the_folder() {
    let data = folder();
    let program = guest("run-exit-p1");
    let words = [
        "check",
        "--data",
        data.path().to_str().expect("text"),
        program.to_str().expect("text"),
    ];
    let _report = hostel(&words).success();
    let first = entries(data.path());
    assert_eq!(first.len(), 1);
    assert_eq!(hostel(&[&["run"], &words[1..]].concat()).code, Some(0));
    assert_eq!(entries(data.path()), first);
}

#[test]
fn no_cache_keeps_nothing() {
    let home = folder();
    let outcome = run(&[], &guest("run-exit-p1"), &[], b"");
    assert_eq!(outcome.code, Some(0));
    let mut command = crate::harness::executable();
    command
        .env("HOME", home.path())
        .env("XDG_DATA_HOME", home.path());
    let status = command
        .arg("run")
        .arg("--no-cache")
        .arg(guest("run-exit-p1"))
        .output()
        .expect("it runs")
        .status;
    assert!(status.success());
    assert_eq!(fs::read_dir(home.path()).expect("the folder").count(), 0);
}

#[test]
fn the_folder_and_its_secret_are_this_user_s_alone() {
    use std::os::unix::fs::PermissionsExt;
    let data = folder();
    Server::start_in(data.path(), &guest("hello-p2")).is_alive("/");
    let mode = |path: PathBuf| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(data.path().join("compiled")), 0o700);
    assert_eq!(mode(data.path().join("compiled/secret")), 0o600);
}
