//! Exports of a core module that answer requests in place of `_start`, and the one that says which.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use hostel_app::{Cgi, limits, nearest};
use wasmtime::{ExternType, Module};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

use crate::abi::Callable;
use crate::abi::command::{self, Command, START};
use crate::abi::http::panicked;
use crate::abi::program::Entry;
use crate::compile::LoadError;
use crate::fault::Fault;
use crate::guest::{Guest, Inner, RequestId, fault_of};
use crate::meter::{self, Clock};
use crate::state::{Given, Host, Kind, Template};

/// The export that prints the module's own routes.
const ROUTES: &str = "_routes";

impl Guest {
    /// Checks that a route may name this export as the one that answers.
    ///
    /// # Errors
    /// There is no such export, it takes or returns something, or the guest is none whose exports answer.
    pub fn check_entrypoint(&self, name: &str) -> Result<(), LoadError> {
        let refused = |what: String, help: String| LoadError {
            component: self.name().to_owned(),
            what,
            help,
        };
        let Some(module) = module(&self.0.callable) else {
            return Err(refused(
                format!(
                    "a route names its export `{name}` as the one that answers, and it is called as {}",
                    self.abi()
                ),
                "leave `entrypoint` out: only a core module that is a program has a choice".into(),
            ));
        };
        if is_entrypoint(module, name) {
            return Ok(());
        }
        let what = match module.get_export(name) {
            Some(ExternType::Func(_)) => format!(
                "its export `{name}`, which a route names as the one that answers, takes or returns something"
            ),
            _ => format!(
                "it exports no function `{name}`, which a route names as the one that answers"
            ),
        };
        let fit: Vec<_> = module.exports().map(|export| export.name()).collect();
        let fit = fit.into_iter().filter(|name| is_entrypoint(module, name));
        let fit: Vec<&str> = fit.take(NAMED_MAX).collect();
        let help = match nearest(name, fit.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "an entry point is a function without parameters and results; it exports: {}",
                fit.join(", ")
            ),
        };
        Err(refused(what, help))
    }

    /// What a module prints as its own routes, if it has the export `_routes`: a line each, `PATH ENTRYPOINT`. It runs without
    /// arguments, variables, files and network.
    ///
    /// # Errors
    /// The fault, where it did not return; `bad-guest` where it printed too much or no text.
    pub async fn discover_routes(&self) -> Result<Option<String>, Fault> {
        let Callable::Cgi(command @ Command::P1(pre)) = &self.0.callable else {
            return Ok(None);
        };
        if !is_entrypoint(pre.module(), ROUTES) {
            return Ok(None);
        }
        let entry = Entry {
            command,
            export: ROUTES,
        };
        let most = limits::CGI_ROUTES.size();
        let (printed, said) = (MemoryOutputPipe::new(most), MemoryOutputPipe::new(most));
        let outcome = run(&self.0, entry, (printed.clone(), said.clone())).await;
        let outcome = outcome.map_err(|fault| with_last_words(fault, &said.contents()));
        let printed = printed.contents();
        if printed.len() >= most {
            return Err(Fault::BadGuest(format!(
                "its export `{ROUTES}` printed {most} bytes or more"
            )));
        }
        outcome?;
        let text = String::from_utf8(printed.into());
        let text = text.map_err(|_| {
            Fault::BadGuest(format!("its export `{ROUTES}` printed what is no text"))
        })?;
        Ok(Some(text))
    }
}

/// Exports that a message names.
const NAMED_MAX: usize = 20;

fn module(callable: &Callable) -> Option<&Module> {
    match callable {
        Callable::Cgi(Command::P1(pre)) => Some(pre.module()),
        Callable::Handle(linked) => Some(linked.module()),
        _ => None,
    }
}

/// Whether a module begins as a program does.
pub(crate) fn begins(module: &Module) -> bool {
    is_entrypoint(module, START)
}

fn is_entrypoint(module: &Module, name: &str) -> bool {
    let export = module.get_export(name);
    let function = export.as_ref().and_then(ExternType::func);
    function.is_some_and(|ty| ty.params().len() == 0 && ty.results().len() == 0)
}

/// What it said on standard error is worth reading if it failed; nothing else is said before the server is ready.
fn with_last_words(fault: Fault, said: &[u8]) -> Fault {
    let said = String::from_utf8_lossy(said);
    let said: String = said.trim().chars().take(WORDS_CHARS).collect();
    match fault {
        Fault::Trap(why) if !said.is_empty() => Fault::Trap(format!("{said}\n{why}")),
        Fault::BadGuest(why) if !said.is_empty() => Fault::BadGuest(format!("{why}: {said}")),
        fault => fault,
    }
}

/// Of what a module said that failed, so much.
const WORDS_CHARS: usize = 1000;

/// Runs it with nothing that its component was granted.
async fn run(
    guest: &Inner,
    entry: Entry<'_>,
    (printed, said): (MemoryOutputPipe, MemoryOutputPipe),
) -> Result<(), Fault> {
    let template = Arc::new(Template {
        settings: Arc::default(),
        grants: Arc::default(),
        granted: Arc::default(),
        network: Arc::default(),
        on_start: None,
        cgi: Arc::new(Cgi::default()),
        ..guest.template.as_ref().clone()
    });
    let given = Given {
        args: Vec::new(),
        env: Vec::new(),
        stdin: Arc::new(MemoryInputPipe::new("")),
        stdout: Arc::new(printed),
        stderr: Some(Arc::new(said)),
    };
    let id = RequestId::next();
    let store = Host::program(&guest.engine, &template, id, Kind::Module, Some(&given));
    let mut store = store.map_err(|error| Fault::Host(format!("{error:?}")))?;
    let _ticking = guest.ticker.enter();
    let mut clock = Clock::start(&template.limits);
    let called = AssertUnwindSafe(command::call(entry, &mut store)).catch_unwind();
    let outcome = meter::run(&mut clock, called).await?;
    let outcome = outcome.map_err(|_| panicked())?;
    match command::exit_code(outcome) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Fault::BadGuest(format!(
            "its export `{}` exited with code {code}",
            entry.export
        ))),
        Err(error) => Err(fault_of(&error, &store.data().meter)),
    }
}
