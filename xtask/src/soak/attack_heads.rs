//! Requests that are too much, or that two parsers could read in two ways: rows `heads` and `smuggling`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{Client, assault, attacker, connect};
use super::corpus::{self, Case};
use super::judge::{Verdict, mib};
use super::site::{Part, Site, Target};
use crate::bench::proc;

/// How often each bomb goes off, and how many at once.
const EACH: u64 = 100;
const AT_ONCE: usize = 10;

/// How long a refused connection may stay open, and how long a whole bomb may be written and read.
const CLOSING: Duration = Duration::from_secs(45);

/// What bombs may make the process hold.
const GROWTH_BYTES_MAX: i64 = 32 << 20;

/// What is read of the answers to one case.
const READ_BYTES_MAX: usize = 1 << 20;

/// What a server did with one request, and whatever was behind it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// The statuses of all answers.
    statuses: Vec<u16>,
    closed: bool,
}

impl Seen {
    /// Refused, and nothing behind it was answered.
    fn is_refused(&self) -> bool {
        let refused = |status: &u16| (400..600).contains(status);
        self.closed && self.statuses.len() <= 1 && self.statuses.iter().all(refused)
    }

    /// Answered at most once, and then over.
    fn is_one(&self) -> bool {
        self.closed && self.statuses.len() <= 1
    }
}

impl corpus::Bomb {
    /// Refused; or, where the head was good and the body is the bomb, answered once at most.
    fn is_survived(&self, seen: &Seen) -> bool {
        seen.is_refused() || (self.body && seen.statuses.len() == 1)
    }
}

/// Header, URL, chunk and trailer bombs.
pub(super) fn heads(site: &Site) -> Result<Verdict> {
    let mut target = serve(site)?;
    let each = site.count(EACH);
    let (held, (found, growth)) = site.under_attack(&mut target, |target| {
        let before = target.rested()?;
        proc::forget_peak(target.pid)?;
        let mut found = Vec::new();
        for bomb in corpus::BOMBS {
            found.push((bomb, assault(explode(target.address, bomb, each))?));
        }
        Ok((found, proc::peak_bytes(target.pid)? as i64 - before as i64))
    })?;
    let mut verdict = Verdict::default();
    for (bomb, seen) in found {
        let bad = seen.iter().filter(|seen| !bomb.is_survived(seen)).count();
        let name = bomb.name;
        // Only what the first of them met is shown; all are judged.
        let first = seen.first().map(|seen| json!(seen.statuses));
        let open = seen.iter().filter(|seen| !seen.closed).count();
        verdict.figure(name, json!({"statuses": first, "open": open, "wrong": bad}));
        verdict.require(bad == 0, || {
            format!("{name}: {bad} of {each} were neither refused and closed nor one answer")
        });
    }
    verdict.figure("growth_mib", mib(growth));
    verdict.note(&held);
    verdict.require(growth <= GROWTH_BYTES_MAX, || {
        format!("memory grew by {} MiB", mib(growth))
    });
    Ok(verdict)
}

async fn explode(target: SocketAddr, bomb: &corpus::Bomb, each: u64) -> Result<Vec<Seen>> {
    let bytes: Arc<[u8]> = (bomb.build)().into();
    let mut seen = Vec::new();
    let mut left = each as usize;
    while left > 0 {
        let now = left.min(AT_ONCE);
        let mut tasks = JoinSet::new();
        for number in 0..now {
            tasks.spawn(exchange(target, number, bytes.clone()));
        }
        while let Some(done) = tasks.join_next().await {
            seen.push(done??);
        }
        left -= now;
    }
    Ok(seen)
}

/// Sends everything, as far as it is taken, and reads whatever comes back.
async fn exchange(target: SocketAddr, number: usize, request: Arc<[u8]>) -> std::io::Result<Seen> {
    let stream = connect(attacker(number), target, None).await?;
    let (reader, mut writer) = stream.into_split();
    let writing = tokio::spawn(async move {
        writer.write_all(&request).await.ok();
        // Held until all is read: its end would be told to the server.
        writer
    });
    let mut client = Reader::new(reader);
    let closed = timeout(CLOSING, client.read_all()).await.unwrap_or(false);
    let statuses = client.statuses();
    writing.abort();
    Ok(Seen { statuses, closed })
}

/// Collects what comes until the end, also when it is stopped in the middle.
struct Reader {
    half: tokio::net::tcp::OwnedReadHalf,
    read: Vec<u8>,
}

