//! What the host offers to a guest's imports, and the text that says what is missing and how to get out of it.
//!
//! The table names interfaces, not functions: it decides early, before a slow compilation, and never more strictly than
//! the engine's linker, which takes every release of a track (0.2.*) for every other as long as the functions exist. What
//! only the linker can see (a function or a type of a newer release) comes back as an engine error; [`explain`] turns
//! that into the same kind of text. [`grants_needed`] is for `hostel inspect`.

use std::fmt;

use crate::detect::{Abi, Detected, Need, Version};
use crate::interface::env;

mod grants;
mod offers;

pub use grants::{GrantNeed, grants_needed, stores_not_granted};
pub use offers::{
    DRAFTS, DRAFTS_0_3, MODULES, Offer, PREVIEW1, PREVIEW1_FUNCTIONS, WASI_0_2, WASI_0_3,
};

/// What the linker of an ABI implements; the newest last. Empty for a core module, which has [`PREVIEW1_FUNCTIONS`].
pub fn offered(abi: Abi) -> &'static [&'static Offer] {
    match abi {
        Abi::CommandP1 | Abi::ExportModule | Abi::Init | Abi::Handle => &[],
        Abi::HttpP2 | Abi::CommandP2 => &[&WASI_0_2],
        // On the engine that its imports and exports ask for.
        Abi::HttpP3
        | Abi::CommandP3
        | Abi::Cgi
        | Abi::MessageP2
        | Abi::MessageWasmcloudP2
        | Abi::MessageWasmcloudP3
        | Abi::Export => &[&WASI_0_2, &WASI_0_3],
    }
}

/// An import that the host lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The import as the guest names it.
    pub import: String,
    /// What comes nearest to it among the things offered.
    pub nearest: Option<String>,
    /// What is wrong, in one sentence; names the import, the nearest offer and further missing imports.
    pub what: String,
    /// The way out.
    pub help: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  help: {}", self.what, self.help)
    }
}

impl std::error::Error for Missing {}

/// Whether the host has every import of a guest that is to be called by `abi`.
///
/// # Errors
/// The first missing import with its explanation; up to four more are named.
pub fn check(detected: &Detected, abi: Abi) -> Result<(), Missing> {
    let missing: Vec<&Need> = detected
        .needs
        .iter()
        .filter(|need| !has(abi, &need.name))
        .collect();
    let Some((first, rest)) = missing.split_first() else {
        return Ok(());
    };
    let mut error = lacking(abi, &first.name);
    if !rest.is_empty() {
        let names: Vec<String> = rest
            .iter()
            .take(4)
            .map(|need| format!("`{}`", need.name))
            .collect();
        let more = rest
            .len()
            .checked_sub(5)
            .map_or(String::new(), |more| format!(" and {} more", more + 1));
        error
            .what
            .push_str(&format!("; also missing: {}{more}", names.join(", ")));
    }
    Err(error)
}

/// Whether the engine's linker finds `import`, by its rules: the same track, or exactly the same name.
pub fn has(abi: Abi, import: &str) -> bool {
    if abi.is_module() {
        let import = import.split_once('.');
        // It gets that memory as one of its own (`abi::handle`).
        if abi == Abi::Handle && import == Some((env::MODULE, env::MEMORY)) {
            return true;
        }
        return import.is_some_and(|(module, function)| {
            let mut modules = MODULES.iter();
            modules.any(|(name, functions)| *name == module && functions.contains(&function))
        });
    }
    if drafts(abi).any(|draft| draft == import) {
        return true;
    }
    let Some((interface, version)) = import.split_once('@') else {
        return false;
    };
    let track = track(version);
    track.is_some()
        && offered(abi).iter().any(|offer| {
            self::track(offer.version) == track && offer.interfaces.contains(&interface)
        })
}

/// What the linker of an ABI implements beyond WASI's releases.
fn drafts(abi: Abi) -> impl Iterator<Item = &'static str> {
    let newer: &[&str] = match offered(abi).contains(&&WASI_0_3) {
        true => DRAFTS_0_3,
        false => &[],
    };
    DRAFTS.iter().chain(newer).copied()
}

