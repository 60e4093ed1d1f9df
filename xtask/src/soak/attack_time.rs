//! Guests that never end or that nobody waits for any more: rows `loop`, `spin`, `overload` and `disconnect`.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use super::attack_h2;
use super::client::{Client, Lag, PATIENCE, assault, attacker, get};
use super::judge::{Samples, Verdict, ms};
use super::site::{Part, Site};
use crate::bench::server::pause;

/// The deadline of every endless loop.
const DEADLINE: Duration = Duration::from_millis(500);

/// How long after its deadline a loop may be answered.
const LATE: Duration = Duration::from_millis(20);

/// How long after a call its CPU may still be used.
const IDLE_AFTER: Duration = Duration::from_millis(100);

/// The share of one CPU below which a server is idle; B's probe alone uses a few per cent of it.
const IDLE: f64 = 0.25;

/// Calls of each shape of loop.
const LOOPS: u64 = 20;

/// The shapes of endless loops: guest, and request.
const SHAPES: &[(&str, &str)] = &[
    ("loop-p2", ""),
    ("loop-p3", ""),
    ("loop-in-start-p2", ""),
    ("loop-in-realloc-p2", ""),
    ("loop-in-post-return-p2", ""),
    ("loop-across-p2", ""),
];

/// A loop behind the head of an answer: there is no status left to judge, only that it ends.
const AFTER_ANSWER: &[(&str, &str)] = &[("loop-p2", "?when=after-head")];

/// Endless loops end at their deadline.
pub(super) fn endless(site: &Site) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for (guest, query) in SHAPES {
        endless_guest(site, &mut verdict, guest, query, true)?;
    }
    for (guest, query) in AFTER_ANSWER {
        endless_guest(site, &mut verdict, guest, query, false)?;
    }
    endless_command(site, &mut verdict)?;
    Ok(verdict)
}

fn endless_guest(
    site: &Site,
    verdict: &mut Verdict,
    guest: &str,
    query: &str,
    answered: bool,
) -> Result<()> {
    let shape = format!("{guest}{query}");
    if let Err(error) = site.guest(guest) {
        verdict.require(false, || error.to_string());
        return Ok(());
    }
    // The CPU budget is out of the way: it is the deadline that is on trial.
    let limits = format!("deadline = \"{}ms\"\ncpu = \"1m\"", DEADLINE.as_millis());
    let mut target = site.serve(&[Part::new("a", guest, &limits)])?;
    let loops = site.count(LOOPS);
    let path = format!("/a/{query}");
    let (held, (late, wrong, busy)) = site.under_attack(&mut target, |target| {
        let (mut late, mut wrong, mut busy) = (Samples::default(), 0_u64, 0.0_f64);
        for number in 0..loops {
            let (took, status) = one(target.address, number as usize, &path)?;
            late.add(took.saturating_sub(DEADLINE), None);
            wrong += u64::from(status != Some(504));
            let left = (DEADLINE + IDLE_AFTER).saturating_sub(took);
            pause(left.max(IDLE_AFTER));
            busy = busy.max(target.busy(IDLE_AFTER)?);
        }
        Ok((late, wrong, busy))
    })?;
    verdict.figure(
        &shape,
        json!({
            "late_p50_ms": ms(late.percentile(0.5)), "late_worst_ms": ms(late.worst()), "not_504": wrong,
            "busy_after": (busy * 100.0).round() / 100.0, "b_p99_ms": ms(held.loaded.percentile(0.99)),
            "b_failed": held.loaded.failed(),
        }),
    );
    if answered {
        verdict.require(wrong == 0, || {
            format!("{shape}: {wrong} of {loops} were not answered 504")
        });
        verdict.require(late.worst() <= LATE, || {
            format!("{shape}: answered {} ms late", ms(late.worst()))
        });
    }
    verdict.require(busy < IDLE, || {
        format!("{shape}: {busy:.2} of a CPU in use after the end")
    });
    Ok(())
}

/// One request on a fresh connection: how long its answer took, and its status where there was one.
fn one(target: SocketAddr, number: usize, path: &str) -> Result<(Duration, Option<u16>)> {
    assault(async move {
        let mut client = Client::open(attacker(number), target).await?;
        let began = Instant::now();
        let answer = timeout(PATIENCE, client.get(path)).await;
        let status = answer.ok().and_then(|answer| Some(answer.ok()?.status));
        Ok((began.elapsed(), status))
    })
}

