//! Guests of other systems: which one a binary without an ABI was made for, and what its owner can do.
//!
//! A recognised system is named in the refusal; none of them is served from here. The signatures are imports, exports and
//! custom sections that no other system has.

use super::{Abi, DetectError, Detected, Form, Version};
use crate::interface::env;

/// What only a look at the sections shows; gathered on the way through them.
#[derive(Default)]
pub(super) struct Traits {
    /// A custom section `component-type…`: core output of wit-bindgen that nobody made a component of.
    unwrapped_component: bool,
    /// A custom section `jwt`: an actor signed with claims.
    signed: bool,
    /// A custom section `linking`: an object file.
    object_file: bool,
    /// Sockets in WasmEdge's shape, under the name of preview 1.
    wasmedge_sockets: bool,
}

impl Traits {
    pub(super) fn custom_section(&mut self, name: &str) {
        self.unwrapped_component |= name.starts_with("component-type");
        self.signed |= name == "jwt";
        self.object_file |= name == "linking";
    }

    /// `params`: how many parameters an imported function has; `None` for anything but a function.
    pub(super) fn core_import(&mut self, import: &wasmparser::Import<'_>, params: Option<usize>) {
        // Preview 1 has `sock_accept` with three parameters, and no way to open a socket.
        self.wasmedge_sockets |= import.module == "wasi_snapshot_preview1"
            && match import.name {
                "sock_accept" => params == Some(2),
                name => matches!(
                    name,
                    "sock_open" | "sock_bind" | "sock_connect" | "sock_listen"
                ),
            };
    }

    /// The system that the binary was made for, if its signature is known.
    pub(super) fn system(&self, found: &Detected) -> Option<&'static str> {
        match found.form {
            Form::Component => component_system(found),
            Form::Module => self.module_system(found),
        }
    }

    fn module_system(&self, found: &Detected) -> Option<&'static str> {
        let imports = |module: &str| {
            found.imports.iter().any(|name| {
                name.strip_prefix(module)
                    .is_some_and(|rest| rest.starts_with('.'))
            })
        };
        let imports_like = |start: &str| found.imports.iter().any(|name| name.starts_with(start));
        let exports = |name: &str| found.exports.iter().any(|export| export == name);
        let signatures: [(bool, &'static str); 23] = [
            (self.object_file, OBJECT_FILE),
            (imports("wapc") && self.signed, "waSCC"),
            (
                imports("wapc") || exports("__guest_call") && !imports("wasmbus"),
                "waPC",
            ),
            (imports("wasmbus"), "wasmCloud actor"),
            (
                imports("env") && exports("run_e") && exports("allocate"),
                "Suborbital Runnable",
            ),
            (
                found.imports.iter().any(|name| name == "env.return_result"),
                "Suborbital Runnable",
            ),
            (answers_through_env(found), HANDLE),
            (
                imports("cwa") || imports_like("env.__ice_") || exports("__app_invoke2"),
                "IceCore",
            ),
            (imports("hostobservability"), "server-side-wasm"),
            (exports("canonical_abi_realloc") && spin1(found), "Spin 1"),
            (exports("canonical_abi_realloc"), "slight (SpiderLightning)"),
            (imports_like("fastly_"), "Fastly Compute"),
            (imports_like("wasix_"), "WASIX"),
            (self.wasmedge_sockets, "WasmEdge sockets"),
            (imports("ethereum"), "Ewasm"),
            (imports_like("lunatic::"), "Lunatic"),
            (imports_like("wasi_ephemeral_nn"), "wasi-nn (witx)"),
            (imports("wasi_unstable"), PREVIEW0),
            (
                imports("__wbindgen_placeholder__") || imports("wbg") || imports_like("./"),
                BROWSER,
            ),
            (imports("gojs") || imports("go") && exports("run"), BROWSER),
            (
                imports_like("env.emscripten_") || imports_like("env._emscripten_"),
                BROWSER,
            ),
            (
                imports_like("wasi.thread-spawn") || imports("env") && exports("wasi_thread_start"),
                "wasi-threads",
            ),
            (self.unwrapped_component, UNWRAPPED),
        ];
        signatures
            .into_iter()
            .find_map(|(matches, system)| matches.then_some(system))
    }
}

