//! `export` and `export-module`: any function that a component or a core module exports, called by its name.
//!
//! Who calls gives arguments as text, as JSON or as plain values, and the guest's own types say what they mean: `text` is
//! that for components, `module` for core modules. What is wrong with a name or an argument is found before the guest runs.
//!
//! A function of an interface has three names: `ns:package/interface@1.0.0#function`, the same without the version, and
//! `interface.function`; each where no other export has it too.

mod module;
mod names;
pub(crate) mod text;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;
use tokio::sync::oneshot;
use wasmtime::Result;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{ComponentExportIndex, Instance, InstancePre, Type, Val};

use crate::abi::http::Task;
use crate::abi::{Callable, Exports, Warm, drive, start};
use crate::compile::LoadError;
use crate::engine::Flavor;
use crate::fault::Fault;
use crate::guest::{Inner, RequestId};
use crate::pool::Permit;
use crate::state::Host;

pub use names::ExportInfo;
use names::{error, find, split, unknown};

/// What an export is called with, one for each parameter.
pub type Arguments = Vec<Argument>;

/// One argument. It is converted to the parameter's type before the call.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// The value as text, in the component model's own notation (WAVE).
    Wave(String),
    /// The value as JSON.
    Json(Json),
    /// A string.
    Text(String),
    /// Bytes, for a `list<u8>`.
    Bytes(Bytes),
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = match self {
            Self::Wave(text) => format!("`{text}`"),
            Self::Json(json) => format!("`{json}`"),
            Self::Text(text) => format!("{text:?}"),
            Self::Bytes(bytes) => format!("{} bytes", bytes.len()),
        };
        match whole.char_indices().nth(80) {
            Some((end, _)) => write!(f, "{}…`", whole.get(..end).unwrap_or_default()),
            None => f.write_str(&whole),
        }
    }
}

/// A call of one guest, whose name and arguments are known to be right.
#[derive(Debug, Clone)]
pub struct Prepared(Ready);

#[derive(Debug, Clone)]
enum Ready {
    Component {
        index: ComponentExportIndex,
        arguments: Vec<Val>,
        results: usize,
    },
    Module {
        name: String,
        arguments: Vec<module::Ready>,
    },
}

/// What an export returned.
#[derive(Debug, Clone)]
pub struct Returned(Values);

#[derive(Debug, Clone)]
enum Values {
    Component(Option<Val>),
    Module(Vec<wasmtime::Val>),
}

impl Returned {
    /// As WAVE text; `None` where the function returns nothing.
    pub fn to_wave(&self) -> Option<String> {
        match &self.0 {
            Values::Component(value) => value.as_ref().map(text::to_wave),
            Values::Module(values) => match values.as_slice() {
                [] => None,
                [one] => Some(module::to_text(one)),
                many => {
                    let all: Vec<String> = many.iter().map(module::to_text).collect();
                    Some(format!("({})", all.join(", ")))
                }
            },
        }
    }

    /// As JSON; `null` where the function returns nothing.
    pub fn to_json(&self) -> Json {
        match &self.0 {
            Values::Component(value) => value.as_ref().map_or(Json::Null, text::to_json),
            Values::Module(values) => match values.as_slice() {
                [] => Json::Null,
                [one] => module::to_json(one),
                many => many.iter().map(module::to_json).collect(),
            },
        }
    }

    /// What the function said, where it returned the error of a `result`: a string as it is, anything else as WAVE.
    pub fn error(&self) -> Option<String> {
        let Values::Component(Some(Val::Result(Err(error)))) = &self.0 else {
            return None;
        };
        Some(match error.as_deref() {
            None => "it returned an error without saying which".to_owned(),
            Some(Val::String(text)) => text.clone(),
            Some(other) => text::to_wave(other),
        })
    }
}

/// A guest that was linked to be called by its exports.
pub(crate) enum Linked {
    Component {
        pre: InstancePre<Host>,
        exports: Vec<Function>,
    },
    Module {
        pre: wasmtime::InstancePre<Host>,
        exports: Vec<ExportInfo>,
    },
}

/// One function of a component.
pub(crate) struct Function {
    info: ExportInfo,
    index: ComponentExportIndex,
    ty: ComponentFunc,
}

impl Linked {
    pub(crate) fn component(pre: InstancePre<Host>) -> Self {
        let exports = functions(&pre);
        Self::Component { pre, exports }
    }

