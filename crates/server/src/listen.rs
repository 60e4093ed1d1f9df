//! Listening sockets: one per thread and address, all on the same port, with errors that say how to mend them. Those that
//! somebody else has opened are `activation`'s.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use hostel_app::ListenOn;
use hostel_host::LogSink;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::activation::Inherited;

/// How long accepting pauses when the process or the machine has no descriptor left, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How often the port of an address that asked for any port may be snatched away before we give up.
const ANY_PORT_ATTEMPTS: usize = 8;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Not of the form `ADDRESS:PORT`.
    #[error(
        "`{text}` is not an address to listen on\n  \
         help: write an IP address and a port, such as 127.0.0.1:3000, [::1]:3000, or 0.0.0.0:3000 for every interface; \
         port 0 picks a free one, and fd:NAME is a socket of the service manager"
    )]
    NotAnAddress {
        /// As written.
        text: String,
    },
    /// Another socket listens there.
    #[error(
        "cannot listen on {address}: the port is in use\n  \
         help: another program, perhaps another hostel, holds it (`ss -ltnp 'sport = :{port}'` shows which); \
         stop it, or pick a free port with `--listen {ip}:0`",
        port = address.port(),
        ip = bracketed(address.ip())
    )]
    InUse {
        /// As asked for.
        address: SocketAddr,
    },
    /// The port needs a privilege.
    #[error(
        "cannot listen on {address}: permission denied\n  \
         help: ports below 1024 need a privilege (CAP_NET_BIND_SERVICE); use a higher one, such as `--listen {ip}:8080`",
        ip = bracketed(address.ip())
    )]
    Denied {
        /// As asked for.
        address: SocketAddr,
    },
    /// No interface has this address.
    #[error(
        "cannot listen on {address}: this machine does not have that address\n  \
         help: use one of its own (`ip address` shows them), 127.0.0.1 for this machine alone, or 0.0.0.0 for every \
         interface"
    )]
    NotLocal {
        /// As asked for.
        address: SocketAddr,
    },
    /// Whoever started the process handed no such socket over.
    #[error(
        "there is no socket fd:{name}\n  \
         help: it comes from a service manager (systemd's LISTEN_FDS), which handed over {}; name one of those, or an \
         address such as 127.0.0.1:3000",
        if known.is_empty() { "none" } else { known.as_str() }
    )]
    NotInherited {
        /// As asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The socket cannot be used.
    #[error("the socket fd:{name} cannot be listened on: {error}")]
    Inherited {
        /// As asked for.
        name: String,
        /// The kernel's error.
        error: io::Error,
    },
    /// Anything else that the kernel says.
    #[error("cannot listen on {address}: {error}")]
    Kernel {
        /// As asked for.
        address: SocketAddr,
        /// The kernel's error.
        error: io::Error,
    },
}

