//! Tries a socket of WASI 0.3: connects (`?tcp=HOST:PORT`) or sends a datagram (`?udp=HOST:PORT`) to an address, or to
//! every address of a name. Answers `ok:` once one of them went well, or `error:` with the last error's name; the status
//! is 200 either way. `?hold=N` opens N TCP sockets first and keeps them.

use std::net::{IpAddr, SocketAddr};

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket,
    UdpSocket,
};

struct Sockets;

wasip3::http::service::export!(Sockets);

impl Guest for Sockets {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let query = |key| http_p3::query(&request, key);
        let mut held = Vec::new();
        for _ in 0..http_p3::number(&request, "hold", 0) {
            match TcpSocket::create(IpAddressFamily::Ipv4) {
                Ok(socket) => held.push(socket),
                Err(error) => return Ok(http_p3::answer(200, format!("error: {error:?}\n"))),
            }
        }
        let outcome = match (query("tcp"), query("udp")) {
            (Some(target), _) => each(&target, connect).await,
            (_, Some(target)) => each(&target, send).await,
            _ if !held.is_empty() => Ok(()),
            _ => return Ok(http_p3::answer(400, "say tcp, udp or hold\n")),
        };
        let text = match outcome {
            Ok(()) => "ok: it went well\n".to_owned(),
            Err(error) => format!("error: {error}\n"),
        };
        Ok(http_p3::answer(200, text))
    }
}

/// Tries every address of the target until one goes well.
async fn each(
    target: &str,
    attempt: impl AsyncFn(SocketAddr) -> Result<(), String>,
) -> Result<(), String> {
    let mut last = Err("no address".to_owned());
    for address in addresses(target).await? {
        last = attempt(address).await;
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn addresses(target: &str) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = target.parse() {
        return Ok(vec![address]);
    }
    let (host, port) = target.rsplit_once(':').ok_or("no port")?;
    let port: u16 = port.parse().map_err(|_| "no port")?;
    let found = resolve_addresses(host.to_owned()).await;
    let found = found.map_err(|error| format!("{error:?}"))?;
    let ip = |address: IpAddress| match address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    };
    Ok(found
        .into_iter()
        .map(|address| SocketAddr::new(ip(address), port))
        .collect())
}

fn lowered(address: SocketAddr) -> (IpAddressFamily, IpSocketAddress) {
    match address {
        SocketAddr::V4(address) => {
            let [a, b, c, d] = address.ip().octets();
            let port = address.port();
            let lowered = Ipv4SocketAddress {
                port,
                address: (a, b, c, d),
            };
            (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(lowered))
        }
        SocketAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.ip().segments();
            let lowered = Ipv6SocketAddress {
                port: address.port(),
                flow_info: address.flowinfo(),
                address: (a, b, c, d, e, f, g, h),
                scope_id: address.scope_id(),
            };
            (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(lowered))
        }
    }
}

async fn connect(address: SocketAddr) -> Result<(), String> {
    let (family, address) = lowered(address);
    let socket = TcpSocket::create(family).map_err(|error| format!("{error:?}"))?;
    let connected = socket.connect(address).await;
    connected.map_err(|error| format!("{error:?}"))
}

async fn send(address: SocketAddr) -> Result<(), String> {
    let (family, address) = lowered(address);
    let socket = UdpSocket::create(family).map_err(|error| format!("{error:?}"))?;
    let sent = socket.send(b"ping".to_vec(), Some(address)).await;
    sent.map_err(|error| format!("{error:?}"))
}
