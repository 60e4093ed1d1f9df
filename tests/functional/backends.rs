//! `hostel check --config`: every backend that the operator's file names is reached, and what is wrong with one is said with
//! its line and a way out.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use hostel_backends::{Nats, Postgres, Redis, S3};

use crate::harness::app::App;
use crate::harness::command::{Outcome, hostel, hostel_in};

/// Checks this file in a folder without an app.
fn check(folder: &Path, server: &str, flags: &[&str]) -> Outcome {
    fs::write(folder.join("server.toml"), server).expect("a file");
    let mut arguments = vec!["check", "--config", "server.toml"];
    arguments.extend(flags);
    hostel_in(folder, &arguments)
}

/// The URL of a port of this machine where nobody listens.
fn nowhere(scheme: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    format!("{scheme}://{}", listener.local_addr().expect("an address"))
}

#[test]
fn backends_that_answer_are_well() {
    let (redis, nats, postgres, s3) = (
        Redis::start(),
        Nats::start(),
        Postgres::start(),
        S3::start(),
    );
    let server = format!(
        "[keyvalue.default]\nurl = \"{}\"\n[keyvalue.fast]\nurl = \"memory:\"\n[messaging.default]\nurl = \"{}\"\n\
         [sql.main]\nurl = \"{}\"\ntimeout = \"20s\"\n[blobstore.uploads]\nurl = \"{}\"\ntimeout = \"20s\"\n",
        redis.url(),
        nats.url(),
        postgres.url(),
        s3.url()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let said = check(folder.path(), &server, &[]).success();
    let lines: Vec<&str> = said.lines().collect();
    for (line, start) in lines.iter().zip([
        "keyvalue.default: ok, redis://",
        "keyvalue.fast: ok, memory:",
        "messaging.default: ok, nats://",
        "sql.main: ok, postgres",
        "blobstore.uploads: ok, s3://",
    ]) {
        assert!(line.starts_with(start), "{said}");
    }
    assert_eq!(lines.len(), 5, "{said}");
    let json = check(folder.path(), &server, &["--format", "json"]).success();
    assert!(
        json.starts_with("{\"backends\":[{\"kind\":\"keyvalue\",\"label\":\"default\",\"line\":1,"),
        "{json}"
    );
    for secret in [postgres.password(), s3.secret()] {
        assert!(
            !said.contains(secret) && !json.contains(secret),
            "{said}{json}"
        );
    }
}

#[test]
fn every_backend_that_does_not_answer_is_named_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = format!(
        "[variables]\npass = \"hunter2\"\n\n[keyvalue.default]\nurl = \"{}\"\n\n[keyvalue.good]\nurl = \"memory:\"\n\n\
         [messaging.default]\nurl = \"{}\"\ntimeout = \"500ms\"\n\n[sql.main]\nurl = \"{}\"\n\n[sql.other]\nurl = \"oracle://a\"\n",
        nowhere("redis").replace("//", "//:{{ pass }}@"),
        nowhere("nats"),
        nowhere("postgres").replace("//", "//u:{{ pass }}@") + "/db"
    );
    let said = check(folder.path(), &server, &[]).failure(1);
    for (label, line) in [
        ("[keyvalue.default] at redis://", 4),
        ("[messaging.default] at nats://", 10),
        ("[sql.main] at postgres://", 14),
        ("[sql.other]: there is no sql driver for `oracle:`", 17),
    ] {
        assert!(said.contains(label), "{label}: {said}");
        assert!(
            said.contains(&format!("server.toml:{line}")),
            "{line}: {said}"
        );
    }
    assert!(
        said.contains("help: start the server, or correct host and port"),
        "{said}"
    );
    assert!(
        !said.contains("keyvalue.good") && !said.contains("hunter2"),
        "{said}"
    );
    let json = check(folder.path(), &server, &["--format", "json"]).failure(1);
    for part in ["\"kind\":\"backend\"", "\"line\":4", "\"help\":\""] {
        assert!(json.contains(part), "{part}: {json}");
    }
}

#[test]
fn an_app_is_checked_too_where_one_is_named() {
    let app = App::of(
        "hello-p2",
        "[component.web.grants]\nkeyvalue = [\"default\"]\n",
    )
    .with_file("server.toml", "[keyvalue.default]\nurl = \"memory:\"\n");
    let config = app.path("server.toml").display().to_string();
    let said = hostel_in(app.folder(), &["check", "--config", "server.toml"]).success();
    assert!(
        said.starts_with("test: ok\n") && said.contains("keyvalue.default: ok, memory:"),
        "{said}"
    );
    let missing = hostel(&["check", "nowhere-at-all", "--config", &config]).failure(1);
    assert!(missing.contains("nowhere-at-all"), "{missing}");
    let alone = hostel(&["check", "--config", &config]).success();
    assert_eq!(alone, "keyvalue.default: ok, memory:\n");
}

#[test]
fn a_file_that_is_wrong_says_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = check(folder.path(), "[keyvalu.default]\nurl = \"memory:\"\n", &[]).failure(1);
    assert_eq!(
        said,
        "error: unknown key \"keyvalu\"\n --> server.toml:1:2\n  = help: did you mean \"keyvalue\"?\n"
    );
    let gone = hostel_in(folder.path(), &["check", "--config", "gone.toml"]).failure(1);
    assert!(gone.contains("gone.toml"), "{gone}");
}
