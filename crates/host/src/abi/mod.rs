//! How a guest is called: one file per ABI, and `http` for what the two HTTP ABIs share.

mod broken;
pub(crate) mod cgi;
pub(crate) mod command;
mod detached;
mod drive;
pub(crate) mod export;
pub(crate) mod handle;
pub(crate) mod http;
pub(crate) mod http_p2;
pub(crate) mod http_p3;
pub(crate) mod init;
pub(crate) mod job;
mod life;
pub(crate) mod message;
mod place;
mod program;
pub(crate) mod response;
mod seat;
pub(crate) mod service;
pub(crate) mod shared;
pub(crate) mod start;

use wasmtime::Store;
use wasmtime_wasi_http::{p2, p3};

use crate::state::Host;

/// A guest's entry point, linked once and instantiated for every call.
pub(crate) enum Callable {
    HttpP2(p2::bindings::ProxyPre<Host>),
    HttpP3(p3::bindings::ServicePre<Host>),
    Message(message::handlers::Linked),
    Command(command::Command),
    Export(export::Linked),
    /// A core module that runs all the time once its `init` is called.
    Init(wasmtime::InstancePre<Host>),
    /// A program that answers requests.
    Cgi(command::Command),
    /// A core module of serverless-wasm.
    Handle(handle::Linked),
}

impl Callable {
    /// What is instantiated, where that is a component.
    pub(crate) fn component(&self) -> Option<&wasmtime::component::InstancePre<Host>> {
        match self {
            Self::HttpP2(pre) => Some(pre.instance_pre()),
            Self::HttpP3(pre) => Some(pre.instance_pre()),
            Self::Message(linked) => Some(linked.instance_pre()),
            Self::Command(command) | Self::Cgi(command) => command.component(),
            Self::Export(linked) => linked.as_component(),
            Self::Init(_) | Self::Handle(_) => None,
        }
    }
}

/// An instance that may answer (again).
pub(crate) struct Warm {
    pub(crate) store: Store<Host>,
    pub(crate) exports: Exports,
    /// Requests that it has answered.
    pub(crate) answered: u32,
}

/// The instance's typed exports.
pub(crate) enum Exports {
    P2(p2::bindings::Proxy),
    P3(p3::bindings::Service),
    Message(message::handlers::Handling),
    Component(wasmtime::component::Instance),
    Module(wasmtime::Instance),
    /// A program's, which has ended.
    Spent,
}