    /// The same once more.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Component { pre, .. } => Self::component(pre.clone()),
            Self::Module { pre, .. } => Self::module(pre.clone()),
        }
    }

    pub(crate) fn module(pre: wasmtime::InstancePre<Host>) -> Self {
        let exports = module::exports(pre.module());
        Self::Module { pre, exports }
    }

    pub(crate) fn infos(&self) -> Vec<&ExportInfo> {
        match self {
            Self::Component { exports, .. } => exports.iter().map(|export| &export.info).collect(),
            Self::Module { exports, .. } => exports.iter().collect(),
        }
    }

    pub(crate) fn as_component(&self) -> Option<&InstancePre<Host>> {
        match self {
            Self::Component { pre, .. } => Some(pre),
            Self::Module { .. } => None,
        }
    }

    pub(crate) fn core_module(&self) -> Option<&wasmtime::Module> {
        match self {
            Self::Component { .. } => None,
            Self::Module { pre, .. } => Some(pre.module()),
        }
    }

    /// The export of this name, by its place.
    fn find(&self, name: &str) -> std::result::Result<usize, LoadError> {
        find(&self.infos(), name)
    }

    /// Checks the name and converts the arguments.
    pub(crate) fn prepare(
        &self,
        name: &str,
        given: &[Argument],
    ) -> std::result::Result<Prepared, LoadError> {
        let place = self.find(name)?;
        let help = "`hostel call --list` shows every export with its types";
        match self {
            Self::Module { pre, exports } => {
                let name = exports.get(place).map_or(name, |info| info.name.as_str());
                let arguments = module::arguments(pre.module(), name, given);
                Ok(Prepared(Ready::Module {
                    arguments: arguments.map_err(|what| error(what, help))?,
                    name: name.to_owned(),
                }))
            }
            Self::Component { exports, .. } => match exports.get(place) {
                Some(function) => function.prepare(given).map_err(|what| error(what, help)),
                None => Err(unknown(name, &self.infos())),
            },
        }
    }

    /// Checks that there is an export of this name with one of these types, and says which.
    pub(crate) fn check(
        &self,
        name: &str,
        types: &[&str],
    ) -> std::result::Result<usize, LoadError> {
        let place = self.find(name)?;
        let infos = self.infos();
        let has = infos.get(place).map(|info| info.types());
        let has = has.unwrap_or_default();
        let found = types.iter().position(|wanted| *wanted == has);
        found.ok_or_else(|| {
            let wanted: Vec<String> = types.iter().map(|types| format!("`{types}`")).collect();
            error(
                format!("its export `{name}` has the type `{has}`"),
                format!("it has to be {}", wanted.join(" or ")),
            )
        })
    }
}

impl Function {
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&str, Type)> {
        self.ty.params()
    }

    /// Calls it with values of its parameters' types.
    pub(crate) async fn call(
        &self,
        store: &mut wasmtime::Store<Host>,
        instance: Instance,
        (flavor, arguments): (Flavor, Vec<Val>),
    ) -> Result<Returned> {
        let call = (self.index, arguments, self.ty.results().len());
        let value = call_component(store, instance, flavor, call).await?;
        Ok(Returned(Values::Component(value)))
    }

    fn prepare(&self, given: &[Argument]) -> std::result::Result<Prepared, String> {
        let name = &self.info.name;
        let wanted = self.ty.params().len();
        if wanted != given.len() {
            let takes = self.info.written(|name, ty| format!("{name}: {ty}"));
            return Err(format!(
                "`{name}{takes}` takes {wanted} argument(s), and {} were given",
                given.len()
            ));
        }
        let mut arguments = Vec::with_capacity(wanted);
        for ((parameter, ty), argument) in self.ty.params().zip(given) {
            let value = match argument {
                _ if !text::has_text(&ty) => Err("a value of this type cannot be written".into()),
                Argument::Wave(text) => text::from_wave(&ty, text),
                Argument::Json(json) => text::from_json(&ty, json),
                Argument::Text(text) => text::from_text(&ty, text),
                Argument::Bytes(bytes) => text::from_bytes(&ty, bytes),
            };
            let value = value.map_err(|why| {
                let ty = text::type_text(&ty);
                format!("the parameter `{parameter}: {ty}` of `{name}` cannot be {argument}: {why}")
            });
            arguments.push(value?);
        }
        if let Some(ty) = self.ty.results().find(|ty| !text::has_text(ty)) {
            let ty = text::type_text(&ty);
            return Err(format!(
                "`{name}` returns {ty}, and a value of this type cannot be written"
            ));
        }
        Ok(Prepared(Ready::Component {
            index: self.index,
            arguments,
            results: self.ty.results().len(),
        }))
    }
}

