//! A service: echoes what each client sends, all at once, on a TCP socket of WASI 0.3. `serve-p3 ADDRESS`; ends with its
//! standard input.

use std::net::SocketAddr;

use wasip3::cli::{environment, stdin};
use wasip3::exports::cli::run::Guest;
use wasip3::sockets::types::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket,
};
use wasip3::spawn_local;

struct Serve;

wasip3::cli::command::export!(Serve);

impl Guest for Serve {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let Some(Ok(SocketAddr::V4(address))) = arguments.get(1).map(|text| text.parse()) else {
            return Err(());
        };
        let [a, b, c, d] = address.ip().octets();
        let address = IpSocketAddress::Ipv4(Ipv4SocketAddress {
            port: address.port(),
            address: (a, b, c, d),
        });
        let listen = || -> Result<_, ErrorCode> {
            let socket = TcpSocket::create(IpAddressFamily::Ipv4)?;
            socket.bind(address)?;
            let clients = socket.listen()?;
            Ok((socket, clients))
        };
        let (_socket, mut clients) = listen().map_err(|_| ())?;
        spawn_local(async move {
            while let Some(client) = clients.next().await {
                spawn_local(echo(client));
            }
        });
        let (mut input, _end) = stdin::read_via_stream();
        while input.next().await.is_some() {}
        Ok(())
    }
}

/// What comes goes back as the same stream.
async fn echo(client: TcpSocket) {
    let (received, _end) = client.receive();
    // A client that breaks off is no reason to end.
    let _sent = client.send(received).await;
}
