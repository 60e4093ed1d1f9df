//! `cargo xtask bench messages`: messages through a broker without a server to a guest, beside the same broker and no guest.
//!
//! Many requests at once publish, each its messages one after the other, as a crowd of clients would; a second component handles
//! them. A run is over when the handler has been called with the last one, as the server's metrics count it. The control (`crates/stores/examples/messages.rs`) does
//! the same with tasks in the place of requests and an acknowledgement in the place of the guest. They take turns, so that drift of the
//! machine hits both. Nothing is pinned: a server and its handlers are to use what there is.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::contender::Scratch;
use super::metered::{PATIENCE, ask, charged, free_address};
use super::server::Server;
use super::{machine, root, run};
use crate::shell;

pub(super) const USAGE: &str = "cargo xtask bench messages [OPTIONS]

  --messages N      messages of one run (10000)
  --publishers N    requests that publish at once (128)
  --rounds N        runs of each contender and broker (5)
  --hostel PATH     the binary to measure, instead of building one
  --out PATH        where the figures go (bench/results/YYYY-MM-DD-messages.json)";

/// The brokers that are measured, and the goal of each in messages per second on two cores.
const BROKERS: [(&str, &str, f64); 2] = [
    ("durable", "embedded:", 8_000.0),
    ("memory", "memory:", 25_000.0),
];
const GUEST: &str = "message-bench-p2.wasm";
/// How often it is asked how far the handler is.
const LOOK: Duration = Duration::from_millis(2);

const MANIFEST: &str = r#"
[app]
name = "bench"

[[http]]
route = "/..."
component = "publisher"

[component.publisher]
source = "message-bench-p2.wasm"
grants = { messaging = { publish = ["bench.*"] } }
limits = { concurrency = 1000, deadline = "120s" }

[[message]]
topic = "bench.*"
component = "handler"

[component.handler]
source = "message-bench-p2.wasm"
"#;

struct Options {
    messages: usize,
    publishers: usize,
    rounds: usize,
    hostel: Option<PathBuf>,
    out: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            messages: 10_000,
            publishers: 128,
            rounds: 5,
            hostel: None,
            out: None,
        };
        let mut arguments = arguments.iter();
        while let Some(option) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{option} wants a value\n\n{USAGE}"))?;
            match option.as_str() {
                "--messages" => options.messages = value.parse()?,
                "--publishers" => options.publishers = value.parse()?,
                "--rounds" => options.rounds = value.parse()?,
                "--hostel" => options.hostel = Some(std::path::absolute(value)?),
                "--out" => options.out = Some(value.into()),
                _ => bail!("unknown option `{option}`\n\n{USAGE}"),
            }
        }
        ensure!(
            options.publishers > 0 && options.messages >= options.publishers,
            "each publisher needs a message"
        );
        // All of them publish equally many.
        options.messages -= options.messages % options.publishers;
        Ok(options)
    }
}

/// Messages per second of each run, of the control and of Hostel.
struct Row {
    broker: &'static str,
    goal: f64,
    native: Vec<f64>,
    hostel: Vec<f64>,
}

/// Runs the bench; `arguments` are what follows its name.
pub(super) fn main(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let root = root(&std::env::current_dir()?)?;
    let hostel = match &options.hostel {
        Some(hostel) => hostel.clone(),
        None => {
            shell::build_release()?;
            root.join("target/release/hostel")
        }
    };
    let control = ["build", "--release", "--locked", "-p", "hostel-stores"];
    let mut cargo = Command::new("cargo");
    cargo.args(control).args(["--example", "messages"]);
    run(cargo.current_dir(&root))?;
    let native = root.join("target/release/examples/messages");
    let mut rows = Vec::new();
    for (broker, url, goal) in BROKERS {
        let mut row = Row {
            broker,
            goal,
            native: Vec::new(),
            hostel: Vec::new(),
        };
        for _ in 0..options.rounds {
            row.native.push(of_native(&native, url, &options)?);
            row.hostel.push(of_hostel(&hostel, &root, url, &options)?);
            println!("{}", row.line());
        }
        rows.push(row);
    }
    println!(
        "\nmedians of {} rounds, in messages per second",
        options.rounds
    );
    rows.iter().for_each(|row| println!("{}", row.summary()));
    write(&root, &options, &rows)
}

fn of_native(native: &Path, url: &str, options: &Options) -> Result<f64> {
    let (messages, publishers) = (options.messages.to_string(), options.publishers.to_string());
    let said = Command::new(native)
        .args([url, &messages, &publishers])
        .output();
    let said = said.with_context(|| format!("{} does not start", native.display()))?;
    ensure!(
        said.status.success(),
        "the control failed: {}",
        String::from_utf8_lossy(&said.stderr)
    );
    let seconds: f64 = String::from_utf8(said.stdout)?.trim().parse()?;
    Ok(options.messages as f64 / seconds)
}

