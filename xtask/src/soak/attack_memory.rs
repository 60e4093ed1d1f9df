//! Guests that take what they can get: rows `memory`, `stack`, `trap`, `handles`, `buffers`, `canary` and `log`.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::client::{Client, PATIENCE, assault, attacker, connect, get};
use super::hammer::{Hammer, Tally};
use super::judge::{Verdict, mib, ms};
use super::site::{Part, Site, Target};
use crate::bench::proc;
use crate::bench::server::{Server, pause};

const MIB: u64 = 1 << 20;

/// A guest of an attack, and its request.
type Shape = (&'static str, &'static str);

/// Memory bombs at once, for how long, and what the whole process may hold meanwhile.
const BOMBS: u64 = 100;
const BOMBING: Duration = Duration::from_secs(20);
const PROCESS_BYTES_MAX: u64 = 1 << 30;

/// What the operator gives all guests together. Every instance has a few MiB beside it, and the host its own: with 100
/// instances the process is to stay within its bound.
const GUESTS: &str = "640MiB";

const MEMORY: &[Shape] = &[
    ("bomb-p2", "?what=memory"),
    ("bomb-p2", "?what=fill"),
    ("bomb-p3", "?what=memory"),
    ("many-memories-p2", ""),
    ("many-tables-p2", ""),
];

/// 100 memory bombs at once: each is stopped, and the process stays within its bound.
pub(super) fn memory(site: &Site) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let shapes = present(site, MEMORY, &mut verdict);
    let parts = parts(&shapes, "concurrency = 100");
    let mut target = site.serve_with(&parts, &["--memory", GUESTS])?;
    let paths = paths(&shapes);
    let bombs = site.count(BOMBS).max(10) as usize;
    let time = site.time(BOMBING);
    let (held, (tally, peak)) = site.under_attack(&mut target, |target| {
        proc::forget_peak(target.pid)?;
        let hammer = Hammer {
            target: target.address,
            paths: paths.clone(),
            connections: bombs,
            requests: u64::MAX,
            time,
        };
        Ok((hammer.run()?, proc::peak_bytes(target.pid)?))
    })?;
    let left = target.rested()?;
    verdict.figure("bombs_at_once", bombs);
    verdict.figure("memory_of_guests", GUESTS);
    verdict.figure("answers", tally.value());
    verdict.figure("said", json!(tally.last));
    verdict.figure("peak_mib", mib(peak as i64));
    verdict.figure("rested_mib", mib(left as i64));
    verdict.holds(&held);
    verdict.require(peak <= PROCESS_BYTES_MAX, || {
        format!("the process held {} MiB", mib(peak as i64))
    });
    stopped(&mut verdict, &tally);
    Ok(verdict)
}

/// Memory that one instance may have, in MiB: the default of the limit.
const MEMORY_MIB_MAX: u64 = 128;

/// Every bomb got an answer, and none tells of more than it may have: those with a status say so by 502, the others in
/// MiB.
fn stopped(verdict: &mut Verdict, tally: &Tally) {
    let said = tally.last.get(&200).map(String::as_str);
    let got = said.and_then(|text| text.split([' ', ':']).find_map(|word| word.parse().ok()));
    verdict.require(
        tally.of(&[502]) == 0 && got.unwrap_or(0) <= MEMORY_MIB_MAX,
        || format!("bombs got too much: {:?}", tally.last),
    );
    verdict.require(tally.cut == 0 && tally.answers() > 0, || {
        format!("{} bombs were never answered", tally.cut)
    });
}

const STACKS: u64 = 100_000;
const TRAPS: u64 = 200_000;
const STORM_CONNECTIONS: usize = 32;
const DRIFT_BYTES_MAX: i64 = 8 * MIB as i64;

/// Lines about faults in one second, and in all beside them, that still are a summary.
const LINES_A_SECOND: u64 = 12;
const LINES_BESIDE: u64 = 50;

