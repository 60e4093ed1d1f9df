//! The compiler's own process: it limits itself, reads a binary, and writes machine code.
//!
//! The binary comes on standard input, the code goes to standard output, and standard error carries one line: what the
//! code must look like, or why there is none. The bounds are set before the first byte is read, so that no binary
//! meets a compiler without them. This process protects the host from what compiling *costs*. It is our own program and
//! is believed: what it writes is native code.
//!
//! The wall clock is the parent's ([`super::child`]), and so is the judgement of how this process ended.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, nice, set_parent_process_death_signal, setrlimit,
};

use super::caps::{Kind, Order};
use crate::engine::{self, Flavor};

/// How the process ends, apart from being killed.
pub(super) mod exit {
    /// The code is on standard output.
    pub(in crate::compile) const DONE: u8 = 0;
    /// The binary is not valid; standard error says why.
    pub(in crate::compile) const REFUSED: u8 = 1;
    /// The process could not begin, or could not hand over its work; standard error says why.
    pub(in crate::compile) const FAILED: u8 = 3;
}

/// Steps down for everybody else: against a neighbour that computes, about a quarter of a core.
const NICENESS: i32 = 5;
/// Open files: the three streams, and what the engine looks at once.
const FILES_MAX: u64 = 64;

/// Runs as the compiler that a [`crate::Compiler::Child`] starts. `words` are what followed its arguments; the result is
/// the process's exit code.
pub fn compile_guest(words: &[String]) -> u8 {
    let Some(order) = Order::parse(words) else {
        return end(
            exit::FAILED,
            "this command is started by Hostel itself, to compile a guest",
        );
    };
    if let Err(cause) = confine(&order) {
        return end(exit::FAILED, &format!("it cannot limit itself: {cause}"));
    }
    let mut binary = Vec::new();
    if let Err(cause) = io::stdin().lock().read_to_end(&mut binary) {
        return end(exit::FAILED, &format!("it cannot read the binary: {cause}"));
    }
    match compile(order.flavor, order.kind, &binary) {
        Ok(code) => match hand_over(&code) {
            Ok(()) => end(exit::DONE, &seal(&code)),
            Err(cause) => end(exit::FAILED, &format!("it cannot write the code: {cause}")),
        },
        Err(cause) => end(exit::REFUSED, &format!("{cause:#}")),
    }
}

/// Compiles without a pool of instances: the code is the same, and the pool's address space stays free.
fn compile(flavor: Flavor, kind: Kind, binary: &[u8]) -> wasmtime::Result<Vec<u8>> {
    let engine = engine::for_compiling(flavor)?;
    match kind {
        Kind::Module => engine.precompile_module(binary),
        Kind::Component => engine.precompile_component(binary),
    }
}

/// Sets every bound, and ends with its parent.
fn confine(order: &Order) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have ended before that took effect.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent != Some(order.parent) {
        return Err(io::Error::other("whoever asked for it is gone"));
    }
    // Private memory that can be written: the heap, and the stacks of the compiler's threads. Not `Resource::As`, which
    // would also count the program itself and what the allocator only reserves, 64 MiB for every thread.
    limit(Resource::Data, order.memory_bytes, 0)?;
    limit(Resource::Cpu, order.cpu_seconds, 1)?; // the signal that says so comes at the lower value only
    limit(Resource::Fsize, order.artifact_bytes, 0)?;
    limit(Resource::Nofile, FILES_MAX, 0)?;
    limit(Resource::Core, 0, 0)?;
    nice(NICENESS)?;
    Ok(())
}

/// Lowers one limit of this process, and `slack` above it for good; one that is lower already stays.
fn limit(resource: Resource, value: u64, slack: u64) -> io::Result<()> {
    let old = getrlimit(resource);
    let lowered = |old: Option<u64>, new: u64| Some(old.map_or(new, |old| old.min(new)));
    let new = Rlimit {
        current: lowered(old.current, value),
        maximum: lowered(old.maximum, value.saturating_add(slack)),
    };
    Ok(setrlimit(resource, new)?)
}

/// Past the buffers of the standard library: the code is large, and has no lines.
fn hand_over(code: &[u8]) -> io::Result<()> {
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(code)
}

/// What the parent compares the code with, so that nothing else is ever taken for it.
pub(super) fn seal(code: &[u8]) -> String {
    format!("code {} {}", code.len(), blake3::hash(code).to_hex())
}

/// Says how it went, and ends.
fn end(code: u8, line: &str) -> u8 {
    // If nobody hears it, the exit code still says the most important part.
    let _unheard = io::stderr().lock().write_all(line.as_bytes());
    code
}
