//! `hostel inspect`: what a file is, for people and for programs.

use std::fs;

use crate::harness::command::{Outcome, hostel_in};
use crate::harness::{built, fixture, golden, guest};

/// Inspects a file of a folder, so that no path of this machine is in the text.
fn inspect(name: &str, flags: &[&str]) -> Outcome {
    let folder = fixture("");
    hostel_in(&folder, &[&["inspect", name], flags].concat())
}

/// JSON laid out over several lines, so that a difference can be read.
fn laid_out(line: &str) -> String {
    assert_eq!(line.lines().count(), 1, "{line}");
    let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
    serde_json::to_string_pretty(&value).expect("JSON") + "\n"
}

#[test]
fn a_server_component() {
    golden::check(
        "inspect/server.txt",
        &inspect("calling-server.wat", &[]).success(),
    );
    golden::check(
        "inspect/server.json",
        &laid_out(&inspect("calling-server.wat", &["--format", "json"]).success()),
    );
}

#[test]
fn a_command_module() {
    golden::check(
        "inspect/command.txt",
        &inspect("command-p1.wat", &[]).success(),
    );
    golden::check(
        "inspect/command.json",
        &laid_out(&inspect("command-p1.wat", &["--format", "json"]).success()),
    );
}

#[test]
fn a_module_that_is_neither() {
    golden::check(
        "inspect/plain.txt",
        &inspect("plain-module.wat", &[]).success(),
    );
    golden::check(
        "inspect/plain.json",
        &laid_out(&inspect("plain-module.wat", &["--format", "json"]).success()),
    );
}

#[test]
fn garbage_an_empty_file_and_a_damaged_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let sound = fs::read(guest("hello-p2")).expect("the guest");
    let cases: [(&str, &[u8]); 4] = [
        (
            "garbage",
            b"\x7fELF\x02\x01\x01 surely no WebAssembly \xff\xfe",
        ),
        ("empty", b""),
        ("cut", &sound[..sound.len() / 3]),
        ("header-only", b"\0asm"),
    ];
    for (name, bytes) in cases {
        fs::write(folder.path().join("file.wasm"), bytes).expect("a file");
        let text = hostel_in(folder.path(), &["inspect", "file.wasm"]).failure(1);
        let json =
            hostel_in(folder.path(), &["inspect", "file.wasm", "--format", "json"]).failure(1);
        if name == "cut" {
            // Where it ends depends on the toolchain that made it.
            assert!(
                text.starts_with("error: ")
                    && text.contains("--> file.wasm")
                    && text.contains("help: "),
                "{text}"
            );
            continue;
        }
        golden::check(&format!("inspect/{name}.txt"), &text);
        golden::check(&format!("inspect/{name}.json"), &laid_out(&json));
    }
}

#[test]
fn a_missing_file_and_a_folder() {
    golden::check(
        "inspect/missing.txt",
        &inspect("missing.wasm", &[]).failure(1),
    );
    golden::check("inspect/folder.txt", &inspect(".", &[]).failure(1));
}

#[test]
fn every_guest_is_recognised() {
    let abis = [
        ("hello-p2", "http-p2"),
        ("hello-p3", "http-p3"),
        ("run-exit-p1", "command-p1"),
        ("run-exit-p2", "command-p2"),
        ("run-exit-p3", "command-p3"),
    ];
    for (name, abi) in abis {
        let file = format!("{name}.wasm");
        let folder = built(&format!("guests/out/{file}"));
        let folder = folder.parent().expect("a folder");
        let report = hostel_in(folder, &["inspect", &file, "--format", "json"]).success();
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        // A program answers requests too.
        let abis = match abi.starts_with("command") {
            true => vec![abi, "cgi"],
            false => vec![abi],
        };
        assert_eq!(report["abis"], serde_json::json!(abis), "{name}");
        assert_eq!(report["served"], true, "{name}");
        assert_eq!(
            report["bytes"],
            fs::metadata(guest(name)).expect("the guest").len(),
            "{name}"
        );
    }
}