impl ListenError {
    fn of(address: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::PermissionDenied => Self::Denied { address },
            io::ErrorKind::AddrNotAvailable => Self::NotLocal { address },
            _ => Self::Kernel { address, error },
        }
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Reads a place to listen on: see [`ListenOn`].
///
/// # Errors
///
/// [`ListenError::NotAnAddress`].
pub fn parse(text: &str) -> Result<ListenOn, ListenError> {
    text.parse().map_err(|_| not_an_address(text))
}

/// The same, where a socket of the service manager is of no use.
///
/// # Errors
///
/// [`ListenError::NotAnAddress`].
pub fn parse_address(text: &str) -> Result<SocketAddr, ListenError> {
    match parse(text)? {
        ListenOn::Address(address) => Ok(address),
        ListenOn::Inherited(_) => Err(not_an_address(text)),
    }
}

fn not_an_address(text: &str) -> ListenError {
    ListenError::NotAnAddress {
        text: text.to_owned(),
    }
}

/// Whether every one of `places` can be listened on now, so that a port in use is told before anything is compiled.
///
/// Nothing stays bound: a port that listened while guests are being compiled would look ready to whoever tries it, and
/// let its clients wait. So another program can still take the port before [`crate::serve`] does, which then says so.
///
/// # Errors
///
/// For the first address that cannot be listened on.
pub fn check(places: &[ListenOn], inherited: &Inherited) -> Result<(), ListenError> {
    places.iter().try_for_each(|place| match place {
        ListenOn::Address(address) => check_address(*address),
        ListenOn::Inherited(name) => inherited.all(name).map(drop),
    })
}

/// The same for one address.
pub(crate) fn check_address(address: SocketAddr) -> Result<(), ListenError> {
    reserve(address)
        .map(drop)
        .map_err(|error| ListenError::of(address, error))
}

/// The listening sockets of one address, one for each thread.
#[derive(Debug)]
pub(crate) struct Bound {
    /// With its real port.
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Vec<StdListener>,
}

/// [`bind`] for every one of `places`. A socket that was inherited is one queue, from which all threads accept.
pub(crate) fn bind_all(
    places: &[ListenOn],
    inherited: &Inherited,
    count: usize,
    backlog: i32,
) -> Result<Vec<Bound>, ListenError> {
    let mut all = Vec::with_capacity(places.len());
    for place in places {
        match place {
            ListenOn::Address(address) => {
                let (address, sockets) = bind(*address, count, backlog)?;
                all.push(Bound { address, sockets });
            }
            ListenOn::Inherited(name) => all.extend(inherited.shared(name, count)?),
        }
    }
    Ok(all)
}

/// One socket for each of the places that a service has; an inherited name may stand for several.
pub(crate) fn bind_each(
    places: &[ListenOn],
    inherited: &Inherited,
    backlog: i32,
) -> Result<Vec<StdListener>, ListenError> {
    let bound = bind_all(places, inherited, 1, backlog)?.into_iter();
    Ok(bound.flat_map(|bound| bound.sockets).collect())
}

/// Listening sockets that another process bound and sorted by address.
pub(crate) fn adopt(sockets: Vec<StdListener>) -> io::Result<Vec<Bound>> {
    let mut bound: Vec<Bound> = Vec::new();
    for socket in sockets {
        let address = socket.local_addr()?;
        match bound.last_mut() {
            Some(last) if last.address == address => last.sockets.push(socket),
            _ => bound.push(Bound {
                address,
                sockets: vec![socket],
            }),
        }
    }
    Ok(bound)
}

/// `count` listening sockets on one address; the kernel spreads connections over them (`SO_REUSEPORT`) and keeps up to
/// `backlog` for each until they are accepted. Returns the address with its real port.
pub(crate) fn bind(
    address: SocketAddr,
    count: usize,
    backlog: i32,
) -> Result<(SocketAddr, Vec<StdListener>), ListenError> {
    let mut attempts = if address.port() == 0 {
        ANY_PORT_ATTEMPTS
    } else {
        1
    };
    loop {
        attempts -= 1;
        match bind_once(address, count, backlog) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            outcome => return outcome.map_err(|error| ListenError::of(address, error)),
        }
    }
}

/// A bound socket that never listens. It comes without `SO_REUSEPORT`: with it, a port that another program of the same
/// user listens on in the same way would not be refused but shared.
fn reserve(address: SocketAddr) -> io::Result<Socket> {
    let probe = socket(address)?;
    probe.bind(&address.into())?;
    Ok(probe)
}

fn bind_once(
    address: SocketAddr,
    count: usize,
    backlog: i32,
) -> io::Result<(SocketAddr, Vec<StdListener>)> {
    // Held until the others listen.
    let probe = reserve(address)?;
    let real = probe
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::Unsupported)?;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(real)?;
        socket.set_reuse_port(true)?;
        // Accepted sockets inherit it: answers leave at once.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&real.into())?;
        socket.listen(backlog)?;
        listeners.push(socket.into());
    }
    Ok((real, listeners))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A listening socket whose accept cannot fail: whatever goes wrong with one connection, or for want of descriptors,
/// the next one is accepted.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    pause: Duration,
}

impl Listener {
    /// Must be called inside the runtime that will accept.
    pub(crate) fn new(socket: StdListener) -> io::Result<Self> {
        Ok(Self {
            socket: TcpListener::from_std(socket)?,
            pause: PAUSE_MIN,
        })
    }

