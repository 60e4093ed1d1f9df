//! Imports that another component of the app answers (`[component.NAME.bind]`).
//!
//! The two are linked instance to instance: the import is a host function that calls the export of an instance in a store of
//! its own, made at the caller's first call and dropped with the caller. So the callee has its own memory, grants, limits and
//! name in the log, as if a trigger had called it; only its CPU and time are the caller's too, who waits. Arguments and
//! results are copied as values. Where the callee fails, the caller traps, because an import can fail in no other way; the
//! callee's instance is dropped, and the next call gets a fresh one.
//!
//! A caller keeps the build of the callee that it was checked against. A new build of a callee answers new builds of its callers,
//! which whoever replaces it loads with it; calls in flight finish on what they began with.
//!
//! What may be bound to what is `fit`'s business.

mod fit;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Mutex as AsyncMutex;
use wasmtime::component::{Component, Func, Instance, Linker, Val};
use wasmtime::{AsContextMut, Result, Store};

use crate::abi::export::Linked;
use crate::abi::{Callable, Exports, Warm, http};
use crate::chain::Chain;
use crate::compile::LoadError;
use crate::fault::Fault;
use crate::guest::{Guest, Inner, RequestId, fault_of};
use crate::lock::lock;
use crate::meter::{self, Clock};
use crate::state::Host;
use fit::Fit;
pub(crate) use fit::{is_compatible, is_meant};
use waiting::Waiting;

/// What answers a component's imports, by the names that the manifest gives them.
pub(crate) type Bound = BTreeMap<String, Guest>;

/// The components of one app that may answer imports of others, by name.
#[derive(Default)]
pub(crate) struct Callees(Mutex<HashMap<Arc<str>, Known>>);

/// What is known of a component that may be called.
#[derive(Default)]
struct Known {
    /// The guest that answers.
    guest: Weak<Inner>,
    /// The newest that was loaded; it may still wait for its place.
    newest: Weak<Inner>,
}

impl fmt::Debug for Callees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(lock(&self.0).keys()).finish()
    }
}

impl Callees {
    /// From now on this guest answers callers that are loaded later.
    fn put(&self, name: &Arc<str>, guest: &Arc<Inner>) {
        let mut all = lock(&self.0);
        all.entry(name.clone()).or_default().guest = Arc::downgrade(guest);
    }

    /// This guest is loaded. Callers are bound to it for as long as it is there, and else to the one that answers.
    pub(crate) fn loaded(&self, name: &Arc<str>, guest: &Arc<Inner>) {
        let mut all = lock(&self.0);
        all.entry(name.clone()).or_default().newest = Arc::downgrade(guest);
    }

    /// The component with this name, if it is loaded.
    fn find(&self, name: &str) -> Option<Guest> {
        let all = lock(&self.0);
        let known = all.get(name)?;
        let guest = known.newest.upgrade().or_else(|| known.guest.upgrade());
        guest.map(Guest)
    }

    /// What answers the component's imports; that is to be loaded before it, to be called.
    pub(crate) fn bound(
        &self,
        component: &hostel_app::Component,
    ) -> std::result::Result<Bound, LoadError> {
        let find = |(import, name): (&String, &String)| match self.find(name) {
            Some(guest) => Ok((import.clone(), guest)),
            None => Err(LoadError {
                component: component.name.clone(),
                what: format!(
                    "its import `{import}` is bound to the component \"{name}\", which is not loaded"
                ),
                help: format!(
                    "mend \"{name}\" first, or remove the line from [component.{}.bind]",
                    component.name
                ),
            }),
        };
        component.bind.iter().map(find).collect()
    }
}

impl Guest {
    /// From now on this guest answers the app's other components: their requests to its name, or the imports of those that are
    /// loaded later. Calls that run are left alone.
    pub fn answer_neighbours(&self) {
        let template = &self.0.template;
        let (name, app) = (&template.component, &template.network);
        match self.0.callable {
            Callable::HttpP2(_) | Callable::HttpP3(_) | Callable::Cgi(_) | Callable::Handle(_) => {
                app.neighbours.put(name, &self.0)
            }
            Callable::Export(_) => app.callees.put(name, &self.0),
            Callable::Message(_) | Callable::Command(_) | Callable::Init(_) => {}
        }
    }
}

/// One function that is imported from another component.
struct Function {
    /// Its number among all of the caller.
    number: usize,
    /// The callee's number among those of the caller.
    place: usize,
    callee: Guest,
    /// The import as the caller names it, and what it is in the callee.
    import: Arc<str>,
    export: Arc<str>,
    name: String,
}

/// The instances that answer one instance's imports, by the numbers of their components.
#[derive(Default)]
pub(crate) struct Answering {
    places: Vec<Place>,
    waiting: Waiting,
}

/// Where the instance of one component is, between two calls.
type Place = Arc<AsyncMutex<Option<Open>>>;

impl Answering {
    fn place(&mut self, number: usize) -> Place {
        if self.places.len() <= number {
            self.places.resize_with(number + 1, Arc::default);
        }
        self.places.get(number).cloned().unwrap_or_default()
    }
}