fn track(version: &str) -> Option<(u64, u64)> {
    Version::parse(version)?.track()
}

fn lacking(abi: Abi, import: &str) -> Missing {
    let nearest = nearest(abi, import);
    let near = nearest.as_ref().map_or(String::new(), |nearest| {
        format!(" (nearest offered: `{nearest}`)")
    });
    Missing {
        import: import.to_owned(),
        what: format!("the guest imports `{import}`, which this host does not offer{near}"),
        help: way_out(abi, import),
        nearest,
    }
}

/// The same interface in another version, else the most similar name of the same package and track.
fn nearest(abi: Abi, import: &str) -> Option<String> {
    if abi.is_module() {
        let (module, function) = import.split_once('.')?;
        let (module, functions) = MODULES.iter().find(|(name, _)| *name == module)?;
        let best = most_similar(function, functions.iter().copied())?;
        return Some(format!("{module}.{best}"));
    }
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let names = |draft: &&str| {
        draft
            .split_once('@')
            .is_some_and(|(name, _)| name == interface)
    };
    if let Some(draft) = drafts(abi).find(names) {
        return Some(draft.to_owned());
    }
    let same = offered(abi)
        .iter()
        .rev()
        .find(|offer| offer.interfaces.contains(&interface));
    if let Some(offer) = same {
        return Some(format!("{interface}@{}", offer.version));
    }
    let (package, name) = interface.split_once('/')?;
    let offer = offered(abi)
        .iter()
        .find(|offer| track(offer.version) == track(version))?;
    let siblings = offer
        .interfaces
        .iter()
        .filter_map(|offered| offered.strip_prefix(package)?.strip_prefix('/'));
    let sibling = most_similar(name, siblings)?;
    Some(format!("{package}/{sibling}@{}", offer.version))
}

/// The candidate with the most letters in common at both ends, if any has a few. Imports are written by tools, so that it is
/// not a typing slip that has to be found, but the new name of a renamed thing.
fn most_similar<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let common = |candidate: &str| {
        let start = name
            .bytes()
            .zip(candidate.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let end = name
            .bytes()
            .rev()
            .zip(candidate.bytes().rev())
            .take_while(|(a, b)| a == b)
            .count();
        start + end
    };
    let best = candidates.max_by_key(|candidate| common(candidate))?;
    (common(best) >= 4).then_some(best)
}

/// Whose import it is, by how its name begins.
const OWNERS: &[(&str, &str)] = &[
    ("fermyon:", "Spin"),
    ("spin:", "Spin"),
    ("wasmcloud:", "wasmCloud"),
    ("fastly:", "Fastly Compute"),
    ("wasi:sql/", "WASI SQL"),
    ("wasi:nn/", "WASI neural networks"),
    ("wasi:otel/", "WASI OpenTelemetry"),
    ("wasi:tls/", "WASI TLS"),
    ("wasi:webgpu/", "WASI WebGPU"),
    ("wasi:graphics-context/", "WASI WebGPU"),
];

