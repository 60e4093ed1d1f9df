//! From bytes to a linked guest: what it is, whether the host has what it imports, machine code (from the cache if it
//! is there), and the pre-instantiated entry point.
//!
//! Whatever is wrong with a guest is found here, at load, and said with a way out; a request never meets it. What the
//! compiler costs is bounded in a process of its own: `child` starts and judges it, `compiler` is what runs there,
//! `caps` are the bounds.

mod caps;
mod child;
mod compiler;

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::time::Instant;

use hostel_app::limits::{self, Limits};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, InstancePre, Module, ResourcesRequired};
use wasmtime_wasi_http::{p2, p3};

use crate::abi::{Callable, command::Command, init};
use crate::abi::{cgi, export, handle, message::handlers};
use crate::bind::{self, Bound};
use crate::cache::{Artifact, Cache, Fresh, Key};
use crate::detect::{self, Abi, DetectError, Detected, Need};
use crate::engine::Flavor;
use crate::imports;
use crate::lock::lock;
use crate::meter::millis;
use crate::runtime::{Half, Progress, Role, Shared};
use crate::state::Host;

pub use caps::CompileCaps;
pub(crate) use caps::Kind;
pub use child::CompilerProcess;
pub use compiler::compile_guest;

/// Where guests are compiled.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// In this process, without a bound on what it costs: for code that is one's own, as in tests.
    InProcess,
    /// In a process of its own for each compilation, one at a time.
    Child(CompilerProcess),
}

/// Why a component cannot be loaded, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// The component's name; empty where the host itself is at fault.
    pub component: String,
    /// What is wrong; may have several lines.
    pub what: String,
    /// The way out.
    pub help: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.component.is_empty() {
            write!(f, "component \"{}\": ", self.component)?;
        }
        write!(f, "{}\n  help: {}", self.what, self.help)
    }
}

impl std::error::Error for LoadError {}

impl From<DetectError> for LoadError {
    fn from(error: DetectError) -> Self {
        Self {
            component: String::new(),
            what: error.what,
            help: error.help,
        }
    }
}

/// What [`load`] found and made.
pub(crate) struct Loaded {
    pub(crate) abi: Abi,
    pub(crate) flavor: Flavor,
    pub(crate) callable: Callable,
    pub(crate) engine: Engine,
}

/// The engine counts memories in pages.
const WASM_PAGE_BYTES: u64 = 64 << 10;

/// One guest on its way in.
pub(crate) struct Job<'a> {
    pub(crate) name: &'a str,
    pub(crate) code: &'a [u8],
    pub(crate) limits: &'a Limits,
    pub(crate) role: Role,
    /// Imports that other components answer.
    pub(crate) bound: &'a Bound,
    pub(crate) progress: &'a dyn Fn(Progress),
}

/// Detects, checks, compiles and links.
pub(crate) fn load(shared: &Shared, job: &Job<'_>) -> Result<Loaded, LoadError> {
    let bytes_max = limits::COMPONENT_BYTES_MAX.size();
    if job.code.len() > bytes_max {
        let what = format!("it has {} bytes; the limit is {bytes_max}", job.code.len());
        return Err(error(
            what,
            "strip debug information from it, or split it into several components",
        ));
    }
    let binary = detect::to_binary(job.code)?;
    let mut detected = detect::detect(&binary)?;
    let bound = |need: &Need| {
        job.bound
            .keys()
            .any(|written| bind::is_meant(written, &need.name))
    };
    detected.needs.retain(|need| !bound(need));
    let abi = choose(&detected, job.role)?;
    bind::check(&detected.imports, job.bound)?;
    let linked_by = detected.linked_by(abi);
    imports::check(&detected, linked_by).map_err(|missing| error(missing.what, missing.help))?;
    let flavor = flavor(&detected, linked_by);
    let half = shared.half(flavor).map_err(|cause| host_error(&cause))?;
    let callable = match linked_by {
        Abi::CommandP1 | Abi::ExportModule | Abi::Init | Abi::Handle => {
            let module: Module = compile(shared, half, job, &instantiable(linked_by, &binary))?;
            fits(job.limits, Some(module.resources_required()))?;
            let modules = match job.role {
                Role::Service => &half.services,
                _ => &half.modules,
            };
            #[cfg(debug_assertions)]
            let modules =
                &crate::inject::module(modules, &module).map_err(|cause| host_error(&cause))?;
            let pre = modules
                .instantiate_pre(&module)
                .map_err(|cause| link_error(abi, &cause))?;
            of_module(abi, pre)?
        }
        _ => {
            let component: Component = compile(shared, half, job, &binary)?;
            fits(job.limits, component.resources_required())?;
            let mut linker = Cow::Borrowed(&half.components);
            if !job.bound.is_empty() {
                bind::link(linker.to_mut(), &component, job.bound)?;
            }
            let linked = link(&linker, &component, linked_by);
            let linked = linked.map(|callable| match (abi, callable) {
                (Abi::Cgi, Callable::Command(command)) => Callable::Cgi(command),
                (_, callable) => callable,
            });
            linked.map_err(|cause| link_error(abi, &cause))?
        }
    };
    Ok(Loaded {
        abi,
        flavor,
        callable,
        engine: half.engine.clone(),
    })
}

