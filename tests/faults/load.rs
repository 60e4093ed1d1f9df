//! Files that cannot be served: refused before anything listens, with what is wrong and the way out.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::command::hostel_in;
use crate::harness::{data, fixture, golden, guest};

/// What a command says about a file of `folder`, without the folder's name.
fn refusal(command: &str, folder: &Path, file: &str) -> String {
    let data = data();
    let listen: &[&str] = if command == "up" {
        &["--listen", "127.0.0.1:0"]
    } else {
        &[]
    };
    let words = [
        &[command, "--data", data.to_str().expect("text")],
        listen,
        &[file],
    ]
    .concat();
    hostel_in(folder, &words).failure(1)
}

fn guests() -> PathBuf {
    guest("hello-p2").parent().expect("a folder").to_path_buf()
}

#[test]
fn an_import_that_no_host_has() {
    golden::check(
        "load/unknown-import.txt",
        &refusal("run", &guests(), "unknown-import.wasm"),
    );
}

#[test]
fn a_server_for_a_wasi_that_is_still_to_come() {
    golden::check(
        "load/newer-wasi.txt",
        &refusal("up", &guests(), "newer-wasi.wasm"),
    );
}

#[test]
fn an_interface_of_a_newer_release() {
    golden::check(
        "load/newer-interface.txt",
        &refusal("up", &fixture(""), "newer-interface.wat"),
    );
}

#[test]
fn a_function_that_the_release_does_not_have() {
    golden::check(
        "load/unknown-function.txt",
        &refusal("up", &fixture(""), "unknown-function.wat"),
    );
}

#[test]
fn a_module_that_is_not_a_server() {
    golden::check(
        "load/not-a-server.txt",
        &refusal("up", &guests(), "not-a-server.wasm"),
    );
}

#[test]
fn a_handler_of_messages_that_is_to_be_served() {
    golden::check(
        "load/handler.txt",
        &refusal("up", &guests(), "handler-p2.wasm"),
    );
}

#[test]
fn garbage_and_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in [
        (
            "garbage.wasm",
            &b"\x7fELF\x02\x01\x01 surely no WebAssembly"[..],
        ),
        ("empty.wasm", b""),
        ("text.wat", b"(module (func"),
    ] {
        fs::write(folder.path().join(name), bytes).expect("a file");
        golden::check(
            &format!("load/{name}.txt"),
            &refusal("up", folder.path(), name),
        );
    }
}

#[test]
fn a_damaged_component() {
    let folder = tempfile::tempdir().expect("a folder");
    let sound = fs::read(guest("hello-p2")).expect("the guest");
    for length in [sound.len() / 2, sound.len() - 1] {
        fs::write(folder.path().join("cut.wasm"), &sound[..length]).expect("a file");
        let text = refusal("up", folder.path(), "cut.wasm");
        assert!(
            text.starts_with("error: component \"cut\": ") && text.contains("= help: "),
            "{text}"
        );
    }
}

#[test]
fn a_module_that_does_not_validate() {
    golden::check(
        "load/invalid.txt",
        &refusal("run", &fixture(""), "invalid.wat"),
    );
}
