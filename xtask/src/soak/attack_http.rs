//! Clients that are slow, or too many: rows `slowloris`, `slow-body`, `slow-reader` and `descriptors`.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::client::{Client, Lag, PATIENCE, assault, attacker, connect};
use super::judge::{Samples, Verdict, ms};
use super::site::{Part, Site, Target};
use crate::bench::proc;
use crate::bench::server::{Server, pause};

/// How long after its start a connection of a slow client may be open, and how many of them must be closed by then.
const CLOSED_WITHIN: Duration = Duration::from_secs(11);
const CLOSED_SHARE: f64 = 0.999;

/// What one slow connection may cost the process.
const BYTES_EACH_MAX: i64 = 64 << 10;

const SLOW_HEADS: u64 = 5_000;
const SLOW_BODIES: u64 = 2_000;
const SLOW_READERS: u64 = 2_000;
const SLOWLORIS: Duration = Duration::from_secs(60);
const SLOW_BODY: Duration = Duration::from_secs(30);

/// Over how long the connections of an attack are opened.
const OPENING: Duration = Duration::from_secs(5);

/// A client that sends a beginning, then a little now and then.
#[derive(Clone)]
struct Trickle {
    opening: String,
    piece: &'static [u8],
    every: Duration,
    connections: usize,
    lasts: Duration,
}

/// Heads that never end.
pub(super) fn slowloris(site: &Site) -> Result<Verdict> {
    let trickle = Trickle {
        opening: "GET /b/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".to_owned(),
        piece: b"x",
        every: Duration::from_secs(5),
        connections: site.count(SLOW_HEADS) as usize,
        lasts: lasting(site, SLOWLORIS),
    };
    let mut target = site.serve(&[])?;
    slow(site, &mut target, &trickle)
}

/// Bodies that never end.
pub(super) fn slow_body(site: &Site) -> Result<Verdict> {
    let trickle = Trickle {
        opening: "POST /a/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
            .to_owned(),
        piece: b"x",
        every: Duration::from_secs(2),
        connections: site.count(SLOW_BODIES) as usize,
        lasts: lasting(site, SLOW_BODY),
    };
    let limits = "concurrency = 512\ndeadline = \"2m\"";
    let mut target = site.serve(&[Part::new("a", "stream-in-p2", limits)])?;
    slow(site, &mut target, &trickle)
}

/// The time of an attack: never so short that no connection could be seen to be closed.
fn lasting(site: &Site, full: Duration) -> Duration {
    site.time(full).max(CLOSED_WITHIN + OPENING)
}

fn slow(site: &Site, target: &mut Target, trickle: &Trickle) -> Result<Verdict> {
    let (held, (lives, bytes, descriptors)) = site.under_attack(target, |target| {
        let before = target.rested()?;
        proc::forget_peak(target.pid)?;
        let lives = assault(drip(target.address, trickle.clone()))?;
        let peak = proc::peak_bytes(target.pid)?;
        Ok((
            lives,
            peak as i64 - before as i64,
            proc::descriptors(target.pid)?,
        ))
    })?;
    let each = bytes / trickle.connections as i64;
    let closed = share(lives.closed.count() as u64, lives.judged());
    let mut verdict = Verdict::default();
    verdict.figure("connections_at_once", trickle.connections);
    verdict.figure("connections", lives.judged());
    verdict.figure("closed_in_time", closed);
    verdict.figure("closed_p50_ms", ms(lives.closed.percentile(0.5)));
    verdict.figure("closed_worst_ms", ms(lives.closed.worst()));
    verdict.figure("late_worst_ms", ms(lives.late.worst()));
    verdict.figure("client_lag_worst_ms", ms(lives.lag));
    verdict.figure("refused_to_connect", lives.refused);
    verdict.figure("bytes_each", each);
    verdict.figure("descriptors_after", descriptors);
    verdict.holds(&held);
    verdict.require(closed >= CLOSED_SHARE && lives.judged() > 0, || {
        format!(
            "{} of {} connections were open after {CLOSED_WITHIN:?}",
            lives.late.count(),
            lives.judged()
        )
    });
    verdict.require(each <= BYTES_EACH_MAX, || {
        format!("{each} bytes for each connection")
    });
    Ok(verdict)
}

/// The share of `part` in `all`, cut to four digits so that it is never rounded up to a pass.
fn share(part: u64, all: u64) -> f64 {
    (part as f64 / all.max(1) as f64 * 1e4).floor() / 1e4
}

/// How long connections lived.
#[derive(Default)]
struct Lives {
    /// Those closed in time.
    closed: Samples,
    /// Those still open when they should have been closed.
    late: Samples,
    refused: u64,
    /// How late the client itself was at worst: so much of a life may be its own.
    lag: Duration,
}

impl Lives {
    fn judged(&self) -> u64 {
        (self.closed.count() + self.late.count()) as u64
    }
}

