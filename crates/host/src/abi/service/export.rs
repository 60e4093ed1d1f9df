//! A service that is an export by name: `init` of a core module, say, instead of `_start` or `wasi:cli/run`.
//!
//! Its arguments are the component's own. A core module's export that takes one number more gets the descriptor of the first
//! listening socket there.

use std::sync::Arc;

use tokio::sync::oneshot;
use wasmtime::Store;

use crate::abi::command::Command;
use crate::abi::export::{self, Argument, Linked, Prepared};
use crate::abi::{Callable, Warm};
use crate::compile::LoadError;
use crate::fault::Fault;
use crate::guest::{Guest, Inner, fault_of};
use crate::p1;
use crate::state::{Host, Template};

impl Guest {
    /// Checks that it can be run as a service: by this export if one is named, with so many sockets.
    ///
    /// # Errors
    /// There is no such export, or the component's arguments are not what it takes.
    pub fn check_service(&self, export: Option<&str>, sockets: usize) -> Result<(), LoadError> {
        let named = |error: LoadError| LoadError {
            component: self.name().to_owned(),
            ..error
        };
        match (export, &self.0.callable) {
            (Some(export), callable) => Service::find(callable, export, (&self.0.template, sockets))
                .map(|_| ())
                .map_err(named),
            (None, Callable::Command(_) | Callable::Init(_)) => Ok(()),
            (None, _) => Err(named(LoadError {
                component: String::new(),
                what: "it is no program that could run all the time: it has neither `_start` nor `wasi:cli/run`".into(),
                help: "name the export to call: `export = \"…\"` in its [[service]]; `hostel call --list` shows them"
                    .into(),
            })),
        }
    }
}

/// An export that is about to be called.
pub(super) struct Service {
    linked: Linked,
    call: Prepared,
}

impl Service {
    fn find(
        callable: &Callable,
        name: &str,
        (template, sockets): (&Template, usize),
    ) -> Result<Self, LoadError> {
        let linked = match callable {
            Callable::Command(Command::P1(pre)) | Callable::Init(pre) => {
                Linked::module(pre.clone())
            }
            Callable::Command(Command::P2(pre)) => Linked::component(pre.instance_pre().clone()),
            Callable::Command(Command::P3(pre)) => Linked::component(pre.instance_pre().clone()),
            Callable::Export(linked) => linked.again(),
            _ => {
                return Err(LoadError {
                    component: String::new(),
                    what: "it is not loaded as a service".into(),
                    help: "this is a defect of the host".into(),
                });
            }
        };
        let args = template.args();
        let socket = (linked.core_module().is_some() && sockets > 0)
            .then(|| p1::Descriptors::first_socket(template.grants.files.len()));
        let call = prepare(&linked, name, (&args, socket))?;
        Ok(Self { linked, call })
    }

    /// Calls the export on a fresh instance in `store`; 0 once it has returned.
    pub(super) async fn run(
        guest: &Inner,
        mut store: Store<Host>,
        name: &str,
    ) -> Result<u8, Fault> {
        let template: Arc<Template> = store.data().template().clone();
        let sockets = template
            .life
            .as_ref()
            .map_or(0, |life| life.listeners.len());
        let found = Self::find(&guest.callable, name, (&template, sockets));
        let service = found.map_err(|error| Fault::BadGuest(error.what))?;
        let exports = export::instantiate(&service.linked, &mut store).await;
        let exports = exports.map_err(|error| fault_of(&error, &store.data().meter))?;
        let mut warm = Warm {
            store,
            exports,
            answered: 0,
        };
        let (answer, mut returned) = oneshot::channel();
        let called = export::call(&mut warm, guest.flavor, service.call, answer).await;
        if let Err(error) = called {
            return super::exit(Err(error), &warm.store);
        }
        let error = returned
            .try_recv()
            .ok()
            .and_then(|returned| returned.error());
        match error {
            None => Ok(0),
            Some(error) => Err(Fault::BadGuest(format!(
                "its export `{name}` failed: {error}"
            ))),
        }
    }
}

/// Finds out which parameters the arguments are: strings where that fits, numbers where they are some, and the socket
/// behind them where there is a parameter for it.
fn prepare(
    linked: &Linked,
    name: &str,
    (args, socket): (&[String], Option<u32>),
) -> Result<Prepared, LoadError> {
    let as_text = |text: &String| Argument::Text(text.clone());
    let as_written = |text: &String| match text.parse::<f64>() {
        Ok(_) => Argument::Wave(text.clone()),
        Err(_) => Argument::Text(text.clone()),
    };
    let texts: Vec<Argument> = args.iter().map(as_text).collect();
    let written: Vec<Argument> = args.iter().map(as_written).collect();
    let socket = socket.map(|number| Argument::Wave(number.to_string()));
    for arguments in [&texts, &written] {
        let with_socket: Option<Vec<_>> = socket
            .as_ref()
            .map(|socket| arguments.iter().chain([socket]).cloned().collect());
        let known = with_socket.and_then(|all| linked.prepare(name, &all).ok());
        if let Some(prepared) = known.or_else(|| linked.prepare(name, arguments).ok()) {
            return Ok(prepared);
        }
    }
    // What is wrong is said of what was meant most likely.
    linked.prepare(name, &written)
}
