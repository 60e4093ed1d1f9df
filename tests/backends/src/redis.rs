//! Redis.

use std::process::Command;

use crate::process::{Folder, Server, command, find};

/// A Redis server that writes what it acknowledges to disk.
#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Starts one on a free port.
    pub fn start() -> Self {
        Self(Server::start("redis", redis))
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
