//! Connections that the host makes for a guest that has no sockets of its own, under the rules of those that have: the grants
//! `tcp`, the policy on addresses, and every budget of the network.

use std::net::SocketAddr;

use hostel_app::limits;
use tokio::net::TcpStream;
use wasmtime_wasi::sockets::SocketAddrUse::TcpConnect;

use super::Outgoing;
use super::budget::Lease;
use super::dial::dial;
use super::resolve::Host;
use super::sockets::permits;

/// A connection, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    _lease: Lease,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotConnected {
    /// It is no address, and no name with a port.
    Malformed,
    /// It is not granted, or leads where only the operator lets guests go. The log says what would allow it.
    Denied,
    /// A limit of this name is used up.
    Refused(&'static str),
    /// Nobody answers there, or the name is not known.
    Failed,
}

impl Outgoing {
    /// Connects to `ADDRESS:PORT` or `NAME:PORT`. The addresses of a name are tried one after the other, those that are
    /// granted.
    pub(crate) async fn connect_tcp(&self, place: &str) -> Result<Connection, NotConnected> {
        let (host, port) = parse(place).ok_or(NotConnected::Malformed)?;
        let lease = Lease::open(&self.template).ok_or(NotConnected::Refused("outbound_open"))?;
        let addresses: Vec<SocketAddr> = match host {
            Host::Address(address) => vec![SocketAddr::new(address, port)],
            Host::Name(name) => self.looked_up(&name, port).await?,
        };
        let granted = |address: &&SocketAddr| permits(&self.template.grants, **address, TcpConnect);
        if !addresses.iter().any(|address| granted(&address)) {
            if let Some(address) = addresses.first() {
                self.template.metrics.outbound_denied.add(1);
                self.template.tcp_denied(*address);
            }
            return Err(NotConnected::Denied);
        }
        let mut failed = NotConnected::Failed;
        let patience = self.template.network.network.times.connect;
        let tried = addresses.iter().filter(granted);
        for address in tried.take(limits::DIAL_ATTEMPTS.size()) {
            if let Err(forbidden) = self.judge_socket(*address, TcpConnect) {
                self.template.metrics.outbound_denied.add(1);
                self.tell_socket(*address, TcpConnect, &forbidden);
                failed = NotConnected::Denied;
                continue;
            }
            if !self.start() {
                return Err(NotConnected::Refused("outbound"));
            }
            let turn = self.turn().await;
            turn.map_err(|_| NotConnected::Refused("outbound_rate"))?;
            match dial(*address, patience).await {
                Ok(stream) => {
                    return Ok(Connection {
                        stream,
                        _lease: lease,
                    });
                }
                Err(_) => failed = NotConnected::Failed,
            }
        }
        Err(failed)
    }

    /// The addresses of a name, for guests that have something to reach there.
    async fn looked_up(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, NotConnected> {
        if !self.may_look_up() {
            self.template.metrics.outbound_denied.add(1);
            self.template.tcp_denied(format_args!("ADDRESS:{port}"));
            return Err(NotConnected::Denied);
        }
        if !self.start() {
            return Err(NotConnected::Refused("outbound"));
        }
        let found = self.look_up(name).await;
        let found = found.map_err(|_| NotConnected::Failed)?;
        match found.is_empty() {
            true => Err(NotConnected::Failed),
            false => Ok(found
                .into_iter()
                .map(|ip| SocketAddr::new(ip, port))
                .collect()),
        }
    }
}

fn parse(place: &str) -> Option<(Host, u16)> {
    let (host, port) = place.rsplit_once(':')?;
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port != 0)?;
    Some((Host::parse(host)?, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use hostel_app::limits::Limits;

    use super::super::tests::{grants, operator, outgoing, template};
    use super::*;
    use crate::testing::block_on;

    #[test]
    fn a_place_is_an_address_or_a_name_with_a_port() {
        for text in ["127.0.0.1:80", "[::1]:80", "localhost:65535", "a.example:1"] {
            assert!(parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            ":",
            ":80",
            "localhost",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:0",
            "127.0.0.1:+80",
            "127.0.0.1:65536",
            "127.1:80",
            "::1:80",
            "0x7f.1:80",
            "http://a.example:80",
            "a b:80",
            "a.example:80\0",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_connection_needs_a_grant_and_a_special_address_the_operator_s() {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = peer.local_addr().unwrap().to_string();
        block_on(async {
            let denied = [
                grants("", ""),
                grants("tcp", "127.0.0.1:1"),
                grants("tcp", &place),
            ];
            for grants in denied {
                let told = outgoing(grants).connect_tcp(&place).await.unwrap_err();
                assert_eq!(told, NotConnected::Denied);
            }
            assert!(
                outgoing(operator("tcp", &place))
                    .connect_tcp(&place)
                    .await
                    .is_ok()
            );
        });
        drop(peer);
        let nobody = block_on(outgoing(operator("tcp", &place)).connect_tcp(&place));
        assert_eq!(nobody.unwrap_err(), NotConnected::Failed);
    }

    #[test]
    fn connections_are_counted_as_sockets_are() {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = peer.local_addr().unwrap().to_string();
        let limited = |limits| {
            let mut template = template(operator("tcp", &place));
            template.limits = limits;
            Outgoing::new(&Arc::new(template))
        };
        block_on(async {
            let two = limited(Limits {
                outbound_open: Some(2),
                ..Limits::default()
            });
            let held = [two.connect_tcp(&place).await, two.connect_tcp(&place).await];
            let third = two.connect_tcp(&place).await.unwrap_err();
            assert_eq!(third, NotConnected::Refused("outbound_open"));
            drop(held);
            assert!(two.connect_tcp(&place).await.is_ok());
            let one = limited(Limits {
                outbound: Some(1),
                ..Limits::default()
            });
            assert!(one.connect_tcp(&place).await.is_ok());
            let second = one.connect_tcp(&place).await.unwrap_err();
            assert_eq!(second, NotConnected::Refused("outbound"));
        });
    }
}
