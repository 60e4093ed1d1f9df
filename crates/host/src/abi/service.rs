//! `service`: a program that runs all the time, from its start to an end of its own.
//!
//! It is called as a command is, but it has no deadline and no CPU of one call: it runs in the slow lane from its first
//! instruction, where it shares the CPU fairly with everything else that takes long, and with a cap of its own where the
//! operator sets one. What a call may use of stores and of the network it may use anew in every period. Its standard
//! input is empty and ends when it is asked to stop. Who starts it again, and when, is the server's business.

mod export;
mod pace;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use hostel_app::limits;
use tokio::sync::{oneshot, watch};
use wasmtime::Store;

use crate::abi::command::{self, Command};
use crate::abi::drive::Place;
use crate::abi::http::panicked;
use crate::abi::{Callable, init};
use crate::fault::Fault;
use crate::guest::{Guest, Inner, RequestId, fault_of};
use crate::lanes;
use crate::lock::lock;
use crate::meter::Clock;
use crate::state::{Host, Template};
use export::Service;
use pace::Pace;

/// How a service is started.
pub struct ServiceStart {
    /// What it finds open behind its pre-opened directories, in this order; bound by the caller.
    pub listeners: Vec<Arc<TcpListener>>,
    /// The export to call instead of the one that its ABI names.
    pub export: Option<String>,
    /// Becomes true when the guest should end: its standard input ends then.
    pub stop: watch::Receiver<bool>,
    /// Called when it first waits for a connection on one of `listeners` or of its own, or has printed `ready_line`.
    pub ready: Box<dyn FnOnce() + Send>,
    /// Text of the line on standard output that says that it is ready; with it, nothing else does.
    pub ready_line: Option<String>,
    /// How much of one core it may use over time, in percent; `None` is what others leave.
    pub cpu_percent: Option<u32>,
}

impl fmt::Debug for ServiceStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceStart")
            .field("listeners", &self.listeners)
            .field("export", &self.export)
            .field("cpu_percent", &self.cpu_percent)
            .finish_non_exhaustive()
    }
}

impl Guest {
    /// Runs it as a service until it ends by itself; its exit code. Dropping the future ends it.
    ///
    /// # Errors
    /// The fault, where it did not end by itself.
    pub async fn serve(&self, start: ServiceStart, id: RequestId) -> Result<u8, Fault> {
        self.0.template.metrics.calls.add(1);
        run(&self.0, start, id).await
    }
}

/// What an instance of a service has that others do not.
#[derive(Clone)]
pub(crate) struct Life {
    /// What it finds open behind its pre-opened directories.
    pub(crate) listeners: Vec<Arc<TcpListener>>,
    pub(crate) stop: watch::Receiver<bool>,
    /// How often it has the budget of a call anew.
    pub(crate) refill: Duration,
    ready: Once,
    ready_line: Option<Arc<str>>,
    /// A socket of the guest's own begins to listen.
    listens: Arc<AtomicBool>,
}

/// Called the first time only.
type Once = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

fn call_once(once: &Once) {
    let call = lock(once).take();
    if let Some(call) = call {
        call();
    }
}

/// The line by which a service says that it is ready.
#[derive(Clone)]
pub(crate) struct Announcement {
    text: Arc<str>,
    ready: Once,
}

impl Announcement {
    /// Whether this line is it; then it is told.
    pub(crate) fn is_in(&self, line: &[u8]) -> bool {
        let text = self.text.as_bytes();
        let found = line.windows(text.len()).any(|part| part == text);
        if found {
            call_once(&self.ready);
        }
        found
    }
}

impl Life {
    pub(crate) fn new(start: ServiceStart) -> Self {
        Self {
            listeners: start.listeners,
            stop: start.stop,
            refill: limits::SERVICE_REFILL_MS.duration(),
            ready: Arc::new(Mutex::new(Some(start.ready))),
            ready_line: start.ready_line.map(Arc::from),
            listens: Arc::default(),
        }
    }