/// 100,000 stack overflows.
pub(super) fn stack(site: &Site) -> Result<Verdict> {
    storm(site, ("bomb-p2", "?what=stack"), STACKS)
}

/// 200,000 traps.
pub(super) fn trap(site: &Site) -> Result<Verdict> {
    storm(site, ("trap-p2", ""), TRAPS)
}

/// Faults at full rate: a tenth of them first, so that what the host keeps anyway is not counted as drift.
fn storm(site: &Site, shape: Shape, requests: u64) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let shapes = present(site, &[shape], &mut verdict);
    let mut target = site.serve(&parts(&shapes, ""))?;
    let paths = paths(&shapes);
    let requests = site.count(requests);
    let (held, (tally, drift, lines, seconds)) = site.under_attack(&mut target, |target| {
        let hammer = |requests| Hammer {
            target: target.address,
            paths: paths.clone(),
            connections: STORM_CONNECTIONS,
            requests,
            time: Duration::from_secs(600),
        };
        hammer(requests / 10).run()?;
        let (before, lines) = (target.rested()?, target.server.lines().0);
        let began = std::time::Instant::now();
        let tally = hammer(requests).run()?;
        let seconds = began.elapsed().as_secs_f64();
        let drift = target.rested()? as i64 - before as i64;
        Ok((tally, drift, target.server.lines().0 - lines, seconds))
    })?;
    verdict.figure("answers", tally.value());
    verdict.figure("a_second", (tally.answers() as f64 / seconds).round());
    verdict.figure("drift_mib", mib(drift));
    verdict.figure("log_lines", lines);
    verdict.note(&held);
    verdict.require(tally.of(&[500]) == requests, || {
        format!(
            "not every request was answered 500: {}; {:?}",
            tally.value(),
            tally.last
        )
    });
    verdict.require(drift <= DRIFT_BYTES_MAX, || {
        format!("memory grew by {} MiB", mib(drift))
    });
    let allowed = LINES_A_SECOND * seconds.ceil() as u64 + LINES_BESIDE;
    verdict.require(lines <= allowed, || {
        format!("{lines} lines of log in {seconds:.0} s are no summary")
    });
    Ok(verdict)
}

const HANDLES: &[Shape] = &[
    ("bomb-p2", "?what=resources"),
    ("bomb-p2", "?what=streams"),
    ("bomb-p2", "?what=pollables"),
    ("bomb-p3", "?what=streams"),
    ("bomb-p3", "?what=futures"),
    ("bomb-p3", "?what=subtasks"),
    ("bomb-p3", "?what=waitables"),
    ("bomb-p3", "?what=resources"),
];

const BUFFERS: &[Shape] = &[
    ("bomb-p2", "?what=string"),
    ("bomb-p2", "?what=string&real=1"),
    ("bomb-p2", "?what=list"),
    ("bomb-p2", "?what=headers"),
    ("bomb-p2", "?what=random"),
    ("bomb-p2", "?what=body"),
    ("bomb-p3", "?what=string"),
    ("bomb-p3", "?what=random"),
    ("bomb-p3", "?what=body"),
];

/// How many handles a bomb asks for.
const HANDLES_ASKED: u64 = 1_000_000;

/// The fewest that a small run asks for: twice what is allowed.
const HANDLES_ASKED_MIN: u64 = 20_000;

/// What the guests that write a body write.
const BODY_BYTES: u64 = 4 << 30;

/// How long a body stays unread.
const UNREAD: Duration = Duration::from_secs(3);

/// How many bombs of one shape go off, one after the other.
const EACH: u64 = 20;

/// What one shape may make the process hold beyond what it held before.
const GROWTH_BYTES_MAX: i64 = 64 * MIB as i64;

/// Resources, streams, futures, subtasks, pollables: a million each.
pub(super) fn handles(site: &Site) -> Result<Verdict> {
    let asked = format!(
        "&count={}",
        site.count(HANDLES_ASKED).max(HANDLES_ASKED_MIN)
    );
    one_by_one(site, HANDLES, &asked, true)
}

