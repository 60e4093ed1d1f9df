//! Tries a socket through the standard library: connects (`?tcp=IP:PORT`), listens (`?listen=IP:PORT`), sends
//! a datagram (`?udp=IP:PORT`) or resolves a name (`?name=HOST`). Answers `ok:` with what it found, or
//! `error:` with the error's kind and text; the status is 200 either way. `?times=N` does it N times and
//! answers with the last. `?hold=N` makes N UDP sockets first and keeps them meanwhile.

use std::io::{Read, Result, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket,
};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Sockets;

wasip2::http::proxy::export!(Sockets);

impl Guest for Sockets {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let hold = http_p2::number(&request, "hold", 0);
        let held = (0..hold).map(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)));
        let held: Vec<UdpSocket> = match held.collect() {
            Ok(held) => held,
            Err(error) => return http_p2::answer(out, 200, &format!("error: {error}\n")),
        };
        for _ in 1..http_p2::number(&request, "times", 1) {
            drop(act(&request));
        }
        let text = match act(&request) {
            Some(Ok(result)) => format!("ok: {result}\n"),
            Some(Err(error)) => format!("error: {:?}: {error}\n", error.kind()),
            None if !held.is_empty() => "ok: it went well\n".to_owned(),
            None => return http_p2::answer(out, 400, "say tcp, listen, udp, name or hold\n"),
        };
        http_p2::answer(out, 200, &text);
    }
}

/// Does what the query says; `None` where it says nothing.
fn act(request: &IncomingRequest) -> Option<Result<String>> {
    let query = |key| http_p2::query(request, key);
    if let Some(address) = query("tcp") {
        return Some(connect(&address, query("send")));
    }
    if let Some(address) = query("listen") {
        let bound = TcpListener::bind(address).and_then(|socket| socket.local_addr());
        return Some(bound.map(|address| format!("listening on {address}")));
    }
    if let Some(address) = query("udp") {
        return Some(send(&address));
    }
    Some(resolve(&query("name")?))
}

/// Connects; with `?send=TEXT` it then sends the text, closes its side and reads the answer.
fn connect(address: &str, text: Option<String>) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let Some(text) = text else {
        return Ok(format!("connected to {}", stream.peer_addr()?));
    };
    stream.write_all(text.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Sends one datagram from any port.
fn send(address: &str) -> Result<String> {
    let any: IpAddr = match address.parse() {
        Ok(SocketAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    let bytes = socket.send_to(b"ping", address)?;
    Ok(format!("sent {bytes} bytes"))
}

/// The addresses of a name, in the host's order.
fn resolve(name: &str) -> Result<String> {
    let addresses: Vec<String> = (name, 0)
        .to_socket_addrs()?
        .map(|address| address.ip().to_string())
        .collect();
    Ok(addresses.join(" "))
}
