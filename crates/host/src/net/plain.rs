//! One exchange over a TCP connection of the host's own, for an interface whose functions are such exchanges. Grants, budget
//! and operator's policy are those of a socket that the guest connects itself.

use std::io;
use std::net::SocketAddr;

use hostel_app::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use wasmtime_wasi::sockets::SocketAddrUse;

use super::dial;
use crate::state::Host;

impl Host {
    /// Sends one command to a broker that another guest keeps, and waits for its answer where it gives one.
    pub(crate) fn tell_broker(
        &self,
        address: &str,
        command: &str,
        answers: bool,
    ) -> impl Future<Output = io::Result<String>> + Send + use<> {
        let outgoing = self.outgoing().clone();
        let (address, command) = (address.to_owned(), command.to_owned());
        async move {
            let Ok(address) = address.parse::<SocketAddr>() else {
                return Err(io::Error::other(format!(
                    "`{address}` is no address: write IP:PORT"
                )));
            };
            if !outgoing
                .permits_socket(address, SocketAddrUse::TcpConnect)
                .await
            {
                return Err(io::Error::other(format!(
                    "{address} may not be dialled: grant it with tcp = [\"{address}\"]; one that is not of the public \
                     internet only the operator can allow"
                )));
            }
            let patience = limits::BROKER_GUEST_MS.duration();
            let exchange = async {
                let stream = dial::dial(address, patience).await;
                let mut stream = stream.map_err(|error| io::Error::other(format!("{error:?}")))?;
                stream.write_all(command.as_bytes()).await?;
                if !answers {
                    stream.shutdown().await?;
                    return Ok(String::new());
                }
                let mut answer = vec![0; limits::STREAM_CHUNK_BYTES.size()];
                let length = stream.read(&mut answer).await?;
                if length == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                answer.truncate(length);
                String::from_utf8(answer).map_err(|_| io::Error::other("the answer is not UTF-8"))
            };
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            timeout(patience, exchange).await.map_err(late)?
        }
    }
}