    /// The next connection and where it comes from. Cancel safe.
    pub(crate) async fn accept(&mut self, log: &LogSink) -> (TcpStream, IpAddr) {
        loop {
            match self.socket.accept().await {
                Ok((tcp, client)) => {
                    self.pause = PAUSE_MIN;
                    return (tcp, client.ip());
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    // Once for each time that it begins: it may last, and must not bury other lines.
                    if self.pause == PAUSE_MIN {
                        log.host_fault(format_args!(
                            "cannot accept a connection: {error}; waiting"
                        ));
                    }
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// The connection was gone before it was accepted (accept(2) passes such errors on); the next one is unharmed.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream as StdStream};

    const BACKLOG: i32 = 16;

    fn any_port() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    #[test]
    fn addresses_are_written_as_ip_and_port() {
        assert_eq!(parse_address("127.0.0.1:3000").unwrap().port(), 3000);
        assert_eq!(parse("fd:web").unwrap().to_string(), "fd:web");
        assert!(parse_address("fd:web").is_err());
        for local in ["localhost:80", ":80", "80"] {
            assert_eq!(parse(local).unwrap().to_string(), "127.0.0.1:80", "{local}");
        }
        for bad in [
            "",
            "::1:3000x",
            "localhost3000",
            "example.com:80",
            "127.0.0.1",
            "127.0.0.1:65536",
            "localhost:",
        ] {
            let message = parse(bad).unwrap_err().to_string();
            assert!(
                message.contains(&format!("`{bad}`")) && message.contains("127.0.0.1:3000"),
                "{message}"
            );
        }
    }

    #[test]
    fn every_thread_listens_on_the_same_real_port() {
        let (address, listeners) = bind(any_port(), 3, BACKLOG).unwrap();
        assert_ne!(address.port(), 0);
        assert_eq!(listeners.len(), 3);
        for listener in &listeners {
            assert_eq!(listener.local_addr().unwrap(), address);
        }
    }

    #[test]
    fn a_port_in_use_is_refused_although_it_could_be_shared() {
        let (address, _listeners) = bind(any_port(), 2, BACKLOG).unwrap();
        let message = bind(address, 2, BACKLOG).unwrap_err().to_string();
        assert!(
            message.contains(&address.to_string()) && message.contains("in use"),
            "{message}"
        );
        assert!(message.contains("--listen 127.0.0.1:0"), "{message}");
    }

    #[test]
    fn a_check_refuses_what_binding_would_and_holds_nothing() {
        let (address, listeners) = bind(any_port(), 1, BACKLOG).unwrap();
        let none = Inherited::default();
        let places = [any_port(), address].map(ListenOn::Address);
        let message = check(&places, &none).unwrap_err().to_string();
        assert!(
            message.contains(&address.to_string()) && message.contains("in use"),
            "{message}"
        );
        drop(listeners);
        check(&[address, address].map(ListenOn::Address), &none).unwrap();
        bind(address, 1, BACKLOG).unwrap();
    }

    #[test]
    fn connections_beyond_the_backlog_are_not_made() {
        const CROWD: usize = 6;
        let connected = |backlog| {
            let (address, _nobody_accepts) = bind(any_port(), 1, backlog).unwrap();
            let connections: Vec<_> = (0..CROWD)
                .map(|_| StdStream::connect_timeout(&address, Duration::from_millis(30)))
                .filter_map(Result::ok)
                .collect();
            connections.len()
        };
        // Linux keeps one more than it is asked to.
        assert!((1..CROWD).contains(&connected(2)));
        assert_eq!(connected(BACKLOG), CROWD);
    }

    #[test]
    fn a_port_that_was_just_closed_can_be_taken_again() {
        let (address, listeners) = bind(any_port(), 2, BACKLOG).unwrap();
        drop(listeners);
        bind(address, 2, BACKLOG).unwrap();
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let message = bind("192.0.2.1:0".parse().unwrap(), 1, BACKLOG)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("192.0.2.1") && message.contains("does not have that address"),
            "{message}"
        );
    }

    #[test]
    fn a_socket_that_nobody_handed_over_says_who_would() {
        let message = check(&[parse("fd:web").unwrap()], &Inherited::default())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("no socket fd:web") && message.contains("handed over none"),
            "{message}"
        );
    }

    #[test]
    fn a_denied_port_names_the_privilege() {
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        let message = ListenError::of("[::1]:80".parse().unwrap(), error).to_string();
        assert!(
            message.contains("CAP_NET_BIND_SERVICE") && message.contains("--listen [::1]:8080"),
            "{message}"
        );
    }

    #[test]
    fn other_kernel_errors_are_passed_on() {
        let message = ListenError::of(any_port(), io::Error::from_raw_os_error(97)).to_string();
        assert!(
            message.contains("127.0.0.1:0") && message.contains("os error 97"),
            "{message}"
        );
    }

    #[test]
    fn running_out_of_descriptors_is_not_one_connections_fault() {
        const EMFILE: i32 = 24;
        const ENFILE: i32 = 23;
        const ECONNABORTED: i32 = 103;
        assert!(!concerns_one_connection(&io::Error::from_raw_os_error(
            EMFILE
        )));
        assert!(!concerns_one_connection(&io::Error::from_raw_os_error(
            ENFILE
        )));
        assert!(concerns_one_connection(&io::Error::from_raw_os_error(
            ECONNABORTED
        )));
    }
}
