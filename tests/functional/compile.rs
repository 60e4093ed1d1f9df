//! Guests are compiled by a second process of the same program.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::app::App;
use crate::harness::capture::Capture;
use crate::harness::command::{Guarded, hostel};
use crate::harness::guest;

/// Every kind of guest comes out of the compiler's process as what it is.
#[test]
fn modules_and_components_of_both_engines() {
    for (name, abi) in [
        ("hello-p2", "http-p2"),
        ("hello-p3", "http-p3"),
        ("run-exit-p1", "cgi"),
        ("run-exit-p2", "cgi"),
        ("run-exit-p3", "cgi"),
    ] {
        let file = guest(name);
        let words = ["check", "--no-cache", file.to_str().expect("text")];
        let report = hostel(&words).success();
        assert!(report.contains(abi), "{name}: {report}");
    }
}

/// An upgrade replaces the file of a program that is running.
#[test]
fn a_program_whose_file_is_gone_compiles_all_the_same() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = tempfile::tempdir_in(place).expect("a folder");
    let program = folder.path().join("hostel");
    fs::hard_link(env!("CARGO_BIN_EXE_hostel"), &program).expect("a second name");
    let app = App::of("hello-p2", &format!("build = \"rm {}\"", program.display()));
    let mut command = Command::new(&program);
    command
        .arg("up")
        .arg(app.folder())
        .args(["--build", "--no-cache", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut server = Guarded(command.spawn().expect("it starts"));
    let stderr = Capture::of(server.0.stderr.take().expect("a pipe"));
    stderr.wait_for("listening on http://");
    assert!(!program.exists());
}