/// Core modules of preview 1, under `hostel run`: beside a program that ends at once, in the same run.
fn endless_command(site: &Site, verdict: &mut Verdict) -> Result<()> {
    let folder = site.folder("commands")?;
    let module = |body: &str| format!("(module (memory (export \"memory\") 1) {body})");
    let shapes = [
        ("nothing", "(func (export \"_start\"))"),
        ("core-loop", "(func (export \"_start\") (loop br 0))"),
        (
            "core-loop-in-start",
            "(func (export \"_start\")) (func $f (loop br 0)) (start $f)",
        ),
    ];
    let mut plain = Duration::ZERO;
    for (name, body) in shapes {
        let file = folder.join(format!("{name}.wat"));
        fs::write(&file, module(body))?;
        let mut samples = Samples::default();
        let mut ended_well = 0_u64;
        for _ in 0..=site.count(LOOPS) {
            let began = Instant::now();
            let status = Command::new(&site.binary)
                .arg("run")
                .arg("--data")
                .arg(site.data())
                .args(["--limit", &format!("deadline={}ms", DEADLINE.as_millis())])
                .arg(&file)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .context("the binary could not be started")?;
            samples.add(began.elapsed(), None);
            ended_well += u64::from(status.success());
        }
        if name == "nothing" {
            plain = samples.percentile(0.5);
            continue;
        }
        // The median start is taken off; what starts take longer at times is no lateness of the deadline.
        let late = samples.percentile(0.5).saturating_sub(DEADLINE + plain);
        verdict.figure(
            name,
            json!({"late_p50_ms": ms(late), "ended_well": ended_well}),
        );
        verdict.require(late <= LATE && ended_well == 0, || {
            format!(
                "{name}: ended {} ms late, {ended_well} times as if nothing were wrong",
                ms(late)
            )
        });
    }
    Ok(())
}

/// Spinning calls of A, and for how long.
const SPINNERS: u64 = 256;
const SPINNING: Duration = Duration::from_secs(30);

/// 256 calls that only use CPU, beside B.
pub(super) fn spin(site: &Site) -> Result<Verdict> {
    let calls = site.count(SPINNERS).max(16);
    let limits = format!("deadline = \"10m\"\ncpu = \"10m\"\nconcurrency = {calls}");
    let mut target = site.serve(&[Part::new("a", "loop-p2", &limits)])?;
    let time = site.time(SPINNING);
    let (held, ()) = site.under_attack(&mut target, |target| {
        let to = target.address;
        assault(async move {
            let mut open = Vec::new();
            for number in 0..calls as usize {
                let mut client = timeout(PATIENCE, Client::open(attacker(number), to)).await??;
                client.send(get("/a/").as_bytes()).await?;
                open.push(client);
            }
            sleep(time).await;
            Ok(())
        })
    })?;
    pause(IDLE_AFTER);
    let busy = target.busy(IDLE_AFTER)?;
    let mut verdict = Verdict::default();
    verdict.figure("calls", calls);
    verdict.figure("busy_after", (busy * 100.0).round() / 100.0);
    verdict.holds(&held);
    Ok(verdict)
}

/// Concurrent requests for slow answers: over HTTP/1, leaving seats for those who measure. The rest are streams of one
/// HTTP/2 connection, so that a server which takes 10,000 connections in total has 10,000 requests in flight.
const SLOW_CONNECTIONS: u64 = 9_900;
const SLOW_STREAMS: u64 = 100;

/// How long a slow answer takes, and how long the load lasts.
const SLOW_MS: u64 = 2_000;
const OVERLOAD: Duration = Duration::from_secs(30);

/// The longest wait of the component, and what the client's own work may add to what it sees of it.
const QUEUE_WAIT: Duration = Duration::from_secs(1);
const CLIENT_SLACK: Duration = Duration::from_millis(500);

/// How soon after the load the first good answer must come.
const RECOVERED: Duration = Duration::from_millis(100);