/// A module of serverless-wasm: it imports one of that host's functions. A program that imports no other than `log` was linked
/// without the C library's logarithm.
fn answers_through_env(found: &Detected) -> bool {
    let program = found.exports.iter().any(|export| export == "_start");
    let functions = found.imports.iter();
    let mut functions = functions.filter_map(|name| name.split_once('.'));
    functions.any(|(module, name)| {
        module == env::MODULE && env::ORIGINAL.contains(&name) && !(program && name == "log")
    })
}

/// The system that is called by [`Abi::Handle`].
pub(super) const HANDLE: &str = "serverless-wasm";

/// A module of server-side-wasm: its bindings are of wit-bindgen 0.2, and no other system of that time calls an `init`.
pub(super) fn is_started_by_init(found: &Detected) -> bool {
    let exports = |name: &str| found.exports.iter().any(|export| export == name);
    exports("init") && exports("canonical_abi_realloc") && exports("memory")
}

const OBJECT_FILE: &str = "unlinked object file";
const PREVIEW0: &str = "WASI preview 0 (wasi_unstable)";
const BROWSER: &str = "JavaScript host (a browser or Node)";
const UNWRAPPED: &str = "core module of a component";
const CANDIDATE: &str = "WASI release candidate";

fn spin1(found: &Detected) -> bool {
    found.exports.iter().any(|name| {
        matches!(
            name.as_str(),
            "handle-http-request" | "handle-redis-message"
        )
    })
}

fn component_system(found: &Detected) -> Option<&'static str> {
    found.exports.iter().find_map(|export| {
        let name = export
            .split_once('@')
            .map_or(export.as_str(), |(name, _)| name);
        match name {
            "fermyon:spin/inbound-http"
            | "fermyon:spin/inbound-redis"
            | "spin:redis/inbound-redis"
            | "inbound-http"
            | "inbound-redis"
            | "handle-cron-event"
            | "handle-queue-message"
            | "handle-message" => Some("Spin"),
            "wasmcloud:messaging/handler" | "wasmcloud:bus/guest" => Some("wasmCloud"),
            "fastly:compute/http-incoming" | "fastly:api/http-incoming" => Some("Fastly Compute"),
            _ if candidate(export) => Some(CANDIDATE),
            _ => None,
        }
    })
}

/// One of the exports that make an ABI, in a version that never became a release.
fn candidate(export: &str) -> bool {
    let (name, version) = export.split_once('@').unwrap_or((export, ""));
    CALLED.iter().any(|(called, _)| *called == name)
        && Abi::of_export(export).is_none()
        && Version::parse(version)
            .is_none_or(|version| !version.pre_release.is_empty() || version.minor < 2)
}

const REBUILD: &str = "build it as a WASI 0.2 component (Rust: `cargo build --target wasm32-wasip2`, for HTTP with the crate `wasip2`)";

/// Why a binary without an ABI cannot be called.
pub(super) fn refusal(found: &Detected) -> DetectError {
    match (found.system, found.form) {
        (Some(system), form) => {
            let what = match system {
                OBJECT_FILE => "an object file: it has not been linked yet".to_owned(),
                UNWRAPPED => "the core module of a component: it has not been made a component yet"
                    .to_owned(),
                CANDIDATE => candidate_text(found),
                BROWSER => format!("a core module for a {system}: it imports JavaScript functions"),
                _ => format!("a {form} for {system}, which this version of Hostel does not serve"),
            };
            DetectError::new(what, system_help(system))
        }
        (None, Form::Component) => component_refusal(found),
        (None, Form::Module) => module_refusal(found),
    }
}

