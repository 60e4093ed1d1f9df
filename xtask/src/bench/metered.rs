//! What a measured server says of its components by itself: its metrics, on an address that the bench has chosen.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// An answer that takes longer has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// What the metrics say of one component.
pub(super) struct Charged {
    pub(super) calls: f64,
    pub(super) cpu_seconds: f64,
}

/// Of all that was counted since the server started.
pub(super) fn charged(metrics: SocketAddr, component: &str) -> Result<Charged> {
    let text = ask(metrics, "/metrics")?;
    let label = format!("component=\"{component}\"");
    let sum = |name: &str| -> f64 {
        let lines = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(&label));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    };
    Ok(Charged {
        calls: sum("hostel_calls_total{"),
        cpu_seconds: sum("hostel_cpu_seconds_total{"),
    })
}

/// The body of the answer to a GET, which has to be 200.
pub(super) fn ask(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: bench\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("an answer without a head")?;
    ensure!(head.contains(" 200 "), "{path}: {head}\n{body}");
    Ok(body.to_owned())
}

/// An address that was free a moment ago.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
