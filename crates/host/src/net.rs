//! The only place from which a guest reaches the network: nothing else resolves a name or dials on its behalf.
//!
//! Grants are allow-lists over outgoing HTTP and WASI's sockets. Without a grant nothing is resolved, dialled, bound or
//! accepted. With one, an address outside the public internet is still refused, unless the operator names it (`policy`).
//! A name is resolved once, every answer is judged, and what was judged is dialled (`resolve`, `dial`). What is granted is
//! counted: what one call starts, what an app has open and how fast it dials (`budget`).
//!
//! Requests to the app's own components stay in the process (`internal`).
//!
//! Read `policy`, then `client`: one request from its address to the last byte of its answer. `message` is what both sides
//! may say, `pool` the connections that wait, `tls` whom the host trusts, `sockets` the guest's own sockets.

mod budget;
mod client;
mod dial;
mod internal;
mod message;
pub(crate) mod narrowed;
mod plain;
mod policy;
mod pool;
mod resolve;
mod sockets;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use hostel_app::grant::HttpGrant;
use hostel_app::limits;
use hostel_app::{Grants, NetworkPolicy};
use http::header::HeaderName;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

pub(crate) use budget::{Accepted, AppNetwork};
use budget::{Lease, Outbound};
use client::Sending;
pub(crate) use internal::Neighbours;
use internal::Visit;
use policy::{Forbidden, Policy};
use pool::Server;
use resolve::Names;
pub(crate) use sockets::{Sockets, add_to_linker, allow_sockets};
pub(crate) use stream::{Connection, NotConnected};
use tls::Tls;

use crate::chain::Chain;
use crate::state::{Stdio, Template};

/// What the operator's file says about the network, and what all apps share of it.
#[derive(Debug)]
pub(crate) struct Network {
    policy: Policy,
    tls: Tls,
    names: Names,
    times: Times,
    /// Idle connections of all apps.
    idle: Arc<AtomicU32>,
    /// Connections that services have accepted on sockets of the host's.
    accepted: AtomicU32,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
struct Times {
    connect: Duration,
    total: Duration,
    idle: Duration,
}

/// What is wrong with the operator's file, and how to mend it.
#[derive(Debug)]
pub(crate) struct NetworkError {
    pub(crate) what: String,
    pub(crate) help: String,
}

impl Network {
    /// Reads what the operator's file names.
    pub(crate) fn new(policy: &NetworkPolicy) -> Result<Self, NetworkError> {
        let judge = Policy::new(&policy.allow).map_err(|error| NetworkError {
            what: format!("`allow` in [network] of server.toml: {}", error.what),
            help: error.help,
        })?;
        let connect = policy.connect_timeout;
        let total = policy.total_timeout;
        Ok(Self {
            policy: judge,
            tls: Tls::new(policy)?,
            times: Times {
                connect: connect.unwrap_or(limits::CONNECT_TIMEOUT_MS.duration()),
                total: total.unwrap_or(limits::OUTBOUND_TIMEOUT_MS.duration()),
                idle: limits::OUTBOUND_IDLE_MS.duration(),
            },
            ..Self::default()
        })
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            tls: Tls::default(),
            names: Names::system(),
            times: Times {
                connect: limits::CONNECT_TIMEOUT_MS.duration(),
                total: limits::OUTBOUND_TIMEOUT_MS.duration(),
                idle: limits::OUTBOUND_IDLE_MS.duration(),
            },
            idle: Arc::default(),
            accepted: AtomicU32::new(0),
        }
    }
}

/// How an instance reaches the network, if it may.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    template: Arc<Template>,
    /// `None` where nothing is granted that would be counted.
    budget: Option<Arc<Outbound>>,
    /// Where the call that it works on stands.
    chain: Chain,
}

/// Where a request goes.
enum Way {
    /// To a server somewhere.
    Out(Sending),
    /// To another component of the app.
    Inside(Visit),
}

impl Outgoing {
    pub(crate) fn new(template: &Arc<Template>) -> Self {
        let Grants {
            http,
            tcp,
            udp,
            listen,
            ..
        } = &*template.grants;
        let any = !(http.is_empty() && tcp.is_empty() && udp.is_empty() && listen.is_empty());
        let (limits, reuse) = (&template.limits, &template.reuse);
        Self {
            template: template.clone(),
            budget: any.then(|| Arc::new(Outbound::new(limits, reuse, template.refill()))),
            chain: Chain::default(),
        }
    }

    /// The call that begins is part of this.
    pub(crate) fn is_part_of(&mut self, chain: Chain) {
        self.chain = chain;
    }

    /// Where the call stands that it works on.
    pub(crate) fn chain(&self) -> Chain {
        self.chain
    }

    /// Another call begins in this instance.
    pub(crate) fn begin(&self) {
        if let Some(budget) = &self.budget {
            budget.begin();
        }
    }

    /// Whether the call may start one more thing on the network; it is counted.
    pub(crate) fn start(&self) -> bool {
        let started = self.budget.as_ref().is_none_or(|budget| budget.start());
        let count = match started {
            true => &self.template.metrics.outbound,
            false => &self.template.metrics.outbound_refused,
        };
        count.add(1);
        started
    }

    /// Whether the guest may look up names: where it has sockets to use what it finds.
    pub(crate) fn may_look_up(&self) -> bool {
        let grants = &self.template.grants;
        !grants.tcp.is_empty() || !grants.udp.is_empty()
    }