impl Reader {
    fn new(half: tokio::net::tcp::OwnedReadHalf) -> Reader {
        Reader {
            half,
            read: Vec::new(),
        }
    }

    /// Reads until the end, which it returns, or until a whole good answer is followed by silence.
    async fn read_all(&mut self) -> bool {
        use tokio::io::AsyncReadExt;
        while self.read.len() < READ_BYTES_MAX {
            let wait = if self.statuses() == [200] {
                QUIET
            } else {
                CLOSING
            };
            match timeout(wait, self.half.read_buf(&mut self.read)).await {
                Ok(Ok(0) | Err(_)) => return true,
                Ok(Ok(_)) => {}
                Err(_) => return false,
            }
        }
        false
    }

    fn statuses(&self) -> Vec<u16> {
        statuses(&self.read)
    }
}

/// After a good answer, silence this long means that nothing more is answered.
const QUIET: Duration = Duration::from_millis(300);

/// The status of every answer in what was received. Guests here never write such a line into a body.
fn statuses(received: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(received);
    let answers = text.split("HTTP/1.1 ").skip(1);
    answers
        .filter_map(|answer| answer.get(..3)?.parse().ok())
        .collect()
}

/// The corpus of requests with two readings.
pub(super) fn smuggling(site: &Site) -> Result<Verdict> {
    let mut target = serve(site)?;
    let cases = corpus::smuggling();
    let (held, found) = site.under_attack(&mut target, |target| {
        assault(smuggle(target.address, cases.clone()))
    })?;
    let mut verdict = Verdict::default();
    let mut good = 0_u64;
    for (case, seen) in &found {
        let right = match case.expected {
            corpus::Expected::Refused => seen.is_refused(),
            corpus::Expected::AtMostOne => seen.is_one(),
            corpus::Expected::Two => seen.statuses == [200, 200],
        };
        good += u64::from(right);
        verdict.require(right, || format!("{:?} gave {seen:?}", case.request));
    }
    verdict.figure("cases", found.len());
    verdict.figure("good", good);
    verdict.note(&held);
    Ok(verdict)
}

async fn smuggle(target: SocketAddr, cases: Vec<Case>) -> Result<Vec<(Case, Seen)>> {
    let mut found = Vec::new();
    for case in cases {
        let mut client = Client::open(attacker(found.len()), target).await?;
        client.send(case.request.as_bytes()).await.ok();
        // Cases that are read as two requests keep their connection: its end is asked for.
        let (seen, closed) = match case.expected {
            corpus::Expected::Two => {
                let both = async { [client.answer().await, client.answer().await] };
                let both = timeout(CLOSING, both).await;
                let answers = both.into_iter().flatten().flatten();
                (answers.map(|answer| answer.status).collect(), false)
            }
            _ => {
                // What had come is there also where the end did not come in time.
                let end = timeout(CLOSING, client.collect(READ_BYTES_MAX)).await;
                (statuses(client.unread()), end.is_ok())
            }
        };
        let statuses = seen;
        found.push((case, Seen { statuses, closed }));
    }
    Ok(found)
}

/// `/a/` reads bodies to their end; `/b/` is what is smuggled.
fn serve(site: &Site) -> Result<Target> {
    site.serve(&[Part::new("a", "stream-in-p2", "")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_in_what_came_is_seen() {
        let two = b"HTTP/1.1 200 OK\r\n\r\n5\nHTTP/1.1 400 Bad\r\n\r\n";
        assert_eq!(statuses(two), [200, 400]);
        assert!(statuses(b"").is_empty());
    }

    #[test]
    fn refused_is_one_refusal_and_the_end() {
        let seen = |statuses: &[u16], closed| Seen {
            statuses: statuses.to_vec(),
            closed,
        };
        assert!(seen(&[400], true).is_refused() && seen(&[], true).is_refused());
        assert!(!seen(&[400], false).is_refused());
        assert!(!seen(&[400, 200], true).is_refused());
        assert!(!seen(&[200], true).is_refused() && seen(&[200], true).is_one());
        assert!(!seen(&[200, 200], true).is_one());
        let bomb = |body| corpus::Bomb {
            name: "bomb",
            body,
            build: Vec::new,
        };
        assert!(bomb(true).is_survived(&seen(&[200], false)));
        assert!(!bomb(true).is_survived(&seen(&[200, 200], true)));
        assert!(!bomb(true).is_survived(&seen(&[], false)));
        assert!(!bomb(false).is_survived(&seen(&[200], true)));
    }
}