/// Strings, headers, random bytes, bodies: what the host would have to hold.
pub(super) fn buffers(site: &Site) -> Result<Verdict> {
    one_by_one(site, BUFFERS, "", false)
}

/// Each shape for itself, so that its growth is its own. Where things are `counted`, a guest that got them all says so by
/// 200; where they are bytes, it says 200 with how far it came.
fn one_by_one(site: &Site, all: &[Shape], more: &str, counted: bool) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let shapes = present(site, all, &mut verdict);
    let mut target = site.serve(&parts(&shapes, "deadline = \"20s\"\ncpu = \"10s\""))?;
    let paths: Vec<String> = paths(&shapes)
        .iter()
        .map(|path| format!("{path}{more}"))
        .collect();
    let each = site.count(EACH);
    let (held, found) = site.under_attack(&mut target, |target| {
        let shoot = |path: &String| bomb(target, path, each);
        paths.iter().map(shoot).collect::<Result<Vec<_>>>()
    })?;
    for (path, shot) in paths.iter().zip(found) {
        let shape = path.trim_start_matches('/').to_owned();
        let (tally, growth) = (shot.tally, shot.growth);
        verdict.figure(
            &shape,
            json!({
                "growth_mib": mib(growth), "answers": tally.value(), "said": tally.last,
                "body_mib": shot.body.map(|bytes| bytes / MIB),
            }),
        );
        verdict.require(growth <= GROWTH_BYTES_MAX, || {
            format!("{shape}: the process grew by {} MiB", mib(growth))
        });
        verdict.require(shot.body.is_some() || tally.answers() == each, || {
            format!("{shape}: {} answers to {each} bombs", tally.answers())
        });
        verdict.require(shot.body.is_none_or(|bytes| bytes < BODY_BYTES), || {
            format!("{shape}: the whole body came")
        });
        verdict.require(!counted || tally.of(&[200]) == 0, || {
            format!("{shape}: not stopped: {:?}", tally.last)
        });
    }
    verdict.note(&held);
    Ok(verdict)
}

/// What came of one shape.
struct Shot {
    tally: Tally,
    /// How far the process grew over what it held.
    growth: i64,
    /// For bombs that are a body: how much of it was sent to a client that reads all.
    body: Option<u64>,
}

/// One shape, one call after the other.
fn bomb(target: &Target, path: &str, each: u64) -> Result<Shot> {
    let before = target.rested()?;
    proc::forget_peak(target.pid)?;
    let (mut tally, mut body) = (Tally::default(), None);
    if path.contains("what=body") {
        let path = path.to_owned();
        body = Some(assault(whole_body(target.address, path))?);
    } else {
        let hammer = Hammer {
            target: target.address,
            paths: vec![path.to_owned()],
            connections: 1,
            requests: each,
            time: Duration::from_secs(300),
        };
        tally = hammer.run()?;
    }
    let growth = proc::peak_bytes(target.pid)? as i64 - before as i64;
    Ok(Shot {
        tally,
        growth,
        body,
    })
}

/// Asks for a body without end: one client reads none of it for a while, another all that comes, and counts it.
async fn whole_body(target: std::net::SocketAddr, path: String) -> Result<u64> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = get(&path);
    let mut unread = connect(attacker(0), target, Some(4 << 10)).await?;
    unread.write_all(request.as_bytes()).await?;
    tokio::time::sleep(UNREAD).await;
    drop(unread);
    let mut stream = connect(attacker(0), target, None).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut piece = vec![0; 256 << 10];
    let mut bytes = 0;
    // The deadline of the component is shorter: silence is an end too.
    while let Ok(Ok(read)) = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await {
        if read == 0 {
            break;
        }
        bytes += read as u64;
    }
    Ok(bytes)
}