/// A module that was linked, as it is called by `abi`.
fn of_module(abi: Abi, pre: InstancePre<Host>) -> Result<Callable, LoadError> {
    Ok(match abi {
        Abi::ExportModule => Callable::Export(export::Linked::module(pre)),
        Abi::Init if !init::fits(pre.module()) => return Err(other_init()),
        Abi::Init => Callable::Init(pre),
        Abi::Handle => Callable::Handle(handle::Linked::new(pre)),
        Abi::Cgi if !cgi::begins(pre.module()) => return Err(other_start()),
        Abi::Cgi => Callable::Cgi(Command::P1(pre)),
        _ => Callable::Command(Command::P1(pre)),
    })
}

/// The module that is compiled in its place: one that can be linked before there is a store.
fn instantiable(abi: Abi, binary: &[u8]) -> Cow<'_, [u8]> {
    match abi {
        Abi::Handle => handle::with_own_memory(binary),
        _ => Cow::Borrowed(binary),
    }
}

fn choose(detected: &Detected, role: Role) -> Result<Abi, LoadError> {
    let wanted = match role {
        Role::Serve => detected.http_abi(),
        Role::Handle => detected.message_abi(),
        Role::Job | Role::Run => detected.command_abi(),
        // Which export that is says whoever starts it; `Guest::check_service` tells what it cannot be.
        Role::Service => detected
            .service_abi()
            .or_else(|| Some(detected.export_abi())),
        Role::Call => Some(detected.export_abi()),
    };
    match (wanted, detected.abi) {
        (Some(abi), _) => Ok(abi),
        (None, Some(other)) => Err(unfit(role, other)),
        (None, None) => Err(detected.refusal().into()),
    }
}

fn other_init() -> LoadError {
    error(
        "its export `init` takes other parameters than a path, or a path and a descriptor",
        "build it against the interface of server-side-wasm: `init: func(configfilepath: string)`",
    )
}

fn other_start() -> LoadError {
    error(
        "its export `_start`, by which a program begins, is no function without parameters and results",
        "build it as a command of WASI preview 1 (Rust: `cargo build --target wasm32-wasip1`)",
    )
}

/// What to do with a guest that is called by something else.
fn unfit(role: Role, abi: Abi) -> LoadError {
    let kind = match abi {
        _ if abi.is_http() => "a server",
        _ if abi.is_message() => "a handler of messages",
        Abi::Init => "a service",
        _ => "a command",
    };
    let wanted = match role {
        Role::Serve => "a server",
        Role::Handle => "a handler of messages",
        Role::Job | Role::Service | Role::Run => "a command",
        Role::Call => "a guest with exports",
    };
    let help = match (role, abi) {
        (Role::Handle, _) => {
            "name a component that exports wasi:messaging/incoming-handler@0.2.0-draft or \
             wasmcloud:messaging/handler in [[message]]"
        }
        (_, Abi::Init) => "let it run all the time, with [[service]] in a manifest",
        (_, abi) if abi.is_http() => "serve it with `hostel up FILE`",
        (_, abi) if abi.is_message() => {
            "say in a manifest which messages it gets, with [[message]], and start that with `hostel up`"
        }
        _ => "run it with `hostel run FILE`",
    };
    error(format!("it is {kind} ({abi}), not {wanted}"), help)
}

/// Which engine a guest runs on when it is called by this ABI.
fn flavor(detected: &Detected, abi: Abi) -> Flavor {
    match abi {
        Abi::HttpP3 | Abi::CommandP3 | Abi::MessageWasmcloudP3 => Flavor::Async,
        Abi::MessageP2 | Abi::MessageWasmcloudP2 | Abi::Export if detected.is_of_0_3() => {
            Flavor::Async
        }
        Abi::Export
        | Abi::ExportModule
        | Abi::Init
        | Abi::Handle
        | Abi::Cgi
        | Abi::HttpP2
        | Abi::MessageP2
        | Abi::MessageWasmcloudP2
        | Abi::CommandP1
        | Abi::CommandP2 => Flavor::Sync,
    }
}

