//! Finds the program: it is an example in the package of the library that this one depends on, and stays there.

use std::env;
use std::process::Command;

const EXAMPLE: &str = "examples/tcp_listenfd_server.rs";

fn main() {
    let cargo = env::var("CARGO").expect("cargo says where it is");
    let target = env::var("TARGET").expect("cargo says for what it builds");
    let metadata = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--filter-platform",
            &target,
        ])
        .output()
        .expect("cargo describes the packages");
    let metadata = String::from_utf8(metadata.stdout).expect("the description is text");
    let folder = metadata
        .split("\"manifest_path\":\"")
        .filter_map(|rest| rest.split_once("/Cargo.toml\""))
        .map(|(folder, _)| folder)
        .find(|folder| {
            let name = folder.rsplit('/').next();
            name.is_some_and(|name| name.starts_with("mio-"))
        })
        .expect("mio is among them");
    println!("cargo::rustc-env=EXAMPLE={folder}/{EXAMPLE}");
    println!("cargo::rerun-if-changed=build.rs");
}
