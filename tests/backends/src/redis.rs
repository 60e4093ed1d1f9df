//! Redis.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::process::{Folder, Kind, Server, command, find};

/// A Redis server that writes what it acknowledges to disk.
#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Starts one on a free port.
    pub fn start() -> Self {
        Self(Server::start(Kind {
            name: "redis",
            command: redis,
            serves,
        }))
    }

    /// The same server behind another port: a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        format!("redis://127.0.0.1:{port}/0")
    }
}

crate::process::controls!(Redis);

fn redis(folder: &Folder, port: u16) -> Command {
    let mut command = command(find("redis-server", &[]), None);
    command
        .args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--save",
            "",
        ])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(folder.path());
    command
}

/// It listens before it has read its file, and answers with an error until then.
fn serves(mut socket: TcpStream) -> bool {
    let mut answer = [0];
    let asked = socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .and_then(|()| socket.write_all(b"PING\r\n"))
        .and_then(|()| socket.read_exact(&mut answer));
    asked.is_ok() && answer == *b"+"
}
