//! What guests call: a server of the test's own on this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{PATIENCE, eventually};

/// Answers every connection in the same way and remembers what it was sent. It lives as long as the test's process.
pub(crate) struct Upstream {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// Reads one HTTP request per connection and answers with this text.
    pub(crate) fn http(text: &'static str) -> Self {
        let answer = format!(
            "HTTP/1.1 203 Fine\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        Self::start(move |mut stream| {
            let request = read_until(&mut stream, |heard| heard.ends_with("\r\n\r\n"));
            // A guest that is not interested in the answer is no failure of this side.
            let _gone = stream.write_all(answer.as_bytes());
            request
        })
    }

    /// Reads one HTTP request per connection and answers with these bytes.
    pub(crate) fn saying(answer: &'static str) -> Self {
        Self::start(move |mut stream| {
            let request = read_until(&mut stream, |heard| heard.ends_with("\r\n\r\n"));
            let _gone = stream.write_all(answer.as_bytes());
            request
        })
    }

    /// Reads one request per connection, whose body ends with this text, and answers with the status for its number.
    pub(crate) fn taking(
        end: &'static str,
        status: impl Fn(usize) -> u16 + Send + 'static,
    ) -> Self {
        let number = AtomicUsize::default();
        Self::start(move |mut stream| {
            let request = read_until(&mut stream, |heard| heard.ends_with(end));
            let status = status(number.fetch_add(1, Ordering::SeqCst));
            let answer =
                format!("HTTP/1.1 {status} So\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let _gone = stream.write_all(answer.as_bytes());
            request
        })
    }

    /// Answers request after request on each connection with this text.
    pub(crate) fn keeping(text: &'static str) -> Self {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        Self::serving(move |stream, _| {
            let (mut stream, answer) = (stream, answer.clone());
            std::thread::spawn(move || {
                let whole = |heard: &str| heard.ends_with("\r\n\r\n");
                while whole(&read_until(&mut stream, whole)) {
                    let _gone = stream.write_all(answer.as_bytes());
                }
            });
        })
    }

    /// Sends everything back in capital letters once the other side has stopped sending.
    pub(crate) fn tcp() -> Self {
        Self::start(|mut stream| {
            let heard = read_until(&mut stream, |_| false);
            let _gone = stream.write_all(heard.to_uppercase().as_bytes());
            heard
        })
    }

    fn start(serve: impl Fn(TcpStream) -> String + Send + 'static) -> Self {
        Self::serving(move |stream, notes| {
            let said = serve(stream);
            let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.push(said);
        })
    }

    fn serving(serve: impl Fn(TcpStream, &Mutex<Vec<String>>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let (notes, count) = (heard.clone(), connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                serve(stream, &notes);
            }
        });
        Self {
            address,
            heard,
            connections,
        }
    }

    /// How often somebody connected.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came over each connection that was served.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Reads until `enough`, or until the other side stops sending.
fn read_until(stream: &mut TcpStream, enough: impl Fn(&str) -> bool) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut heard = String::new();
    let mut piece = [0; 4096];
    while !enough(&heard) {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(length) => heard.push_str(&String::from_utf8_lossy(&piece[..length])),
        }
    }
    heard
}

/// A UDP socket that waits for one datagram.
pub(crate) fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket
}

/// A server that answers only when it is told to: while it keeps a guest waiting, the guest's call is in flight.
pub(crate) struct Held(TcpListener);

/// One request that a guest is waiting for.
pub(crate) struct Call(TcpStream);

impl Held {
    /// Listens.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        Self(listener)
    }

    /// The query of a request that makes `outgoing-p2` or `-p3` call this server.
    pub(crate) fn query(&self) -> String {
        format!("/?url=http://{}/", self.0.local_addr().expect("an address"))
    }

    /// Waits for the next guest.
    pub(crate) fn accept(&self) -> Call {
        let (stream, _) = eventually("a guest calls", || self.0.accept().ok());
        stream.set_nonblocking(false).expect("a socket");
        Call(stream)
    }
}

impl Call {
    /// Reads the request and answers it.
    pub(crate) fn answer(mut self, text: &str) {
        // An answer that comes before its request breaks the protocol, and closing with unread bytes would reset the
        // connection before the answer is read.
        let _request = read_until(&mut self.0, |heard| heard.contains("\r\n\r\n"));
        let length = text.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
        );
        self.0
            .write_all(answer.as_bytes())
            .expect("the guest waits");
    }

    /// Waits until the guest has given up: its end of the connection is closed.
    pub(crate) fn wait_until_abandoned(mut self) {
        self.0.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut piece = [0; 4096];
        loop {
            match self.0.read(&mut piece) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(
                        error.kind(),
                        std::io::ErrorKind::ConnectionReset,
                        "the guest is still there"
                    );
                    return;
                }
            }
        }
    }
}
