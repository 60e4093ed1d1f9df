//! Which ABI a binary speaks, from its imports and exports; nothing is compiled and nothing is validated.
//!
//! Only the outermost layer is read: a nested module's code is stepped over, so that even a 25 MB component takes
//! milliseconds. What is accepted here may still be refused by the compiler; what is refused here never gets there.
//! The bytes are hostile: every recursion and every list below has a bound.
//!
//! Read in this order: [`Abi`], [`Detected`], [`to_binary`], [`detect`]; then `header`, which names a file that is no
//! WebAssembly at all, `scan`, which walks the sections, and `systems`, which tells the guests of other systems apart.

use std::borrow::Cow;
use std::fmt;

mod header;
mod scan;
mod systems;

/// How a guest is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Abi {
    /// A component that exports `wasi:http/incoming-handler@0.2.*`.
    HttpP2,
    /// A component that exports `wasi:http/handler@0.3.*`.
    HttpP3,
    /// A component that exports `wasi:messaging/incoming-handler@0.2.0-draft`.
    MessageP2,
    /// A component that exports `wasmcloud:messaging/handler@0.2.*`.
    MessageWasmcloudP2,
    /// A component that exports `wasmcloud:messaging/handler@0.3.*`.
    MessageWasmcloudP3,
    /// A core module with `_start` over `wasi_snapshot_preview1`.
    CommandP1,
    /// A component that exports `wasi:cli/run@0.2.*`.
    CommandP2,
    /// A component that exports `wasi:cli/run@0.3.*`.
    CommandP3,
    /// A core module of server-side-wasm, started by its export `init`.
    Init,
    /// A core module of serverless-wasm, which answers requests through functions of the module `env`.
    Handle,
    /// A command that answers requests: CGI.
    Cgi,
    /// A component, called by the names of its exports.
    Export,
    /// A core module, called by the names of its exports.
    ExportModule,
}

/// What a component exports to be called with messages.
const MESSAGE_HANDLER: &str = "wasi:messaging/incoming-handler@0.2.0-draft";

impl Abi {
    /// Every ABI that a binary shows by itself, in the order in which one is preferred where it has several.
    pub const ALL: [Abi; 10] = [
        Abi::HttpP3,
        Abi::HttpP2,
        Abi::Handle,
        Abi::MessageP2,
        Abi::MessageWasmcloudP3,
        Abi::MessageWasmcloudP2,
        Abi::CommandP3,
        Abi::CommandP2,
        Abi::CommandP1,
        Abi::Init,
    ];