fn link(linker: &Linker<Host>, component: &Component, abi: Abi) -> wasmtime::Result<Callable> {
    #[cfg(debug_assertions)]
    let linker = &crate::inject::component(linker, component)?;
    let pre = linker.instantiate_pre(component)?;
    Ok(match abi {
        Abi::HttpP2 => Callable::HttpP2(p2::bindings::ProxyPre::new(pre)?),
        Abi::HttpP3 => Callable::HttpP3(p3::bindings::ServicePre::new(pre)?),
        Abi::MessageP2 | Abi::MessageWasmcloudP2 | Abi::MessageWasmcloudP3 => {
            Callable::Message(handlers::Linked::new(pre, abi)?)
        }
        Abi::Export | Abi::ExportModule | Abi::Init | Abi::Handle | Abi::Cgi => {
            Callable::Export(export::Linked::component(pre))
        }
        Abi::CommandP2 | Abi::CommandP1 => Callable::Command(Command::P2(
            wasmtime_wasi::p2::bindings::CommandPre::new(pre)?,
        )),
        Abi::CommandP3 => Callable::Command(Command::P3(
            wasmtime_wasi::p3::bindings::CommandPre::new(pre)?,
        )),
    })
}

/// Machine code from the cache, or from the compiler and then into the cache.
fn compile<A: Artifact>(
    shared: &Shared,
    half: &Half,
    job: &Job<'_>,
    binary: &[u8],
) -> Result<A, LoadError> {
    let entry = shared
        .cache
        .as_ref()
        .map(|cache| (cache, cache.key::<A>(&half.engine, binary)));
    if let Some(artifact) = entry.and_then(|(cache, key)| cache.load(&half.engine, key)) {
        (job.progress)(Progress::Cached {
            component: job.name.into(),
        });
        return Ok(artifact);
    }
    (job.progress)(Progress::Compiling {
        component: job.name.into(),
        bytes: binary.len(),
    });
    let begin = Instant::now();
    let fresh = {
        let _one_at_a_time = lock(&shared.compiling);
        match &shared.compiler {
            Compiler::InProcess => in_process(&half.engine, A::KIND, binary)
                .map_err(|cause| compile_error(&format!("{cause:#}")))?,
            Compiler::Child(process) => child::compile(process, half.flavor, A::KIND, binary)?,
        }
    };
    let kept = entry.and_then(|(cache, key)| keep(cache, key, &fresh, job));
    let artifact = fresh.load(&half.engine, kept.as_ref()).map_err(|cause| {
        if let Some((cache, key)) = entry {
            cache.remove(key);
        }
        compile_error(&format!("{cause:#}"))
    })?;
    (job.progress)(Progress::Compiled {
        component: job.name.into(),
        millis: millis(begin.elapsed()),
    });
    Ok(artifact)
}

/// Compiles here, with the engine that will run it.
fn in_process(engine: &Engine, kind: Kind, binary: &[u8]) -> wasmtime::Result<Fresh> {
    let code = match kind {
        Kind::Module => engine.precompile_module(binary),
        Kind::Component => engine.precompile_component(binary),
    }?;
    let mut file = child::in_memory("code")?;
    file.write_all(&code)?;
    Ok(Fresh::new(file, code.len() as u64, blake3::hash(&code))?)
}

/// The entry, kept. A cache that cannot be written costs time at the next start, nothing now.
fn keep(cache: &Cache, key: Key, fresh: &Fresh, job: &Job<'_>) -> Option<File> {
    let kept = cache.store(key, fresh);
    kept.map_err(|cause| {
        (job.progress)(Progress::NotCached {
            component: job.name.into(),
            cause: cause.to_string(),
        });
    })
    .ok()
}

