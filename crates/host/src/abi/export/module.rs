//! Exports of core modules: numbers, and strings where the module lends the host its allocator.
//!
//! A core module says of a string only that it is two numbers. So the caller says which arguments are strings, and each of
//! them takes two parameters: where the host put its bytes, with `cabi_realloc` or `canonical_abi_realloc`, and how many.

use wasmtime::component::{self, Type};
use wasmtime::{
    ExternType, FuncType, Instance, InstancePre, Memory, Module, Result, Store, Val, ValType,
};

use super::{Argument, ExportInfo, text};
use crate::abi::start;
use crate::state::Host;

/// The allocators that a module may lend, the newest first. All have the same type.
const ALLOCATORS: [&str; 2] = ["cabi_realloc", "canonical_abi_realloc"];
/// What a library has to be started with before it is called.
const INITIALIZE: &str = "_initialize";
const MEMORY: &str = "memory";

/// One argument, ready for the module.
#[derive(Debug, Clone)]
pub(crate) enum Ready {
    Number(Val),
    Bytes(Vec<u8>),
}

/// The functions that a module exports, without those that belong to its ABI.
pub(super) fn exports(module: &Module) -> Vec<ExportInfo> {
    let of_the_abi = |name: &str| {
        ALLOCATORS.contains(&name) || name == INITIALIZE || name == "canonical_abi_free"
    };
    let functions = module.exports().filter_map(|export| {
        let ExternType::Func(ty) = export.ty() else {
            return None;
        };
        let name = export.name();
        (!of_the_abi(name)).then(|| info(name, &ty))
    });
    functions.collect()
}

fn info(name: &str, ty: &FuncType) -> ExportInfo {
    let parameters = ty.params().map(|ty| (String::new(), ty.to_string()));
    let results: Vec<String> = ty.results().map(|ty| ty.to_string()).collect();
    ExportInfo {
        name: name.to_owned(),
        short: None,
        parameters: parameters.collect(),
        result: match results.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(format!("tuple<{}>", many.join(", "))),
        },
        is_async: false,
    }
}

/// The arguments for the parameters; else what is wrong with which.
pub(super) fn arguments(
    module: &Module,
    name: &str,
    given: &[Argument],
) -> std::result::Result<Vec<Ready>, String> {
    let Some(ExternType::Func(ty)) = module.get_export(name) else {
        return Err(format!("`{name}` is no function"));
    };
    let params: Vec<ValType> = ty.params().collect();
    let takes = format!("`{name}` takes {}", info(name, &ty).types());
    let mut rest = params.as_slice();
    let mut ready = Vec::with_capacity(given.len());
    for (index, argument) in given.iter().enumerate() {
        let number = index + 1;
        let Some((first, others)) = rest.split_first() else {
            return Err(format!("argument {number} is one too many: {takes}"));
        };
        if let Some(value) = number_of(first, argument) {
            rest = others;
            ready.push(Ready::Number(value));
            continue;
        }
        let Some(bytes) = bytes_of(argument)? else {
            return Err(format!(
                "argument {number} is {argument}, which is no {first}: {takes}"
            ));
        };
        let [ValType::I32, ValType::I32, others @ ..] = rest else {
            return Err(format!(
                "argument {number} is the string {argument}, which needs two parameters i32: {takes}"
            ));
        };
        if !lends_memory(module) {
            return Err(format!(
                "argument {number} is the string {argument}, but the module exports no memory and allocator \
                 (`cabi_realloc` or `canonical_abi_realloc`) to put it into"
            ));
        }
        rest = others;
        ready.push(Ready::Bytes(bytes));
    }
    match rest {
        [] => Ok(ready),
        _ => Err(format!(
            "{} argument(s) given, which is too few: {takes}",
            given.len()
        )),
    }
}

fn lends_memory(module: &Module) -> bool {
    let allocates = ALLOCATORS
        .iter()
        .any(|name| matches!(module.get_export(name), Some(ExternType::Func(_))));
    allocates && matches!(module.get_export(MEMORY), Some(ExternType::Memory(_)))
}

