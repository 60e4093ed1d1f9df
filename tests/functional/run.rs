//! `hostel run`: a program's arguments, environment, streams, files and exit code, in all three generations of WASI.

use std::fs;
use std::path::Path;

use crate::harness::command::{Outcome, hostel, run};
use crate::harness::{data, fixture, guest};

const GENERATIONS: [&str; 3] = ["run-exit-p1", "run-exit-p2", "run-exit-p3"];

fn exit(name: &str, flags: &[&str], arguments: &[&str]) -> Outcome {
    run(flags, &guest(name), arguments, b"")
}

#[test]
fn arguments_and_environment_are_the_program_s_own() {
    for name in GENERATIONS {
        let text = exit(
            name,
            &["--env", "A=1", "--env", "B=x=y"],
            &["0", "--env", "C=2", "two words"],
        )
        .success();
        // The program learns its name, not where it lies on this machine.
        let expected = format!(
            "arg 0: {name}.wasm\narg 1: 0\narg 2: --env\narg 3: C=2\narg 4: two words\nenv A=1\nenv B=x=y\n"
        );
        assert_eq!(text, expected, "{name}");
    }
}

#[test]
fn exit_codes_pass_through() {
    for (name, given, expected) in [
        ("run-exit-p1", "0", 0),
        ("run-exit-p1", "1", 1),
        ("run-exit-p1", "3", 3),
        // WASI 0.2 knows success and failure only.
        ("run-exit-p2", "0", 0),
        ("run-exit-p2", "1", 1),
        ("run-exit-p2", "3", 1),
        ("run-exit-p2", "255", 1),
        ("run-exit-p3", "0", 0),
        ("run-exit-p3", "1", 1),
        ("run-exit-p3", "3", 3),
        ("run-exit-p3", "255", 255),
        ("run-exit-p3", "err", 1),
    ] {
        let outcome = exit(name, &[], &[given]);
        assert_eq!(
            outcome.code,
            Some(expected),
            "{name} {given}: {}",
            outcome.stderr
        );
        assert_eq!(outcome.stderr, "", "{name} {given}");
    }
}

#[test]
fn every_exit_code_of_a_p1_program_passes_through() {
    for code in [125, 126, 127, 255] {
        let outcome = exit("run-exit-p1", &[], &[&code.to_string()]);
        assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    }
}

#[test]
fn a_trap_is_told_and_has_its_own_exit_code() {
    for name in GENERATIONS {
        let outcome = exit(name, &[], &["trap"]);
        assert_eq!(outcome.code, Some(134), "{name}: {}", outcome.stderr);
        assert!(
            outcome.stderr.starts_with("error: the guest trapped: "),
            "{name}: {}",
            outcome.stderr
        );
        assert!(
            outcome.stderr.contains("unreachable"),
            "{name}: {}",
            outcome.stderr
        );
        // What it printed before is not lost.
        assert!(outcome.text().starts_with("arg 0: "), "{name}");
    }
}

#[test]
fn standard_streams_are_bytes() {
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    for name in ["run-stdin-p1", "run-stdin-p2"] {
        let outcome = run(&[], &guest(name), &[], &bytes);
        assert_eq!(outcome.code, Some(0), "{name}: {}", outcome.stderr);
        assert!(
            outcome.stdout == bytes,
            "{name}: {} bytes came back",
            outcome.stdout.len()
        );
        assert_eq!(outcome.stderr, "200000 bytes\n", "{name}");
    }
}

#[test]
fn an_empty_standard_input_is_an_end() {
    for name in ["run-stdin-p1", "run-stdin-p2"] {
        let outcome = run(&[], &guest(name), &[], b"");
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (Some(0), "0 bytes\n"),
            "{name}"
        );
    }
}

#[test]
fn files_are_those_of_the_granted_directory() {
    for name in ["run-files-p1", "run-files-p2"] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("in.txt"), "quiet\n").expect("a file");
        let grant = format!("{}::/data", folder.path().display());
        let text = run(
            &["--dir", &grant],
            &guest(name),
            &["/data/in.txt", "/data/out.txt"],
            b"",
        )
        .success();
        assert_eq!(text, "quiet\n", "{name}");
        assert_eq!(
            fs::read_to_string(folder.path().join("out.txt")).expect("written"),
            "QUIET\n",
            "{name}"
        );
    }
}

#[test]
fn a_read_only_directory_is_not_written() {
    for name in ["run-files-p1", "run-files-p2"] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("in.txt"), "quiet\n").expect("a file");
        let grant = format!("{}::/data:ro", folder.path().display());
        let outcome = run(
            &["--dir", &grant],
            &guest(name),
            &["/data/in.txt", "/data/out.txt"],
            b"",
        );
        assert_eq!(
            (outcome.code, outcome.text().as_str()),
            (Some(1), "quiet\n"),
            "{name}"
        );
        assert!(
            outcome.stderr.starts_with("cannot write /data/out.txt: "),
            "{name}: {}",
            outcome.stderr
        );
        assert!(!folder.path().join("out.txt").exists(), "{name}");
    }
}

#[test]
fn clocks_tell_the_time_and_sleep() {
    for name in ["run-clocks-p1", "run-clocks-p2"] {
        let text = run(&[], &guest(name), &["30"], b"").success();
        let number = |prefix: &str, suffix: &str| -> u64 {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(prefix)?.strip_suffix(suffix));
            line.and_then(|number| number.parse().ok())
                .unwrap_or_else(|| panic!("{name}: {text}"))
        };
        assert!(number("wall ", "") > 1_700_000_000, "{name}: {text}");
        assert!(number("slept ", " ms") >= 30, "{name}: {text}");
    }
}

#[test]
fn webassembly_text_runs() {
    assert_eq!(run(&[], &fixture("command-p1.wat"), &[], b"").code, Some(0));
}

#[test]
fn a_server_is_not_run() {
    let text = exit("hello-p2", &[], &[]).failure(1);
    assert!(
        text.contains("it is a server (http-p2), not a command"),
        "{text}"
    );
    assert!(
        text.contains("help: serve it with `hostel up FILE`"),
        "{text}"
    );
}

#[test]
fn limits_hold_when_they_are_set() {
    let outcome = exit("run-exit-p1", &["--limit", "memory=64KiB"], &[]);
    assert_ne!(outcome.code, Some(0), "its memory is larger");
    let outcome = run(&["--limit", "cpu=50ms"], &guest("start-loop"), &[], b"");
    assert_eq!(outcome.code, Some(152), "{}", outcome.stderr);
    let outcome = run(
        &["--limit", "deadline=50ms"],
        &guest("run-clocks-p2"),
        &["10000"],
        b"",
    );
    assert_eq!(outcome.code, Some(124), "{}", outcome.stderr);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let data = data();
    let words = [
        Path::new("run"),
        Path::new("--data"),
        &data,
        Path::new("missing.wasm"),
    ];
    let text = hostel(&words).failure(1);
    assert!(
        text.contains("missing.wasm") && text.contains("help: "),
        "{text}"
    );
}
