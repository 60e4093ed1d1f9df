//! `command`: a program that runs once, with arguments, standard streams and an exit code.
//!
//! Three generations: preview-1 core modules with `_start`, and components that export `wasi:cli/run` 0.2 or 0.3.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use wasmtime::{InstancePre, Result, Store};
use wasmtime_wasi::{I32Exit, p2, p3};

use crate::abi::http::panicked;
use crate::abi::program::Entry;
use crate::abi::{Callable, start};
use crate::fault::Fault;
use crate::guest::{Inner, RequestId, fault_of};
use crate::meter::{self, Clock};
use crate::state::{Host, Kind, Template};

/// A linked command.
pub(crate) enum Command {
    P1(InstancePre<Host>),
    P2(p2::bindings::CommandPre<Host>),
    P3(p3::bindings::CommandPre<Host>),
}

impl Command {
    /// What is instantiated, where that is a component.
    pub(crate) fn component(&self) -> Option<&wasmtime::component::InstancePre<Host>> {
        match self {
            Self::P1(_) => None,
            Self::P2(pre) => Some(pre.instance_pre()),
            Self::P3(pre) => Some(pre.instance_pre()),
        }
    }

    /// Which of WASI's contexts it asks for.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::P1(_) => Kind::Module,
            Self::P2(_) | Self::P3(_) => Kind::Component,
        }
    }

    /// Where it begins.
    pub(super) fn entry(&self) -> Entry<'_> {
        Entry {
            command: self,
            export: START,
        }
    }
}

/// The export by which a core module that is a program begins.
pub(super) const START: &str = "_start";

/// Runs it to its end; the exit code is what a shell would see.
pub(crate) async fn run(guest: &Inner, args: &[String]) -> Result<u8, Fault> {
    let Callable::Command(command) = &guest.callable else {
        return Err(Fault::BadGuest(
            "it is not a command; serve it with `hostel up`".into(),
        ));
    };
    let settings = guest.template.settings.with_args(args);
    let template = Arc::new(Template {
        settings: Arc::new(settings.map_err(|error| Fault::Host(error.to_string()))?),
        ..guest.template.as_ref().clone()
    });
    let host_fault = |error: wasmtime::Error| Fault::Host(format!("{error:?}"));
    let id = RequestId::next();
    let store = Host::program(&guest.engine, &template, id, command.kind(), None);
    let mut store = store.map_err(host_fault)?;
    let _ticking = guest.ticker.enter();
    let mut clock = Clock::start(&template.limits);
    let called = meter::run(&mut clock, call(command.entry(), &mut store));
    let outcome = AssertUnwindSafe(called)
        .catch_unwind()
        .await
        .map_err(|_| panicked())??;
    exit_code(outcome).map_err(|error| fault_of(&error, &store.data().meter))
}

/// `Ok(false)` is the command's own "I failed".
pub(super) async fn call(entry: Entry<'_>, store: &mut Store<Host>) -> Result<bool> {
    match entry.command {
        Command::P1(pre) => {
            let instance = pre.instantiate_async(&mut *store).await?;
            start::module(&instance, store).await?;
            let start = instance.get_typed_func::<(), ()>(&mut *store, entry.export)?;
            start.call_async(store, ()).await?;
            Ok(true)
        }
        Command::P2(pre) => {
            let instance = start::component(pre.instance_pre(), store).await?;
            let command = p2::bindings::Command::new(&mut *store, &instance)?;
            Ok(command.wasi_cli_run().call_run(store).await?.is_ok())
        }
        Command::P3(pre) => {
            let instance = start::component(pre.instance_pre(), store).await?;
            let command = p3::bindings::Command::new(&mut *store, &instance)?;
            let outcome = store
                .run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await)
                .await??;
            Ok(outcome.is_ok())
        }
    }
}

/// Success is 0 and the command's own failure 1; an explicit exit passes its low eight bits, as the kernel does.
pub(super) fn exit_code(outcome: Result<bool>) -> Result<u8> {
    match outcome {
        Ok(succeeded) => Ok(u8::from(!succeeded)),
        Err(error) => match error.downcast_ref() {
            Some(I32Exit(code)) => Ok(code.to_le_bytes()[0]),
            None => Err(error),
        },
    }
}
