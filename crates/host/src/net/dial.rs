//! Dialling: from checked addresses to a connection that takes requests. Nothing else in the product dials for a guest.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hostel_app::limits;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Id};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use wasmtime_wasi_http::Error;

use super::message::Outward;
use super::pool::Server;
use super::tls;
use super::{Network, Outgoing};

/// A connection to a server, which takes one request at a time, or many (HTTP/2).
#[derive(Debug)]
pub(crate) struct Link {
    sender: Sender,
    /// Where it leads: what was checked and dialled.
    pub(super) address: SocketAddr,
    /// The thread whose task drives it.
    pub(super) home: Id,
    driver: Arc<Driver>,
}

#[derive(Debug)]
enum Sender {
    H1(http1::SendRequest<Outward>),
    H2(http2::SendRequest<Outward>),
}

/// The task that moves a connection's bytes. With the last one that needs it the connection is cut: a guest that is gone
/// has nothing left on the network.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request that did not get an answer.
pub(super) struct Unanswered {
    pub(super) error: Error,
    /// The request, where not a byte of it was sent.
    pub(super) unsent: Option<Request<Outward>>,
}

impl Link {
    /// Whether the server is gone.
    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        }
    }

    /// Whether it takes a request now.
    pub(super) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_ready(),
            Sender::H2(sender) => sender.is_ready(),
        }
    }

    /// Whether it takes many at once.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.sender, Sender::H2(_))
    }

    /// The same connection, for another request at the same time.
    pub(super) fn share(&self) -> Option<Self> {
        let Sender::H2(sender) = &self.sender else {
            return None;
        };
        Some(Self {
            sender: Sender::H2(sender.clone()),
            address: self.address,
            home: self.home,
            driver: self.driver.clone(),
        })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Outward>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let sent = match &mut self.sender {
            Sender::H1(sender) => sender.try_send_request(request).await,
            Sender::H2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| Unanswered {
            unsent: error.take_message(),
            error: Error::Hyper(error.into_error()),
        })
    }

    async fn h1(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
    ) -> Result<Self, Error> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(limits::STREAM_CHUNK_BYTES.size())
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Self::driven(Sender::H1(sender), address, connection))
    }

    async fn h2(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
    ) -> Result<Self, Error> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits::H2_STREAM_WINDOW_BYTES.count())
            .initial_connection_window_size(limits::H2_CONNECTION_WINDOW_BYTES.count())
            .max_header_list_size(limits::HEADERS.count())
            .max_send_buf_size(limits::H2_SEND_BUFFER_BYTES.size())
            .keep_alive_interval(limits::H2_KEEPALIVE_MS.duration())
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Self::driven(Sender::H2(sender), address, connection))
    }

    fn driven(
        sender: Sender,
        address: SocketAddr,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Self {
        // How it ends is told to the requests that it carries.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Self {
            sender,
            address,
            home: Handle::current().id(),
            driver: Arc::new(Driver(driver.abort_handle())),
        }
    }
}

impl Network {
    /// Connects to the server at one of its addresses, all of which were checked, each attempt in its app's turn.
    pub(super) async fn connect(
        &self,
        server: &Server,
        addresses: &[SocketAddr],
        patience: Duration,
        guest: &Outgoing,
    ) -> Result<Link, Error> {
        let deadline = Instant::now() + patience;
        let addresses = addresses
            .get(..limits::DIAL_ATTEMPTS.size())
            .unwrap_or(addresses);
        let mut failure = Error::DestinationNotFound;
        for (tried, address) in addresses.iter().enumerate() {
            guest.turn().await?;
            // Each gets its share of what is left, so that one that swallows everything does not hide the others.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            match dial(*address, share).await {
                Ok(stream) => return self.speak(server, stream, *address).await,
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Agrees with the server on how to speak.
    async fn speak(
        &self,
        server: &Server,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<Link, Error> {
        if !server.tls {
            return Link::h1(stream, address).await;
        }
        let stream = self.tls.wrap(stream, &server.host).await?;
        match tls::is_h2(&stream) {
            true => Link::h2(stream, address).await,
            false => Link::h1(stream, address).await,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that dials for guests"
)]
pub(super) async fn dial(address: SocketAddr, patience: Duration) -> Result<TcpStream, Error> {
    let stream = match timeout(patience, TcpStream::connect(address)).await {
        Err(_) => return Err(Error::ConnectionTimeout),
        Ok(connected) => connected.map_err(|error| refused(&error))?,
    };
    // A request is written at once; waiting for more to write only delays it. Where it cannot be set it is slower.
    let _nodelay = stream.set_nodelay(true);
    Ok(stream)
}

fn refused(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::ConnectionReset => Error::ConnectionTerminated,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Error::DestinationIpUnroutable
        }
        _ => Error::DestinationUnavailable,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    const ADDRESS: &str = "192.0.2.1:80";

    /// An idle connection and its other end.
    pub(in super::super) async fn h1() -> (Link, DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        let link = Link::h1(near, ADDRESS.parse().unwrap()).await.unwrap();
        while !link.is_ready() {
            tokio::task::yield_now().await;
        }
        (link, far)
    }

    /// The same of HTTP/2.
    pub(in super::super) async fn h2() -> (Link, DuplexStream) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let link = Link::h2(near, ADDRESS.parse().unwrap()).await.unwrap();
        (link, far)
    }
}
