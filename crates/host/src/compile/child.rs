//! The parent's side of compiling in a child process: start it, wait for it no longer than allowed, judge its end.
//!
//! Nothing here can block for longer than `compile_time`: the binary, the code and the child's last words are files in
//! memory, so that neither side waits for the other to read. The child is always reaped. It ends with its parent,
//! because it asks the kernel for that ([`super::compiler`]); it has its own process group, so that Ctrl-C in a terminal
//! ends the parent by the parent's rules.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hostel_app::limits::{self, Limit, Unit};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;

use super::caps::{CompileCaps, Kind, Order};
use super::compiler::exit;
use super::{LoadError, compile_error, error};
use crate::cache::Fresh;
use crate::engine::Flavor;

/// How to start the process that compiles: a program that calls [`crate::compile_guest`] with the words that follow
/// `arguments`.
#[derive(Debug, Clone)]
pub struct CompilerProcess {
    /// The program.
    pub executable: PathBuf,
    /// What makes it a compiler.
    pub arguments: Vec<OsString>,
    /// What one compilation may cost.
    pub caps: CompileCaps,
}

/// The longest rest between two looks at the child.
const REST_MAX: Duration = Duration::from_millis(20);
/// As much of the child's last words as is read.
const NOTES_BYTES_MAX: u64 = 8 << 10;
/// Threads of one compilation: each has functions of its own in memory.
const THREADS_MAX: usize = 8;

/// Compiles `binary` in a process of its own.
pub(super) fn compile(
    process: &CompilerProcess,
    flavor: Flavor,
    kind: Kind,
    binary: &[u8],
) -> Result<Fresh, LoadError> {
    let (cpu_seconds, cpu_limit) = process.caps.cpu_seconds(binary);
    let order = Order {
        flavor,
        kind,
        cpu_seconds,
        memory_bytes: process.caps.memory_bytes,
        artifact_bytes: process.caps.artifact_bytes,
        parent: std::process::id(),
    };
    let files = Files::new(binary).map_err(|cause| not_started(process, &cause))?;
    let child = start(process, &order, &files).map_err(|cause| not_started(process, &cause))?;
    let end = wait(child, process.caps.time)
        .map_err(|cause| broken(&format!("it cannot be waited for: {cause}")))?;
    let notes = files.notes();
    match end {
        End::TimedOut => Err(capped(
            &limits::COMPILE_TIME_MS,
            process.caps.time.as_millis() as u64,
        )),
        End::Ended(status) => {
            Judge {
                order: &order,
                cpu_limit,
                notes: &notes,
            }
            .refusal(status)
            .map_or(Ok(()), Err)?;
            files.code(&notes)
        }
    }
}

/// What passes between the two processes.
struct Files {
    binary: File,
    code: File,
    notes: File,
}

impl Files {
    fn new(binary: &[u8]) -> io::Result<Self> {
        let mut input = in_memory("binary")?;
        input.write_all(binary)?;
        input.rewind()?;
        Ok(Self {
            binary: input,
            code: in_memory("code")?,
            notes: in_memory("notes")?,
        })
    }