fn way_out(abi: Abi, import: &str) -> String {
    if abi.is_module() {
        return module_way_out(abi, import);
    }
    let package = import
        .split_once('/')
        .map_or(import, |(package, _)| package);
    if let Some((_, version)) = drafts(abi)
        .find(|draft| draft.starts_with(&format!("{package}/")))
        .and_then(|draft| draft.split_once('@'))
    {
        return format!(
            "build the guest against {package}@{version}, the draft that this host offers"
        );
    }
    if let Some((_, owner)) = OWNERS.iter().find(|(prefix, _)| import.starts_with(prefix)) {
        return format!(
            "this import belongs to {owner}, which is not supported yet; build the guest without it"
        );
    }
    let Some((interface, version)) = import.split_once('@') else {
        return unversioned_way_out(import);
    };
    if !interface.starts_with("wasi:") {
        return format!(
            "`{interface}` is not part of WASI: bind it to a component of the app that exports it, \
             [component.NAME.bind] \"{interface}\" = \"THAT\", or build it without this import"
        );
    }
    if matches!(
        interface,
        "wasi:http/handler" | "wasi:http/incoming-handler"
    ) {
        return "a guest that imports a handler is middleware: compose it with the component that it stands before \
                (`wac plug middleware.wasm --plug handler.wasm`)"
            .to_owned();
    }
    match Version::parse(version) {
        Some(version) if !version.pre_release.is_empty() || version.major == 0 && version.minor < 2 => candidate_way_out(&version),
        Some(version) if version.track() == Some((0, 3)) && offered(abi).len() == 1 => {
            format!("a guest of ABI {abi} is offered WASI 0.2 only; {}", rebuild_as_0_3(abi))
        }
        Some(version) if version.track().is_some_and(|track| track != (0, 2) && track != (0, 3)) => {
            "this host implements WASI 0.2 and 0.3; build the guest with a toolchain of one of these".to_owned()
        }
        _ => "this interface is not in WASI as released, or is unstable in it; build the guest without it".to_owned(),
    }
}

fn rebuild_as_0_3(abi: Abi) -> &'static str {
    if abi.is_http() {
        "build the guest for one version: export wasi:http/handler@0.3.0, or import WASI 0.2"
    } else {
        "build the guest for one version: export wasi:cli/run@0.3.0, or import WASI 0.2"
    }
}

fn candidate_way_out(version: &Version<'_>) -> String {
    let (release, toolchain) = match version.minor {
        3 => (
            "0.3.0",
            "Rust: crate `wasip3` 0.9, or wit-bindgen with the WIT of 0.3.0",
        ),
        _ => (
            "0.2",
            "Rust: target wasm32-wasip2 or crate `wasip2` 1.0; other languages: a release of 2024 or newer",
        ),
    };
    format!(
        "the guest was built for a release candidate or preview of WASI, which is compatible with no release; \
         build it again with a toolchain of WASI {release} ({toolchain})"
    )
}

fn unversioned_way_out(import: &str) -> String {
    if import.starts_with("wasi:") {
        "an import of WASI without a version is older than WASI 0.2.0; build the guest again with a toolchain of 2024 or newer".to_owned()
    } else if import.contains(':') {
        "this is not part of WASI: bind it to a component of the app that exports it, in [component.NAME.bind], or build the guest without it".to_owned()
    } else {
        "this function or interface comes from the guest's own world; export it from another component and compose the two, or build the guest without it".to_owned()
    }
}

fn module_way_out(abi: Abi, import: &str) -> String {
    let (module, name) = import.split_once('.').unwrap_or((import, ""));
    match (module, name) {
        (PREVIEW1, _) => "this function is not in WASI preview 1; build the guest with a plain WASI toolchain".to_owned(),
        (env::MODULE, _) if abi == Abi::Handle => "docs/abi/handle.md lists the functions of `env`; link the library that defines this one, or build the guest without it".to_owned(),
        ("env", "memory") => "the guest wants its memory from the host, as programs with threads do; build it without threads".to_owned(),
        ("env", _) => format!("`env` is where a linker leaves what it did not find: link the library that defines `{name}`, or build without it"),
        _ if MODULES.iter().any(|(name, _)| *name == module) => format!("`{module}` has no such function here; build the guest without it"),
        _ if abi == Abi::Handle => format!("a module of serverless-wasm may import `env` and `{PREVIEW1}`; build the guest without `{module}`"),
        _ => format!("a command module may import `{PREVIEW1}` only; build the guest without `{module}`"),
    }
}

