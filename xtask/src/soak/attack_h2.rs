//! Floods over HTTP/2: rows `h2-reset`, `h2-continuation`, `h2-ping`, `h2-settings` and `h2-empty-data`.
//!
//! Frames are written by hand (RFC 9113), since no library would send these. Header fields are literals, never indexed nor
//! compressed (RFC 7541, section 6.2.2). Of what comes back only the kinds of frames are looked at.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::client::{assault, attacker, connect};
use super::judge::{Verdict, mib};
use super::site::{Part, Site};
use crate::bench::proc;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Error code of a stream that its client takes back.
const CANCEL: u32 = 8;

/// The header block of an answer that begins with `:status: 200` (RFC 7541, appendix A).
const STATUS_200: u8 = 0x88;

/// Frames in all, and on one connection, which must end before. Even the last connection of a small run sends as many:
/// a server need not send away who sends less.
const FRAMES: u64 = 100_000;
const FRAMES_EACH: u64 = 10_000;

/// Connections that attack at once.
const CONNECTIONS: usize = 10;

/// Frames written at once.
const BURST: u64 = 100;

/// How soon after the last frame the connection must be over.
const SENT_AWAY: Duration = Duration::from_secs(1);

const GROWTH_BYTES_MAX: i64 = 32 << 20;

/// One kind of flood.
struct Flood {
    /// The first frames of a connection.
    opening: fn() -> Vec<u8>,
    /// The frame, or the frames of one stream, with this number.
    frame: fn(u32) -> Vec<u8>,
}

pub(super) fn reset(site: &Site) -> Result<Verdict> {
    let frame = |number| {
        let stream = 2 * number + 1;
        let taken_back = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        [request(stream, "/a/?ms=1000", END_STREAM), taken_back].concat()
    };
    let opening = Vec::new;
    row(site, Flood { opening, frame })
}

pub(super) fn continuation(site: &Site) -> Result<Verdict> {
    let opening = || frame(HEADERS, 0, 1, &literal("x-first", "1"));
    let frame = |_| frame(CONTINUATION, 0, 1, &literal("x-more", &"x".repeat(64)));
    row(site, Flood { opening, frame })
}

pub(super) fn ping(site: &Site) -> Result<Verdict> {
    let frame = |number: u32| frame(PING, 0, 0, &u64::from(number).to_be_bytes());
    let opening = Vec::new;
    row(site, Flood { opening, frame })
}

pub(super) fn settings(site: &Site) -> Result<Verdict> {
    let frame = |_| frame(SETTINGS, 0, 0, &[]);
    let opening = Vec::new;
    row(site, Flood { opening, frame })
}

pub(super) fn empty_data(site: &Site) -> Result<Verdict> {
    let opening = || {
        let pseudo = pseudo("POST", "/in/");
        frame(HEADERS, END_HEADERS, 1, &pseudo)
    };
    let frame = |_| frame(DATA, 0, 1, &[]);
    row(site, Flood { opening, frame })
}

/// What became of the connections of a flood.
#[derive(Debug, Default)]
struct Flooded {
    sent: u64,
    connections: u64,
    goaway: u64,
    /// Ended without a GOAWAY.
    closed: u64,
    /// Still open a second after the last frame.
    open: u64,
}

fn row(site: &Site, flood: Flood) -> Result<Verdict> {
    let mut target = site.serve(&[
        Part::new("a", "slow-p2", ""),
        Part::new("in", "stream-in-p2", ""),
    ])?;
    let frames = site.count(FRAMES);
    let (held, (flooded, growth)) = site.under_attack(&mut target, |target| {
        let before = target.rested()?;
        proc::forget_peak(target.pid)?;
        let flooded = assault(run(target.address, flood, frames))?;
        Ok((
            flooded,
            proc::peak_bytes(target.pid)? as i64 - before as i64,
        ))
    })?;
    let mut verdict = Verdict::default();
    verdict.figure("frames", flooded.sent);
    verdict.figure("connections", flooded.connections);
    verdict.figure("goaway", flooded.goaway);
    verdict.figure("closed", flooded.closed);
    verdict.figure("left_open", flooded.open);
    verdict.figure("growth_mib", mib(growth));
    verdict.holds(&held);
    // A GOAWAY may be lost where the server closes while more is on its way to it (RFC 9113, section 6.8).
    verdict.require(flooded.open == 0 && flooded.goaway > 0, || {
        format!(
            "{} of {} connections were left open, {} were sent away",
            flooded.open, flooded.connections, flooded.goaway
        )
    });
    verdict.require(growth <= GROWTH_BYTES_MAX, || {
        format!("memory grew by {} MiB", mib(growth))
    });
    Ok(verdict)
}

async fn run(target: SocketAddr, flood: Flood, frames: u64) -> Result<Flooded> {
    let mut all = Flooded::default();
    let flood = std::sync::Arc::new(flood);
    let mut tasks = JoinSet::new();
    let share = frames.div_ceil(CONNECTIONS as u64);
    for number in 0..CONNECTIONS {
        let flood = flood.clone();
        tasks.spawn(async move {
            let mut own = Flooded::default();
            while own.sent < share {
                if one(target, number, &flood, &mut own).await.is_err() {
                    // Turned away before it began; a moment later there may be a seat.
                    sleep(Duration::from_millis(20)).await;
                }
            }
            own
        });
    }
    while let Some(done) = tasks.join_next().await {
        let own = done?;
        all.sent += own.sent;
        all.connections += own.connections;
        all.goaway += own.goaway;
        all.closed += own.closed;
        all.open += own.open;
    }
    Ok(all)
}