fn candidate_text(found: &Detected) -> String {
    let export = found
        .exports
        .iter()
        .find(|export| candidate(export))
        .map_or("", String::as_str);
    let name = export.split_once('@').map_or(export, |(name, _)| name);
    // `wasi:cli/run` is the one interface that both releases have.
    let release = match CALLED.iter().find(|(called, _)| *called == name) {
        Some(_) if name == "wasi:cli/run" && !export.contains("@0.3.") => "0.2.12",
        Some((_, release)) => release,
        None => "0.3.0",
    };
    format!(
        "the component exports `{export}`, from before the release and compatible with no release of WASI \
         (nearest: `{name}@{release}`)"
    )
}

fn system_help(system: &str) -> &'static str {
    match system {
        OBJECT_FILE => "link it (`wasm-ld`, or let the compiler driver link)",
        UNWRAPPED => {
            "turn it into a component: `wasm-tools component new guest.wasm -o guest.component.wasm`, or build for wasm32-wasip2"
        }
        CANDIDATE => {
            "build it again with a toolchain of the released WASI (Rust: crate `wasip3` 0.9 for 0.3.0, crate `wasip2` 1.0 for 0.2)"
        }
        PREVIEW0 => {
            "build it again with a newer toolchain: any of the last five years makes `wasi_snapshot_preview1` of the same source"
        }
        BROWSER => {
            "build the same source for wasm32-wasip2 (Go: GOOS=wasip1), without the JavaScript bindings"
        }
        "wasi-threads" => "build it without threads (target wasm32-wasip1 or wasm32-wasip2)",
        "Spin" => {
            "build it with an SDK that exports wasi:http/incoming-handler@0.2 (Spin 3 and newer), which Hostel serves"
        }
        "wasmCloud" | "wasmCloud actor" => {
            "a component of wasmCloud 1 or newer is served: wasi:http/incoming-handler@0.2, or wasmcloud:messaging/handler \
             0.2 or 0.3"
        }
        _ => REBUILD,
    }
}

/// The interfaces that make an ABI, and the newest release of each that this host calls.
const CALLED: [(&str, &str); 3] = [
    ("wasi:http/incoming-handler", "0.2.12"),
    ("wasi:http/handler", "0.3.0"),
    ("wasi:cli/run", "0.3.0"),
];

fn component_refusal(found: &Detected) -> DetectError {
    let known = |export: &String| {
        let (name, version) = export.split_once('@')?;
        let (_, release) = CALLED.iter().find(|(called, _)| *called == name)?;
        Version::parse(version)?;
        Some(DetectError::new(
            format!(
                "the component exports `{export}`, a version that this host does not call (nearest: `{name}@{release}`)"
            ),
            "build it with a toolchain of WASI 0.2 or 0.3.0, or use a newer Hostel",
        ))
    };
    if let Some(refusal) = found.exports.iter().find_map(known) {
        return refusal;
    }
    let what = match found.exports.as_slice() {
        [] => "the component exports nothing, so nothing can call it".to_owned(),
        [one] => format!("the component exports only `{one}`, which no trigger calls"),
        [first, rest @ ..] => format!(
            "the component exports `{first}` and {} more, none of which a trigger calls",
            rest.len()
        ),
    };
    let wanted = "wasi:http/incoming-handler@0.2, wasi:http/handler@0.3, wasi:cli/run@0.2 or wasi:cli/run@0.3";
    DetectError::new(
        what,
        format!("export one of {wanted}; its functions can be called by name (`hostel call`)"),
    )
}

fn module_refusal(found: &Detected) -> DetectError {
    let exports = |name: &str| found.exports.iter().any(|export| export == name);
    if exports("_initialize") {
        return DetectError::new(
            "a library (a WASI reactor): it exports `_initialize` and no `_start`, so there is no program to run",
            "build it as a program, or as a component that exports wasi:http/incoming-handler@0.2",
        );
    }
    if exports("main") || exports("__main_void") {
        return DetectError::new(
            "a core module that exports `main` but no `_start`: it was built without WASI's start-up code",
            "build it for a WASI target (Rust: wasm32-wasip2 in place of wasm32-unknown-unknown)",
        );
    }
    DetectError::new(
        "a core module that exports no `_start`, and no interface that Hostel calls",
        REBUILD,
    )
}