async fn drip(target: SocketAddr, trickle: Trickle) -> Result<Lives> {
    let until = Instant::now() + trickle.lasts;
    let mut tasks = JoinSet::new();
    for number in 0..trickle.connections {
        let trickle = trickle.clone();
        let delay = OPENING.mul_f64(number as f64 / trickle.connections as f64);
        tasks.spawn(async move {
            sleep(delay).await;
            let mut lives = Lives::default();
            while Instant::now() < until {
                if live(target, number, &trickle, until, &mut lives)
                    .await
                    .is_err()
                {
                    lives.refused += 1;
                    sleep(trickle.every).await;
                }
            }
            lives
        });
    }
    let lag = Lag::watch();
    let mut all = Lives::default();
    while let Some(done) = tasks.join_next().await {
        let lives = done?;
        all.closed.merge(lives.closed);
        all.late.merge(lives.late);
        all.refused += lives.refused;
    }
    all.lag = lag.worst();
    Ok(all)
}

/// One connection, from its start until the server closes it or the time is over.
async fn live(
    target: SocketAddr,
    number: usize,
    trickle: &Trickle,
    until: Instant,
    lives: &mut Lives,
) -> std::io::Result<()> {
    let mut stream = timeout(PATIENCE, connect(attacker(number), target, None)).await??;
    let began = Instant::now();
    stream.write_all(trickle.opening.as_bytes()).await.ok();
    let mut piece = [0; 512];
    loop {
        if Instant::now() >= until {
            // Younger than the bound, it says nothing.
            if began.elapsed() > CLOSED_WITHIN {
                lives.late.add(began.elapsed(), None);
            }
            return Ok(());
        }
        match timeout(trickle.every, stream.read(&mut piece)).await {
            Ok(Ok(0) | Err(_)) => break,
            // An answer: the end will follow.
            Ok(Ok(_)) => {}
            Err(_) => {
                if stream.write_all(trickle.piece).await.is_err() {
                    break;
                }
            }
        }
    }
    let lived = began.elapsed();
    // Refused at once, for want of a permit: to come back as fast as one can would be another attack.
    sleep(trickle.every.saturating_sub(lived)).await;
    if lived <= CLOSED_WITHIN {
        lives.closed.add(lived, None);
    } else {
        lives.late.add(lived, None);
    }
    Ok(())
}

/// 100 MiB in small pieces: what each connection costs is to be the host's, not the guest's own buffer. A client that is
/// refused for want of a permit is no slow reader, and its connection is to end with its answer.
const LARGE: &str =
    "GET /a/?bytes=104857600&chunk=4096 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// How long slow readers are watched beyond the time that is judged, to see when they are closed.
const WATCHED: Duration = Duration::from_secs(40);

/// Large answers that nobody reads, or only byte by byte.
pub(super) fn slow_reader(site: &Site) -> Result<Verdict> {
    let limits = "concurrency = 512\ndeadline = \"2m\"";
    let mut target = site.serve(&[Part::new("a", "stream-out-p2", limits)])?;
    let connections = site.count(SLOW_READERS) as usize;
    let (held, (open, all_closed, bytes)) = site.under_attack(&mut target, |target| {
        let resident = target.rested()?;
        proc::forget_peak(target.pid)?;
        let (open, all_closed) = assault(read_slowly(target.address, connections))?;
        let bytes = proc::peak_bytes(target.pid)? as i64 - resident as i64;
        Ok((open, all_closed, bytes))
    })?;
    let each = bytes / connections as i64;
    let closed = share(
        (connections as u64).saturating_sub(open),
        connections as u64,
    );
    let mut verdict = Verdict::default();
    verdict.figure("connections", connections);
    verdict.figure("closed_in_time", closed);
    verdict.figure("all_closed_after_ms", json!(all_closed.map(ms)));
    verdict.figure("bytes_each", each);
    verdict.holds(&held);
    verdict.require(closed >= CLOSED_SHARE, || {
        format!("{open} of {connections} connections were open after {CLOSED_WITHIN:?}")
    });
    verdict.require(each <= BYTES_EACH_MAX, || {
        format!("{each} bytes for each connection")
    });
    Ok(verdict)
}

/// Asks for 100 MiB on each connection; half of them read a byte each second, the others nothing. Returns how many are
/// open when the last one is as old as it may become, and after how long all of them were closed.
async fn read_slowly(target: SocketAddr, connections: usize) -> Result<(u64, Option<Duration>)> {
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let delay = OPENING.mul_f64(number as f64 / connections as f64);
        tasks.spawn(async move {
            sleep(delay).await;
            let mut stream = connect(attacker(number), target, Some(4 << 10)).await?;
            stream.write_all(LARGE.as_bytes()).await?;
            let mut byte = [0; 1];
            loop {
                sleep(Duration::from_secs(1)).await;
                if number % 2 == 0 && stream.read(&mut byte).await? == 0 {
                    return std::io::Result::Ok(());
                }
            }
        });
    }
    sleep(OPENING).await;
    let opened = Instant::now();
    sleep(CLOSED_WITHIN).await;
    let left = open_to_attackers(target)?;
    let mut all_closed = None;
    while opened.elapsed() < CLOSED_WITHIN + WATCHED {
        if open_to_attackers(target)? == 0 {
            all_closed = Some(opened.elapsed());
            break;
        }
        sleep(Duration::from_millis(500)).await;
    }
    tasks.abort_all();
    Ok((left, all_closed))
}