/// The function that a component exports under this name.
pub(crate) fn function_of(
    pre: &InstancePre<Host>,
    name: &str,
) -> std::result::Result<Function, LoadError> {
    let mut all = functions(pre);
    let infos: Vec<&ExportInfo> = all.iter().map(|function| &function.info).collect();
    let place = find(&infos, name)?;
    Ok(all.swap_remove(place))
}

/// Every function that a component exports, itself or in an interface.
fn functions(pre: &InstancePre<Host>) -> Vec<Function> {
    let component = pre.component();
    let (ty, engine) = (component.component_type(), pre.engine());
    let mut all = Vec::new();
    for (name, export) in ty.exports(engine) {
        let Some(index) = component.get_export_index(None, name) else {
            continue;
        };
        match export.ty {
            ComponentItem::ComponentFunc(ty) => all.push(function(name.to_owned(), index, ty)),
            ComponentItem::ComponentInstance(instance) => {
                for (inner, export) in instance.exports(engine) {
                    let index = component.get_export_index(Some(&index), inner);
                    if let (ComponentItem::ComponentFunc(ty), Some(index)) = (export.ty, index) {
                        all.push(function(format!("{name}#{inner}"), index, ty));
                    }
                }
            }
            _ => {}
        }
    }
    shorten(&mut all);
    all
}

fn function(name: String, index: ComponentExportIndex, ty: ComponentFunc) -> Function {
    let parameters = ty.params();
    let parameters = parameters.map(|(name, ty)| (name.to_owned(), text::type_text(&ty)));
    let info = ExportInfo {
        name,
        short: None,
        parameters: parameters.collect(),
        result: ty.results().next().map(|ty| text::type_text(&ty)),
        is_async: ty.async_(),
    };
    Function { info, index, ty }
}

/// Gives short names to those that share theirs with no other.
fn shorten(all: &mut [Function]) {
    let short = |name: &str| {
        let (interface, function) = split(name)?;
        let interface = interface
            .split_once('@')
            .map_or(interface, |(name, _)| name);
        let interface = interface
            .rsplit_once('/')
            .map_or(interface, |(_, name)| name);
        Some(format!("{interface}.{function}"))
    };
    let mut times = std::collections::HashMap::new();
    for name in all.iter().filter_map(|export| short(&export.info.name)) {
        *times.entry(name).or_insert(0_u32) += 1;
    }
    for export in all {
        export.info.short = short(&export.info.name).filter(|name| times.get(name) == Some(&1));
    }
}

/// The guest's exports, if it was loaded to be called by them.
pub(crate) fn linked(callable: &Callable) -> std::result::Result<&Linked, LoadError> {
    match callable {
        Callable::Export(linked) => Ok(linked),
        _ => Err(error(
            "it was not loaded to be called by its exports",
            "this is a defect of the host",
        )),
    }
}

/// Runs the guest until it has returned.
pub(crate) async fn run(
    guest: &Arc<Inner>,
    permit: Permit,
    call: Prepared,
    id: RequestId,
) -> std::result::Result<Returned, Fault> {
    let task = |answer| Task::Export(call, answer);
    drive::to_the_end(guest, permit, id, task).await
}

/// A fresh instance.
pub(super) async fn instantiate(
    linked: &Linked,
    store: &mut wasmtime::Store<Host>,
) -> Result<Exports> {
    match linked {
        Linked::Component { pre, .. } => start::component(pre, store).await.map(Exports::Component),
        Linked::Module { pre, .. } => module::instantiate(pre, store).await.map(Exports::Module),
    }
}

/// The guest's part: one call.
pub(super) async fn call(
    warm: &mut Warm,
    flavor: Flavor,
    call: Prepared,
    answer: oneshot::Sender<Returned>,
) -> Result<()> {
    let returned = match (call.0, &warm.exports) {
        (Ready::Module { name, arguments }, Exports::Module(instance)) => {
            let values = module::call(instance, &mut warm.store, &name, arguments).await?;
            Returned(Values::Module(values))
        }
        (
            Ready::Component {
                index,
                arguments,
                results,
            },
            Exports::Component(instance),
        ) => {
            let instance = *instance;
            let value = call_component(
                &mut warm.store,
                instance,
                flavor,
                (index, arguments, results),
            );
            Returned(Values::Component(value.await?))
        }
        _ => wasmtime::bail!("not an instance that is called by its exports"),
    };
    // Nobody listens any more if the call was cancelled.
    let _heard = answer.send(returned);
    Ok(())
}

