//! Each server starts, keeps its data over a crash, and fails as the proxy is told.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Mode, Nats, Postgres, Proxy, Redis, S3};

/// Sends a line, and gives what comes back until there is an end, an error, or enough.
fn say(port: u16, line: &str) -> Result<String, std::io::Error> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.write_all(line.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.ends_with(b"\r\n") {
        match socket.read(&mut buffer)? {
            0 => break,
            length => answer.extend_from_slice(&buffer[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn redis_keeps_what_it_acknowledged_over_a_crash() {
    let mut redis = Redis::start();
    assert_eq!(say(redis.port(), "SET a 1\r\n").unwrap(), "+OK\r\n");
    redis.restart();
    assert_eq!(say(redis.port(), "GET a\r\n").unwrap(), "$1\r\n1\r\n");
    redis.kill();
    assert!(say(redis.port(), "PING\r\n").is_err());
}

#[test]
fn nats_has_jetstream() {
    let nats = Nats::start();
    let hello = say(nats.port(), "").unwrap();
    assert!(hello.contains("\"jetstream\":true"), "{hello}");
}

#[test]
fn postgres_accepts_connections_after_a_crash() {
    let mut postgres = Postgres::start();
    assert!(postgres.url().contains(postgres.password()));
    postgres.restart();
    // The server's answer to somebody who asks for TLS: it has none.
    let mut socket = TcpStream::connect(("127.0.0.1", postgres.port())).unwrap();
    socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"N");
}

#[test]
fn s3_answers_and_can_be_away() {
    let mut s3 = S3::start();
    let get = "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
    assert!(
        say(s3.port(), get).unwrap().starts_with("HTTP/1.1 403"),
        "it knows nobody without a key"
    );
    s3.kill();
    assert!(say(s3.port(), get).is_err());
    s3.restart();
    assert!(say(s3.port(), get).is_ok());
    assert!(s3.url().contains(s3.secret()) && s3.folder().join("tests").is_dir());
}

#[test]
fn the_proxy_fails_in_every_way() {
    let redis = Redis::start();
    let mut proxy = Proxy::before(redis.port());
    let port = proxy.port();
    assert_eq!(say(port, "PING\r\n").unwrap(), "+PONG\r\n");
    proxy.set(Mode::ResetAfter(3));
    assert_eq!(
        say(port, "PING\r\n").unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    proxy.set(Mode::Garbage);
    assert!(!say(port, "PING\r\n").unwrap().starts_with('+'));
    proxy.set(Mode::Delay(Duration::from_millis(30)));
    assert_eq!(say(port, "PING\r\n").unwrap(), "+PONG\r\n");
    proxy.set(Mode::Refuse);
    assert_eq!(
        say(port, "PING\r\n").unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    proxy.set(Mode::Silence);
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    socket.write_all(b"PING\r\n").unwrap();
    assert!(socket.read(&mut [0; 8]).is_err(), "nothing comes");
    proxy.set(Mode::Pass);
    assert_eq!(say(port, "PING\r\n").unwrap(), "+PONG\r\n");
    assert!(proxy.accepted() >= 6);
    proxy.cut();
    redis.pause();
    redis.resume();
    assert_eq!(say(redis.port(), "PING\r\n").unwrap(), "+PONG\r\n");
}