/// More requests than slots.
pub(super) fn overload(site: &Site) -> Result<Verdict> {
    let limits = "concurrency = 10000\nqueue_depth = 100000\nqueue_wait = \"1s\"";
    let mut target = site.serve(&[Part::new("a", "slow-p2", limits)])?;
    let connections = site.count(SLOW_CONNECTIONS) as usize;
    let streams = site.count(SLOW_STREAMS) as u32;
    // Shorter, nobody would live to see an answer.
    let time = site.time(OVERLOAD).max(Duration::from_millis(3 * SLOW_MS));
    let (held, (seen, recovered)) = site.under_attack(&mut target, |target| {
        assault(pile_up(target.address, connections, streams, time))
    })?;
    let mut verdict = Verdict::default();
    verdict.figure("connections", connections);
    verdict.figure("streams", streams);
    verdict.figure("answered", seen.good.count());
    verdict.figure("refused", seen.refused.count());
    verdict.figure("refused_p50_ms", ms(seen.refused.percentile(0.5)));
    verdict.figure("refused_p99_ms", ms(seen.refused.percentile(0.99)));
    verdict.figure("refused_worst_ms", ms(seen.refused.worst()));
    verdict.figure("streams_answered", seen.streams.0);
    verdict.figure("streams_refused", seen.streams.1);
    verdict.figure("wrong", json!(seen.wrong.failures()));
    verdict.figure("recovered_ms", json!(recovered.map(ms)));
    verdict.figure("client_lag_worst_ms", ms(seen.lag));
    verdict.note(&held);
    verdict.require(seen.good.count() > 0, || "nobody was answered".to_owned());
    verdict.require(seen.wrong.failed() == 0, || {
        format!(
            "{} neither answered nor refused with Retry-After",
            seen.wrong.failed()
        )
    });
    let waited = seen.refused.percentile(0.99);
    verdict.require(waited <= QUEUE_WAIT + CLIENT_SLACK, || {
        format!("refusals took {} ms (p99)", ms(waited))
    });
    verdict.require(recovered.is_some_and(|time| time <= RECOVERED), || {
        format!("first good answer {recovered:?} after the load")
    });
    Ok(verdict)
}

/// What slow requests came to.
#[derive(Default)]
struct Slow {
    good: Samples,
    /// 503 with Retry-After.
    refused: Samples,
    wrong: Samples,
    /// On the HTTP/2 connection: answered, refused.
    streams: (u64, u64),
    /// How late the client itself was at worst.
    lag: Duration,
}

/// The load, and how long after it the first good answer came.
async fn pile_up(
    target: SocketAddr,
    connections: usize,
    streams: u32,
    time: Duration,
) -> Result<(Slow, Option<Duration>)> {
    let until = Instant::now() + time;
    let lag = Lag::watch();
    let path = format!("/a/?ms={SLOW_MS}");
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        tasks.spawn(slow_requests(target, number, path.clone(), until));
    }
    let mut seen = Slow {
        streams: attack_h2::ask_streams(target, &path, streams, until).await,
        ..Slow::default()
    };
    while let Some(done) = tasks.join_next().await {
        let slow = done?;
        seen.good.merge(slow.good);
        seen.refused.merge(slow.refused);
        seen.wrong.merge(slow.wrong);
    }
    seen.lag = lag.worst();
    Ok((seen, first_good(target, "/a/?ms=0").await))
}

/// One connection that asks until the time is over, and then leaves whatever is on its way.
async fn slow_requests(target: SocketAddr, number: usize, path: String, until: Instant) -> Slow {
    let mut slow = Slow::default();
    let mut client = None;
    while Instant::now() < until {
        let began = Instant::now();
        let exchange = async {
            let mut open = match client.take() {
                Some(open) => open,
                None => Client::open(attacker(number), target).await?,
            };
            // What the connection took is no wait of the server's queue.
            let began = Instant::now();
            let answer = open.get(&path).await?;
            Ok::<_, std::io::Error>((open, answer, began.elapsed()))
        };
        let Ok(outcome) = timeout(until - began, exchange).await else {
            break;
        };
        match outcome {
            Ok((open, answer, took)) => {
                match (answer.status, answer.field("retry-after")) {
                    (200, _) => slow.good.add(took, None),
                    (503, Some(_)) => slow.refused.add(took, None),
                    (503, None) => slow
                        .wrong
                        .add(took, Some("503 without retry-after".to_owned())),
                    (status, _) => slow.wrong.add(took, Some(format!("status {status}"))),
                }
                if answer.field("connection") != Some("close") {
                    client = Some(open);
                }
                if answer.status != 200 {
                    // As a client that heeds Retry-After.
                    sleep(QUEUE_WAIT).await;
                }
            }
            Err(error) => {
                slow.wrong
                    .add(began.elapsed(), Some(error.kind().to_string()));
                sleep(QUEUE_WAIT).await;
            }
        }
    }
    slow
}

/// How long it takes until a request succeeds; `None` where none does.
async fn first_good(target: SocketAddr, path: &str) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let ask = async {
            let mut client = Client::open(attacker(0), target).await.ok()?;
            Some(client.get(path).await.ok()?.status)
        };
        if timeout(QUEUE_WAIT, ask).await.ok().flatten() == Some(200) {
            return Some(began.elapsed());
        }
        sleep(Duration::from_millis(5)).await;
    }
    None
}