/// One connection: floods until it is over or all frames are sent, then waits for its end.
async fn one(
    target: SocketAddr,
    number: usize,
    flood: &Flood,
    all: &mut Flooded,
) -> std::io::Result<()> {
    let stream = timeout(Duration::from_secs(5), open(target, number)).await??;
    all.connections += 1;
    let (mut reader, mut writer) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut frames = Frames::default();
        let mut goaway = false;
        while let Some((kind, ..)) = frames.next(&mut reader).await {
            goaway |= kind == GOAWAY;
        }
        goaway
    });
    writer.write_all(&(flood.opening)()).await.ok();
    let mut sent = 0;
    while sent < FRAMES_EACH && !reading.is_finished() {
        let burst: Vec<u8> = (sent..sent + BURST)
            .flat_map(|number| (flood.frame)(number as u32))
            .collect();
        sent += BURST;
        // A server that reads no more and does not close would hold the flood up for ever.
        let written = timeout(SENT_AWAY, writer.write_all(&burst)).await;
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    all.sent += sent;
    let abort = reading.abort_handle();
    match timeout(SENT_AWAY, reading).await {
        Ok(Ok(true)) => all.goaway += 1,
        Ok(_) => all.closed += 1,
        Err(_) => {
            abort.abort();
            all.open += 1;
        }
    }
    Ok(())
}

/// A connection that has said its preface.
async fn open(target: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let mut stream = connect(attacker(number), target, None).await?;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let hello = [preface, frame(SETTINGS, 0, 0, &[])].concat();
    stream.write_all(&hello).await?;
    Ok(stream)
}

/// Keeps `streams` requests in flight on one connection until the time is over; how many were answered 200, and how many
/// otherwise.
pub(super) async fn ask_streams(
    target: SocketAddr,
    path: &str,
    streams: u32,
    until: Instant,
) -> (u64, u64) {
    let mut counts = (0, 0);
    let Ok(stream) = open(target, 0).await else {
        return counts;
    };
    let (mut reader, mut writer) = stream.into_split();
    let first: Vec<u8> = (0..streams)
        .flat_map(|number| request(2 * number + 1, path, END_STREAM))
        .collect();
    let mut next = 2 * streams + 1;
    let mut frames = Frames::default();
    let asking = async {
        writer.write_all(&first).await.ok()?;
        while let Some((kind, flags, payload)) = frames.next(&mut reader).await {
            if kind == SETTINGS && flags & ACK == 0 {
                writer.write_all(&frame(SETTINGS, ACK, 0, &[])).await.ok()?;
            }
            if kind != HEADERS {
                continue;
            }
            if payload.first() == Some(&STATUS_200) {
                counts.0 += 1;
            } else {
                counts.1 += 1;
            }
            let again = request(next, path, END_STREAM);
            writer.write_all(&again).await.ok()?;
            next += 2;
        }
        Some(())
    };
    let left = until.saturating_duration_since(Instant::now());
    timeout(left, asking).await.ok();
    counts
}

/// Cuts what is received into frames.
#[derive(Default)]
struct Frames(Vec<u8>);

impl Frames {
    /// The next frame: kind, flags, payload; `None` at the end of the connection.
    async fn next(
        &mut self,
        reader: &mut (impl AsyncReadExt + Unpin),
    ) -> Option<(u8, u8, Vec<u8>)> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            match reader.read_buf(&mut self.0).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    fn take(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let [a, b, c, kind, flags, ..] = *self.0.as_slice() else {
            return None;
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = self.0.get(9..9 + length)?.to_vec();
        self.0.drain(..9 + length);
        Some((kind, flags, payload))
    }
}

/// A frame as bytes; payloads here are far shorter than 64 KiB.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, d] = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![b, c, d, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    debug_assert_eq!(a, 0, "a frame has at most 24 bits of length");
    bytes
}

/// The HEADERS frame of a GET.
fn request(stream: u32, path: &str, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &pseudo("GET", path))
}

fn pseudo(method: &str, path: &str) -> Vec<u8> {
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", path),
    ];
    fields
        .iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

/// A field without indexing and without compression; both texts are shorter than 127 bytes.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(text.len() as u8);
        bytes.extend(text.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_written_and_read_alike() {
        let bytes = [
            frame(PING, 0, 0, &[1; 8]),
            frame(GOAWAY, 0, 0, &[0; 8]),
            vec![0, 0],
        ]
        .concat();
        let mut frames = Frames(bytes);
        assert_eq!(frames.take(), Some((PING, 0, vec![1; 8])));
        assert_eq!(frames.take(), Some((GOAWAY, 0, vec![0; 8])));
        assert_eq!(frames.take(), None);
        assert_eq!(frames.0, [0, 0]);
    }

    #[test]
    fn a_request_is_one_frame_of_literals() {
        let bytes = request(5, "/a/", END_STREAM);
        assert_eq!(bytes[3..9], [HEADERS, END_STREAM | END_HEADERS, 0, 0, 0, 5]);
        let path = literal(":path", "/a/");
        assert_eq!(path, *b"\0\x05:path\x03/a/");
        assert!(bytes.ends_with(&path));
    }
}