/// An instance that answers imports.
pub(crate) struct Open {
    store: Store<Host>,
    instance: Instance,
    /// By the numbers of the functions.
    functions: Vec<Option<Func>>,
}

/// Whether a guest with these imports has all that others are to answer; seen before it is compiled.
pub(crate) fn check(imports: &[String], bound: &Bound) -> std::result::Result<(), LoadError> {
    let imports: Vec<&str> = imports.iter().map(String::as_str).collect();
    for (written, callee) in bound {
        if !imports.iter().any(|import| is_meant(written, import)) {
            return Err(fit::not_imported(written, callee.name(), &imports));
        }
    }
    Ok(())
}

/// Defines the imports of `component` that others answer.
pub(crate) fn link(
    linker: &mut Linker<Host>,
    component: &Component,
    bound: &Bound,
) -> std::result::Result<(), LoadError> {
    let mut places: Vec<String> = Vec::new();
    let mut number = 0;
    for (written, guest) in bound {
        let Callable::Export(Linked::Component { pre, .. }) = &guest.0.callable else {
            return Err(fit::no_component(written, guest.name()));
        };
        let place = match places.iter().position(|name| name == guest.name()) {
            Some(place) => place,
            None => {
                places.push(guest.name().to_owned());
                places.len() - 1
            }
        };
        for fit in fit::fits(component, written, pre.component(), guest.name())? {
            let Fit {
                import,
                export,
                functions,
            } = fit;
            let (import, export): (Arc<str>, Arc<str>) = (import.into(), export.into());
            for (name, is_async) in functions {
                let function = Arc::new(Function {
                    number,
                    place,
                    callee: guest.clone(),
                    import: import.clone(),
                    export: export.clone(),
                    name,
                });
                number += 1;
                define(linker, function, is_async)
                    .map_err(|cause| fit::unlinked(written, &cause))?;
            }
        }
    }
    Ok(())
}

fn define(linker: &mut Linker<Host>, function: Arc<Function>, is_async: bool) -> Result<()> {
    let (import, name) = (function.import.clone(), function.name.clone());
    let mut instance = linker.instance(&import)?;
    if is_async {
        return instance.func_new_concurrent(&name, move |accessor, _, params, results| {
            let function = function.clone();
            Box::pin(async move {
                let call = accessor
                    .with(|mut store| Call::of(store.as_context_mut().data_mut(), &function));
                call?.make(params, results).await
            })
        });
    }
    instance.func_new_async(&name, move |mut store, _, params, results| {
        let function = function.clone();
        Box::new(async move {
            let call = Call::of(store.data_mut(), &function);
            call?.make(params, results).await
        })
    })
}

/// One call of an import.
struct Call {
    function: Arc<Function>,
    place: Place,
    waiting: Waiting,
    /// What the arguments that wait may take together.
    waiting_most: usize,
    request: RequestId,
    chain: Chain,
}

impl Call {
    fn of(caller: &mut Host, function: &Arc<Function>) -> Result<Self> {
        let Some(chain) = caller.outgoing().chain().deeper() else {
            let callee = function.callee.name();
            caller.template().too_deep(callee);
            wasmtime::bail!(
                "its call of `{callee}` through `{}` would be one too many, one behind the other",
                function.import
            );
        };
        Ok(Self {
            place: caller.answering().place(function.place),
            waiting: caller.answering().waiting.clone(),
            waiting_most: caller.template().limits.host_bytes,
            request: caller.request().get(),
            chain,
            function: function.clone(),
        })
    }

    /// One call at a time: an instance answers one after the other. Dropping this drops the callee's instance.
    async fn make(self, params: &[Val], results: &mut [Val]) -> Result<()> {
        let mut place = match self.place.try_lock() {
            Ok(place) => place,
            Err(_) => {
                let Some(_held) = self.waiting.hold(params, self.waiting_most) else {
                    wasmtime::bail!(
                        "calls of its imports that wait for their turn hold more than {} bytes, its limit `host_bytes`",
                        self.waiting_most
                    );
                };
                self.place.lock().await
            }
        };
        let kept = place.take();
        match self.answered(kept, params, results).await {
            Ok(open) => {
                *place = Some(open);
                Ok(())
            }
            Err(fault) => Err(self.failed(fault)),
        }
    }

    /// The callee's part, under its own clock and with a permit of its own.
    async fn answered(
        &self,
        kept: Option<Open>,
        params: &[Val],
        results: &mut [Val],
    ) -> std::result::Result<Open, Fault> {
        let guest = &self.function.callee;
        let template = &guest.0.template;
        template.metrics.calls.add(1);
        let _permit = guest.0.permit().await?;
        let (_ticking, clock) = match template.metered {
            true => (Some(guest.0.ticker.enter()), Clock::start(&template.limits)),
            false => (None, Clock::off(&template.limits)),
        };
        let chain = self.chain.within(template.limits.deadline_ms);
        let mut clock = clock.owned_by(&template.metrics).until(self.chain.due());
        let mut open = match kept {
            Some(open) => open,
            None => meter::run(&mut clock, self.open()).await??,
        };
        let function = open.function(&self.function)?;
        let host = open.store.data_mut();
        host.works_for(self.request);
        host.is_part_of(chain);
        open.store.set_epoch_deadline(1);
        let called = function.call_async(&mut open.store, params, results);
        match meter::run(&mut clock, called).await? {
            Ok(()) => Ok(open),
            Err(error) => Err(fault_of(&error, &open.store.data().meter)),
        }
    }

