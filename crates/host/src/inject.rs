//! Fault injection: makes one of the functions that the host offers to guests panic, so that a test can show what such a
//! defect would cost. Part of builds with debug assertions only; a release has neither this file nor its switch.
//!
//! `HOSTEL_PANIC_IN=INTERFACE#FUNCTION` names the function, as in `wasi:io/streams@0.2#[method]output-stream.write` or
//! `wasi_snapshot_preview1#fd_write`; what stands behind the second number of a version does not matter. With `later:` in
//! front it panics only after it had to wait once. The function is replaced when a guest that imports it is linked.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};
use wasmtime::{ExternType, Module, Result};

use crate::imports;
use crate::state::Host;

/// Names the function that panics.
const VARIABLE: &str = "HOSTEL_PANIC_IN";

/// One function that is to panic.
#[derive(Debug, Clone)]
struct Plan {
    /// Its interface, with two numbers of a version, and its name.
    function: (String, String),
    /// It waits once before it panics.
    later: bool,
    /// How often it has.
    hits: Arc<AtomicU32>,
}

impl Plan {
    /// Reads `INTERFACE#FUNCTION`, or `later:INTERFACE#FUNCTION`.
    fn parse(text: &str) -> Option<Self> {
        let (later, name) = match text.strip_prefix("later:") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let (interface, function) = name.split_once('#')?;
        Some(Self {
            function: (track(interface), function.to_owned()),
            later,
            hits: Arc::default(),
        })
    }

    fn names(&self, interface: &str, function: &str) -> bool {
        self.function == (track(interface), function.to_owned())
    }

    /// What the function does instead of its work.
    #[expect(clippy::panic, reason = "that is what it is for")]
    fn panic(&self) -> ! {
        self.hits.fetch_add(1, Ordering::Relaxed);
        let (interface, function) = &self.function;
        let message = format!("injected into {interface}#{function}");
        if cfg!(test) {
            // The same without the report, which takes long where it has a backtrace, and there are hundreds.
            std::panic::resume_unwind(Box::new(message));
        }
        panic!("{message}");
    }

    async fn run(self) -> Result<()> {
        if self.later {
            tokio::task::yield_now().await;
        }
        self.panic()
    }
}

/// An interface without the last number of its version.
fn track(interface: &str) -> String {
    let Some((name, version)) = interface.split_once('@') else {
        return interface.to_owned();
    };
    let numbers: Vec<&str> = version.split('.').take(2).collect();
    format!("{name}@{}", numbers.join("."))
}

/// What the environment says, read once.
fn plan() -> Option<Plan> {
    #[cfg(test)]
    if let Some(plan) = tests::plan() {
        return Some(plan);
    }
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    PLAN.get_or_init(|| Plan::parse(&std::env::var(VARIABLE).ok()?))
        .clone()
}

/// The linker of components, with the function replaced if this component imports it.
pub(crate) fn component(linker: &Linker<Host>, component: &Component) -> Result<Linker<Host>> {
    let mut linker = linker.clone();
    let Some(plan) = plan() else {
        return Ok(linker);
    };
    let engine = linker.engine().clone();
    let types = component.component_type();
    for (import, external) in types.imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = external.ty else {
            continue;
        };
        for (name, export) in instance.exports(&engine) {
            if let ComponentItem::ComponentFunc(function) = export.ty
                && plan.names(import, name)
            {
                replace(
                    &mut linker,
                    &offered(import),
                    name,
                    function.async_(),
                    &plan,
                )?;
            }
        }
    }
    Ok(linker)
}

/// The name under which the linker has an interface: a guest may have been built against an older release.
fn offered(import: &str) -> String {
    if imports::DRAFTS.contains(&import) {
        return import.to_owned();
    }
    let name = import.split_once('@').map_or(import, |(name, _)| name);
    [imports::WASI_0_2, imports::WASI_0_3]
        .iter()
        .map(|offer| format!("{name}@{}", offer.version))
        .find(|known| track(known) == track(import))
        .unwrap_or_else(|| import.to_owned())
}

fn replace(
    linker: &mut Linker<Host>,
    interface: &str,
    function: &str,
    is_async: bool,
    plan: &Plan,
) -> Result<()> {
    let plan = plan.clone();
    linker.allow_shadowing(true);
    let mut instance = linker.instance(interface)?;
    if is_async {
        instance.func_new_concurrent(function, move |_, _, _, _| Box::pin(plan.clone().run()))
    } else if plan.later {
        instance.func_new_async(function, move |_, _, _, _| Box::new(plan.clone().run()))
    } else {
        instance.func_new(function, move |_, _, _, _| plan.panic())
    }
}