    /// It waits for connections from now on. Only the first time counts.
    pub(crate) fn is_ready(&self) {
        if self.ready_line.is_none() {
            call_once(&self.ready);
        }
    }

    /// It may make a socket of its own listen, which it does before it waits again.
    pub(crate) fn listens(&self) {
        self.listens.store(true, Relaxed);
    }

    /// The guest waits, or was interrupted.
    fn has_run(&self) {
        if self.listens.swap(false, Relaxed) {
            self.is_ready();
        }
    }

    /// The line that makes it ready, if one does.
    pub(crate) fn announcement(&self) -> Option<Announcement> {
        Some(Announcement {
            text: self.ready_line.clone()?,
            ready: self.ready.clone(),
        })
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life")
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

async fn run(guest: &Arc<Inner>, mut start: ServiceStart, id: RequestId) -> Result<u8, Fault> {
    let pace = start.cpu_percent.map(Pace::new);
    let export = start.export.take();
    let template = Arc::new(Template {
        limits: hostel_app::limits::Limits {
            deadline_ms: None,
            cpu_ms: None,
            ..guest.template.limits.clone()
        },
        life: Some(Life::new(start)),
        ..guest.template.as_ref().clone()
    });
    let (done, outcome) = oneshot::channel();
    let inner = guest.clone();
    let work: lanes::Work = Box::pin(async move {
        let _waits = done.send(live(&inner, &template, (export, id), pace).await);
    });
    let _place = match guest.lanes.spawn(&guest.account, None, work) {
        Ok(job) => Place::SlowLane(job),
        Err(work) => Place::Task(tokio::spawn(work).abort_handle()),
    };
    outcome.await.unwrap_or(Err(Fault::Cancelled))
}

/// The whole life of one instance, under its clock.
async fn live(
    guest: &Inner,
    template: &Arc<Template>,
    (export, id): (Option<String>, RequestId),
    mut pace: Option<Pace>,
) -> Result<u8, Fault> {
    let store = Host::store(&guest.engine, template, id).map_err(host_fault)?;
    let mut clock = Clock::start(&template.limits).owned_by(&template.metrics);
    let outcome = {
        let called = call(guest, store, export.as_deref());
        let mut called = pin!(AssertUnwindSafe(called).catch_unwind());
        poll_fn(|cx| {
            if let Some(pace) = &mut pace
                && pace.rests(cx)
            {
                return Poll::Pending;
            }
            let before = clock.used();
            // Only while it computes: a service that waits must not keep the clock ticking.
            let ticking = guest.ticker.enter();
            let polled = clock.poll_anywhere(called.as_mut(), cx);
            drop(ticking);
            if let Some(life) = &template.life {
                life.has_run();
            }
            if let Some(pace) = &mut pace {
                pace.charge(clock.used().saturating_sub(before));
            }
            polled
        })
        .await
    };
    outcome?.map_err(|_| panicked())?
}

async fn call(guest: &Inner, mut store: Store<Host>, export: Option<&str>) -> Result<u8, Fault> {
    if let Some(name) = export {
        return Service::run(guest, store, name).await;
    }
    if let Callable::Init(pre) = &guest.callable {
        store.data_mut().enable_p1().map_err(host_fault)?;
        let outcome = init::call(pre, &mut store).await.map(|()| true);
        return exit(outcome, &store);
    }
    let Callable::Command(command) = &guest.callable else {
        return Err(Fault::BadGuest(
            "it is not a program that can run all the time".into(),
        ));
    };
    if let Command::P1(_) = command {
        store.data_mut().enable_p1().map_err(host_fault)?;
    }
    let outcome = command::call(command.entry(), &mut store).await;
    exit(outcome, &store)
}

/// The exit code, or how it failed.
fn exit(outcome: wasmtime::Result<bool>, store: &Store<Host>) -> Result<u8, Fault> {
    command::exit_code(outcome).map_err(|error| fault_of(&error, &store.data().meter))
}

fn host_fault(error: wasmtime::Error) -> Fault {
    Fault::Host(format!("{error:?}"))
}