/// Clients that leave in the middle of a call, in batches as large as the component has permits.
const LEAVERS: u64 = 1_000;
const BATCH: usize = 100;

/// How soon after its client left a guest must be gone.
const CANCELLED: Duration = Duration::from_millis(100);

/// 1,000 clients that leave: half of them from guests that wait, half from guests that spin.
pub(super) fn disconnect(site: &Site) -> Result<Verdict> {
    let limits = format!(
        "concurrency = {BATCH}\nqueue_depth = 0\nqueue_wait = \"0ms\"\ndeadline = \"5m\"\ncpu = \"5m\""
    );
    let mut target = site.serve(&[
        Part::new("wait", "slow-p2", &limits),
        Part::new("spin", "loop-p2", &limits),
    ])?;
    let batches = site.count(LEAVERS).div_ceil(BATCH as u64).max(2);
    let (held, (freed, kept, busy)) = site.under_attack(&mut target, |target| {
        let (mut freed, mut kept, mut busy) = (Samples::default(), 0, 0.0_f64);
        for batch in 0..batches {
            if batch % 2 == 0 {
                let (time, lost) = assault(leave_waiting(target.address))?;
                freed.add(time, None);
                kept += lost;
            } else {
                assault(leave_spinning(target.address))?;
                pause(CANCELLED);
                busy = busy.max(target.busy(CANCELLED)?);
            }
        }
        Ok((freed, kept, busy))
    })?;
    let mut verdict = Verdict::default();
    verdict.figure("clients", batches * BATCH as u64);
    verdict.figure("freed_p50_ms", ms(freed.percentile(0.5)));
    verdict.figure("freed_worst_ms", ms(freed.worst()));
    verdict.figure("permits_missing", kept);
    verdict.figure("busy_after", (busy * 100.0).round() / 100.0);
    verdict.note(&held);
    verdict.require(freed.worst() <= CANCELLED, || {
        format!("permits came back after {} ms", ms(freed.worst()))
    });
    verdict.require(kept == 0, || format!("{kept} permits were missing"));
    verdict.require(busy < IDLE, || {
        format!("{busy:.2} of a CPU in use after the clients left")
    });
    Ok(verdict)
}

/// Opens a batch of requests and gives each time to reach its guest.
async fn batch(target: SocketAddr, path: &str) -> Result<Vec<Client>> {
    let mut open = Vec::new();
    for number in 0..BATCH {
        let mut client = timeout(PATIENCE, Client::open(attacker(number), target)).await??;
        client.send(get(path).as_bytes()).await?;
        open.push(client);
    }
    sleep(Duration::from_millis(300)).await;
    Ok(open)
}

async fn leave_spinning(target: SocketAddr) -> Result<()> {
    drop(batch(target, "/spin/").await?);
    Ok(())
}

/// A batch leaves; how long until every permit is free again, and how many never were.
async fn leave_waiting(target: SocketAddr) -> Result<(Duration, u64)> {
    drop(batch(target, "/wait/?ms=60000").await?);
    let left = Instant::now();
    // One request at a time succeeds as soon as one permit is free; all of them together need every permit.
    let mut tries = 0_u32;
    loop {
        let began = Instant::now();
        let good = all_at_once(target).await;
        let missing = (BATCH as u64).saturating_sub(good);
        if missing == 0 {
            // All were admitted before the first of them had waited its time.
            return Ok((left.elapsed().saturating_sub(HOLD), 0));
        }
        tries += 1;
        if tries > 100 {
            return Ok((left.elapsed(), missing));
        }
        sleep_until((began + Duration::from_millis(10)).into()).await;
    }
}

/// How long each of a batch of short calls holds its permit.
const HOLD: Duration = Duration::from_millis(200);

/// How many of a batch of short calls, all in flight at once, are answered.
async fn all_at_once(target: SocketAddr) -> u64 {
    let mut tasks = JoinSet::new();
    for number in 0..BATCH {
        tasks.spawn(async move {
            let mut client = Client::open(attacker(number), target).await.ok()?;
            let path = format!("/wait/?ms={}", HOLD.as_millis());
            Some(client.get(&path).await.ok()?.status)
        });
    }
    let mut good = 0;
    while let Some(done) = tasks.join_next().await {
        good += u64::from(done.ok().flatten() == Some(200));
    }
    good
}