async fn call_component(
    store: &mut wasmtime::Store<Host>,
    instance: Instance,
    flavor: Flavor,
    (index, arguments, results): (ComponentExportIndex, Vec<Val>, usize),
) -> Result<Option<Val>> {
    let Some(function) = instance.get_func(&mut *store, index) else {
        wasmtime::bail!("the export is of another build of the component")
    };
    let mut values = vec![Val::Bool(false); results];
    match flavor {
        Flavor::Sync => function.call_async(store, &arguments, &mut values).await?,
        Flavor::Async => {
            store
                .run_concurrent(async |accessor| {
                    function
                        .call_concurrent(accessor, &arguments, &mut values)
                        .await?;
                    // Tasks that the guest started before it returned keep its instance at work.
                    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                    wasmtime::error::Ok(())
                })
                .await??;
        }
    }
    Ok(values.pop())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{block_on, component, load, runtime};
    use crate::{Guest, Role};

    /// A component whose function takes nearly nothing apart: it returns what it was given.
    const COMPONENT: &str = r#"(component
        (core module $m
            (memory (export "memory") 1)
            (global $end (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $end) (i32.const 7)) (i32.const -8)))
                (global.set $end (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func (export "echo") (param i32 i32) (result i32)
                (i32.store (i32.const 0) (local.get 0))
                (i32.store (i32.const 4) (local.get 1))
                (i32.const 0))
            (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
            (func (export "trap") unreachable)
            (func (export "spin") (loop (br 0)))
            (func (export "refuse") (param i32 i32) (result i32)
                (i32.store8 (i32.const 0) (i32.const 1))
                (i32.store (i32.const 4) (local.get 0))
                (i32.store (i32.const 8) (local.get 1))
                (i32.const 0)))
        (core instance $i (instantiate $m))
        (alias core export $i "memory" (core memory $memory))
        (alias core export $i "realloc" (core func $realloc))
        (func (export "echo") (param "text" string) (result string)
            (canon lift (core func $i "echo") (memory $memory) (realloc $realloc)))
        (func (export "bytes") (param "bytes" (list u8)) (result (list u8))
            (canon lift (core func $i "echo") (memory $memory) (realloc $realloc)))
        (func $add (param "a" s32) (param "b" s32) (result s32) (canon lift (core func $i "add")))
        (func (export "trap") (canon lift (core func $i "trap")))
        (func (export "spin") (canon lift (core func $i "spin")))
        (func (export "refuse") (param "why" string) (result (result (error string)))
            (canon lift (core func $i "refuse") (memory $memory) (realloc $realloc)))
        (instance $sums (export "add" (func $add)))
        (export "test:sums/whole@1.2.0" (instance $sums))
        (export "test:sums/half@1.2.0" (instance $sums)))"#;

    const MODULE: &str = r#"(module
        (memory (export "memory") 1)
        (global $ready (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $ready (i32.const 1)))
        (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
        (func (export "is-ready") (result i32) (global.get $ready))
        (func (export "first") (param i32 i32) (result i32) (i32.load8_u (local.get 0)))
        (func (export "both") (param i64 f64) (result f64 i64) (local.get 1) (local.get 0)))"#;

    fn guest(code: &str) -> Guest {
        let component = component(code.as_bytes());
        load(&runtime(None), &component, code.as_bytes(), Role::Call).unwrap()
    }

    fn wave(arguments: &[&str]) -> Arguments {
        let arguments = arguments.iter();
        arguments
            .map(|text| Argument::Wave((*text).to_owned()))
            .collect()
    }

    /// What a call returned as WAVE, or the fault's name with its text.
    fn call(guest: &Guest, name: &str, arguments: &[Argument]) -> String {
        let returned = block_on(guest.call_export(name, arguments, RequestId::next()));
        match returned {
            Ok(returned) => returned.to_wave().unwrap_or_default(),
            Err(fault) => format!("{}: {fault}", fault.row().name),
        }
    }

    #[test]
    fn a_component_is_called_by_names_and_types() {
        let guest = guest(COMPONENT);
        assert_eq!(call(&guest, "echo", &wave(&["\"you\""])), "\"you\"");
        assert_eq!(call(&guest, "echo", &wave(&["as it is"])), "\"as it is\"");
        assert_eq!(
            call(
                &guest,
                "bytes",
                &[Argument::Bytes(Bytes::from_static(b"ab"))]
            ),
            "[97, 98]"
        );
        for name in [
            "test:sums/whole@1.2.0#add",
            "test:sums/whole#add",
            "whole.add",
        ] {
            let sum = call(
                &guest,
                name,
                &[Argument::Json(json!(2)), Argument::Json(json!(-5))],
            );
            assert_eq!(sum, "-3", "{name}");
        }
    }

    #[test]
    fn exports_are_listed_as_wit_writes_them() {
        let listed: Vec<String> = guest(COMPONENT)
            .exports()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            listed.contains(&"echo: func(text: string) -> string".to_owned()),
            "{listed:?}"
        );
        assert!(
            listed.contains(&"test:sums/half@1.2.0#add: func(a: s32, b: s32) -> s32".to_owned()),
            "{listed:?}"
        );
        let listed: Vec<String> = guest(MODULE)
            .exports()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            listed,
            [
                "is-ready: func() -> i32",
                "first: func(i32, i32) -> i32",
                "both: func(i64, f64) -> tuple<f64, i64>"
            ]
        );
    }

    #[test]
    fn what_is_wrong_with_a_call_is_found_before_it() {
        let guest = guest(COMPONENT);
        for (name, arguments, parts) in [
            (
                "ecko",
                &["x"][..],
                &["no function `ecko`", "did you mean `echo`?"][..],
            ),
            (
                "add",
                &["1", "2"],
                &["no function `add`", "did you mean `whole.add`?"],
            ),
            (
                "echo",
                &[],
                &["`echo(text: string) -> string` takes 1 argument(s), and 0 were given"],
            ),
            (
                "whole.add",
                &["1", "x"],
                &["the parameter `b: s32` of `test:sums/whole@1.2.0#add` cannot be `x`"],
            ),
        ] {
            let error = guest
                .prepare(name, &wave(arguments))
                .unwrap_err()
                .to_string();
            for part in parts {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
        assert_eq!(
            guest.check_export("echo", &["()", "(string) -> string"]),
            Ok(1)
        );
        let error = guest.check_export("echo", &["()"]).unwrap_err();
        assert_eq!(
            error.what,
            "its export `echo` has the type `(string) -> string`"
        );
        assert_eq!(error.help, "it has to be `()`");
    }

    #[test]
    fn an_error_that_is_returned_is_no_fault() {
        let guest = guest(COMPONENT);
        let why = [Argument::Text("not now".into())];
        let call = guest.call_export("refuse", &why, RequestId::next());
        let returned = block_on(call).unwrap();
        assert_eq!(returned.error().as_deref(), Some("not now"));
        assert_eq!(returned.to_wave().as_deref(), Some("err(\"not now\")"));
        assert_eq!(returned.to_json(), json!({ "err": "not now" }));
    }

    #[test]
    fn a_call_has_the_budget_of_any_other() {
        let code = COMPONENT.as_bytes();
        let mut component = component(code);
        component.limits.deadline_ms = Some(50);
        let guest = load(&runtime(None), &component, code, Role::Call).unwrap();
        assert!(call(&guest, "spin", &[]).starts_with("deadline: "));
        assert!(call(&guest, "trap", &[]).starts_with("trap: "));
    }

    #[test]
    fn a_module_takes_numbers_and_strings_by_its_allocator() {
        let guest = guest(MODULE);
        assert_eq!(call(&guest, "is-ready", &[]), "1");
        assert_eq!(call(&guest, "first", &wave(&["\"A\""])), "65");
        assert_eq!(call(&guest, "first", &[Argument::Json(json!("B"))]), "66");
        assert_eq!(call(&guest, "both", &wave(&["-7", "1.5"])), "(1.5, -7)");
        for (arguments, part) in [
            (
                &["1"][..],
                "1 argument(s) given, which is too few: `both` takes (i64, f64)",
            ),
            (&["1", "2", "3"], "argument 3 is one too many"),
            (
                &["1.5", "2"],
                "argument 1 is the string `1.5`, which needs two parameters i32",
            ),
        ] {
            let error = guest.prepare("both", &wave(arguments)).unwrap_err();
            assert!(error.what.contains(part), "{part}: {}", error.what);
        }
    }
}