/// One server, with data of its own.
fn of_hostel(hostel: &Path, root: &Path, url: &str, options: &Options) -> Result<f64> {
    let scratch = Scratch::new()?;
    let path = |name: &str| scratch.folder().join(name);
    fs::write(path("hostel.toml"), MANIFEST)?;
    fs::copy(root.join("guests/out").join(GUEST), path(GUEST))
        .context("the guest is not there; `cargo xtask guests` builds it")?;
    fs::write(
        path("server.toml"),
        format!("[messaging.default]\nurl = \"{url}\"\n"),
    )?;
    let mut command = Command::new(hostel);
    command
        .arg("up")
        .arg(scratch.folder())
        .arg("--data")
        .arg(path("data"));
    command.arg("--config").arg(path("server.toml"));
    let metrics = free_address()?;
    command.args(["--listen", "127.0.0.1:0", "--metrics"]);
    command.arg(metrics.to_string());
    let server = Server::start("hostel", command)?;
    let address = server.address();
    // Warm: code, instances, files.
    ask(address, "/?times=100")?;
    handled(metrics, 100)?;
    let target = format!("/?times={}", options.messages / options.publishers);
    let begin = Instant::now();
    let publishing: Vec<_> = (0..options.publishers)
        .map(|_| {
            let target = target.clone();
            thread::spawn(move || ask(address, &target))
        })
        .collect();
    for published in publishing {
        let published = published.join();
        published.map_err(|_| anyhow::anyhow!("a publisher panicked"))??;
    }
    handled(metrics, 100 + options.messages)?;
    Ok(options.messages as f64 / begin.elapsed().as_secs_f64())
}

/// Waits until the handler has been called so often since the start.
fn handled(metrics: SocketAddr, calls: usize) -> Result<()> {
    let begin = Instant::now();
    while charged(metrics, "handler")?.calls < calls as f64 {
        ensure!(begin.elapsed() < PATIENCE, "messages were not handled");
        thread::park_timeout(LOOK);
    }
    Ok(())
}

impl Row {
    fn line(&self) -> String {
        let last = |runs: &[f64]| runs.last().copied().unwrap_or_default();
        format!(
            "{:<8} native {:>9.0}/s   hostel {:>9.0}/s",
            self.broker,
            last(&self.native),
            last(&self.hostel)
        )
    }

    /// The median of the ratios within each round.
    fn ratio(&self) -> f64 {
        let rounds = self.hostel.iter().zip(&self.native);
        median(rounds.map(|(hostel, native)| hostel / native).collect())
    }

    fn summary(&self) -> String {
        let hostel = median(self.hostel.clone());
        format!(
            "{:<8} native {:>9.0}   hostel {hostel:>9.0}   ratio {:.2}   goal {:.0}: {}",
            self.broker,
            median(self.native.clone()),
            self.ratio(),
            self.goal,
            if hostel >= self.goal {
                "holds"
            } else {
                "missed"
            }
        )
    }

    fn json(&self) -> Value {
        json!({
            "broker": self.broker,
            "goal_per_second": self.goal,
            "native_per_second": median(self.native.clone()),
            "hostel_per_second": median(self.hostel.clone()),
            "ratio_native": self.ratio(),
            "native_runs": self.native,
            "hostel_runs": self.hostel,
        })
    }
}

fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}

fn write(root: &Path, options: &Options, rows: &[Row]) -> Result<()> {
    let out = match &options.out {
        Some(out) => out.clone(),
        None => root.join(format!("bench/results/{}-messages.json", machine::today()?)),
    };
    let text = serde_json::to_string_pretty(&json!({
        "bench": "messages",
        "revision": machine::revision(root),
        "machine": machine::describe(),
        "messages": options.messages,
        "publishers": options.publishers,
        "rounds": options.rounds,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    }))?;
    fs::write(&out, text + "\n").with_context(|| format!("cannot write {}", out.display()))?;
    println!("written to {}", out.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_medians_and_says_whether_its_goal_holds() {
        let row = Row {
            broker: "memory",
            goal: 25.0,
            native: vec![100.0, 50.0, 200.0],
            hostel: vec![25.0, 25.0, 20.0],
        };
        assert!((row.ratio() - 0.25).abs() < 1e-9);
        assert!(
            row.summary().ends_with("goal 25: holds"),
            "{}",
            row.summary()
        );
    }

    #[test]
    fn options_are_read_and_wrong_ones_are_said() {
        let parse = |text: &str| {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            Options::parse(&words)
        };
        let options = parse("--messages 1000 --publishers 3").unwrap();
        assert_eq!(
            (options.messages, options.publishers, options.rounds),
            (999, 3, 5)
        );
        for wrong in ["--messages", "--seconds 3", "--messages 1 --publishers 2"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