    /// The child's last words.
    fn notes(&self) -> String {
        let mut bytes = Vec::new();
        let mut notes = &self.notes;
        // What cannot be read was not said.
        let _read = notes
            .seek(SeekFrom::Start(0))
            .and_then(|_| notes.take(NOTES_BYTES_MAX).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    /// The code, if it is what the child says that it is.
    fn code(self, notes: &str) -> Result<Fresh, LoadError> {
        let rubbish = || broken("what it wrote is no compiled code");
        let (bytes, digest) = notes
            .strip_prefix("code ")
            .and_then(|words| words.split_once(' '))
            .and_then(|(bytes, digest)| Some((bytes.parse().ok()?, digest)))
            .ok_or_else(rubbish)?;
        let digest = blake3::Hash::from_hex(digest).map_err(|_| rubbish())?;
        Fresh::new(self.code, bytes, digest).map_err(|_| rubbish())
    }
}

/// A file without a name, gone with its last handle.
pub(super) fn in_memory(name: &str) -> io::Result<File> {
    let file = memfd_create(format!("hostel-{name}"), MemfdFlags::CLOEXEC)?;
    Ok(File::from(file))
}

fn start(process: &CompilerProcess, order: &Order, files: &Files) -> io::Result<Child> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Command::new(&process.executable)
        .arg0("hostel")
        .args(&process.arguments)
        .args(order.words())
        .env_clear() // the host's secrets are not the compiler's business
        .env("RAYON_NUM_THREADS", cores.min(THREADS_MAX).to_string())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(files.binary.try_clone()?))
        .stdout(Stdio::from(files.code.try_clone()?))
        .stderr(Stdio::from(files.notes.try_clone()?))
        .spawn()
}

/// How the child ended.
enum End {
    Ended(ExitStatus),
    TimedOut,
}

/// Waits in the thread that started the child, because the kernel takes the end of that thread for the end of the
/// parent. Kills when the time is over. Either way the child is gone afterwards, and its handles with it.
fn wait(child: Child, time: Duration) -> io::Result<End> {
    let begin = Instant::now();
    let mut child = Reaped(child);
    loop {
        if let Some(status) = child.0.try_wait()? {
            return Ok(End::Ended(status));
        }
        let waited = begin.elapsed();
        if waited >= time {
            return Ok(End::TimedOut);
        }
        // A sixteenth later than it could have been is not noticed, and costs a long wait nothing.
        let rest = (waited / 16).clamp(Duration::from_millis(1), REST_MAX);
        std::thread::park_timeout(rest.min(time - waited));
    }
}

/// A child that does not outlive its handle.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both do nothing to a process that has been waited for.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// What is known when a child has ended.
struct Judge<'a> {
    order: &'a Order,
    cpu_limit: &'static Limit,
    notes: &'a str,
}

impl Judge<'_> {
    /// Why there is no code, if the child did not end well.
    fn refusal(&self, status: ExitStatus) -> Option<LoadError> {
        let code = status.code().map(u8::try_from);
        Some(
            match (code, status.signal().and_then(Signal::from_named_raw)) {
                (Some(Ok(exit::DONE)), _) => return None,
                (Some(Ok(exit::REFUSED)), _) if !self.out_of_memory() => compile_error(self.notes),
                (_, Some(Signal::XCPU)) => capped(self.cpu_limit, self.order.cpu_seconds * 1_000),
                (_, Some(Signal::XFSZ)) => {
                    capped(&limits::ARTIFACT_BYTES_MAX, self.order.artifact_bytes)
                }
                _ if self.out_of_memory() => {
                    capped(&limits::COMPILE_MEMORY_BYTES, self.order.memory_bytes)
                }
                (Some(Ok(exit::FAILED)), _) => broken(self.notes),
                (Some(_), _) => broken(&format!("it ended with {status}{}", self.last_words())),
                (None, Some(Signal::KILL)) => error(
                    "the compiler was killed from outside",
                    "see whether the machine or the container ran out of memory; otherwise try again",
                ),
                (None, _) => broken(&format!("it ended with {status}{}", self.last_words())),
            },
        )
    }

    /// Refused memory is said by the standard library as it aborts, or by the kernel through whoever asked for it.
    fn out_of_memory(&self) -> bool {
        [
            "memory allocation of ",
            "(os error 12)",
            "Cannot allocate memory",
        ]
        .iter()
        .any(|sign| self.notes.contains(sign))
    }

    fn last_words(&self) -> String {
        let line = self.notes.lines().find(|line| !line.trim().is_empty());
        line.map_or(String::new(), |line| format!(": {line}"))
    }
}

