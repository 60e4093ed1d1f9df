//! The only place from which a guest reaches the network: each connection is checked against the component's grants.
//!
//! The grants are allow-lists over WASI's own sockets and outgoing HTTP. Without a grant nothing is resolved, dialled,
//! bound or accepted. What is granted is counted: one call may start only so much ([`Outbound`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use hostel_app::limits::{self, Limits};
use hostel_app::{Grants, Reuse};
use http::header::{self, HeaderName};
use http::uri::Scheme;
use http_body_util::BodyExt;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi_http::{
    Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks, default_send_request,
};

use crate::state::Template;

/// What the calls of one instance may still start on the network.
#[derive(Debug)]
pub(crate) struct Outbound {
    left: AtomicU32,
    /// `None` is any number.
    per_call: Option<u32>,
    /// What calls that share the instance may have left together.
    most: u32,
}

impl Outbound {
    fn new(limits: &Limits, reuse: &Reuse) -> Self {
        let per_call = limits.outbound.unwrap_or(0);
        Self {
            left: AtomicU32::new(per_call),
            per_call: limits.outbound,
            most: per_call.saturating_mul(reuse.concurrent),
        }
    }

    /// Another call begins. Alone in its instance it has exactly its own budget; calls that share one share theirs.
    fn begin(&self) {
        let per_call = self.per_call.unwrap_or(0);
        let add = |left: u32| Some(left.saturating_add(per_call).min(self.most));
        // Never an error: the closure always has an answer.
        let _before = self.left.fetch_update(Relaxed, Relaxed, add);
    }

    /// Whether one more may be started; it is counted.
    fn start(&self) -> bool {
        self.per_call.is_none()
            || self
                .left
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }
}

/// The outgoing HTTP connections that the guests of one app have open.
#[derive(Debug, Default)]
pub(crate) struct Open(AtomicU32);

/// One of them, counted until it is dropped; and whose it is.
struct Connection(Arc<Template>);

