//! `on_start`: an export that every fresh instance is started with, inside the budget of its first call.
//!
//! Its parameters are the component's configuration values of the same names, converted to their types. That it exists and
//! that every parameter has a value is checked at load; the values are those of the moment when an instance is made.

use std::fmt;

use wasmtime::component::{Instance, InstancePre, Type, Val};
use wasmtime::{Result, Store};

use crate::abi::Callable;
use crate::abi::command::Command;
use crate::abi::export::{self, Function, text};
use crate::capability::config::Settings;
use crate::compile::LoadError;
use crate::engine::Flavor;
use crate::state::Host;

/// What an instance is started with.
pub(crate) struct OnStart {
    name: String,
    flavor: Flavor,
    /// `None` for a core module, whose export takes nothing.
    function: Option<Function>,
}

impl fmt::Debug for OnStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnStart")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The export returned an error: the guest does not want to run like this.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl Refused {
    pub(crate) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl OnStart {
    /// The export of this name, if it can be called with these values.
    pub(crate) fn find(
        (callable, flavor): (&Callable, Flavor),
        name: &str,
        settings: &Settings,
    ) -> std::result::Result<Self, LoadError> {
        let function = match callable.component() {
            Some(pre) => Some(export::function_of(pre, name)?),
            None => {
                plain_module_export(callable, name)?;
                None
            }
        };
        let found = Self {
            name: name.to_owned(),
            flavor,
            function,
        };
        match found.arguments(settings) {
            Ok(_) => Ok(found),
            Err(what) => Err(LoadError {
                component: String::new(),
                what: format!("its on_start export `{name}` cannot be called: {what}"),
                help: "each parameter is the value of the component's `config` that has its name, written as its \
                       type wants it"
                    .into(),
            }),
        }
    }

    fn arguments(&self, settings: &Settings) -> std::result::Result<Vec<Val>, String> {
        let Some(function) = &self.function else {
            return Ok(Vec::new());
        };
        let argument = |(parameter, ty): (&str, Type)| {
            let named = |why: &str| {
                format!(
                    "the parameter `{parameter}: {}` {why}",
                    text::type_text(&ty)
                )
            };
            let value = match settings.get(parameter) {
                Ok(None) => settings.get(&parameter.replace('-', "_")),
                found => found,
            };
            match (value, &ty) {
                (Ok(Some(value)), ty) => written(ty, value.expose())
                    .map_err(|why| named(&format!("does not take the value of `config`: {why}"))),
                (Ok(None), Type::Option(_)) => Ok(Val::Option(None)),
                (Ok(None), _) => Err(named("has no value in `config`")),
                (Err(error), _) => Err(named(&format!("has no value now: {error}"))),
            }
        };
        let arguments = function.parameters().map(argument);
        arguments.collect()
    }

    async fn call(&self, store: &mut Store<Host>, instance: Instance) -> Result<()> {
        let Some(function) = &self.function else {
            return Ok(());
        };
        let arguments = self.arguments(&store.data().template().settings.clone());
        let arguments = arguments.map_err(|what| self.refused(&what))?;
        let call = function.call(store, instance, (self.flavor, arguments));
        let returned = call.await.map_err(|error| self.failed(error))?;
        match returned.error() {
            Some(error) => Err(self.refused(&error).into()),
            None => Ok(()),
        }
    }

    fn refused(&self, why: &str) -> Refused {
        Refused(format!("its on_start export `{}` failed: {why}", self.name))
    }

    fn failed(&self, error: wasmtime::Error) -> wasmtime::Error {
        error.context(format!("in the on_start export `{}`", self.name))
    }
}

/// A string is taken as it stands; anything else is WAVE.
fn written(ty: &Type, value: &str) -> std::result::Result<Val, String> {
    match (text::from_text(ty, value), ty) {
        (Ok(value), _) => Ok(value),
        (Err(_), Type::Option(inner)) => {
            let inner = text::from_wave(&inner.ty(), value)?;
            Ok(Val::Option(Some(Box::new(inner))))
        }
        (Err(_), ty) => text::from_wave(ty, value),
    }
}

/// A core module's parameters have no names, so that nothing could be said about their values.
fn plain_module_export(callable: &Callable, name: &str) -> std::result::Result<(), LoadError> {
    let module = match callable {
        Callable::Command(Command::P1(pre)) => Some(pre.module()),
        Callable::Export(linked) => linked.core_module(),
        Callable::Init(pre) => Some(pre.module()),
        Callable::Handle(linked) => Some(linked.module()),
        _ => None,
    };
    let export = module.and_then(|module| module.get_export(name));
    let function = export.as_ref().and_then(wasmtime::ExternType::func);
    let (what, help) = match function {
        Some(ty) if ty.params().len() == 0 => return Ok(()),
        Some(_) => (
            format!(
                "its on_start export `{name}` takes parameters, and those of a core module have no names"
            ),
            "export a function without parameters, or build the guest as a component",
        ),
        None => (
            format!("it exports no function `{name}`, which is its on_start"),
            "correct `on_start`; `hostel call --list` shows every export with its types",
        ),
    };
    Err(LoadError {
        component: String::new(),
        what,
        help: help.into(),
    })
}

/// A fresh instance of a component, started.
pub(crate) async fn component(
    pre: &InstancePre<Host>,
    store: &mut Store<Host>,
) -> Result<Instance> {
    let instance = pre.instantiate_async(&mut *store).await?;
    if let Some(start) = store.data().template().on_start.clone() {
        start.call(store, instance).await?;
    }
    Ok(instance)
}

/// Starts a fresh instance of a core module.
pub(crate) async fn module(instance: &wasmtime::Instance, store: &mut Store<Host>) -> Result<()> {
    let Some(start) = store.data().template().on_start.clone() else {
        return Ok(());
    };
    let Some(function) = instance.get_func(&mut *store, &start.name) else {
        wasmtime::bail!("it exports no function `{}`", start.name)
    };
    let mut results = vec![wasmtime::Val::I32(0); function.ty(&*store).results().len()];
    let called = function.call_async(store, &[], &mut results).await;
    called.map_err(|error| start.failed(error))
}
