//! NATS with JetStream.

use std::process::Command;

use crate::process::{Folder, Kind, Server, command, find, tools};

/// A NATS server with JetStream on disk.
#[derive(Debug)]
pub struct Nats(Server);

impl Nats {
    /// Starts one on a free port.
    pub fn start() -> Self {
        Self(start(nats))
    }

    /// Starts one that asks for the user `shop` and the password `open sesame`.
    pub fn start_with_password() -> Self {
        Self(start(nats_with_password))
    }

    /// The same server behind another port: a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        format!("nats://127.0.0.1:{port}")
    }
}

crate::process::controls!(Nats);

fn start(command: fn(&Folder, u16) -> Command) -> Server {
    Server::start(Kind {
        name: "nats",
        command,
        // It listens when JetStream is there.
        serves: |_| true,
    })
}

fn nats_with_password(folder: &Folder, port: u16) -> Command {
    let mut command = nats(folder, port);
    command.args(["--user", "shop", "--pass", "open sesame"]);
    command
}

fn nats(folder: &Folder, port: u16) -> Command {
    let mut command = command(find("nats-server", &[tools().join("nats/bin")]), None);
    command
        .args([
            "--addr",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--jetstream",
            "--store_dir",
        ])
        .arg(folder.path().join("jetstream"));
    command
}