/// The linker of core modules, with the function replaced if this module imports it.
pub(crate) fn module(
    linker: &wasmtime::Linker<Host>,
    module: &Module,
) -> Result<wasmtime::Linker<Host>> {
    let mut linker = linker.clone();
    let Some(plan) = plan() else {
        return Ok(linker);
    };
    for import in module.imports() {
        let ExternType::Func(ty) = import.ty() else {
            continue;
        };
        if plan.names(import.module(), import.name()) {
            let plan = plan.clone();
            linker.allow_shadowing(true);
            linker.func_new_async(import.module(), import.name(), ty, move |_, _, _| {
                Box::new(plan.clone().run())
            })?;
        }
    }
    Ok(linker)
}

#[cfg(test)]
mod tests {
    //! Every function that one of the guests here calls panics, at once and after a wait. The call fails by the host's
    //! fault, and the next call of another component is answered.

    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::testing::{self, ask, block_on, code, component as plain};
    use crate::{Fault, Guest, Role, Runtime};

    thread_local! {
        static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
    }

    /// The plan of the test on this thread.
    pub(super) fn plan() -> Option<Plan> {
        PLAN.with_borrow(Clone::clone)
    }

    /// Links a guest that may use `folder`, with a function replaced.
    fn load(runtime: &Runtime, folder: &Path, name: &str, plan: Option<&Plan>) -> Guest {
        let code = code(name);
        let mut component = plain(&code);
        component.grants.files = vec![hostel_app::grant::FileGrant {
            guest: "/site".into(),
            host: folder.into(),
            write: true,
        }];
        PLAN.set(plan.cloned());
        let guest = testing::load(runtime, &component, &code, Role::Serve).unwrap();
        PLAN.set(None);
        guest
    }

    /// The functions that a server imports, as a plan names them.
    fn imports(guest: &Guest) -> BTreeSet<String> {
        let linked = guest.0.callable.component().expect("a component");
        let component = linked.component();
        let engine = component.engine();
        let mut found = BTreeSet::new();
        for (import, external) in component.component_type().imports(engine) {
            if let ComponentItem::ComponentInstance(instance) = external.ty {
                for (function, export) in instance.exports(engine) {
                    if matches!(export.ty, ComponentItem::ComponentFunc(_)) {
                        found.insert(format!("{import}#{function}"));
                    }
                }
            }
        }
        found
    }

    /// A guest, a request of it, and what it is here for: the functions that panic begin like this.
    const REQUESTS: &[(&str, &str, &str)] = &[
        ("hello-p2", "/", "wasi:"),
        ("hello-p2-small", "/", "wasi:"),
        ("echo-p2", "/", "wasi:"),
        ("headers-p2", "/?x=1", "wasi:http/types"),
        ("log-p2", "/?what=plain", "wasi:cli/"),
        ("env-p2", "/", "wasi:cli/environment"),
        ("exit-p2", "/?code=0", "wasi:cli/exit"),
        ("slow-p2", "/?ms=1", "wasi:clocks/"),
        ("files-p2", "/?list=/site", "wasi:filesystem/"),
        (
            "files-p2",
            "/?write=/site/new.txt&text=x",
            "wasi:filesystem/",
        ),
        ("files-p2", "/?read=/site/page.txt", "wasi:filesystem/"),
        ("files-p2", "/?remove=/site/none.txt", "wasi:filesystem/"),
        ("sockets-p2", "/?udp=127.0.0.1:9", "wasi:sockets/"),
        ("sockets-p2", "/?tcp=127.0.0.1:9", "wasi:sockets/"),
        ("sockets-p2", "/?name=localhost", "wasi:sockets/"),
        ("outgoing-p2", "/?url=http://localhost:9/", "wasi:http/"),
        ("bomb-p2", "/?what=random&bytes=10", "wasi:random/"),
        ("bomb-p2", "/?what=list&count=1&bytes=1", "wasi:http/types"),
        ("bomb-p2", "/?what=polls&count=1", "wasi:io/poll"),
        ("advisory-p2", "/?case=zero-timeouts", "wasi:http/types"),
        ("advisory-p2", "/?case=insecure-random", "wasi:random/"),
        ("advisory-p2", "/?case=splice", "wasi:io/streams"),
        ("advisory-p2", "/?case=late-timer", "wasi:io/poll"),
        ("advisory-p2", "/?case=zero-timer", "wasi:clocks/"),
        ("advisory-p2", "/?case=timestamp", "wasi:filesystem/"),
        ("advisory-p2", "/?case=rename-out", "wasi:filesystem/"),
        ("advisory-p2", "/?case=link-out", "wasi:filesystem/"),
        ("advisory-p2", "/?case=symlink-out", "wasi:filesystem/"),
        ("hello-p3", "/", "wasi:"),
        ("echo-p3", "/", "wasi:http/"),
        ("headers-p3", "/?x=1", "wasi:http/types"),
        ("slow-p3", "/?ms=1", "wasi:clocks/"),
        ("outgoing-p3", "/?url=http://localhost:9/", "wasi:http/"),
        ("bomb-p3", "/?what=random&bytes=10", "wasi:random/"),
        ("advisory-p3", "/?case=zero-timer", "wasi:clocks/"),
        ("advisory-p3", "/?case=fields-at-once", "wasi:http/types"),
        ("advisory-p3", "/?case=zero-length", "wasi:cli/"),
        ("advisory-p3", "/?case=pending-trap", "wasi:cli/"),
    ];