impl Connection {
    /// One more, if the component's limit allows it.
    fn open(template: &Arc<Template>) -> Option<Self> {
        let most = template.limits.outbound_open.unwrap_or(u32::MAX);
        let enter = |open: u32| (open < most).then(|| open.saturating_add(1));
        template.open.0.fetch_update(Relaxed, Relaxed, enter).ok()?;
        template.metrics.outbound_open.add(1);
        Some(Self(template.clone()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.open.0.fetch_sub(1, Relaxed);
        self.0.metrics.outbound_open.sub(1);
    }
}

/// Gives the guest the sockets that its grants name.
pub(crate) fn allow_sockets(wasi: &mut WasiCtxBuilder, outgoing: &Outgoing) {
    let grants = &outgoing.template.grants;
    let tcp = !grants.tcp.is_empty() || !grants.listen.is_empty();
    let udp = !grants.udp.is_empty() || !grants.listen.is_empty();
    if !tcp && !udp {
        return;
    }
    wasi.allow_tcp(tcp).allow_udp(udp);
    wasi.allow_ip_name_lookup(!grants.tcp.is_empty() || !grants.udp.is_empty());
    let outgoing = outgoing.clone();
    wasi.socket_addr_check(move |address, usage| {
        let allowed = outgoing.permits_socket(address, usage);
        Box::pin(async move { allowed })
    });
}

/// Whether this use of an address is one of those that a call may start only so many of. What comes in is not, nor the
/// bind to any port that belongs to a connect or a send.
fn is_counted(address: SocketAddr, usage: SocketAddrUse) -> bool {
    match usage {
        SocketAddrUse::TcpAccept | SocketAddrUse::UdpReceive => false,
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => address.port() != 0,
        _ => true,
    }
}

/// Whether the grants permit this use of this address.
fn permits(grants: &Grants, address: SocketAddr, usage: SocketAddrUse) -> bool {
    let any =
        |list: &[hostel_app::grant::AddressGrant]| list.iter().any(|grant| grant.permits(address));
    let unbound = address.port() == 0; // the implicit bind before a connect or a send
    match usage {
        SocketAddrUse::TcpConnect => any(&grants.tcp),
        SocketAddrUse::TcpListen => any(&grants.listen),
        SocketAddrUse::TcpBind => any(&grants.listen) || (unbound && !grants.tcp.is_empty()),
        SocketAddrUse::TcpAccept => !grants.listen.is_empty(), // who may connect is the network's business
        SocketAddrUse::UdpBind => any(&grants.listen) || (unbound && !grants.udp.is_empty()),
        SocketAddrUse::UdpSend => any(&grants.udp),
        // Who may send to a listening socket is the network's business, unless grants name the peers.
        SocketAddrUse::UdpReceive => {
            any(&grants.udp) || (grants.udp.is_empty() && !grants.listen.is_empty())
        }
        // A use that a later engine adds is denied until it is judged here.
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

/// How an instance's outgoing HTTP requests leave, if they may.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    template: Arc<Template>,
    /// `None` where nothing is granted that would be counted.
    budget: Option<Arc<Outbound>>,
}

/// What a guest gets that asked for no time-outs of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connection-level fields: they belong to the host's connection, never to the guest's message.
const CONNECTION_FIELDS: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    HeaderName::from_static("http2-settings"),
];

fn is_connection_field(name: &HeaderName) -> bool {
    CONNECTION_FIELDS.contains(name)
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
            budget: any.then(|| Arc::new(Outbound::new(limits, reuse))),
        }
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

    /// Whether a socket may be used so; what counts is counted.
    fn permits_socket(&self, address: SocketAddr, usage: SocketAddrUse) -> bool {
        if !permits(&self.template.grants, address, usage) {
            self.template.metrics.outbound_denied.add(1);
            return false;
        }
        !is_counted(address, usage) || self.start()
    }

    /// Whether a request to this address may leave now; it is counted.
    fn lets_go(&self, uri: &http::Uri) -> Result<Connection, Error> {
        let metrics = &self.template.metrics;
        if !self.permits(uri) {
            metrics.outbound_denied.add(1);
            return Err(Error::HttpRequestDenied);
        }
        let Some(connection) = Connection::open(&self.template) else {
            metrics.outbound_refused.add(1);
            return Err(Error::ConnectionLimitReached);
        };
        if self.start() {
            Ok(connection)
        } else {
            Err(Error::ConnectionLimitReached)
        }
    }

    /// Whether a grant permits a request to this address.
    fn permits(&self, uri: &http::Uri) -> bool {
        let scheme = uri.scheme().unwrap_or(&Scheme::HTTPS);
        let default_port = if *scheme == Scheme::HTTP { 80 } else { 443 };
        let Some(host) = uri.host() else { return false };
        let port = uri.port_u16().unwrap_or(default_port);
        self.template
            .grants
            .http
            .iter()
            .any(|grant| grant.permits(scheme.as_str(), host, port))
    }
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
        is_connection_field(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_connection_field)
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
        let leaves = self.lets_go(request.uri());
        Box::new(async move {
            let connection = leaves?;
            let (response, io) =
                default_send_request(request, Some(with_timeouts(options))).await?;
            let io: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async move {
                let _open = connection;
                io.await
            });
            Ok((response.map(BodyExt::boxed_unsync), io))
        })
    }
}

