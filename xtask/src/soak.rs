//! `cargo xtask soak`: attacks on the release binary at full size, with figures that are judged.
//!
//! Every row starts a server of its own, mostly with an attacked component and `b`, a good neighbour that is probed 100
//! times a second before and during the attack. "B holds" means: all answers 200, and p99 at most twice the unloaded
//! figure of the same run, or 25 ms. What cannot be noisy is asserted by the ordinary tests as well, at a smaller size.
//!
//! Reading order: this file (the run), `options.rs`, `rows.rs` (the table), `site.rs` (servers), `probe.rs` (B),
//! `judge.rs` (what passes), `client.rs` and `hammer.rs` (how attackers speak), then the attacks.

mod attack_files;
mod attack_h2;
mod attack_heads;
mod attack_http;
mod attack_memory;
mod attack_time;
mod client;
mod corpus;
mod hammer;
mod judge;
mod options;
mod probe;
mod random;
mod rows;
mod site;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::bench::machine;
use crate::shell;
use options::{Options, USAGE};
use rows::{ROWS, Row};
use site::Site;

/// Runs `cargo xtask soak ARGS`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    let options = Options::parse(args)?;
    if options.list {
        for row in ROWS {
            println!("{:<16}{}", row.name, row.goal);
        }
        return Ok(());
    }
    soak(&options)
}

fn soak(options: &Options) -> Result<()> {
    raise_descriptors()?;
    let out = out(options)?;
    let scratch = Scratch::new()?;
    let site = Site {
        binary: binary(options)?,
        guests: guests(options)?,
        scratch: scratch.0.clone(),
        scale: options.scale,
        seed: options.seed,
    };
    let head = json!({
        "seed": options.seed,
        "git": machine::revision(&shell::root()),
        "machine": machine::describe(),
        "scale": options.scale,
    });
    eprintln!("seed {}, scale {}", options.seed, options.scale);
    let done: Vec<Done> = options
        .rows
        .iter()
        .map(|row| judge(row, &site, &head))
        .collect();
    print!("{}", summary(&done));
    if let Some(out) = out {
        fs::write(&out, array(&done)).with_context(|| format!("cannot write {}", out.display()))?;
        println!("written to {}", out.display());
    }
    let missed = done.iter().filter(|done| !done.pass).count();
    ensure!(
        missed == 0,
        "{missed} of {} rows missed their goal",
        done.len()
    );
    Ok(())
}

/// A row that was run.
struct Done {
    row: &'static Row,
    pass: bool,
    misses: Vec<String>,
    took: Duration,
    /// Its one line of JSON.
    line: String,
}

/// Runs a row; a row that could not be run has failed. Its JSON is printed at once.
fn judge(row: &'static Row, site: &Site, head: &Value) -> Done {
    eprintln!("{}: {}", row.name, row.goal);
    let began = Instant::now();
    let (value, misses) = match (row.run)(site) {
        Ok(verdict) => (verdict.value(), verdict.misses().to_vec()),
        Err(error) => {
            // Only the first line: a server's last words name paths of the machine.
            let text = format!("{error:#}");
            let first = text.lines().next().unwrap_or_default().to_owned();
            eprintln!("{text}");
            (json!({"error": first}), vec![first])
        }
    };
    let pass = misses.is_empty();
    let line = line(head, row.name, &value, pass);
    println!("{line}");
    for miss in &misses {
        eprintln!("  missed: {miss}");
    }
    Done {
        row,
        pass,
        misses,
        took: began.elapsed(),
        line,
    }
}

/// One object, in an order that people read: a JSON map would sort the keys.
fn line(head: &Value, name: &str, value: &Value, pass: bool) -> String {
    let of = |key: &str| head.get(key).unwrap_or(&Value::Null);
    format!(
        "{{\"seed\": {}, \"git\": {}, \"machine\": {}, \"scale\": {}, \"row\": {}, \"value\": {value}, \"pass\": {pass}}}",
        of("seed"),
        of("git"),
        of("machine"),
        of("scale"),
        json!(name)
    )
}

/// All lines as one array, a row on each line.
fn array(done: &[Done]) -> String {
    let lines: Vec<&str> = done.iter().map(|done| done.line.as_str()).collect();
    format!("[\n  {}\n]\n", lines.join(",\n  "))
}

/// What people read at the end.
fn summary(done: &[Done]) -> String {
    let mut text = String::new();
    for done in done {
        let word = if done.pass { "pass" } else { "FAIL" };
        let seconds = done.took.as_secs_f64();
        text.push_str(&format!(
            "{word}  {:<16}{seconds:>6.0} s  {}\n",
            done.row.name, done.row.goal
        ));
        for miss in done.misses.iter().take(5) {
            text.push_str(&format!("        {miss}\n"));
        }
        if done.misses.len() > 5 {
            text.push_str(&format!("        and {} more\n", done.misses.len() - 5));
        }
    }
    let passed = done.iter().filter(|done| done.pass).count();
    text.push_str(&format!("{passed} of {} rows pass\n", done.len()));
    text
}