/// Turns the linker's error into the text of [`check`]. `engine_error` is the whole chain, as `{error:?}` or `{error:#}`
/// prints it. `None` if the error is not about an import.
pub fn explain(abi: Abi, engine_error: &str) -> Option<Missing> {
    if let Some(import) = quoted_after(engine_error, "incompatible import type for ") {
        return Some(differs(&import.replacen("::", ".", 1)));
    }
    if let Some(import) = quoted_after(engine_error, "unknown import: ") {
        return Some(lacking(abi, &import.replacen("::", ".", 1)));
    }
    let import = quoted_after(engine_error, "component imports instance ")
        .or_else(|| quoted_after(engine_error, "component imports function "))
        .or_else(|| quoted_after(engine_error, "component imports "))?;
    if !has(abi, import) {
        return Some(lacking(abi, import));
    }
    let item = quoted_after(engine_error, "instance export ").unwrap_or("");
    if drafts(abi).any(|draft| draft == import) {
        return Some(misfits(import, item));
    }
    let version = import.split_once('@').map_or("", |(_, version)| version);
    let offer = offered(abi)
        .iter()
        .find(|offer| track(offer.version) == track(version))?;
    let interface = import
        .split_once('@')
        .map_or(import, |(interface, _)| interface);
    let nearest = format!("{interface}@{}", offer.version);
    let absent = engine_error.contains("implementation is missing");
    let what = if absent {
        format!(
            "the guest imports `{item}` of `{import}`, which this host does not offer (nearest offered: `{nearest}`)"
        )
    } else {
        format!(
            "the guest imports `{item}` of `{import}` with another type than this host's `{nearest}` has"
        )
    };
    let package = interface
        .split_once('/')
        .map_or(interface, |(package, _)| package);
    let toolchain = if offer.version == WASI_0_3.version {
        "crate `wasip3` 0.9"
    } else {
        "crate `wasip2` 1.0"
    };
    let help = format!(
        "build the guest against {package} {} or older, without unstable features (Rust: {toolchain})",
        offer.version
    );
    Some(Missing {
        import: import.to_owned(),
        nearest: Some(nearest),
        what,
        help,
    })
}

/// A draft is one text: a guest that names it and means another one was built from a changed copy.
fn misfits(import: &str, item: &str) -> Missing {
    Missing {
        import: import.to_owned(),
        nearest: Some(import.to_owned()),
        what: format!("the guest imports `{item}` of `{import}`, which is not as this host has it"),
        help: "build the guest from the package in this host's `wit` folder".to_owned(),
    }
}

/// A core module's import that exists with another type.
fn differs(import: &str) -> Missing {
    let (owner, help) = match import.split_once('.') {
        Some((env::MODULE, _)) => (
            "serverless-wasm",
            "declare it as docs/abi/handle.md does: places are i32, sizes are i64",
        ),
        _ => (
            "WASI preview 1",
            "build the guest with a plain WASI toolchain; its bindings are wrong or made for another host",
        ),
    };
    Missing {
        import: import.to_owned(),
        nearest: Some(import.to_owned()),
        what: format!("the guest imports `{import}` with another type than {owner} gives it"),
        help: help.to_owned(),
    }
}