/// A guest that starts with more than its limit would fail at every call: it is told so once, and here.
fn fits(limits: &Limits, needs: Option<ResourcesRequired>) -> Result<(), LoadError> {
    let Some(needs) = needs else { return Ok(()) };
    let pages = needs.max_initial_memory_size.unwrap_or(0);
    let memory = pages.saturating_mul(WASM_PAGE_BYTES);
    if memory > limits.memory_bytes {
        let allowed = limits.memory_bytes;
        return Err(error(
            format!("it starts with a memory of {memory} bytes; its limit `memory` is {allowed}"),
            "raise `memory` in [component.NAME.limits] or with `--limit memory=…`, or build it with a smaller one",
        ));
    }
    let elements = needs.max_initial_table_size.unwrap_or(0);
    if elements > u64::from(limits.table_elements) {
        let allowed = limits.table_elements;
        return Err(error(
            format!(
                "it starts with a table of {elements} elements; its limit `table_elements` is {allowed}"
            ),
            "raise `table_elements` in [component.NAME.limits] or with `--limit table_elements=…`",
        ));
    }
    Ok(())
}

/// Why the engine refuses a binary: too large for any limit, a proposal that is switched off, or simply broken.
fn compile_error(cause: &str) -> LoadError {
    let help = if cause.contains("exceeds the") {
        "this is above the ceiling that any component can be granted: build it smaller"
    } else if cause.contains("must be enabled") || cause.contains("not enabled") {
        "it uses a WebAssembly proposal that this host leaves switched off (threads, 64-bit memories, exceptions, \
         garbage collection): build it without"
    } else {
        "rebuild it with a current toolchain; `hostel inspect FILE` shows what it is made of"
    };
    error(
        format!("it is not valid WebAssembly for this host: {cause}"),
        help,
    )
}

fn error(what: impl Into<String>, help: impl Into<String>) -> LoadError {
    LoadError {
        component: String::new(),
        what: what.into(),
        help: help.into(),
    }
}

pub(crate) fn host_error(cause: &wasmtime::Error) -> LoadError {
    error(
        format!("the engine did not start: {cause:#}"),
        "check the machine's limits on address space (`ulimit -v`) and memory",
    )
}

fn link_error(abi: Abi, cause: &wasmtime::Error) -> LoadError {
    let text = format!("{cause:#}");
    match imports::explain(abi, &text) {
        Some(missing) => error(missing.what, missing.help),
        None => error(
            format!("it does not fit this host: {text}"),
            "rebuild it against WASI 0.2 or 0.3 as released; `hostel inspect FILE` lists what it imports and exports",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::capability::log::LogSink;
    use crate::{Runtime, RuntimeOptions};

    /// What loading this text as a command says.
    fn refusal(text: &str, limits: Limits) -> String {
        refusal_with(None, text, limits)
    }

    fn refusal_with(cache_dir: Option<PathBuf>, text: &str, limits: Limits) -> String {
        let runtime = Runtime::new(RuntimeOptions {
            cache_dir,
            ..RuntimeOptions::new(LogSink::null())
        })
        .unwrap();
        let component = hostel_app::Component {
            limits,
            ..crate::testing::component(text.as_bytes())
        };
        let loaded = runtime
            .app("test")
            .load(&component, text.as_bytes(), Role::Run, &|_| {});
        loaded.map(|_| ()).unwrap_err().to_string()
    }

    fn command(fields: &str) -> String {
        format!("(module {fields} (func (export \"_start\")))")
    }

    #[test]
    fn a_guest_that_starts_above_its_limit_is_refused_with_the_name_of_the_limit() {
        let memory = Limits {
            memory_bytes: 64 << 10,
            ..Limits::default()
        };
        let told = refusal(&command("(memory 2)"), memory);
        assert!(
            told.contains("a memory of 131072 bytes; its limit `memory` is 65536"),
            "{told}"
        );
        let tables = Limits {
            table_elements: 9,
            ..Limits::default()
        };
        let told = refusal(&command("(table 10 funcref)"), tables);
        assert!(
            told.contains("a table of 10 elements; its limit `table_elements` is 9"),
            "{told}"
        );
    }

    #[test]
    fn what_no_limit_could_allow_and_what_is_switched_off_say_so() {
        let told = refusal(&command("(memory 32768)"), Limits::default());
        assert!(told.contains("above the ceiling"), "{told}");
        for proposal in ["(memory i64 1)", "(memory 1 1 shared)", "(tag)"] {
            let told = refusal(&command(proposal), Limits::default());
            assert!(told.contains("switched off"), "{proposal}: {told}");
        }
    }

    #[test]
    fn what_compiles_and_cannot_be_loaded_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("compiled");
        let text = command("(memory 32768)");
        let told = refusal_with(Some(cache.clone()), &text, Limits::default());
        assert!(told.contains("above the ceiling"), "{told}");
        let files = std::fs::read_dir(cache).unwrap();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
    }
}
