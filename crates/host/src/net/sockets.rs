//! WASI's sockets: which addresses each use of one may have, and how many an app may hold.
//!
//! The sockets are the library's. It asks here before every bind, listen, accept, connect, send and receive, and uses
//! exactly the address that it asked about. Its functions that make and drop a socket are replaced by ones that count.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::result::Result as StdResult;

use hostel_app::Grants;
use hostel_app::grant::AddressGrant;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::sockets as p2;
use wasmtime_wasi::p3::bindings::sockets::types as p3;
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsView};

use super::Outgoing;
use super::budget::Lease;
use super::policy::{self, Forbidden};
use crate::engine::Flavor;
use crate::imports::{WASI_0_2, WASI_0_3};
use crate::state::Host;

/// Gives the guest the sockets that its grants name.
pub(crate) fn allow_sockets(wasi: &mut WasiCtxBuilder, outgoing: &Outgoing) {
    let grants = &outgoing.template.grants;
    let tcp = !grants.tcp.is_empty() || !grants.listen.is_empty();
    let udp = !grants.udp.is_empty() || !grants.listen.is_empty();
    if !tcp && !udp {
        return;
    }
    wasi.allow_tcp(tcp).allow_udp(udp);
    let outgoing = outgoing.clone();
    wasi.socket_addr_check(move |address, usage| {
        let outgoing = outgoing.clone();
        Box::pin(async move { outgoing.permits_socket(address, usage).await })
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
pub(super) fn permits(grants: &Grants, address: SocketAddr, usage: SocketAddrUse) -> bool {
    let any = |list: &[AddressGrant]| list.iter().any(|grant| grant.permits(address));
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

impl Outgoing {
    /// Whether a socket may be used so; what counts is counted.
    pub(super) async fn permits_socket(&self, address: SocketAddr, usage: SocketAddrUse) -> bool {
        let denied = &self.template.metrics.outbound_denied;
        if !permits(&self.template.grants, address, usage) {
            denied.add(1);
            return false;
        }
        if let Err(forbidden) = self.judge_socket(address, usage) {
            denied.add(1);
            self.tell_socket(address, usage, &forbidden);
            return false;
        }
        if is_counted(address, usage) && !self.start() {
            return false;
        }
        if let (SocketAddrUse::TcpListen, Some(life)) = (usage, &self.template.life) {
            life.listens();
        }
        !matches!(usage, SocketAddrUse::TcpConnect) || self.turn().await.is_ok()
    }

    /// Whether the address of a peer may be reached, or heard where nobody may come in who is not called.
    pub(super) fn judge_socket(
        &self,
        address: SocketAddr,
        usage: SocketAddrUse,
    ) -> StdResult<(), Forbidden> {
        let grants = &self.template.grants;
        let own = match usage {
            SocketAddrUse::TcpConnect => &grants.operator.tcp,
            SocketAddrUse::UdpSend => &grants.operator.udp,
            SocketAddrUse::UdpReceive if grants.listen.is_empty() => &grants.operator.udp,
            _ => return Ok(()),
        };
        let opened = |ip: IpAddr| {
            let own = own.iter().filter(|grant| grant.permits(address));
            own.flat_map(AddressGrant::networks)
                .any(|network| policy::names(&network, ip))
        };
        self.policy().judge(address.ip(), &opened)
    }

    /// Whether a socket could reach the address at any port: what is not is not among the answers to a look-up.
    pub(crate) fn judge_found(&self, address: IpAddr) -> StdResult<(), Forbidden> {
        let own = &self.template.grants.operator;
        let opened = |ip: IpAddr| {
            let own = own.tcp.iter().chain(&own.udp);
            own.flat_map(AddressGrant::networks)
                .any(|network| policy::names(&network, ip))
        };
        self.policy().judge(address, &opened)
    }

    pub(super) fn tell_socket(
        &self,
        address: SocketAddr,
        usage: SocketAddrUse,
        forbidden: &Forbidden,
    ) {
        let kind = match usage {
            SocketAddrUse::TcpConnect => "tcp",
            SocketAddrUse::UdpSend => "udp",
            _ => return, // what a peer sent is not the guest's doing
        };
        let same = address.ip().to_canonical() == forbidden.address;
        let flag = same.then(|| format!("--grant {kind}={address}"));
        self.tell(&format!("{kind} {address}"), forbidden, flag);
    }
}

/// The sockets that an instance made, by their place in its table.
#[derive(Debug, Default)]
pub(crate) struct Sockets(HashMap<u32, Lease>);

type Store<'a> = StoreContextMut<'a, Host>;

impl Host {
    /// Counts a socket that was made under a lease.
    fn hold<T: 'static>(&mut self, socket: Resource<T>, lease: Lease) -> Resource<T> {
        self.sockets.0.insert(socket.rep(), lease);
        socket
    }

    fn lease(&self) -> Option<Lease> {
        Lease::open(&self.outgoing().template)
    }
}

/// Puts the counting functions in the place of the library's.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>, flavor: Flavor) -> Result<()> {
    linker.allow_shadowing(true);
    let named = |name: &str| format!("wasi:sockets/{name}@{}", WASI_0_2.version);
    p2_tcp(&mut linker.instance(&named("tcp-create-socket"))?)?;
    p2_udp(&mut linker.instance(&named("udp-create-socket"))?)?;
    let tcp = &mut linker.instance(&named("tcp"))?;
    dropped(tcp, "tcp-socket", |host, socket| {
        p2::tcp::HostTcpSocket::drop(&mut host.sockets(), socket)
    })?;
    let udp = &mut linker.instance(&named("udp"))?;
    dropped(udp, "udp-socket", |host, socket| {
        p2::udp::HostUdpSocket::drop(&mut host.sockets(), socket)
    })?;
    if flavor == Flavor::Async {
        let types = &mut linker.instance(&format!("wasi:sockets/types@{}", WASI_0_3.version))?;
        p3_sockets(types)?;
        dropped(types, "tcp-socket", |host, socket| {
            p3::HostTcpSocket::drop(&mut host.sockets(), socket)
        })?;
        dropped(types, "udp-socket", |host, socket| {
            p3::HostUdpSocket::drop(&mut host.sockets(), socket)
        })?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// Drops a socket of one kind.
type Drops<T> = fn(&mut Host, Resource<T>) -> Result<()>;

fn dropped<T: 'static>(
    instance: &mut LinkerInstance<'_, Host>,
    name: &str,
    drops: Drops<T>,
) -> Result<()> {
    let kind = ResourceType::host::<T>();
    instance.resource(name, kind, move |mut store, rep| {
        let host = store.data_mut();
        // Whether it was counted or not: sockets that were accepted are not.
        host.sockets.0.remove(&rep);
        drops(host, Resource::new_own(rep))
    })
}

fn p2_tcp(instance: &mut LinkerInstance<'_, Host>) -> Result<()> {
    use p2::tcp_create_socket::{Host as _, IpAddressFamily};
    instance.func_wrap(
        "create-tcp-socket",
        |mut store: Store<'_>, (family,): (IpAddressFamily,)| {
            let host = store.data_mut();
            let Some(lease) = host.lease() else {
                return Ok((Err(p2::network::ErrorCode::NewSocketLimit),));
            };
            let mut sockets = host.sockets();
            Ok((match sockets.create_tcp_socket(family) {
                Ok(socket) => Ok(host.hold(socket, lease)),
                Err(error) => Err(p2::network::Host::convert_error_code(&mut sockets, error)?),
            },))
        },
    )
}

fn p2_udp(instance: &mut LinkerInstance<'_, Host>) -> Result<()> {
    use p2::udp_create_socket::{Host as _, IpAddressFamily};
    instance.func_wrap_async(
        "create-udp-socket",
        |mut store: Store<'_>, (family,): (IpAddressFamily,)| {
            Box::new(async move {
                let host = store.data_mut();
                let Some(lease) = host.lease() else {
                    return Ok((Err(p2::network::ErrorCode::NewSocketLimit),));
                };
                let mut sockets = host.sockets();
                Ok((match sockets.create_udp_socket(family).await {
                    Ok(socket) => Ok(host.hold(socket, lease)),
                    Err(error) => Err(p2::network::Host::convert_error_code(&mut sockets, error)?),
                },))
            })
        },
    )
}

fn p3_sockets(types: &mut LinkerInstance<'_, Host>) -> Result<()> {
    let too_many = || p3::ErrorCode::Other(Some("the app has too many open sockets".into()));
    types.func_wrap(
        "[static]tcp-socket.create",
        move |mut store: Store<'_>, (family,): (p3::IpAddressFamily,)| {
            let host = store.data_mut();
            let Some(lease) = host.lease() else {
                return Ok((Err(too_many()),));
            };
            let mut sockets = host.sockets();
            Ok((match p3::HostTcpSocket::create(&mut sockets, family) {
                Ok(socket) => Ok(host.hold(socket, lease)),
                Err(error) => Err(p3::Host::convert_error_code(&mut sockets, error)?),
            },))
        },
    )?;
    types.func_wrap_async(
        "[static]udp-socket.create",
        move |mut store: Store<'_>, (family,): (p3::IpAddressFamily,)| {
            Box::new(async move {
                let host = store.data_mut();
                let Some(lease) = host.lease() else {
                    return Ok((Err(too_many()),));
                };
                let mut sockets = host.sockets();
                Ok((
                    match p3::HostUdpSocket::create(&mut sockets, family).await {
                        Ok(socket) => Ok(host.hold(socket, lease)),
                        Err(error) => Err(p3::Host::convert_error_code(&mut sockets, error)?),
                    },
                ))
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{grants, operator, outgoing};
    use super::*;
    use SocketAddrUse::{TcpAccept, TcpBind, TcpConnect, TcpListen, UdpBind, UdpReceive, UdpSend};

    #[test]
    fn what_comes_in_and_what_belongs_to_another_step_is_not_counted() {
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
    fn each_socket_use_needs_its_own_grant() {
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
        assert!(super::permits(&both, peer, UdpReceive));
        assert!(!super::permits(&both, stranger, UdpReceive));
    }

    #[test]
    fn a_special_address_is_reached_only_where_the_operator_names_it() {
        let peer: SocketAddr = "10.0.0.5:53".parse().unwrap();
        let all = [TcpConnect, UdpSend, UdpReceive];
        let reached = |grants| {
            let outgoing = outgoing(grants);
            all.map(|usage| outgoing.judge_socket(peer, usage).is_ok())
        };
        for text in ["10.0.0.5:53", "10.0.0.0/8:*"] {
            assert_eq!(reached(grants("tcp", text)), [false; 3], "a manifest's");
            assert_eq!(reached(operator("tcp", text)), [true, false, false]);
            assert_eq!(reached(operator("udp", text)), [false, true, true]);
        }
        for text in ["*:*", "*:53", "0.0.0.0/0:53", "10.0.0.5:54"] {
            assert_eq!(reached(operator("tcp", text)), [false; 3], "{text}");
        }
        let found = |grants, address: &str| {
            let outgoing = outgoing(grants);
            outgoing.judge_found(address.parse().unwrap()).is_ok()
        };
        assert!(!found(operator("tcp", "*:*"), "10.0.0.5"));
        assert!(found(operator("udp", "10.0.0.0/8:1"), "10.0.0.5"));
        assert!(!found(grants("udp", "10.0.0.0/8:1"), "10.0.0.5"));
        assert!(found(grants("tcp", "*:*"), "1.1.1.1"));
    }

    /// Bytes from a peer that the guest did not call are let in where it may listen.
    #[test]
    fn what_comes_in_is_the_business_of_the_listener() {
        let peer: SocketAddr = "127.0.0.1:53".parse().unwrap();
        let listening = outgoing(grants("listen", "127.0.0.1:*"));
        assert!(listening.judge_socket(peer, UdpReceive).is_ok());
        assert!(listening.judge_socket(peer, UdpSend).is_err());
    }
}
