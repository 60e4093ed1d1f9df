//! Services that accept connections: preview-1 programs on the sockets that the host opened for them, and components that
//! open their own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use super::services::{app, ends_well, listening, logs};
use crate::harness::{PATIENCE, eventually};

const CONNECTIONS: usize = 1000;
const AT_ONCE: usize = 64;

/// Sends a text, ends its half, and returns all that comes back.
fn talk(address: SocketAddr, text: &str) -> String {
    let mut client = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.write_all(text.as_bytes()).expect("to be read");
    client.shutdown(Shutdown::Write).expect("an end");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    answer
}

/// A thousand clients, 64 at a time, each of which gets `expected` or, without it, its own text.
fn crowd(address: SocketAddr, expected: Option<&str>) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= CONNECTIONS {
                        return;
                    }
                    let text = format!("client {number}");
                    assert_eq!(talk(address, &text), expected.unwrap_or(&text));
                }
            });
        }
    });
}

#[test]
fn an_unmodified_preview_1_server_of_others_serves_a_thousand_connections() {
    let settings =
        "listen = [\"127.0.0.1:0\"]\nready = \"accept\"\n[component.job.env]\nLISTEN_FDS = \"1\"";
    let server = app("serve-mio-p1", settings).up();
    let address = listening(&server, 1)[0];
    logs(&server, "service \"job\": ready after ");
    crowd(address, Some("Hello world!\n"));
    server.is_alive("/");
    let stdout = server.stdout();
    eventually("what the last clients said", || {
        let said = stdout.text().matches("Received data: client ").count();
        (said == CONNECTIONS).then_some(())
    });
    drop(server);
}

#[test]
fn the_socket_is_the_descriptor_behind_the_directories() {
    let settings = "listen = [\"127.0.0.1:0\"]\nargs = [\"4\"]\n[component.job.grants]\nfiles = { \"/app\" = { host = \".\" } }";
    let server = app("serve-raw-p1", settings).up();
    let address = listening(&server, 1)[0];
    crowd(address, None);
    ends_well(server);
}

#[test]
fn a_component_listens_where_its_service_says_and_nowhere_else() {
    let free = || {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
        socket.local_addr().expect("an address")
    };
    for guest in ["serve-std-p2", "serve-p3"] {
        let address = free();
        let settings =
            format!("listen = [\"{address}\"]\nready = \"accept\"\nargs = [\"{address}\"]");
        let server = app(guest, &settings).up();
        logs(&server, "service \"job\": ready after ");
        crowd(address, None);
        server.is_alive("/");
        drop(server);
        let elsewhere = free();
        let settings = format!("listen = [\"{address}\"]\nargs = [\"{elsewhere}\"]");
        let server = app(guest, &settings).up();
        logs(&server, "service \"job\": ended with exit code 1");
        assert!(TcpStream::connect_timeout(&elsewhere, PATIENCE).is_err());
        server.is_alive("/");
    }
}