/// Alternations of the two apps.
const ALTERNATIONS: u64 = 20_000;

/// Pairs of connections that alternate at once: more than one slot of the pool is used again and again.
const PAIRS: usize = 8;

/// What one app writes into every memory that it has, another finds nowhere.
pub(super) fn canary(site: &Site) -> Result<Verdict> {
    // The same code under another digest: two apps do not share a compiled module.
    let looker = "canary-looker";
    let mut bytes = fs::read(site.guest("canary-p2")?)?;
    bytes.extend([0, 7, 6, b'l', b'o', b'o', b'k', b'e', b'r']);
    let folder = site.folder("canary")?;
    fs::copy(site.guest("canary-p2")?, folder.join("canary-p2.wasm"))?;
    fs::copy(site.guest("hello-p2")?, folder.join("hello-p2.wasm"))?;
    fs::write(folder.join(format!("{looker}.wasm")), bytes)?;
    let own = Site {
        binary: site.binary.clone(),
        guests: folder,
        scratch: site.scratch.clone(),
        ..*site
    };
    let parts = [
        Part::new("write", "canary-p2", ""),
        Part::new("look", looker, ""),
    ];
    let mut target = own.serve(&parts)?;
    let alternations = site.count(ALTERNATIONS);
    let mark = format!("{:016x}", site.random("canary").next());
    let sees = assault(can_see(target.address, mark.clone()))?;
    let (held, (looks, foreign, wrong, said)) = own.under_attack(&mut target, |target| {
        assault(alternate(target.address, mark, alternations))
    })?;
    let mut verdict = Verdict::default();
    verdict.figure("alternations", looks);
    verdict.figure("foreign", foreign);
    verdict.figure("wrong", wrong);
    verdict.figure("said", said.clone());
    verdict.note(&held);
    verdict.require(sees, || {
        "the guest does not even find what it wrote itself".to_owned()
    });
    verdict.require(foreign == 0, || {
        format!("{foreign} times foreign bytes were found: {said}")
    });
    verdict.require(wrong == 0 && looks >= alternations, || {
        format!("{wrong} of {looks} alternations had no good answers: {said}")
    });
    Ok(verdict)
}

/// One writes its mark, the other looks, on several pairs of connections.
async fn alternate(
    target: std::net::SocketAddr,
    mark: String,
    alternations: u64,
) -> Result<(u64, u64, u64, String)> {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..PAIRS {
        let write = format!("/write/?write={mark}");
        let turns = alternations.div_ceil(PAIRS as u64);
        tasks.spawn(async move {
            let mut writer = Client::open(attacker(number), target).await?;
            let mut looker = Client::open(attacker(number), target).await?;
            let (mut foreign, mut wrong, mut said) = (0, 0, String::new());
            for _ in 0..turns {
                let wrote = tokio::time::timeout(PATIENCE, writer.get(&write)).await??;
                let looked = tokio::time::timeout(PATIENCE, looker.get("/look/?look=1")).await??;
                wrong += u64::from(wrote.status != 200 || looked.status != 200);
                said = String::from_utf8_lossy(&looked.body).trim().to_owned();
                foreign += u64::from(looked.status == 200 && said != CLEAN);
            }
            anyhow::Ok((turns, foreign, wrong, said))
        });
    }
    let mut sum = (0, 0, 0, String::new());
    while let Some(done) = tasks.join_next().await {
        let (turns, foreign, wrong, said) = done??;
        sum.0 += turns;
        sum.1 += foreign;
        sum.2 += wrong;
        sum.3 = said;
    }
    Ok(sum)
}

/// What the canary guest says where it found nothing.
const CLEAN: &str = "foreign 0 patterns 0";

/// Whether the guest finds what it wrote itself: without that, finding nothing would mean nothing.
async fn can_see(target: std::net::SocketAddr, mark: String) -> Result<bool> {
    let mut client = Client::open(attacker(0), target).await?;
    let ask = client.get(&format!("/look/?write={mark}&look=1")).await?;
    let said = String::from_utf8_lossy(&ask.body).trim().to_owned();
    Ok(ask.status == 200 && said.starts_with("foreign ") && said != CLEAN)
}