    /// The functions that the requests above call.
    const CALLED: usize = 90;

    #[test]
    fn a_panic_in_any_function_of_a_server_costs_that_request_only() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("page.txt"), "text").unwrap();
        let runtime = testing::runtime(Some(&folder.path().join("code")));
        let neighbour = load(&runtime, folder.path(), "hello-p2-small", None);
        let mut called = BTreeSet::new();
        for (name, path, about) in REQUESTS {
            let imports = imports(&load(&runtime, folder.path(), name, None));
            for function in imports
                .iter()
                .filter(|function| function.starts_with(about))
            {
                if called.contains(function) {
                    continue;
                }
                for when in ["", "later:"] {
                    let plan = Plan::parse(&format!("{when}{function}")).unwrap();
                    let guest = load(&runtime, folder.path(), name, Some(&plan));
                    let outcome = block_on(ask(&guest, path));
                    if plan.hits.load(Ordering::Relaxed) == 0 {
                        break;
                    }
                    let failed = ["host", "cut"].contains(&outcome.as_str());
                    assert!(failed, "{name}{path}, {when}{function}: {outcome}");
                    let next = block_on(ask(&neighbour, "/"));
                    assert_eq!(next, "200", "after {name}{path}, {when}{function}");
                    called.insert(function.clone());
                }
            }
        }
        assert!(called.len() >= CALLED, "only {}: {called:#?}", called.len());
    }

    #[test]
    fn a_panic_in_a_shared_instance_costs_that_instance_only() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = testing::runtime(Some(&folder.path().join("code")));
        let neighbour = load(&runtime, folder.path(), "hello-p3", None);
        let code = code("hello-p3");
        let mut component = plain(&code);
        component.reuse = hostel_app::Reuse {
            requests: 100,
            concurrent: 4,
        };
        for when in ["", "later:"] {
            PLAN.set(Plan::parse(&format!(
                "{when}wasi:http/types@0.3#[static]response.new"
            )));
            let shared = testing::load(&runtime, &component, &code, Role::Serve).unwrap();
            PLAN.set(None);
            for _ in 0..3 {
                assert_eq!(block_on(ask(&shared, "/")), "host");
                assert_eq!(block_on(ask(&neighbour, "/")), "200");
            }
        }
    }

    #[test]
    fn a_panic_in_a_function_of_a_command_is_the_host_s_fault() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = testing::runtime(Some(&folder.path().join("code")));
        let run = |name: &str, plan: Option<&Plan>| {
            let code = code(name);
            PLAN.set(plan.cloned());
            let guest = testing::load(&runtime, &plain(&code), &code, Role::Run).unwrap();
            PLAN.set(None);
            block_on(guest.run(&["program".to_owned(), "3".to_owned()]))
        };
        let preview1 = ["args_get", "environ_sizes_get", "fd_write", "proc_exit"];
        let environment = ["get-arguments", "get-environment"];
        for (name, interface, functions) in [
            ("run-exit-p1", imports::PREVIEW1, &preview1[..]),
            ("run-exit-p2", "wasi:cli/environment@0.2", &environment),
            ("run-exit-p3", "wasi:cli/environment@0.3", &environment),
        ] {
            for function in functions {
                for when in ["", "later:"] {
                    let plan = Plan::parse(&format!("{when}{interface}#{function}")).unwrap();
                    let outcome = run(name, Some(&plan));
                    assert!(
                        matches!(outcome, Err(Fault::Host(_))),
                        "{name}, {function}: {outcome:?}"
                    );
                    assert_eq!(plan.hits.load(Ordering::Relaxed), 1, "{name}, {function}");
                }
            }
            let outcome = run(name, None);
            assert!(
                matches!(outcome, Ok(1 | 3)),
                "{name} afterwards: {outcome:?}"
            );
        }
    }

    #[test]
    fn a_plan_names_a_function_without_the_last_number_of_its_version() {
        let plan = Plan::parse("later:wasi:io/poll@0.2.3#poll").unwrap();
        assert!(plan.later);
        assert!(plan.names("wasi:io/poll@0.2.12", "poll"));
        assert!(!plan.names("wasi:io/poll@0.3.0", "poll"));
        assert!(!plan.names("wasi:io/poll@0.2.12", "block"));
        let plan = Plan::parse("wasi_snapshot_preview1#fd_write").unwrap();
        assert!(!plan.later && plan.names("wasi_snapshot_preview1", "fd_write"));
        assert!(Plan::parse("fd_write").is_none());
    }
}
