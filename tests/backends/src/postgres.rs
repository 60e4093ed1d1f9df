//! PostgreSQL.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::{Folder, Kind, Server, command, find};

/// The user that the server runs as where the tests are root's, which it refuses to be.
const USER: &str = "postgres";
/// The role's password in every database here.
const PASSWORD: &str = "open-sesame";

/// A PostgreSQL server with an empty database.
#[derive(Debug)]
pub struct Postgres(Server);

impl Postgres {
    /// Makes a cluster and starts it on a free port.
    pub fn start() -> Self {
        Self(Server::start(Kind {
            name: "postgres",
            command: postgres,
            serves,
        }))
    }

    /// The same server behind another port: a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://hostel:{PASSWORD}@127.0.0.1:{port}/postgres")
    }

    /// The role's password, to look for it where it must not be.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }
}

crate::process::controls!(Postgres);

fn postgres(folder: &Folder, port: u16) -> Command {
    let data = folder.path().join("data");
    if !data.exists() {
        make_cluster(folder, &data);
    }
    let mut command = command(program("postgres"), Some(USER));
    command
        .arg("-D")
        .arg(&data)
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-k",
            "",
            "-c",
            "max_connections=60",
        ])
        // What is acknowledged survives the server's death all the same, only not the machine's.
        .args(["-c", "fsync=off"]);
    command
}

/// It listens long before it lets anybody in: while it starts it answers a client's first message with an error, and then
/// with what it wants to know of the client.
fn serves(mut socket: TcpStream) -> bool {
    const VERSION: [u8; 4] = [0, 3, 0, 0];
    let parameters = b"user\0hostel\0database\0postgres\0\0";
    let length = u32::try_from(8 + parameters.len()).expect("a short message");
    let hello = [&length.to_be_bytes()[..], &VERSION, parameters].concat();
    let mut answer = [0];
    let asked = socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .and_then(|()| socket.write_all(&hello))
        .and_then(|()| socket.read_exact(&mut answer));
    asked.is_ok() && answer == *b"R"
}

fn make_cluster(folder: &Folder, data: &PathBuf) {
    let secret = folder.path().join("password");
    std::fs::write(&secret, PASSWORD).expect("a file with the password");
    std::fs::create_dir(data).expect("a folder for the cluster");
    if crate::process::is_root() {
        let status = Command::new("chown")
            .args(["-R", USER])
            .arg(folder.path())
            .status();
        assert!(
            status.expect("chown runs").success(),
            "there is no user {USER}"
        );
    }
    let made = command(program("initdb"), Some(USER))
        .arg("-D")
        .arg(data)
        .args([
            "--username",
            "hostel",
            "--auth",
            "scram-sha-256",
            "--no-sync",
            "--encoding",
            "UTF8",
        ])
        .args(["--locale", "C", "--pwfile"])
        .arg(&secret)
        .stdin(Stdio::null())
        .output()
        .expect("initdb runs");
    assert!(
        made.status.success(),
        "initdb: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}

/// Debian keeps each version's programs in a folder of its own; the newest is taken.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    find(name, &folders)
}