    /// Every address of a name that a socket could reach.
    pub(crate) async fn look_up(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        let app = &self.template.network;
        let found = app.names.addresses(name);
        let found = tokio::time::timeout(app.network.times.connect, found).await??;
        let mut forbidden = None;
        let mut reached = Vec::new();
        for address in found {
            match self.judge_found(address) {
                Ok(()) => reached.push(address.to_canonical()),
                Err(reason) => forbidden = Some(reason),
            }
        }
        if let (true, Some(reason)) = (reached.is_empty(), forbidden) {
            self.tell(&format!("the name {name}"), &reason, None);
        }
        Ok(reached)
    }

    /// The same for an address that is written as a name.
    pub(crate) fn known(&self, address: IpAddr) -> Vec<IpAddr> {
        let reached = self.judge_found(address).is_ok();
        reached
            .then(|| address.to_canonical())
            .into_iter()
            .collect()
    }

    /// Whether requests to this address are granted at all; a refusal is counted, and told.
    pub(crate) fn grants(&self, uri: &http::Uri) -> Result<(), Error> {
        self.granted(uri).map(drop)
    }

    fn granted(&self, uri: &http::Uri) -> Result<Server, Error> {
        let metrics = &self.template.metrics;
        let denied = |error| {
            metrics.outbound_denied.add(1);
            Err(error)
        };
        let Some(server) = message::server(uri) else {
            // Without a grant a guest is told nothing else.
            return denied(match self.template.grants.http.is_empty() {
                true => Error::HttpRequestDenied,
                false => Error::HttpRequestUriInvalid,
            });
        };
        if !self.permits(&server) {
            if let Some(name) = server.neighbour() {
                self.template.neighbour_denied(name);
            }
            return denied(Error::HttpRequestDenied);
        }
        Ok(server)
    }

    /// Whether a request to this address may leave now; it is counted.
    fn lets_go(&self, uri: &http::Uri) -> Result<Way, Error> {
        let server = self.granted(uri)?;
        if server.neighbour().is_some() {
            return self.visit(server).map(Way::Inside);
        }
        let lease = Lease::open(&self.template).ok_or(Error::ConnectionLimitReached)?;
        if !self.start() {
            return Err(Error::ConnectionLimitReached);
        }
        Ok(Way::Out(Sending {
            outgoing: self.clone(),
            server,
            _lease: lease,
        }))
    }

    /// Whether a grant permits a request to this server.
    fn permits(&self, server: &Server) -> bool {
        covered(&self.template.grants.http, server).next().is_some()
    }

    fn policy(&self) -> &Policy {
        &self.template.network.network.policy
    }

    /// Whether the server may be at this address.
    fn judge_http(&self, server: &Server, address: IpAddr) -> Result<(), Forbidden> {
        let own = &self.template.grants.operator.http;
        let opened = |ip: IpAddr| {
            covered(own, server)
                .flat_map(HttpGrant::networks)
                .any(|network| policy::names(&network, ip))
        };
        self.policy().judge(address, &opened)
    }

    fn tell_http(&self, server: &Server, forbidden: &Forbidden) {
        self.template.metrics.outbound_denied.add(1);
        let whole = format!("{}://{}", server.scheme(), server.authority());
        let named = match &server.host {
            resolve::Host::Address(address) => address.to_canonical() == forbidden.address,
            resolve::Host::Name(name) => &**name == "localhost" && forbidden.address.is_loopback(),
        };
        let flag = named.then(|| format!("--grant http={whole}"));
        self.tell(&whole, forbidden, flag);
    }

    /// Says in the log what the operator can do where a grant is there and the address is special all the same.
    fn tell(&self, whole: &str, forbidden: &Forbidden, flag: Option<String>) {
        let Forbidden { address, range } = forbidden;
        let component = &self.template.component;
        let flag = flag.map_or(String::new(), |flag| format!("`{flag}`, or "));
        let line = format!(
            "level=warn denied=network component={component} {whole} leads to {address}, which is not of the public \
             internet ({range}); only the operator can allow that: {flag}`allow = [\"{address}\"]` in [network] of \
             server.toml"
        );
        if let Stdio::Log(log) = &self.template.stdio {
            log.notice(&line);
        }
    }
}

/// Those grants that cover requests to the server.
fn covered<'g>(grants: &'g [HttpGrant], server: &Server) -> impl Iterator<Item = &'g HttpGrant> {
    let (scheme, host, port) = (server.scheme(), server.host.bare(), server.port);
    grants
        .iter()
        .filter(move |grant| grant.permits(scheme, &host, port))
}

type Answer = Result<
    (
        http::Response<WasiBody>,
        Box<dyn Future<Output = Result<(), Error>> + Send>,
    ),
    Error,
>;

impl WasiHttpHooks for Outgoing {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        message::is_of_connection(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(message::is_of_connection)
    }

    /// The authority that was checked is written by whoever dials.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        limits::STREAM_CHUNK_BYTES.size()
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        limits::STREAM_CHUNK_BYTES.size()
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        finished: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        drop(finished); // tells about the response body, which the guest reads itself
        let way = self.lets_go(request.uri());
        Box::new(async move {
            let response = match way? {
                Way::Out(sending) => sending.send(request, options).await?,
                Way::Inside(visit) => visit.call(request, options).await?,
            };
            // The connection has a task of its own, which outlives the request.
            let io: Box<dyn Future<Output = Result<(), Error>> + Send> =
                Box::new(std::future::ready(Ok(())));
            Ok((response, io))
        })
    }
}
