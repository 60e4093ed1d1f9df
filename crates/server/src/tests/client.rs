//! A client that sends exactly the bytes it is given. Every read gives up after some seconds, so that a server that
//! says nothing fails a test instead of hanging it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// See the module's documentation.
pub(super) struct Client(TcpStream);

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the client, not the host"
        )]
        let stream = TcpStream::connect(address).unwrap();
        Self::over(stream)
    }

    /// Connects from another address of this machine.
    pub(super) fn connect_from(source: [u8; 4], address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what the server may refuse to take.
    pub(super) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).is_ok()
    }

    pub(super) fn half_close(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// A GET with the given extra field lines (each ending in CR LF).
    pub(super) fn get(&mut self, path: &str, fields: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    }

    /// Exactly so many bytes.
    pub(super) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Up to and with `end`.
    pub(super) fn read_until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            bytes.extend(self.read(1));
        }
        String::from_utf8(bytes).unwrap()
    }

    /// One answer with a `Content-Length`, or without a body.
    pub(super) fn answer(&mut self) -> String {
        let head = self.read_until("\r\n\r\n");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        head + &String::from_utf8(self.read(length)).unwrap()
    }

    /// Everything until the server closes.
    pub(super) fn rest(&mut self) -> String {
        let (bytes, reset) = self.rest_or_reset();
        assert!(!reset, "the server reset the connection after {bytes:?}");
        bytes
    }

    /// Everything until the server closes (`false`) or resets (`true`).
    pub(super) fn rest_or_reset(&mut self) -> (String, bool) {
        let (bytes, reset) = self.rest_or_reset_bytes();
        (String::from_utf8(bytes).unwrap(), reset)
    }

    /// The same for what is no text.
    pub(super) fn rest_or_reset_bytes(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let reset = match self.0.read_to_end(&mut bytes) {
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        };
        (bytes, reset)
    }

    pub(super) fn is_closed(&mut self) -> bool {
        self.rest_or_reset().0.is_empty()
    }
}