    /// A fresh instance.
    async fn open(&self) -> std::result::Result<Open, Fault> {
        let callee = &self.function.callee.0;
        let Warm { store, exports, .. } = http::instantiate(callee, self.request).await?;
        match exports {
            Exports::Component(instance) => Ok(Open {
                store,
                instance,
                functions: Vec::new(),
            }),
            _ => Err(Fault::BadGuest("it is no component with exports".into())),
        }
    }

    /// What the caller fails of; the operator is told of the callee's fault here.
    fn failed(&self, fault: Fault) -> wasmtime::Error {
        let callee = &self.function.callee;
        callee.report(self.request, &fault);
        wasmtime::Error::from(CalleeFailed {
            callee: callee.name().to_owned(),
            import: self.function.import.clone(),
            fault,
        })
    }
}

impl Open {
    fn function(&mut self, wanted: &Function) -> std::result::Result<Func, Fault> {
        if let Some(Some(function)) = self.functions.get(wanted.number) {
            return Ok(*function);
        }
        let store = &mut self.store;
        let interface = self
            .instance
            .get_export_index(&mut *store, None, &wanted.export);
        let index = interface.and_then(|interface| {
            self.instance
                .get_export_index(&mut *store, Some(&interface), &wanted.name)
        });
        let function = index.and_then(|index| self.instance.get_func(&mut *store, index));
        let Some(function) = function else {
            let (name, export) = (&wanted.name, &wanted.export);
            return Err(Fault::BadGuest(format!(
                "it exports no `{name}` of `{export}`"
            )));
        };
        if self.functions.len() <= wanted.number {
            self.functions.resize(wanted.number + 1, None);
        }
        if let Some(place) = self.functions.get_mut(wanted.number) {
            *place = Some(function);
        }
        Ok(function)
    }
}

/// A call through an import failed, because the callee did.
#[derive(Debug)]
pub(crate) struct CalleeFailed {
    callee: String,
    import: Arc<str>,
    fault: Fault,
}

impl CalleeFailed {
    /// What the caller's own fault is: what time and room were too short for is the same for both, and the rest a trap.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match &self.fault {
            Fault::Busy(_) | Fault::Deadline(_) | Fault::Cpu(_) => Some(self.fault.clone()),
            _ => None,
        }
    }
}

impl fmt::Display for CalleeFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "component `{}`, which answers `{}`, failed: {}",
            self.callee,
            self.import,
            self.fault.row().name
        )
    }
}

impl std::error::Error for CalleeFailed {}

#[cfg(test)]
mod tests {
    use hostel_app::{Component, Source};

    use crate::testing::{ask, block_on, code, runtime};
    use crate::{AppScope, Guest, Role};

    /// A component of this name with this code, and what its import is bound to.
    fn load(scope: &AppScope, name: &str, code: &[u8], role: Role) -> Guest {
        let mut component = Component::new(name, Source::InlineWat, code);
        if role == Role::Serve {
            let (import, callee) = ("shop:pricing/api", "pricing");
            component.bind.insert(import.to_owned(), callee.to_owned());
        }
        scope.load(&component, code, role, &|_| {}).unwrap()
    }

    /// It exports the interface, and lacks what the others have in it.
    const EMPTY: &[u8] =
        br#"(component (instance $x) (export "shop:pricing/api@1.0.0" (instance $x)))"#;

    #[test]
    fn a_caller_keeps_the_build_that_it_was_checked_against() {
        let runtime = runtime(None);
        let scope = runtime.app("test");
        let shop = || load(&scope, "shop", &code("shop-p2"), Role::Serve);
        let first = load(&scope, "pricing", &code("pricing-p2"), Role::Call);
        first.answer_neighbours();
        let old = shop();
        // A revision that is not taken over after all changes nothing.
        drop(load(&scope, "pricing", EMPTY, Role::Call));
        let same = shop();
        // The new build has other limits, by which it can be told from the old one.
        let mut component = Component::new("pricing", Source::InlineWat, b"other");
        component.limits.memory_bytes = 16 << 20;
        let build = scope.load(&component, &code("pricing-p2"), Role::Call, &|_| {});
        let second = build.unwrap();
        let new = shop();
        second.answer_neighbours();
        first.retire();
        // Callers keep what answers them.
        drop((first, second));
        for (shop, grown) in [(&old, "200"), (&same, "200"), (&new, "trap")] {
            assert_eq!(block_on(ask(shop, "/?item=tea")), "200");
            assert_eq!(block_on(ask(shop, "/?act=grow:64")), grown);
        }
    }
}