/// Where the JSON goes: asked for, or, for a whole run, where the repository keeps results.
fn out(options: &Options) -> Result<Option<PathBuf>> {
    let out = match &options.out {
        Some(out) => out.clone(),
        None if options.is_whole() => {
            let today = machine::today()?;
            shell::root().join(format!("bench/results/{today}-soak.json"))
        }
        None => return Ok(None),
    };
    // Before the run: a folder that cannot be made is not to cost its figures.
    if let Some(folder) = out.parent().filter(|folder| *folder != Path::new("")) {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    Ok(Some(out))
}

/// The binary that is attacked; built unless another was named.
fn binary(options: &Options) -> Result<PathBuf> {
    let path = match &options.binary {
        Some(path) => std::path::absolute(path)?,
        None => {
            shell::build_release()?;
            shell::root().join("target/release/hostel")
        }
    };
    ensure!(path.is_file(), "{} is not there", path.display());
    Ok(path)
}

/// The folder of guests; built where it is the repository's own and B's guest is missing.
fn guests(options: &Options) -> Result<PathBuf> {
    if let Some(guests) = &options.guests {
        return Ok(std::path::absolute(guests)?);
    }
    let guests = shell::root().join("guests/out");
    if !guests.join("hello-p2.wasm").is_file() {
        crate::guests::run(&[])?;
    }
    Ok(guests)
}

/// Thousands of connections need as many descriptors here as in the server, which inherits the bound.
fn raise_descriptors() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .context("the limit of open files cannot be raised to its maximum")
}

/// A folder for apps and compiled code, removed when the run is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        let folder = std::env::temp_dir().join(format!("hostel-soak-{}", std::process::id()));
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind it is some megabytes in the temporary folder; no reason to fail a finished run.
        fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use judge::Verdict;

    fn site() -> Site {
        Site {
            binary: "hostel".into(),
            guests: "guests".into(),
            scratch: "scratch".into(),
            scale: 1.0,
            seed: 7,
        }
    }

    static GOOD: Row = Row {
        name: "good",
        goal: "a goal: met",
        run: |_| {
            let mut verdict = Verdict::default();
            verdict.figure("answers", 3);
            Ok(verdict)
        },
    };
    static BROKEN: Row = Row {
        name: "broken",
        goal: "a goal: missed",
        run: |_| anyhow::bail!("the server is gone\n  it said: much"),
    };

    #[test]
    fn a_row_is_one_line_of_json_with_what_the_specification_quotes() {
        let head = json!({"seed": 7, "git": "abc", "machine": {"cores": 2}, "scale": 1.0});
        let done = judge(&GOOD, &site(), &head);
        assert!(!done.line.contains('\n'));
        let parsed: Value = serde_json::from_str(&done.line).unwrap();
        assert_eq!(parsed["value"], json!({"answers": 3}));
        assert_eq!(
            (&parsed["row"], &parsed["pass"]),
            (&json!("good"), &json!(true))
        );
        assert_eq!(
            (&parsed["seed"], &parsed["git"]),
            (&json!(7), &json!("abc"))
        );
        assert_eq!(parsed["machine"]["cores"], 2);
    }

    #[test]
    fn a_row_that_cannot_be_run_has_failed_and_says_why_in_one_line() {
        let done = judge(&BROKEN, &site(), &json!({}));
        assert!(!done.pass);
        let parsed: Value = serde_json::from_str(&done.line).unwrap();
        assert_eq!(parsed["value"]["error"], "the server is gone");
        assert_eq!(parsed["pass"], false);
    }

    #[test]
    fn the_summary_and_the_file_have_every_row() {
        let head = json!({});
        let done = [judge(&GOOD, &site(), &head), judge(&BROKEN, &site(), &head)];
        let text = summary(&done);
        assert!(
            text.contains("pass  good") && text.contains("FAIL  broken"),
            "{text}"
        );
        assert!(text.ends_with("1 of 2 rows pass\n"), "{text}");
        let parsed: Value = serde_json::from_str(&array(&done)).unwrap();
        assert_eq!(parsed.as_array().unwrap().len(), 2);
    }

    #[test]
    fn only_a_whole_run_is_kept_without_being_asked() {
        let parse = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Options::parse(&args).unwrap()
        };
        assert_eq!(out(&parse("--row trap")).unwrap(), None);
        assert_eq!(out(&parse("--scale 0.1")).unwrap(), None);
        let asked = out(&parse("--row trap --out trap.json")).unwrap();
        assert_eq!(asked, Some("trap.json".into()));
    }
}