    /// The name in messages, logs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Abi::HttpP2 => "http-p2",
            Abi::HttpP3 => "http-p3",
            Abi::MessageP2 => "message-p2",
            Abi::MessageWasmcloudP2 => "message-wasmcloud-p2",
            Abi::MessageWasmcloudP3 => "message-wasmcloud-p3",
            Abi::CommandP1 => "command-p1",
            Abi::CommandP2 => "command-p2",
            Abi::CommandP3 => "command-p3",
            Abi::Init => "init",
            Abi::Handle => "handle",
            Abi::Cgi => "cgi",
            Abi::Export => "export",
            Abi::ExportModule => "export-module",
        }
    }

    /// Answers HTTP requests.
    pub const fn is_http(self) -> bool {
        matches!(self, Abi::HttpP2 | Abi::HttpP3 | Abi::Handle | Abi::Cgi)
    }

    /// Runs once, from its arguments to an exit code.
    pub const fn is_command(self) -> bool {
        matches!(self, Abi::CommandP1 | Abi::CommandP2 | Abi::CommandP3)
    }

    /// Handles messages.
    pub const fn is_message(self) -> bool {
        matches!(
            self,
            Abi::MessageP2 | Abi::MessageWasmcloudP2 | Abi::MessageWasmcloudP3
        )
    }

    /// Is a core module.
    pub const fn is_module(self) -> bool {
        matches!(
            self,
            Abi::CommandP1 | Abi::ExportModule | Abi::Init | Abi::Handle
        )
    }

    /// The ABI that a component's export of this name stands for.
    fn of_export(export: &str) -> Option<Abi> {
        // A draft is compatible with itself only.
        if export == MESSAGE_HANDLER {
            return Some(Abi::MessageP2);
        }
        let (interface, version) = export.split_once('@')?;
        match (interface, Version::parse(version)?.track()?) {
            ("wasi:http/incoming-handler", (0, 2)) => Some(Abi::HttpP2),
            ("wasi:http/handler", (0, 3)) => Some(Abi::HttpP3),
            ("wasmcloud:messaging/handler", (0, 2)) => Some(Abi::MessageWasmcloudP2),
            ("wasmcloud:messaging/handler", (0, 3)) => Some(Abi::MessageWasmcloudP3),
            ("wasi:cli/run", (0, 2)) => Some(Abi::CommandP2),
            ("wasi:cli/run", (0, 3)) => Some(Abi::CommandP3),
            _ => None,
        }
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The version of a WIT package, as it stands after the `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version<'a> {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) patch: u64,
    /// What follows the first `-`, without build metadata; empty for a release.
    pub(crate) pre_release: &'a str,
}

impl<'a> Version<'a> {
    /// `None` if it is not `MAJOR.MINOR.PATCH`, with or without `-PRE` and `+BUILD`.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let text = text.split_once('+').map_or(text, |(release, _)| release);
        let (numbers, pre_release) = text.split_once('-').unwrap_or((text, ""));
        let mut numbers = numbers.split('.').map(|number| number.parse::<u64>().ok());
        let version = Self {
            major: numbers.next()??,
            minor: numbers.next()??,
            patch: numbers.next()??,
            pre_release,
        };
        numbers.next().is_none().then_some(version)
    }

    /// The versions that the engine's linker takes for one another: `(0, 2)` stands for every release 0.2.*, `(1, 0)`
    /// for every release 1.*. A pre-release and 0.0.* are compatible with themselves only: `None`.
    pub(crate) fn track(&self) -> Option<(u64, u64)> {
        match (self.pre_release, self.major, self.minor) {
            ("", 0, 0) => None,
            ("", 0, minor) => Some((0, minor)),
            ("", major, _) => Some((major, 0)),
            _ => None,
        }
    }
}

/// The outer form of a binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// A component (layer 1).
    Component,
    /// A core module.
    #[default]
    Module,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Component => "component",
            Form::Module => "module",
        })
    }
}

/// One import that the host has to implement. An interface that only names types needs nothing and is not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The interface (`wasi:http/types@0.2.3`), or `module.name` for a core module.
    pub name: String,
    /// The functions and resources that the guest uses of it.
    pub items: Vec<String>,
}

/// What a binary is.
#[derive(Debug, Clone, Default)]
pub struct Detected {
    /// Component or core module.
    pub form: Form,
    /// The preferred one of `abis`: HTTP before messages before commands, 0.3 before 0.2.
    pub abi: Option<Abi>,
    /// Every ABI that it can be called by, in the order of [`Abi::ALL`].
    pub abis: Vec<Abi>,
    /// Every import, in the binary's order: interfaces (`wasi:http/types@0.2.3`) or `module.name`.
    pub imports: Vec<String>,
    /// The imports that the host has to implement.
    pub needs: Vec<Need>,
    /// Every export, in the binary's order.
    pub exports: Vec<String>,
    /// A system whose guests Hostel recognises and does not serve.
    pub system: Option<&'static str>,
    /// A component that imports, exports or makes async functions.
    pub asynchronous: bool,
    /// Languages and tools that made it, where it says so: `Rust`, `rustc 1.95.0`, …
    pub producers: Vec<String>,
}

impl Detected {
    /// The ABI by which `hostel run` calls it: a command before an HTTP handler.
    pub fn command_abi(&self) -> Option<Abi> {
        self.abis.iter().copied().find(|abi| abi.is_command())
    }

    /// The ABI by which it is run all the time.
    pub fn service_abi(&self) -> Option<Abi> {
        let started = |abi: &Abi| abi.is_command() || *abi == Abi::Init;
        self.abis.iter().copied().find(started)
    }

    /// The ABI by which `hostel up` calls it: a command answers as a CGI program does.
    pub fn http_abi(&self) -> Option<Abi> {
        let served = self.abis.iter().copied().find(|abi| abi.is_http());
        served.or_else(|| self.command_abi().map(|_| Abi::Cgi))
    }

    /// The ABI whose imports and exports it has, where it is called by `abi`.
    pub(crate) fn linked_by(&self, abi: Abi) -> Abi {
        match abi {
            Abi::Cgi => self.command_abi().unwrap_or(abi),
            abi => abi,
        }
    }

    /// The ABI by which messages are handed to it.
    pub fn message_abi(&self) -> Option<Abi> {
        self.abis.iter().copied().find(|abi| abi.is_message())
    }

    /// The ABI by which any of its exports is called.
    pub fn export_abi(&self) -> Abi {
        match self.form {
            Form::Component => Abi::Export,
            Form::Module => Abi::ExportModule,
        }
    }

    /// Whether it needs the engine of WASI 0.3: it has async functions, or something that it imports or exports is of that release.
    pub(crate) fn is_of_0_3(&self) -> bool {
        let versions = self.imports.iter().chain(&self.exports);
        let versions = versions.filter_map(|name| name.split_once('@'));
        let mut tracks = versions.filter_map(|(_, version)| Version::parse(version)?.track());
        self.asynchronous || tracks.any(|track| track == (0, 3))
    }

    /// Why it cannot be called at all, for a binary without an ABI.
    pub fn refusal(&self) -> DetectError {
        systems::refusal(self)
    }
}

/// Why a file is not a guest, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectError {
    /// What is wrong; may have several lines.
    pub what: String,
    /// The way out.
    pub help: String,
}

impl DetectError {
    pub(crate) fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for DetectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  help: {}", self.what, self.help)
    }
}

impl std::error::Error for DetectError {}

/// The binary of a `.wasm` (as it is) or of a `.wat` (assembled). Anything else comes back as it is too: [`detect`] then
/// says what it looks like.
///
/// # Errors
/// The text is not WebAssembly text; the message has the line, the column and the line itself.
pub fn to_binary(bytes: &[u8]) -> Result<Cow<'_, [u8]>, DetectError> {
    if bytes.starts_with(MAGIC) || !header::looks_like_text(bytes) {
        return Ok(Cow::Borrowed(bytes));
    }
    let help = "mend the text at the place shown";
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes
            .iter()
            .take(error.valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        DetectError::new(
            format!("the WebAssembly text is not UTF-8 (line {line})"),
            help,
        )
    })?;
    wat::parse_str(text).map(Cow::Owned).map_err(|error| {
        // The assembler has no name for text without a file; the caller's message names the file.
        let place = error.to_string().replace("<anon>", "line");
        DetectError::new(format!("the WebAssembly text is wrong: {place}"), help)
    })
}

/// Says what a binary is.
///
/// # Errors
/// It is not a WebAssembly binary, is damaged, or is of a version that this host does not know.
pub fn detect(bytes: &[u8]) -> Result<Detected, DetectError> {
    header::check(bytes)?;
    scan::scan(bytes)
}

const MAGIC: &[u8] = b"\0asm";

#[cfg(test)]
mod tests {
    use super::scan::NAMES_MAX;
    use super::*;

    fn wat(text: &str) -> Vec<u8> {
        wat::parse_str(text).expect(text)
    }

    fn found(text: &str) -> Detected {
        detect(&wat(text)).expect(text)
    }

    fn exporting(name: &str) -> String {
        format!(r#"(component (instance $i) (export "{name}" (instance $i)))"#)
    }

    /// A component as toolchains make them: types, aliases, resources, a nested module with producers.
    const RICH: &str = r#"(component
        (import "wasi:io/error@0.2.3" (instance $error (export "error" (type (sub resource)))))
        (alias export $error "error" (type $error-type))
        (import "wasi:io/streams@0.2.3" (instance $streams
            (export "output-stream" (type $out (sub resource)))
            (alias outer 1 $error-type (type $e))
            (export "error" (type $error (eq $e)))
            (export "[method]output-stream.write" (func (param "self" (borrow $out)) (param "contents" (list u8))))))
        (import "wasi:cli/types@0.3.0" (instance (type $t (enum "a")) (export "error-code" (type (eq $t)))))
        (core module $m (func (export "run")) (@producers (language "Rust" "2024") (processed-by "rustc" "1.95.0")))
        (core instance $c (instantiate $m))
        (func $run (canon lift (core func $c "run")))
        (instance $run (export "run" (func $run)))
        (export "wasi:cli/run@0.2.3" (instance $run)))"#;

    #[test]
    fn each_abi_is_known_by_its_export() {
        for (export, abi) in [
            ("wasi:http/incoming-handler@0.2.0", Abi::HttpP2),
            ("wasi:http/incoming-handler@0.2.12", Abi::HttpP2),
            ("wasi:http/incoming-handler@0.2.99", Abi::HttpP2),
            ("wasi:http/handler@0.3.0", Abi::HttpP3),
            ("wasi:http/handler@0.3.2", Abi::HttpP3),
            ("wasi:cli/run@0.2.3", Abi::CommandP2),
            ("wasi:cli/run@0.3.0", Abi::CommandP3),
            (MESSAGE_HANDLER, Abi::MessageP2),
            ("wasmcloud:messaging/handler@0.2.0", Abi::MessageWasmcloudP2),
            ("wasmcloud:messaging/handler@0.3.0", Abi::MessageWasmcloudP3),
        ] {
            let found = found(&exporting(export));
            assert_eq!(
                (found.abi, found.abis.as_slice(), found.form),
                (Some(abi), [abi].as_slice(), Form::Component)
            );
            assert_eq!(found.exports, [export]);
        }
        let module = found(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (func (export "_start")))"#,
        );
        assert_eq!(
            (module.abi, module.form),
            (Some(Abi::CommandP1), Form::Module)
        );
        assert_eq!(module.imports, ["wasi_snapshot_preview1.proc_exit"]);
        let asking = found(
            r#"(module (import "wasi_experimental_http" "req" (func)) (func (export "_start")))"#,
        );
        assert_eq!((asking.abi, asking.system), (Some(Abi::CommandP1), None));
    }

    #[test]
    fn a_module_of_serverless_wasm_is_known_by_any_function_of_its_host() {
        for import in crate::interface::env::ORIGINAL {
            let text = format!(
                r#"(module (import "env" "memory" (memory 1)) (import "env" "{import}" (func)) (func (export "handle")))"#
            );
            let found = found(&text);
            assert_eq!(
                (found.abis.as_slice(), found.system),
                (&[Abi::Handle][..], None)
            );
            assert_eq!(found.http_abi(), Some(Abi::Handle));
        }
        for other in ["memory", "abort", "pthread_create"] {
            let text =
                format!(r#"(module (import "env" "{other}" (func)) (func (export "handle")))"#);
            assert_eq!(found(&text).abi, None, "{other}");
        }
        let program = |import: &str| {
            let text =
                format!(r#"(module (import "env" "{import}" (func)) (func (export "_start")))"#);
            found(&text).abi
        };
        assert_eq!(program("response_set_body"), Some(Abi::Handle));
        assert_eq!(program("log"), Some(Abi::CommandP1), "a logarithm");
    }

    #[test]
    fn with_several_abis_http_is_preferred_and_run_stays_reachable() {
        let found = found(
            r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i))
               (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#,
        );
        assert_eq!(found.abis, [Abi::HttpP2, Abi::CommandP2]);
        assert_eq!(found.abi, Some(Abi::HttpP2));
        assert_eq!(
            (found.http_abi(), found.command_abi()),
            (Some(Abi::HttpP2), Some(Abi::CommandP2))
        );
    }

    #[test]
    fn a_component_is_called_by_what_calls_it() {
        for (http, abi, newer) in [
            ("wasi:http/incoming-handler@0.2.0", Abi::HttpP2, false),
            ("wasi:http/handler@0.3.0", Abi::HttpP3, true),
        ] {
            let found = found(&format!(
                r#"(component (instance $i) (export "{MESSAGE_HANDLER}" (instance $i)) (export "{http}" (instance $i)))"#
            ));
            assert_eq!(found.abis, [abi, Abi::MessageP2]);
            assert_eq!(
                (found.http_abi(), found.message_abi(), found.command_abi()),
                (Some(abi), Some(Abi::MessageP2), None)
            );
            assert_eq!(found.is_of_0_3(), newer);
        }
    }

    #[test]
    fn imports_that_only_name_types_need_nothing() {
        let found = found(RICH);
        assert_eq!(
            found.imports,
            [
                "wasi:io/error@0.2.3",
                "wasi:io/streams@0.2.3",
                "wasi:cli/types@0.3.0"
            ]
        );
        let needs: Vec<(&str, Vec<&str>)> = found
            .needs
            .iter()
            .map(|need| {
                (
                    need.name.as_str(),
                    need.items.iter().map(String::as_str).collect(),
                )
            })
            .collect();
        assert_eq!(
            needs,
            [
                ("wasi:io/error@0.2.3", vec!["error"]),
                (
                    "wasi:io/streams@0.2.3",
                    vec!["output-stream", "[method]output-stream.write"]
                ),
            ]
        );
        assert_eq!(found.producers, ["Rust 2024", "rustc 1.95.0"]);
    }

    #[test]
    fn release_candidates_are_no_abi_and_are_named() {
        for (export, nearest) in [
            (
                "wasi:http/handler@0.3.0-rc-2025-09-16",
                "wasi:http/handler@0.3.0",
            ),
            ("wasi:cli/run@0.3.0-rc-2026-01-06", "wasi:cli/run@0.3.0"),
            (
                "wasi:http/incoming-handler@0.2.0-rc-2023-11-10",
                "wasi:http/incoming-handler@0.2.12",
            ),
            ("wasi:cli/run@0.1.0", "wasi:cli/run@0.2.12"),
            (
                "wasi:http/incoming-handler",
                "wasi:http/incoming-handler@0.2.12",
            ),
        ] {
            let found = found(&exporting(export));
            assert_eq!(found.abi, None, "{export}");
            let error = found.refusal();
            assert!(
                error
                    .what
                    .contains(&format!("exports `{export}`, from before the release")),
                "{error}"
            );
            assert!(
                error.what.contains(&format!("nearest: `{nearest}`")),
                "{error}"
            );
            assert!(
                error
                    .help
                    .contains("build it again with a toolchain of the released WASI"),
                "{error}"
            );
        }
    }

    #[test]
    fn guests_of_other_systems_are_named() {
        let actor = r#"(module (import "wapc" "__guest_request" (func (param i32 i32))) (func (export "__guest_call"))"#;
        for (text, system) in [
            (format!("{actor})"), "waPC"),
            (format!(r#"{actor} (@custom "jwt" "x"))"#), "waSCC"),
            (r#"(module (import "wasmbus" "__host_call" (func)) (func (export "__guest_call")))"#.into(), "wasmCloud actor"),
            (r#"(module (import "env" "return_result" (func)) (func (export "run_e")))"#.into(), "Suborbital Runnable"),
            (r#"(module (func (export "__app_invoke2")))"#.into(), "IceCore"),
            (r#"(module (import "hostobservability" "log" (func)) (func (export "init")))"#.into(), "server-side-wasm"),
            (r#"(module (func (export "canonical_abi_realloc")) (func (export "handle-http-request")))"#.into(), "Spin 1"),
            (r#"(module (func (export "canonical_abi_realloc")) (func (export "on-server-init")))"#.into(), "slight (SpiderLightning)"),
            (r#"(module (import "fastly_http_req" "body_downstream_get" (func)) (func (export "_start")))"#.into(), "Fastly Compute"),
            (r#"(module (import "wasix_32v1" "fd_dup" (func)) (func (export "_start")))"#.into(), "WASIX"),
            (r#"(module (import "wasi_snapshot_preview1" "sock_open" (func (param i32 i32 i32))) (func (export "_start")))"#.into(), "WasmEdge sockets"),
            (r#"(module (import "wasi_snapshot_preview1" "sock_accept" (func (param i32 i32))) (func (export "_start")))"#.into(), "WasmEdge sockets"),
            (r#"(module (import "ethereum" "finish" (func)) (func (export "main")))"#.into(), "Ewasm"),
            (r#"(module (import "lunatic::process" "spawn" (func)) (func (export "_start")))"#.into(), "Lunatic"),
            (r#"(module (import "wasi_ephemeral_nn" "load" (func)) (func (export "_start")))"#.into(), "wasi-nn (witx)"),
            (r#"(module (import "wasi_unstable" "fd_write" (func)) (func (export "_start")))"#.into(), "WASI preview 0 (wasi_unstable)"),
            (r#"(module (import "wbg" "__wbg_log" (func)))"#.into(), "JavaScript host (a browser or Node)"),
            (r#"(module (@custom "component-type:x" "x"))"#.into(), "core module of a component"),
            (r#"(module (@custom "linking" "x"))"#.into(), "unlinked object file"),
            (exporting("fermyon:spin/inbound-http"), "Spin"),
            (exporting("wasmcloud:bus/guest@0.1.0"), "wasmCloud"),
            (exporting("fastly:compute/http-incoming@0.1.0"), "Fastly Compute"),
        ] {
            let found = found(&text);
            assert_eq!((found.abi, found.system), (None, Some(system)), "{text}");
            assert!(!found.refusal().what.is_empty() && !found.refusal().help.is_empty());
        }
        let three = r#"(module (import "wasi_snapshot_preview1" "sock_accept" (func (param i32 i32 i32) (result i32))) (func (export "_start")))"#;
        assert_eq!(found(three).abi, Some(Abi::CommandP1));
    }

    #[test]
    fn a_binary_that_nothing_can_call_says_what_it_lacks() {
        for (text, what, help) in [
            ("(module)", "exports no `_start`", "wasm32-wasip2"),
            (
                r#"(module (func (export "_initialize")))"#,
                "a WASI reactor",
                "build it as a program",
            ),
            (
                r#"(module (func (export "main")))"#,
                "exports `main` but no `_start`",
                "WASI target",
            ),
            (
                &exporting("wasi:http/incoming-handler@0.4.0"),
                "exports `wasi:http/incoming-handler@0.4.0`, a version that this host does not call (nearest: \
                 `wasi:http/incoming-handler@0.2.12`)",
                "toolchain of WASI 0.2 or 0.3.0",
            ),
            (
                "(component)",
                "exports nothing",
                "export one of wasi:http/incoming-handler@0.2",
            ),
            (
                &exporting("acme:tools/upper@1.0.0"),
                "exports only `acme:tools/upper@1.0.0`",
                "export one of",
            ),
        ] {
            let error = found(text).refusal();
            assert!(error.what.contains(what), "{error}");
            assert!(error.help.contains(help), "{error}");
        }
    }

    #[test]
    fn what_is_not_webassembly_is_named() {
        let mut cwasm = b"\x7fELF\x02\x01\x01\xc8".to_vec();
        cwasm.resize(64, 0);
        for (bytes, what) in [
            (&b""[..], "the file is empty"),
            (b"\0as", "not a WebAssembly file"),
            (b"\0asm", "cut short: 4 bytes"),
            (b"\0asm\x01\0", "cut short: 6 bytes"),
            (b"\0asm\x02\0\0\0", "version 2, layer 0"),
            (b"\0asm\x0a\0\x01\0", "pre-release binary format 10"),
            (b"\0asm\x0e\0\x01\0", "binary format 14"),
            (b"\0asm\x01\0\x02\0", "layer 2"),
            (b"\x1f\x8b\x08\0", "a gzip archive"),
            (b"PK\x03\x04", "a zip archive"),
            (b"\x7fELF\x02\x01\x01\0", "a native program"),
            (&cwasm, "Wasmtime compiled ahead of time"),
            (b"\n<!DOCTYPE html>", "an HTML or XML page"),
            (b"{\"schemaVersion\": 2}", "JSON"),
            (b"[app]\nname = \"x\"", "a TOML file"),
            (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
            (b"\xde\xad\xbe\xef", "not a WebAssembly file"),
        ] {
            let error = detect(bytes).expect_err(what);
            assert!(error.what.contains(what), "{error}");
            assert!(!error.help.is_empty());
        }
    }

    #[test]
    fn a_cut_or_damaged_file_says_where() {
        let whole = wat(RICH);
        for end in 8..whole.len() {
            // Between two sections the rest is a smaller component; anywhere else it is cut short.
            if let Err(error) = detect(&whole[..end]) {
                assert!(error.what.contains("cut short"), "{end}: {error}");
            }
        }
        let mut damaged = whole;
        damaged[8] = 0x7e;
        let error = detect(&damaged).expect_err("an unknown section");
        assert!(error.what.contains("damaged at byte 0x"), "{error}");
    }

    #[test]
    fn text_is_assembled_and_its_errors_have_a_place() {
        let binary = to_binary(b"  ;; a comment\n(module)").expect("text");
        assert_eq!(detect(&binary).expect("module").form, Form::Module);
        assert!(matches!(to_binary(&binary), Ok(Cow::Borrowed(_))));
        assert!(matches!(to_binary(b"garbage"), Ok(Cow::Borrowed(_))));
        let error = to_binary(b"(module\n  (fnc))").expect_err("misspelt");
        assert!(
            error.what.contains("line:2:4") && error.what.contains("(fnc)"),
            "{error}"
        );
        let error = to_binary(b"(module\n \xff)").expect_err("not UTF-8");
        assert!(error.what.contains("not UTF-8 (line 2)"), "{error}");
    }

    fn leb(mut value: usize, out: &mut Vec<u8>) {
        while value > 0x7f {
            out.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn section(id: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![id];
        leb(body.len(), &mut bytes);
        bytes.extend_from_slice(body);
        bytes
    }

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn types_and_components_that_nest_too_deep_are_refused() {
        let mut types = vec![1];
        types.extend(std::iter::repeat_n([0x42, 1, 1], 200_000).flatten());
        types.push(0x7f);
        let bomb = [COMPONENT, &section(7, &types)].concat();
        assert!(
            detect(&bomb)
                .expect_err("bomb")
                .what
                .contains("types nest deeper than 100")
        );
        let hidden = [COMPONENT, &section(4, &bomb)].concat();
        assert!(
            detect(&hidden)
                .expect_err("hidden bomb")
                .what
                .contains("types nest deeper than 100")
        );
        let nested = (0..200).fold(COMPONENT.to_vec(), |inner, _| {
            [COMPONENT, &section(4, &inner)].concat()
        });
        assert!(
            detect(&nested)
                .expect_err("nested")
                .what
                .contains("components nest deeper than 100")
        );
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let mut body = Vec::new();
        leb(NAMES_MAX + 1, &mut body);
        body.extend(std::iter::repeat_n([0, 0, 3, 0x7f, 0], NAMES_MAX + 1).flatten());
        let bomb = [b"\0asm\x01\0\0\0".as_slice(), &section(2, &body)].concat();
        assert!(
            detect(&bomb)
                .expect_err("bomb")
                .what
                .contains("more than 200000 imports and exports")
        );
    }

    #[test]
    fn no_mutant_makes_it_panic() {
        let module = r#"(module (type (func (param i32))) (import "wasi_snapshot_preview1" "proc_exit" (func (type 0)))
            (memory (export "memory") 1) (data (i32.const 0) "abc") (func (export "_start") (call 0 (i32.const 0))))"#;
        let seeds = [wat(RICH), wat(module)];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % bound as u64).unwrap()
        };
        let mut refused = 0;
        for round in 0..20_000 {
            let mut mutant = seeds[round % seeds.len()].clone();
            for _ in 0..=random(4) {
                let at = random(mutant.len());
                match random(4) {
                    0 => mutant[at] = u8::try_from(random(256)).unwrap(),
                    1 => mutant.truncate(at.max(1)),
                    2 => mutant.insert(at, u8::try_from(random(256)).unwrap()),
                    _ => mutant[at] ^= 1 << random(8),
                }
            }
            match to_binary(&mutant).and_then(|binary| detect(&binary)) {
                Ok(found) => assert!(found.abi.is_some() || !found.refusal().what.is_empty()),
                Err(error) => {
                    refused += 1;
                    assert!(!error.what.is_empty() && !error.help.is_empty());
                }
            }
        }
        assert!(
            refused > 10_000,
            "only {refused} of 20000 mutants were refused"
        );
    }
}
