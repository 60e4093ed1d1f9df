//! Guests that are made to be expensive for the compiler: refused with the name of the cap, or served; never a trouble
//! for anybody else.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::command::{Guarded, hostel};
use crate::harness::server::Server;
use crate::harness::{bombs, eventually, executable, guest};

/// A bomb on disk, gone with its test.
struct Bomb {
    _folder: tempfile::TempDir,
    file: PathBuf,
}

impl Bomb {
    fn of(binary: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("bomb.wasm");
        fs::write(&file, binary).expect("a file");
        Self {
            _folder: folder,
            file,
        }
    }

    fn path(&self) -> &str {
        self.file.to_str().expect("text")
    }
}

/// Runs `hostel ARGUMENTS` to its end: exit code and standard error. It ends by the limits of the compiler, of which
/// `compile_time` is the last; a busy machine may take it there.
fn told(arguments: &[&str]) -> (Option<i32>, String) {
    let output = executable().args(arguments).output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!told.contains("panicked"), "{told}");
    (output.status.code(), told)
}

/// Checks it while another app is served, and gives what it says. The other app answers all the time.
fn checked_beside_a_server(binary: &[u8]) -> (Option<i32>, String) {
    let neighbour = Server::of("hello-p2");
    let bomb = Bomb::of(binary);
    let outcome = std::thread::scope(|scope| {
        let check = scope.spawn(|| told(&["check", "--no-cache", bomb.path()]));
        while !check.is_finished() {
            neighbour.is_alive("/");
        }
        check.join().expect("the check ends")
    });
    neighbour.is_alive("/");
    outcome
}

#[test]
fn a_function_that_takes_too_much_memory() {
    let (code, told) = checked_beside_a_server(&bombs::calls(3_800_000));
    assert_eq!(code, Some(1), "{told}");
    for part in [
        "component \"bomb\": it takes too much memory to compile: the limit `compile_memory` is 960MiB",
        "bomb.wasm",
        "help: split",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_small_function_whose_cost_grows_with_its_square() {
    let (code, told) = checked_beside_a_server(&bombs::nested_blocks(200_000));
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("the limit `compile_cpu_per_mib` is 5s"),
        "{told}"
    );
}

#[test]
fn forty_thousand_functions_and_a_million_types_are_within_the_caps() {
    for binary in [bombs::functions(40_000), bombs::types(1_000_000)] {
        let (code, told) = checked_beside_a_server(&binary);
        assert_eq!(code, Some(0), "{told}");
    }
}

#[test]
fn more_types_than_there_may_be_are_refused_by_their_number() {
    let (code, told) = checked_beside_a_server(&bombs::types(1_000_001));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("not valid WebAssembly"), "{told}");
}

#[test]
fn up_and_run_refuse_it_too() {
    let module = bombs::calls(3_800_000);
    let run = told(&["run", "--no-cache", Bomb::of(&module).path()]);
    let server = fs::read(guest("hello-p2")).expect("a guest");
    let bomb = Bomb::of(&bombs::within(&server, &module));
    let up = told(&["up", "--no-cache", "--listen", "127.0.0.1:0", bomb.path()]);
    for (code, told) in [run, up] {
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("the limit `compile_memory`"), "{told}");
    }
    let harmless = Bomb::of(&bombs::within(&server, &bombs::calls(1)));
    Server::start(&harmless.file, &[]).is_alive("/");
}

/// The processes that compile for this one.
fn compilers(parent: u32) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("the processes");
    processes
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let line = fs::read_to_string(folder.join("cmdline")).ok()?;
            let words: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
            let ours =
                words.contains(&"compile-guest") && *words.last()? == parent.to_string().as_str();
            ours.then(|| folder.display().to_string())
        })
        .collect()
}

#[test]
fn the_compiler_ends_with_whoever_waits_for_it() {
    let bomb = Bomb::of(&bombs::nested_blocks(200_000));
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut command = executable();
        command.args(["check", "--no-cache", bomb.path()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut check = Guarded(command.spawn().expect("it starts"));
        let id = check.0.id();
        eventually("the compiler starts", || {
            (!compilers(id).is_empty()).then_some(())
        });
        let pid = Pid::from_raw(i32::try_from(id).expect("a process id")).expect("not 0");
        kill_process(pid, signal).expect("it is there");
        assert!(!check.end().success());
        eventually("the compiler is gone", || {
            compilers(id).is_empty().then_some(())
        });
    }
}

#[test]
fn the_compiler_is_gone_when_the_answer_is_there() {
    let mut command = executable();
    command.args(["check", "--no-cache"]).arg(guest("hello-p2"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut check = Guarded(command.spawn().expect("it starts"));
    let id = check.0.id();
    assert!(check.end().success());
    assert_eq!(compilers(id), Vec::<String>::new());
}

#[test]
fn the_compiler_s_command_is_not_for_people() {
    let told = hostel(&["compile-guest"]).failure(3);
    assert!(told.contains("started by Hostel itself"), "{told}");
    // Nobody of this number waits for it.
    let words = ["sync", "module", "5", "1000000000", "1000000", "1"];
    let told = hostel(&[&["compile-guest"], &words[..]].concat()).failure(3);
    assert!(told.contains("whoever asked for it is gone"), "{told}");
    let help = hostel(&["--help"]).success();
    assert!(!help.contains("compile-guest"), "{help}");
}
