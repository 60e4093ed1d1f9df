//! `hostel` commands that run to their end.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::capture::Capture;
use super::{data, eventually, executable};

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its exit code; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its standard output, byte for byte.
    pub(crate) stdout: Vec<u8>,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Outcome {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("text")
    }

    /// Standard output of a command that must have succeeded.
    pub(crate) fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.text()
    }

    /// Standard error of a command that must have failed with this code and printed no data.
    pub(crate) fn failure(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.text(), "", "data of a command that failed");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr
    }
}

/// Runs `hostel ARGUMENTS`.
pub(crate) fn hostel<S: AsRef<OsStr>>(arguments: &[S]) -> Outcome {
    finish(executable().args(arguments), b"")
}

/// Runs `hostel ARGUMENTS` in a folder, so that what it prints does not name one of this machine's.
pub(crate) fn hostel_in<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Outcome {
    finish(executable().current_dir(folder).args(arguments), b"")
}

/// Runs a program under `hostel run FLAGS FILE ARGUMENTS` with this standard input.
pub(crate) fn run(flags: &[&str], file: &Path, arguments: &[&str], stdin: &[u8]) -> Outcome {
    let mut command = executable();
    command
        .arg("run")
        .arg("--data")
        .arg(data())
        .args(flags)
        .arg(file)
        .args(arguments);
    finish(&mut command, stdin)
}

/// Runs a program under `hostel run` with a host function that panics: `INTERFACE#FUNCTION`.
pub(crate) fn run_panicking_in(function: &str, file: &Path) -> Outcome {
    let mut command = executable();
    command.env("HOSTEL_PANIC_IN", function);
    command.arg("run").arg("--data").arg(data()).arg(file);
    finish(&mut command, b"")
}

/// Starts a command with all three streams caught, and waits for its end.
fn finish(command: &mut Command, stdin: &[u8]) -> Outcome {
    let streams = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Guarded(streams.spawn().expect("the executable starts"));
    let mut input = child.0.stdin.take().expect("a pipe");
    let stdin = stdin.to_vec();
    // A program that ends without reading closes the pipe; that is its right.
    std::thread::spawn(move || drop(input.write_all(&stdin)));
    let stdout = Capture::of(child.0.stdout.take().expect("a pipe"));
    let stderr = Capture::of(child.0.stderr.take().expect("a pipe"));
    Outcome {
        code: child.end().code(),
        stdout: stdout.to_the_end(),
        stderr: String::from_utf8_lossy(&stderr.to_the_end()).into_owned(),
    }
}

/// A child process that does not outlive its test.
pub(crate) struct Guarded(pub(crate) Child);

impl Guarded {
    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        eventually("the end of the process", || {
            self.0.try_wait().expect("a child")
        })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Both do nothing to a process that has ended and been waited for.
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}
