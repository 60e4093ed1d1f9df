//! What guests call: a server of the test's own on this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use super::PATIENCE;

/// Answers every connection in the same way and remembers what it was sent. It lives as long as the test's process.
pub(crate) struct Upstream {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// Reads one HTTP request per connection and answers with this text.
    pub(crate) fn http(text: &'static str) -> Self {
        let answer = format!("HTTP/1.1 203 Fine\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        Self::start(move |mut stream| {
            let request = read_until(&mut stream, |heard| heard.ends_with("\r\n\r\n"));
            // A guest that is not interested in the answer is no failure of this side.
            let _gone = stream.write_all(answer.as_bytes());
            request
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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let notes = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let said = serve(stream);
                notes.lock().unwrap_or_else(PoisonError::into_inner).push(said);
            }
        });
        Self { address, heard }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came over each connection that was served.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