/// Connections from attackers that the server holds open. The kernel is asked: a client whose window is full does not see
/// that the server has closed.
fn open_to_attackers(server: SocketAddr) -> Result<u64> {
    let table = fs::read_to_string("/proc/net/tcp").context("/proc/net/tcp cannot be read")?;
    let open = table.lines().skip(1);
    Ok(open.filter(|line| is_attacked(line, server.port())).count() as u64)
}

/// Whether a line of `/proc/net/tcp` is the server's end of an established connection from 127.0.1.x.
fn is_attacked(line: &str, port: u16) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let (Some(local), Some(remote), Some(state)) = (words.next(), words.next(), words.next())
    else {
        return false;
    };
    // Addresses are in the byte order of the machine, ports in that of people.
    let from_attacker = remote.get(2..8) == Some("01007F");
    local.ends_with(&format!(":{port:04X}")) && from_attacker && state == "01"
}

/// Descriptors of the process, connections to it, and how often they come and go.
const DESCRIPTORS: u64 = 256;
const CROWD: u64 = 1_000;
const CYCLES: u64 = 10;

/// How long a crowd stays, and how soon after it the server must serve.
const STAY: Duration = Duration::from_secs(2);
const SERVING: Duration = Duration::from_secs(2);

/// More connections than descriptors.
pub(super) fn descriptors(site: &Site) -> Result<Verdict> {
    let app = site.app(&[])?;
    let up = site.up(&app);
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("ulimit -n {DESCRIPTORS} && exec \"$@\""),
        "sh",
    ]);
    command.arg(up.get_program()).args(up.get_args());
    let mut target = Target::of(Server::start("hostel", command)?)?;
    let crowd = site.count(CROWD).max(2 * DESCRIPTORS) as usize;
    let cycles = site.count(CYCLES);
    let mut times = Vec::new();
    let mut most = 0;
    for _ in 0..cycles {
        let (to, pid) = (target.address, target.pid);
        let (open, time) = assault(async move {
            let mut crowd_of = JoinSet::new();
            for number in 0..crowd {
                crowd_of.spawn(timeout(STAY, connect(attacker(number), to, None)));
            }
            let held = crowd_of.join_all().await;
            sleep(STAY).await;
            let open = proc::descriptors(pid)?;
            drop(held);
            Ok((open, serving(to).await))
        })?;
        most = most.max(open);
        times.push(time);
        target.server.check_alive()?;
    }
    pause(STAY);
    let mut verdict = Verdict::default();
    let worst = times.iter().flatten().max().copied();
    verdict.figure("connections", crowd);
    verdict.figure("cycles", cycles);
    verdict.figure("descriptors_most", most);
    verdict.figure("descriptors_after", proc::descriptors(target.pid)?);
    verdict.figure("serving_worst_ms", json!(worst.map(ms)));
    verdict.require(
        times
            .iter()
            .all(|time| time.is_some_and(|time| time <= SERVING)),
        || format!("serving again after {times:?}"),
    );
    Ok(verdict)
}

/// How long it takes until B is served; `None` where it is not.
async fn serving(target: SocketAddr) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let ask = async {
            let mut client = Client::open(super::probe::SOURCE, target).await.ok()?;
            Some(client.get(super::probe::PATH).await.ok()?.status)
        };
        // A connection that waits in the kernel's queue gets its turn; it is not opened anew all the time.
        if timeout(SERVING, ask).await.ok().flatten() == Some(200) {
            return Some(began.elapsed());
        }
        sleep(Duration::from_millis(20)).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn established_connections_of_attackers_are_told_from_all_others() {
        let line = |local: &str, remote: &str, state: &str| {
            is_attacked(
                &format!("  12: {local} {remote} {state} 00000000:00000000"),
                8080,
            )
        };
        assert!(line("0100007F:1F90", "0501007F:A000", "01"));
        assert!(!line("0100007F:1F91", "0501007F:A000", "01"));
        assert!(!line("0100007F:1F90", "0200007F:A000", "01"));
        assert!(!line("0100007F:1F90", "0501007F:A000", "04"));
        assert!(!is_attacked("", 8080));
    }

    #[test]
    fn an_open_connection_of_an_attacker_is_counted_until_the_server_closes_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client =
            assault(async move { Ok(connect(attacker(1), address, None).await?.into_std()?) });
        let client = client.unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(open_to_attackers(address).unwrap(), 1);
        drop(server);
        assert_eq!(open_to_attackers(address).unwrap(), 0);
        drop(client);
    }

    #[test]
    fn shares_are_never_rounded_up_to_a_pass() {
        assert_eq!(share(10, 10), 1.0);
        assert!(share(99_899, 100_000) < CLOSED_SHARE);
        assert!(share(99_900, 100_000) >= CLOSED_SHARE);
        assert_eq!(share(0, 0), 0.0);
    }
}