/// The guest's time-outs, or ours where it set none.
fn with_timeouts(options: Option<RequestOptions>) -> RequestOptions {
    let mut options = options.unwrap_or_default();
    options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
    options.first_byte_timeout.get_or_insert(RESPONSE_TIMEOUT);
    options
        .between_bytes_timeout
        .get_or_insert(RESPONSE_TIMEOUT);
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Component;
    use crate::state::Stdio;

    fn grants(kind: &str, value: &str) -> Arc<Grants> {
        let mut grants = Grants::default();
        match kind {
            "http" => grants.http.push(value.parse().unwrap()),
            "tcp" => grants.tcp.push(value.parse().unwrap()),
            "udp" => grants.udp.push(value.parse().unwrap()),
            _ => grants.listen.push(value.parse().unwrap()),
        }
        Arc::new(grants)
    }

    fn outgoing(grants: Arc<Grants>) -> Outgoing {
        Outgoing::new(&Arc::new(template(grants)))
    }

    fn template(grants: Arc<Grants>) -> Template {
        Template {
            component: "test".into(),
            metrics: Arc::new(Component::new("test".into(), "test".into())),
            settings: Arc::default(),
            grants,
            limits: Limits::default(),
            reuse: Reuse::default(),
            metered: true,
            memory: crate::memory::Budget::new(None).share(),
            stdio: Stdio::Inherit,
            open: Arc::default(),
            granted: Arc::default(),
        }
    }

    fn started(budget: &Outbound) -> usize {
        (0..100_000).take_while(|_| budget.start()).count()
    }

    #[test]
    fn each_call_may_start_as_much_as_its_limit_says() {
        let limits = Limits {
            outbound: Some(3),
            ..Limits::default()
        };
        let alone = Outbound::new(&limits, &Reuse::default());
        for _ in 0..3 {
            assert_eq!(started(&alone), 3);
            alone.begin();
        }
        alone.begin();
        assert_eq!(started(&alone), 3, "nothing is saved for a later call");
        let shared = Reuse {
            requests: 100,
            concurrent: 4,
        };
        let shared = Outbound::new(&limits, &shared);
        assert_eq!(started(&shared), 3);
        shared.begin();
        shared.begin();
        assert_eq!(started(&shared), 6, "two calls have twice as much");
        (0..100).for_each(|_| shared.begin());
        assert_eq!(started(&shared), 12, "as much as four may have at once");
        let endless = Outbound::new(&Limits::for_command(), &Reuse::default());
        assert_eq!(started(&endless), 100_000);
    }

    #[test]
    fn a_connection_that_ends_makes_room_for_another() {
        let open = Arc::<Open>::default();
        let component = |most| {
            let mut template = template(Arc::default());
            template.open = open.clone();
            template.limits.outbound_open = most;
            Arc::new(template)
        };
        let (one, two) = (component(Some(1)), component(Some(2)));
        let first = Connection::open(&one).unwrap();
        assert!(Connection::open(&one).is_none());
        let second = Connection::open(&two).unwrap();
        assert!(Connection::open(&two).is_none(), "the app has two open");
        assert!(Connection::open(&component(None)).is_some());
        drop((first, second));
        assert!(Connection::open(&one).is_some());
        assert!(Connection::open(&component(Some(0))).is_none());
    }

    #[test]
    fn what_comes_in_and_what_belongs_to_another_step_is_not_counted() {
        use SocketAddrUse::{
            TcpAccept, TcpBind, TcpConnect, TcpListen, UdpBind, UdpReceive, UdpSend,
        };
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let unbound: SocketAddr = "0.0.0.0:0".parse().unwrap();
        for usage in [TcpConnect, TcpListen, TcpBind, UdpBind, UdpSend] {
            assert!(is_counted(address, usage), "{usage:?}");
        }
        for usage in [TcpAccept, UdpReceive] {
            assert!(!is_counted(address, usage), "{usage:?}");
        }
        for usage in [TcpBind, UdpBind] {
            assert!(!is_counted(unbound, usage), "{usage:?}");
        }
    }

    #[test]
    fn without_a_grant_no_request_leaves() {
        let none = outgoing(Arc::new(Grants::default()));
        assert!(!none.permits(&"http://127.0.0.1:80/".parse().unwrap()));
    }

    #[test]
    fn a_grant_names_scheme_host_and_port() {
        let outgoing = outgoing(grants("http", "https://api.example.com"));
        for (uri, allowed) in [
            ("https://api.example.com/x", true),
            ("https://api.example.com:443/x", true),
            ("https://api.example.com:444/x", false),
            ("http://api.example.com/x", false),
            ("https://example.com/x", false),
            ("https://evil@other.example.com/x", false),
        ] {
            assert_eq!(outgoing.permits(&uri.parse().unwrap()), allowed, "{uri}");
        }
    }

    #[test]
    fn each_socket_use_needs_its_own_grant() {
        use SocketAddrUse::{
            TcpAccept, TcpBind, TcpConnect, TcpListen, UdpBind, UdpReceive, UdpSend,
        };
        let peer: SocketAddr = "10.0.0.5:53".parse().unwrap();
        let any_port: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let all = [
            TcpConnect, TcpListen, TcpBind, TcpAccept, UdpBind, UdpSend, UdpReceive,
        ];
        let allowed = |grants: &Grants, address| all.map(|usage| permits(grants, address, usage));
        assert_eq!(allowed(&Grants::default(), peer), [false; 7]);
        assert_eq!(
            allowed(&grants("tcp", "10.0.0.5:53"), peer),
            [true, false, false, false, false, false, false]
        );
        assert_eq!(
            allowed(&grants("tcp", "10.0.0.5:53"), any_port),
            [false, false, true, false, false, false, false]
        );
        assert_eq!(
            allowed(&grants("udp", "10.0.0.5:53"), peer),
            [false, false, false, false, false, true, true]
        );
        assert_eq!(
            allowed(&grants("listen", "10.0.0.5:53"), peer),
            [false, true, true, true, true, false, true]
        );
        let mut both = Grants::clone(&grants("udp", "10.0.0.5:53"));
        both.listen.push("0.0.0.0:5353".parse().unwrap());
        let stranger: SocketAddr = "10.0.0.6:53".parse().unwrap();
        assert!(permits(&both, peer, UdpReceive));
        assert!(!permits(&both, stranger, UdpReceive));
    }
}