/// How long guests write, and over how many connections.
const FLOOD: Duration = Duration::from_secs(30);
const FLOODERS: usize = 32;

/// The log flooded while nobody reads the standard error of the server.
pub(super) fn log(site: &Site) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let shapes = match site.guest("bomb-p2") {
        Ok(_) => [("bomb-p2", "?what=log&bytes=1000000")],
        Err(_) => [("log-p2", "?what=plain")],
    };
    let app = site.app(&parts(&shapes, ""))?;
    let mut target = Target::of(Server::start_unread("hostel", site.up(&app))?)?;
    let paths = paths(&shapes);
    let time = site.time(FLOOD);
    let (held, tally) = site.under_attack(&mut target, |target| {
        let hammer = Hammer {
            target: target.address,
            paths: paths.clone(),
            connections: FLOODERS,
            requests: u64::MAX,
            time,
        };
        hammer.run()
    })?;
    let rested = target.rested()?;
    target.server.read_on();
    // The count comes with the lines that were kept; they are read until nothing more comes.
    let mut lines = 0;
    for _ in 0..50 {
        pause(Duration::from_millis(200));
        let now = target.server.lines();
        if now.1 > 0 && now.0 == lines {
            break;
        }
        lines = now.0;
    }
    let (lines, lost) = target.server.lines();
    verdict.figure("answers", tally.value());
    verdict.figure("answers_worst_ms", ms(tally.worst));
    verdict.figure("lines_kept", lines);
    verdict.figure("lost_logs", lost);
    verdict.figure("rested_mib", mib(rested as i64));
    verdict.holds(&held);
    verdict.require(lost > 0, || "no lost lines were reported".to_owned());
    verdict.require(tally.of(&[200]) > 0 && tally.cut == 0, || {
        format!("those who flood were blocked: {}", tally.value())
    });
    Ok(verdict)
}

/// The shapes whose guest is there; a missing one is a miss.
fn present(site: &Site, shapes: &[Shape], verdict: &mut Verdict) -> Vec<Shape> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for (guest, query) in shapes {
        match site.guest(guest) {
            Ok(_) => found.push((*guest, *query)),
            Err(error) if !missing.contains(guest) => {
                missing.push(*guest);
                verdict.require(false, || error.to_string());
            }
            Err(_) => {}
        }
    }
    found
}

/// One component for each guest among the shapes, named after it.
fn parts(shapes: &[Shape], limits: &str) -> Vec<Part> {
    let mut guests: Vec<&str> = shapes.iter().map(|(guest, _)| *guest).collect();
    guests.sort_unstable();
    guests.dedup();
    guests
        .iter()
        .map(|guest| Part::new(guest, guest, limits))
        .collect()
}

fn paths(shapes: &[Shape]) -> Vec<String> {
    shapes
        .iter()
        .map(|(guest, query)| format!("/{guest}/{query}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_of_several_shapes_are_one_component() {
        let parts = parts(HANDLES, "cpu = \"1s\"");
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["bomb-p2", "bomb-p3"]);
        assert_eq!(paths(&HANDLES[..1]), ["/bomb-p2/?what=resources"]);
    }

    #[test]
    fn a_bomb_that_got_too_much_is_a_miss() {
        let judged = |status, said: &str| {
            let mut tally = Tally::default();
            tally.statuses.insert(status, 1);
            tally.last.insert(status, said.to_owned());
            let mut verdict = Verdict::default();
            stopped(&mut verdict, &tally);
            verdict.pass()
        };
        assert!(judged(200, "memory: 127 MiB") && judged(500, "trap"));
        assert!(!judged(200, "memory: 129 MiB") && !judged(502, ""));
    }
}