/// One compilation cost more than it may.
fn capped(limit: &Limit, value: u64) -> LoadError {
    let (what, help) = match limit.unit {
        Unit::Bytes if limit.name == limits::ARTIFACT_BYTES_MAX.name => (
            "its machine code is too large",
            "build it smaller: with size optimisation, without what it does not use, or as several components",
        ),
        Unit::Bytes => (
            "it takes too much memory to compile",
            "split its largest functions, or split it into several components",
        ),
        _ if limit.name == limits::COMPILE_TIME_MS.name => (
            "it takes too long to compile",
            "try again when the machine has less to do, or split it into several components",
        ),
        _ => (
            "it takes too much CPU time to compile",
            "split its largest functions, or split it into several components",
        ),
    };
    let shown = Limit {
        default: value,
        ..*limit
    }
    .shown();
    error(
        format!("{what}: the limit `{}` is {shown}", limit.name),
        help,
    )
}

fn not_started(process: &CompilerProcess, cause: &io::Error) -> LoadError {
    error(
        format!(
            "the compiler {} cannot be started: {cause}",
            process.executable.display()
        ),
        "check that the program is still there and may be run, and the limits of the machine (`ulimit -u`, `ulimit -n`)",
    )
}

fn broken(what: &str) -> LoadError {
    error(
        format!("the compiler failed: {what}"),
        "this is a fault of Hostel or of the machine, not of the component: try again, then report it with the component",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Artifact;
    use crate::engine;

    fn caps() -> CompileCaps {
        CompileCaps {
            time: Duration::from_secs(20),
            ..CompileCaps::default()
        }
    }

    /// What becomes of a compilation whose child is this program.
    fn outcome(executable: &str, arguments: &[&str], caps: CompileCaps) -> Result<Fresh, String> {
        let process = CompilerProcess {
            executable: executable.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            caps,
        };
        compile(&process, Flavor::Sync, Kind::Module, b"the binary").map_err(|e| e.to_string())
    }

    /// Why there is no code when the child is this shell script.
    fn refusal(script: &str) -> String {
        outcome("/bin/sh", &["-c", script], caps()).unwrap_err()
    }

    #[test]
    fn a_program_that_is_gone_is_named() {
        let told = outcome("/nowhere/hostel", &[], caps()).unwrap_err();
        assert!(
            told.contains("/nowhere/hostel cannot be started: No such file"),
            "{told}"
        );
    }

    #[test]
    fn every_cap_is_named_with_its_value() {
        for (script, expected) in [
            ("kill -XCPU $$", "`compile_cpu_per_mib` is 5s"),
            ("kill -XFSZ $$", "`artifact` is 512MiB"),
            (
                "echo memory allocation of 8 bytes failed >&2; kill -ABRT $$",
                "`compile_memory` is 960MiB",
            ),
            (
                "echo 'mmap failed: Cannot allocate memory (os error 12)' >&2; exit 1",
                "`compile_memory` is 960MiB",
            ),
        ] {
            let told = refusal(script);
            assert!(told.contains(expected), "{script}: {told}");
            assert!(told.contains("\n  help: "), "{script}: {told}");
        }
        let caps = CompileCaps {
            cpu: Duration::from_secs(2),
            ..caps()
        };
        let told = outcome("/bin/sh", &["-c", "kill -XCPU $$"], caps).unwrap_err();
        assert!(told.contains("`compile_cpu` is 2s"), "{told}");
    }

    #[test]
    fn a_child_that_takes_too_long_is_killed_and_reaped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("echo $$ > {}; exec sleep 1000", file.display());
        let caps = CompileCaps {
            time: Duration::from_millis(500),
            ..caps()
        };
        let told = outcome("/bin/sh", &["-c", &script], caps).unwrap_err();
        assert!(told.contains("`compile_time` is 500ms"), "{told}");
        if let Ok(pid) = std::fs::read_to_string(&file) {
            let gone = !PathBuf::from(format!("/proc/{}", pid.trim())).exists();
            assert!(gone, "the child {pid} is still there");
        }
    }

    #[test]
    fn a_binary_that_is_refused_has_the_compiler_s_reason() {
        let told = refusal("echo 'unknown opcode (at offset 0x17)' >&2; exit 1");
        assert!(
            told.contains("not valid WebAssembly for this host: unknown opcode (at offset 0x17)"),
            "{told}"
        );
    }

    #[test]
    fn a_child_that_fails_in_its_own_way_is_told_apart() {
        for (script, expected) in [
            ("kill -KILL $$", "the compiler was killed from outside"),
            (
                "kill -SEGV $$",
                "the compiler failed: it ended with signal: 11",
            ),
            (
                "echo no limits >&2; exit 3",
                "the compiler failed: no limits",
            ),
            (
                "echo >&2; echo thread main panicked at here >&2; exit 101",
                "it ended with exit status: 101: thread main panicked at here",
            ),
        ] {
            let told = refusal(script);
            assert!(told.contains(expected), "{script}: {told}");
            assert!(told.contains("\n  help: "), "{script}: {told}");
        }
    }

    #[test]
    fn rubbish_is_never_taken_for_code() {
        let digest = blake3::hash(b"code").to_hex();
        for script in [
            "true".to_owned(),
            "echo rubbish".to_owned(),
            format!("echo code 4 {digest} >&2"),
            format!("printf cod; echo code 4 {digest} >&2"),
            format!("printf codes; echo code 4 {digest} >&2"),
            format!("printf edoc; echo code 4 {digest} >&2"),
            "printf code; echo code 4 0123 >&2".to_owned(),
            format!("printf code; echo code -4 {digest} >&2"),
        ] {
            let told = refusal(&script);
            assert!(
                told.contains("what it wrote is no compiled code"),
                "{script}: {told}"
            );
        }
        let script = format!("printf code; echo code 4 {digest} >&2");
        assert!(outcome("/bin/sh", &["-c", &script], caps()).is_ok());
    }

    #[test]
    fn the_child_has_the_binary_and_nothing_of_the_host_s_environment() {
        let told = refusal("cat >&2; echo \" and ${PATH_OF_HOST-$HOME}.\" >&2; pwd >&2; exit 1");
        assert!(told.contains("the binary and .\n/"), "{told}");
    }

    #[test]
    fn last_words_without_end_are_cut_off() {
        let told = refusal(
            "while echo word word word word; do :; done 2>&1 >&2 | head -c 100000; head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1",
        );
        assert!(told.len() < 10_000, "{}", told.len());
    }

    /// What a process with another kind of engine has compiled runs on each of the host's.
    #[test]
    fn code_of_the_compiler_s_engine_loads_in_every_engine_of_its_flavour() {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let hash = |engine: &wasmtime::Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let module = wat::parse_str("(module (memory 1) (func (export \"run\")))").unwrap();
        let component = wat::parse_str("(component (core module (memory 1)))").unwrap();
        for flavor in [Flavor::Sync, Flavor::Async] {
            let compiling = engine::for_compiling(flavor).unwrap();
            let (pooled, _) = engine::new(flavor, true).unwrap();
            assert_eq!(hash(&compiling), hash(&pooled), "{flavor:?}");
            for engine in [&compiling, &pooled] {
                load::<wasmtime::Module>(engine, &compiling.precompile_module(&module).unwrap());
                load::<wasmtime::component::Component>(
                    engine,
                    &compiling.precompile_component(&component).unwrap(),
                );
            }
        }
    }

    fn load<A: Artifact>(engine: &wasmtime::Engine, code: &[u8]) {
        let mut file = in_memory("code").unwrap();
        file.write_all(code).unwrap();
        let fresh = Fresh::new(file, code.len() as u64, blake3::hash(code)).unwrap();
        fresh.load::<A>(engine, None).unwrap();
    }
}
