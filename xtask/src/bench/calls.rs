//! `cargo xtask bench calls`: what a guest pays for calling another guest of its app, over what the callee itself takes.
//!
//! One server on one core, asked by nobody else. The caller takes the times by its own clock; what the callee takes is what
//! Hostel's metrics charge it, per call. Like the other benches it judges nothing: the goals are printed beside the figures.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::contender::{Scratch, pinned};
use super::machine;
use super::metered::{ask, charged, free_address};
use super::server::Server;
use crate::shell;

const USAGE: &str = "\
usage: cargo xtask bench calls [--rounds N] [--hostel PATH] [--guests FOLDER]

  --rounds N       rounds of each figure; the median of them is printed (default 5)
  --hostel PATH    measure this binary instead of building Hostel
  --guests FOLDER  take the guests from here instead of guests/out";

/// Calls of one round: as many as one request may start.
const REQUESTS: u32 = 5_000;
/// Calls through an import in one round.
const IMPORTS: u32 = 100_000;

const MANIFEST: &str = r#"
[app]
name = "calls"
[[http]]
route = "/requests"
component = "caller"
[[http]]
route = "/imports"
component = "shop"
[component.caller]
source = "calls-bench-p2.wasm"
[component.caller.grants]
http = ["http://callee.app.internal"]
[component.callee]
source = "hello-p2-small.wasm"
[component.pricing]
source = "pricing-p2.wasm"
[component.shop]
source = "shop-p2.wasm"
[component.shop.bind]
"shop:pricing/api" = "pricing"
"#;

const GUESTS: [&str; 4] = ["calls-bench-p2", "hello-p2-small", "pricing-p2", "shop-p2"];

/// One way to call, and how it is asked for.
struct Way {
    name: &'static str,
    path: String,
    /// Whose time is not the way's.
    callee: &'static str,
    /// What turns the answer into microseconds for a call.
    read: fn(&str) -> Option<f64>,
    goal_us: f64,
}

/// Runs the bench; `args` are behind its name.
pub(super) fn main(root: &Path, args: &[String]) -> Result<()> {
    let (mut rounds, mut hostel, mut guests) = (5, None, root.join("guests/out"));
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args
            .next()
            .with_context(|| format!("{name} needs a value\n\n{USAGE}"))?;
        match name.as_str() {
            "--rounds" => {
                rounds = value
                    .parse()
                    .with_context(|| format!("--rounds: `{value}`"))?
            }
            "--hostel" => hostel = Some(std::path::absolute(value)?),
            "--guests" => guests = value.into(),
            _ => bail!("unknown option `{name}`\n\n{USAGE}"),
        }
    }
    ensure!(rounds > 0, "--rounds: a number above 0");
    let hostel = match hostel {
        Some(hostel) => hostel,
        None => {
            shell::build_release()?;
            root.join("target/release/hostel")
        }
    };
    let scratch = Scratch::new()?;
    let folder = scratch.folder();
    for guest in GUESTS {
        let file = format!("{guest}.wasm");
        fs::copy(guests.join(&file), folder.join(&file))
            .with_context(|| format!("{file} is not there; `cargo xtask guests` builds it"))?;
    }
    fs::write(folder.join("hostel.toml"), MANIFEST)?;
    let metrics = free_address()?;
    let server = start(&hostel, folder, metrics)?;
    println!("{}", machine::describe());
    for way in ways() {
        print(&way, &measure(&server, metrics, &way, rounds)?);
    }
    Ok(())
}

fn ways() -> [Way; 2] {
    [
        Way {
            name: "request to http://callee.app.internal/",
            path: format!("/requests?url=http://callee.app.internal/&times={REQUESTS}"),
            callee: "callee",
            // The median of the round, in nanoseconds.
            read: |text| Some(text.split(' ').next()?.parse::<f64>().ok()? / 1e3),
            goal_us: 40.0,
        },
        Way {
            name: "call of a bound import",
            path: format!("/imports?times={IMPORTS}"),
            callee: "pricing",
            // The whole round, in nanoseconds.
            read: |text| Some(text.trim().parse::<f64>().ok()? / 1e3 / f64::from(IMPORTS)),
            goal_us: 5.0,
        },
    ]
}

fn start(hostel: &Path, app: &Path, metrics: SocketAddr) -> Result<Server> {
    let (core, _) = machine::two_cores()?;
    let mut command = pinned(core, hostel);
    command
        .arg("up")
        .arg(app)
        .arg("--data")
        .arg(app.join("data"));
    command.args(["--listen", "127.0.0.1:0", "--threads", "1", "--metrics"]);
    command.arg(metrics.to_string());
    for limit in ["outbound=10000", "deadline=5m", "cpu=5m"] {
        command.args(["--limit", limit]);
    }
    Server::start("hostel", command)
}

/// What one call took, and what its callee took of that; both in microseconds.
struct Figure {
    whole_us: f64,
    callee_us: f64,
}

fn measure(server: &Server, metrics: SocketAddr, way: &Way, rounds: usize) -> Result<Vec<Figure>> {
    let mut figures = Vec::with_capacity(rounds);
    ask(server.address(), &way.path)?; // warm
    for _ in 0..rounds {
        let before = charged(metrics, way.callee)?;
        let text = ask(server.address(), &way.path)?;
        let after = charged(metrics, way.callee)?;
        let whole_us = (way.read)(&text).with_context(|| format!("not a figure: {text}"))?;
        let calls = after.calls - before.calls;
        ensure!(calls > 0.0, "{} was not called", way.callee);
        figures.push(Figure {
            whole_us,
            callee_us: (after.cpu_seconds - before.cpu_seconds) * 1e6 / calls,
        });
    }
    Ok(figures)
}

fn print(way: &Way, figures: &[Figure]) {
    let median = |of: fn(&Figure) -> f64| {
        let mut all: Vec<f64> = figures.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    println!(
        "{:<40} {:>8.2} us, callee {:>8.2} us, over that {:>8.2} us (goal {:.0} us)",
        way.name,
        median(|figure| figure.whole_us),
        median(|figure| figure.callee_us),
        median(|figure| figure.whole_us - figure.callee_us),
        way.goal_us
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_microseconds_for_one_call() {
        let [request, import] = ways();
        assert_eq!((request.read)("31500 90000\n"), Some(31.5));
        assert_eq!((import.read)("250000000\n"), Some(2.5));
        assert_eq!((request.read)("oh\n"), None);
    }
}