/// The text between the backquotes that follow `lead`.
fn quoted_after<'a>(text: &'a str, lead: &str) -> Option<&'a str> {
    let rest = text.split_once(lead)?.1.strip_prefix('`')?;
    rest.split_once('`').map(|(quoted, _)| quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn importing(names: &[&str]) -> Detected {
        let needs = names
            .iter()
            .map(|name| Need {
                name: (*name).to_owned(),
                items: vec!["f".to_owned()],
            })
            .collect();
        Detected {
            needs,
            ..Detected::default()
        }
    }

    fn refused(abi: Abi, import: &str) -> Missing {
        check(&importing(&[import]), abi).expect_err(import)
    }

    #[test]
    fn everything_offered_passes_in_every_release_of_its_track() {
        for offer in [&WASI_0_2, &WASI_0_3] {
            for interface in offer.interfaces {
                let minor = if offer.version == WASI_0_2.version {
                    2
                } else {
                    3
                };
                for patch in [0, 5, 12, 99] {
                    let import = format!("{interface}@0.{minor}.{patch}");
                    assert_eq!(
                        check(&importing(&[&import]), Abi::HttpP3),
                        Ok(()),
                        "{import}"
                    );
                    assert_eq!(
                        check(&importing(&[&import]), Abi::CommandP2).is_ok(),
                        minor == 2,
                        "{import}"
                    );
                }
            }
        }
        for function in PREVIEW1_FUNCTIONS {
            assert_eq!(
                check(
                    &importing(&[&format!("{PREVIEW1}.{function}")]),
                    Abi::CommandP1
                ),
                Ok(())
            );
        }
        assert_eq!(check(&Detected::default(), Abi::HttpP2), Ok(()));
    }

    use Abi::{CommandP1, CommandP2, HttpP2, HttpP3};

    /// ABI, import, nearest offer, part of the way out.
    const MISSING: &[(Abi, &str, Option<&str>, &str)] = &[
        (
            HttpP3,
            "wasi:http/types@0.3.0-rc-2025-09-16",
            Some("wasi:http/types@0.3.0"),
            "toolchain of WASI 0.3.0 (Rust: crate `wasip3`",
        ),
        (
            HttpP2,
            "wasi:http/types@0.2.0-rc-2023-11-10",
            Some("wasi:http/types@0.2.12"),
            "toolchain of WASI 0.2 (Rust",
        ),
        (
            HttpP2,
            "wasi:http/types@0.1.0",
            Some("wasi:http/types@0.2.12"),
            "release candidate or preview",
        ),
        (
            HttpP2,
            "wasi:http/types",
            Some("wasi:http/types@0.2.12"),
            "older than WASI 0.2.0",
        ),
        (
            HttpP2,
            "wasi:http/client@0.3.0",
            None,
            "offered WASI 0.2 only; build the guest for one version: export wasi:http/handler@0.3.0",
        ),
        (
            CommandP2,
            "wasi:cli/stdin@0.3.0",
            Some("wasi:cli/stdin@0.2.12"),
            "export wasi:cli/run@0.3.0",
        ),
        (
            HttpP3,
            "wasi:http/types@0.4.0",
            Some("wasi:http/types@0.3.0"),
            "implements WASI 0.2 and 0.3",
        ),
        (
            HttpP3,
            "wasi:http/handler@0.3.0",
            None,
            "is middleware: compose it",
        ),
        (
            HttpP2,
            "wasi:clocks/wall-clock-now@0.2.3",
            Some("wasi:clocks/wall-clock@0.2.12"),
            "not in WASI as released",
        ),
        (HttpP2, "wasi:clocks/timezone@0.2.3", None, "unstable"),
        (
            HttpP2,
            "wasi:keyvalue/store@0.2.0-draft3",
            Some("wasi:keyvalue/store@0.2.0-draft2"),
            "build the guest against wasi:keyvalue@0.2.0-draft2,",
        ),
        (
            HttpP2,
            "wasi:blobstore/types@0.2.0-draft2",
            Some("wasi:blobstore/types@0.2.0-draft"),
            "build the guest against wasi:blobstore@0.2.0-draft,",
        ),
        (HttpP2, "fermyon:spin/llm@2.0.0", None, "belongs to Spin"),
        (
            HttpP2,
            "spin:postgres/postgres@3.0.0",
            None,
            "belongs to Spin",
        ),
        (
            HttpP2,
            "wasmcloud:bus/lattice@1.0.0",
            None,
            "belongs to wasmCloud",
        ),
        (
            HttpP2,
            "acme:tools/upper@1.0.0",
            None,
            "bind it to a component of the app",
        ),
        (
            HttpP2,
            "acme:tools/upper",
            None,
            "bind it to a component of the app",
        ),
        (HttpP2, "shout", None, "the guest's own world"),
        (
            CommandP1,
            "wasi_snapshot_preview1.sock_accept_v2",
            Some("wasi_snapshot_preview1.sock_accept"),
            "not in WASI preview 1",
        ),
        (CommandP1, "env.memory", None, "without threads"),
        (
            CommandP1,
            "env.pthread_create",
            None,
            "link the library that defines `pthread_create`",
        ),
        (CommandP1, "acme.upper", None, "without `acme`"),
    ];

    #[test]
    fn a_missing_import_names_itself_the_nearest_offer_and_the_way_out() {
        for (abi, import, nearest, help) in MISSING.iter().copied() {
            let missing = refused(abi, import);
            assert_eq!(missing.import, import);
            assert!(missing.what.contains(&format!("`{import}`")), "{missing}");
            assert!(missing.help.contains(help), "{missing}");
            assert_eq!(missing.nearest.as_deref(), nearest, "{missing}");
            if let Some(nearest) = nearest {
                assert!(
                    missing
                        .to_string()
                        .contains(&format!("nearest offered: `{nearest}`")),
                    "{missing}"
                );
            }
        }
    }

    #[test]
    fn further_missing_imports_are_named_up_to_a_point() {
        let names: Vec<String> = (0..9).map(|n| format!("acme:tools/t{n}@1.0.0")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let missing = check(&importing(&names), Abi::HttpP2).expect_err("nine");
        assert!(
            missing
                .what
                .ends_with("`acme:tools/t3@1.0.0`, `acme:tools/t4@1.0.0` and 4 more"),
            "{missing}"
        );
        let missing = check(&importing(&names[..2]), Abi::HttpP2).expect_err("two");
        assert!(
            missing
                .what
                .ends_with("; also missing: `acme:tools/t1@1.0.0`"),
            "{missing}"
        );
    }

    #[test]
    fn the_engines_link_errors_become_the_same_text() {
        let newer = "component imports instance `wasi:http/types@0.2.13`, but a matching implementation was not found in \
            the linker: instance export `[method]fields.shuffle` has the wrong type: function implementation is missing";
        let missing = explain(Abi::HttpP2, newer).expect("about an import");
        assert_eq!(missing.nearest.as_deref(), Some("wasi:http/types@0.2.12"));
        assert!(
            missing
                .what
                .contains("`[method]fields.shuffle` of `wasi:http/types@0.2.13`"),
            "{missing}"
        );
        assert!(
            missing.help.contains("against wasi:http 0.2.12 or older"),
            "{missing}"
        );
        let changed = newer.replace(
            "function implementation is missing",
            "type mismatch with parameters",
        );
        assert!(
            explain(Abi::HttpP2, &changed)
                .expect("type")
                .what
                .contains("with another type")
        );
        let unknown = "component imports instance `acme:tools/upper@1.0.0`, but a matching implementation was not found";
        assert_eq!(
            explain(Abi::HttpP2, unknown),
            Some(refused(Abi::HttpP2, "acme:tools/upper@1.0.0"))
        );
        let module = "unknown import: `env::pthread_create` has not been defined";
        assert_eq!(
            explain(Abi::CommandP1, module),
            Some(refused(Abi::CommandP1, "env.pthread_create"))
        );
        let typed =
            "incompatible import type for `wasi_snapshot_preview1::proc_exit`: types incompatible";
        let missing = explain(Abi::CommandP1, typed).expect("type");
        assert!(
            missing
                .what
                .contains("`wasi_snapshot_preview1.proc_exit` with another type"),
            "{missing}"
        );
        let draft = newer
            .replace("wasi:http/types@0.2.13", "wasi:keyvalue/store@0.2.0-draft")
            .replace("[method]fields.shuffle", "open");
        let missing = explain(Abi::HttpP2, &draft).expect("about a draft");
        assert!(
            missing
                .what
                .contains("`open` of `wasi:keyvalue/store@0.2.0-draft`"),
            "{missing}"
        );
        assert!(missing.help.contains("`wit` folder"), "{missing}");
        assert_eq!(explain(Abi::HttpP2, "out of memory"), None);
        assert_eq!(
            explain(Abi::HttpP2, "component imports instance `half"),
            None
        );
    }
}