/// The argument as a number of this type, if it is one.
fn number_of(ty: &ValType, argument: &Argument) -> Option<Val> {
    let text = match argument {
        Argument::Wave(text) => text.trim().to_owned(),
        Argument::Json(serde_json::Value::Bool(value)) => u8::from(*value).to_string(),
        Argument::Json(json) => json.as_number()?.to_string(),
        Argument::Text(_) | Argument::Bytes(_) => return None,
    };
    // Signed and unsigned numbers are the same to a module.
    match ty {
        ValType::I32 => {
            let unsigned = || Some(text.parse::<u32>().ok()?.cast_signed());
            text.parse().ok().or_else(unsigned).map(Val::I32)
        }
        ValType::I64 => {
            let unsigned = || Some(text.parse::<u64>().ok()?.cast_signed());
            text.parse().ok().or_else(unsigned).map(Val::I64)
        }
        ValType::F32 => text
            .parse()
            .ok()
            .map(|value: f32| Val::F32(value.to_bits())),
        ValType::F64 => text
            .parse()
            .ok()
            .map(|value: f64| Val::F64(value.to_bits())),
        _ => None,
    }
}

/// The argument as a string, if it is one. What is written without quotes and is no number is one too.
fn bytes_of(argument: &Argument) -> std::result::Result<Option<Vec<u8>>, String> {
    Ok(match argument {
        Argument::Wave(written) => match text::from_wave(&Type::String, written)? {
            component::Val::String(text) => Some(text.into_bytes()),
            _ => None,
        },
        Argument::Json(json) => json.as_str().map(|text| text.as_bytes().to_vec()),
        Argument::Text(text) => Some(text.as_bytes().to_vec()),
        Argument::Bytes(bytes) => Some(bytes.to_vec()),
    })
}

/// A fresh instance, started.
pub(super) async fn instantiate(
    pre: &InstancePre<Host>,
    store: &mut Store<Host>,
) -> Result<Instance> {
    store.data_mut().enable_p1()?;
    let instance = pre.instantiate_async(&mut *store).await?;
    if instance.get_func(&mut *store, INITIALIZE).is_some() {
        let start = instance.get_typed_func::<(), ()>(&mut *store, INITIALIZE)?;
        start.call_async(&mut *store, ()).await?;
    }
    start::module(&instance, store).await?;
    Ok(instance)
}

/// Calls one export.
pub(super) async fn call(
    instance: &Instance,
    store: &mut Store<Host>,
    name: &str,
    arguments: Vec<Ready>,
) -> Result<Vec<Val>> {
    let mut params = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match argument {
            Ready::Number(value) => params.push(value),
            Ready::Bytes(bytes) => {
                let (at, length) = lower(instance, store, &bytes).await?;
                params.extend([Val::I32(at), Val::I32(length)]);
            }
        }
    }
    let Some(function) = instance.get_func(&mut *store, name) else {
        wasmtime::bail!("it exports no function `{name}`")
    };
    let mut results = vec![Val::I32(0); function.ty(&*store).results().len()];
    function.call_async(store, &params, &mut results).await?;
    Ok(results)
}

/// Puts bytes into the guest's memory, where its own allocator says.
async fn lower(instance: &Instance, store: &mut Store<Host>, bytes: &[u8]) -> Result<(i32, i32)> {
    let mut names = ALLOCATORS.iter();
    let allocator = names.find(|name| instance.get_func(&mut *store, name).is_some());
    let Some(allocator) = allocator else {
        wasmtime::bail!("it exports no allocator")
    };
    let allocate = instance.get_typed_func::<(i32, i32, i32, i32), i32>(&mut *store, allocator)?;
    let length = i32::try_from(bytes.len())?;
    let at = allocate.call_async(&mut *store, (0, 0, 1, length)).await?;
    let memory = memory(instance, store)?;
    memory.write(&mut *store, usize::try_from(at.cast_unsigned())?, bytes)?;
    Ok((at, length))
}

fn memory(instance: &Instance, store: &mut Store<Host>) -> Result<Memory> {
    match instance.get_memory(store, MEMORY) {
        Some(memory) => Ok(memory),
        None => wasmtime::bail!("it exports no memory"),
    }
}

/// A number as text.
pub(super) fn to_text(value: &Val) -> String {
    match value {
        Val::I32(value) => value.to_string(),
        Val::I64(value) => value.to_string(),
        Val::F32(bits) => text::to_wave(&component::Val::Float32(f32::from_bits(*bits))),
        Val::F64(bits) => text::to_wave(&component::Val::Float64(f64::from_bits(*bits))),
        other => format!("{other:?}"),
    }
}

/// A number as JSON.
pub(super) fn to_json(value: &Val) -> serde_json::Value {
    match value {
        Val::I32(value) => (*value).into(),
        Val::I64(value) => (*value).into(),
        Val::F32(bits) => text::float_to_json(f64::from(f32::from_bits(*bits))),
        Val::F64(bits) => text::float_to_json(f64::from_bits(*bits)),
        other => format!("{other:?}").into(),
    }
}
