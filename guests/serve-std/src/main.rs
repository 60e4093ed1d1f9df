//! A service: echoes what each client sends, one client after the other. `serve-std WHERE`: for preview 1 the number of a
//! listening socket that is open already, else the address to listen on.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpListener;

#[cfg(target_env = "p1")]
fn listener(place: &str) -> io::Result<TcpListener> {
    use std::os::fd::FromRawFd;

    let number = place.parse().map_err(io::Error::other)?;
    // SAFETY: nothing else here uses that number.
    Ok(unsafe { TcpListener::from_raw_fd(number) })
}

#[cfg(not(target_env = "p1"))]
fn listener(place: &str) -> io::Result<TcpListener> {
    TcpListener::bind(place)
}

fn main() -> io::Result<()> {
    let place = env::args().nth(1).ok_or(io::ErrorKind::InvalidInput)?;
    let listener = listener(&place)?;
    let mut buffer = [0; 4096];
    loop {
        let (mut stream, _) = listener.accept()?;
        loop {
            // A client that breaks off is no reason to end.
            let Ok(bytes @ 1..) = stream.read(&mut buffer) else {
                break;
            };
            if stream.write_all(&buffer[..bytes]).is_err() {
                break;
            }
        }
    }
}
