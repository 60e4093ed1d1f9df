//! `cargo xtask demo`: builds Hostel and its example and serves it, with nothing set up before.
//!
//! `--check` is the same for machines: a port of the system's choosing, one request, a graceful stop, and
//! the result as the exit code. The server is the real binary; nothing of it is linked in here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{guests, shell};

const APP: &str = "examples/hello";
/// What `--check` looks for in the page.
const EXPECTED: &str = "served by WebAssembly";
/// The line by which the server says that it accepts requests.
const READY: &str = "listening on http://";
/// The first start compiles the guest with a compiler that may itself be unoptimised.
const READY_MAX: Duration = Duration::from_secs(120);
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longer than the server's own time for draining.
const STOP_MAX: Duration = Duration::from_secs(40);

/// Serves the example until Ctrl-C, or checks it with `--check`.
///
/// # Errors
/// Where something does not build or, with `--check`, the page is not served as expected.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let check = match arguments {
        [] => false,
        [only] if only == "--check" => true,
        _ => bail!("usage: cargo xtask demo [--check]"),
    };
    guests::example(APP)?;
    println!("demo: building hostel (the first time takes some minutes)");
    shell::run(shell::cargo().args(["build", "--package", "hostel"]))?;
    let mut hostel = Command::new(binary()?);
    hostel.current_dir(shell::root()).args(["up", APP]);
    if check {
        hostel.args(["--listen", "127.0.0.1:0"]);
        return check_once(hostel);
    }
    println!("demo: starting; open the address that is printed next in a browser, Ctrl-C ends it");
    // In place of this process: the terminal's Ctrl-C then reaches the server and nobody else.
    Err(hostel.exec()).context("cannot start hostel")
}

/// Where cargo leaves the binary of the development profile.
fn binary() -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--quiet"]);
    let metadata: Value = serde_json::from_str(&shell::output(&mut cargo)?)?;
    let target = metadata.get("target_directory").and_then(Value::as_str);
    Ok(
        PathBuf::from(target.context("cargo metadata without a target folder")?)
            .join("debug/hostel"),
    )
}

/// Starts the server, requests the page once, stops the server, and judges all three.
fn check_once(mut hostel: Command) -> Result<()> {
    let mut child = hostel
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start hostel")?;
    let page = child
        .stderr
        .take()
        .context("hostel without a standard error")
        .and_then(address)
        .and_then(|address| get(&address).map(|page| (address, page)));
    let status = stop(child)?;
    let (address, page) = page?;
    judge(&page).with_context(|| format!("http://{address}/ is not as expected"))?;
    if !status.success() {
        bail!("hostel did not stop gracefully: {status}");
    }
    println!("demo: http://{address}/ answered 200 with the page, and hostel stopped gracefully");
    Ok(())
}

/// Waits for the ready line and returns the address in it; the rest of the log passes through.
fn address(stderr: ChildStderr) -> Result<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            eprintln!("{line}");
            if let Some((_, address)) = line.split_once(READY) {
                // Only the first one is awaited; a full channel means that it has been seen.
                let _ = sender.try_send(address.trim().to_string());
            }
        }
    });
    receiver
        .recv_timeout(READY_MAX)
        .with_context(|| format!("hostel did not print `{READY}…`"))
}

/// The whole response to one GET of `/`, head included.
#[expect(
    clippy::disallowed_methods,
    reason = "a client of the server on trial, not a guest's dialer"
)]
fn get(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut response = Vec::new();
    stream
        .read_to_end(&mut response)
        .context("no whole answer")?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

/// Whether a response is the example's page.
fn judge(response: &str) -> Result<()> {
    let head = response.lines().next().unwrap_or_default();
    if head.split(' ').nth(1) != Some("200") {
        bail!("the status line is `{head}`");
    }
    if !response.contains(EXPECTED) {
        bail!("the page does not say `{EXPECTED}`:\n{response}");
    }
    Ok(())
}

/// Asks the server to stop as a service manager would, and waits for its end.
fn stop(mut child: Child) -> Result<ExitStatus> {
    let pid = child.id();
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || sender.send(child.wait()));
    signal("TERM", pid)?;
    match receiver.recv_timeout(STOP_MAX) {
        Ok(status) => Ok(status?),
        Err(_) => {
            signal("KILL", pid)?;
            bail!(
                "hostel did not stop within {} s of SIGTERM",
                STOP_MAX.as_secs()
            )
        }
    }
}

/// Sends a signal with the shell's own `kill`, which every machine has. A process that has ended already
/// is not an error: its exit status tells.
fn signal(name: &str, pid: u32) -> Result<()> {
    let line = format!("kill -{name} {pid} 2>/dev/null || true");
    shell::run(Command::new("sh").args(["-c", &line]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_with_the_text_and_status_200_passes() {
        let page = format!("HTTP/1.1 200 OK\r\n\r\n<p>{EXPECTED}</p>");
        judge(&page).unwrap();
    }

    #[test]
    fn another_status_or_another_text_is_named() {
        let error = judge("HTTP/1.1 500 Oops\r\n\r\n").unwrap_err().to_string();
        assert_eq!(error, "the status line is `HTTP/1.1 500 Oops`");
        let error = judge("HTTP/1.1 200 OK\r\n\r\nnothing")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("the page does not say "), "{error}");
        assert!(judge("").is_err());
    }

    #[test]
    fn unknown_arguments_are_refused() {
        let error = run(&["--chekc".to_string()]).unwrap_err().to_string();
        assert_eq!(error, "usage: cargo xtask demo [--check]");
    }

    #[test]
    fn the_ready_line_is_found_behind_other_lines() {
        let mut child = Command::new("sh")
            .args([
                "-c",
                "echo compiling >&2; echo 'listening on http://127.0.0.1:1' >&2",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(
            address(child.stderr.take().unwrap()).unwrap(),
            "127.0.0.1:1"
        );
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_server_that_ends_without_a_ready_line_is_an_error() {
        let mut child = Command::new("sh")
            .args(["-c", "echo no >&2; exit 1"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let error = address(child.stderr.take().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("hostel did not print "), "{error}");
        child.wait().unwrap();
    }

    #[test]
    fn stopping_returns_the_exit_status_of_the_server() {
        // The shell says when its trap is set, so that the signal cannot come too early.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "trap 'exit 7' TERM; echo ready; while :; do read x || :; done",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        assert_eq!(stop(child).unwrap().code(), Some(7));
    }
}
