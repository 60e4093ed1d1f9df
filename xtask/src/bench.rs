//! `cargo xtask bench http`: what one small answer costs under Hostel, beside native hyper and `wasmtime serve`.
//!
//! The control and the subjects take turns, round by round, so that drift of the machine hits all of them. Each run has a
//! server of its own on one core and the load generator on another. `bench/README.md` explains every figure.
//!
//! It deliberately judges nothing: there are no thresholds here, only figures and their ratios to the control of the same run.
//! A run with a single error, though, is no figure: its row is invalid and the command fails at the end.
//!
//! Reading order: this file (the run), `options.rs` (its arguments), `contender.rs` (who is measured, and their arguments),
//! `server.rs` (processes), `load.rs` (the generator), `proc.rs` (CPU and memory), `report.rs` (medians, ratios, output),
//! `machine.rs` (where it ran). `messages.rs` and `calls.rs` are benches of their own. `cargo xtask soak` uses `server`, `proc`
//! and `machine` too.

mod calls;
mod contender;
mod load;
pub(crate) mod machine;
mod messages;
mod metered;
mod options;
pub(crate) mod proc;
mod report;
pub(crate) mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::{interpreters, shell};
use contender::{Contender, Kind, Programs, Scratch};
use load::{Asked, Load};
use options::{Options, USAGE};
use report::{Row, Sample};
use server::Server;

/// Load before each measured run: caches, branch predictors and instance pools fill up, connections do not carry over.
const WARM_UP_SECONDS: u32 = 1;

/// Runs `cargo xtask bench ARGS`; `args` begins with the bench's name.
pub(crate) fn main(args: Vec<String>) -> Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}\n\n{}", messages::USAGE);
        return Ok(());
    }
    match args.split_first() {
        Some((name, rest)) if name == "http" => http(&Options::parse(rest)?),
        Some((name, rest)) if name == "messages" => messages::main(rest),
        Some((name, rest)) if name == "calls" => {
            calls::main(&root(&std::env::current_dir()?)?, rest)
        }
        Some((name, _)) => {
            bail!("unknown bench `{name}`; there are http, messages and calls\n\n{USAGE}")
        }
        None => bail!("which bench? there are http, messages and calls\n\n{USAGE}"),
    }
}

fn http(options: &Options) -> Result<()> {
    let root = root(&std::env::current_dir()?)?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None => root.join(format!("bench/results/{}-http.json", machine::today()?)),
    };
    // Before the run: a folder that cannot be made is not to cost its figures.
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let bench = Bench::set_up(&root, options)?;
    let head = bench.head(&root)?;
    let rows = bench.measure();
    println!("{}", report::table(&rows));
    print!("{}", report::budgets(&rows));
    let json = report::json(&head, &rows)?;
    fs::write(&out, json).with_context(|| format!("cannot write {}", out.display()))?;
    println!("written to {}", out.display());
    let invalid = rows.iter().filter(|row| row.invalid.is_some()).count();
    ensure!(
        invalid == 0,
        "{invalid} of {} rows are invalid; the table says why",
        rows.len()
    );
    Ok(())
}

/// Everything a run needs, checked before the first server starts.
struct Bench<'a> {
    options: &'a Options,
    contenders: Vec<Contender>,
    programs: Programs,
    load: Load,
    cores: (usize, usize),
    /// The server that forwarding kinds ask; on the CPU of the load generator, as the world outside is.
    upstream: Option<Server>,
}

impl Bench<'_> {
    fn set_up<'a>(root: &Path, options: &'a Options) -> Result<Bench<'a>> {
        let cores = machine::two_cores()?;
        let load = Load::find(&root.join("bench"), cores.1, on_path)?;
        let wasmtime = on_path("wasmtime");
        let contenders = contenders(options, wasmtime.is_some())?;
        // Absolute, or `taskset` would look a bare name up on PATH.
        let hostel = options
            .hostel
            .as_ref()
            .map(std::path::absolute)
            .transpose()?;
        let programs = Programs {
            native: root.join("bench/target/release/native"),
            hostel: hostel.unwrap_or_else(|| root.join("target/release/hostel")),
            wasmtime: wasmtime.unwrap_or_default(),
            guests: options
                .guests
                .clone()
                .unwrap_or_else(|| root.join("guests/out")),
            root: root.to_owned(),
            upstream: None,
            core: cores.0,
            scratch: Scratch::new()?,
        };
        let mut bench = Bench {
            options,
            contenders,
            programs,
            load,
            cores,
            upstream: None,
        };
        if options.build {
            bench.build(root)?;
        }
        bench.check_files()?;
        bench.start_upstream()?;
        Ok(bench)
    }

    fn start_upstream(&mut self) -> Result<()> {
        if self.options.kinds.iter().any(|kind| kind.forwards) {
            let mut command = contender::pinned(self.cores.1, &self.programs.native);
            command.arg("127.0.0.1:0");
            let upstream = Server::start("upstream", command)?;
            self.programs.upstream = Some(upstream.url());
            self.upstream = Some(upstream);
        }
        Ok(())
    }

    fn build(&self, root: &Path) -> Result<()> {
        let cargo = |args: &[&str]| run(Command::new("cargo").args(args).current_dir(root));
        cargo(&[
            "build",
            "--release",
            "--locked",
            "--manifest-path",
            "bench/Cargo.toml",
            "--target-dir",
            "bench/target",
        ])?;
        let hostel = [Contender::Hostel, Contender::Unmetered];
        let wanted = self.contenders.iter().any(|one| hostel.contains(one));
        if wanted && self.options.hostel.is_none() {
            shell::build_release()?;
        }
        let mut guests = self
            .options
            .kinds
            .iter()
            .filter(|kind| kind.scripts.is_none())
            .map(|kind| self.programs.guest(kind));
        if self.options.guests.is_none() && guests.any(|guest| !guest.exists()) {
            cargo(&["xtask", "guests"])?;
        }
        if self.options.kinds.iter().any(|kind| kind.scripts.is_some())
            && let Some(why) = interpreters::php()?
        {
            bail!("there is no PHP: {why}");
        }
        Ok(())
    }

    /// Fails on the first file that is missing, before minutes are spent.
    fn check_files(&self) -> Result<()> {
        for contender in &self.contenders {
            let path = self.programs.path(*contender);
            ensure!(
                path.is_file(),
                "{} is not there; leave out --no-build, or name a built one",
                path.display()
            );
        }
        for kind in &self.options.kinds {
            let guest = self.programs.guest(kind);
            ensure!(
                guest.is_file(),
                "{} is not there; `cargo xtask guests` builds it (PHP: `sh examples/php/fetch-php.sh`)",
                guest.display()
            );
        }
        Ok(())
    }

    /// What the JSON says before its rows.
    fn head(&self, root: &Path) -> Result<Value> {
        let mut versions = Map::new();
        for contender in &self.contenders {
            let version = match contender {
                Contender::Native => Some(machine::native_version(&root.join("bench/Cargo.lock"))?),
                other => machine::version(self.programs.path(*other)),
            };
            versions.insert(contender.name().to_owned(), json!(version));
        }
        let mut guests = Map::new();
        for kind in &self.options.kinds {
            let bytes = fs::metadata(self.programs.guest(kind))?.len();
            guests.insert(
                kind.name.to_owned(),
                json!(format!("{}, {bytes} bytes", kind.guest)),
            );
        }
        Ok(json!({
            "bench": "http",
            "revision": machine::revision(root),
            "machine": machine::describe(),
            "versions": versions,
            "guests": guests,
            "load": self.load.version(),
            "seconds": self.options.seconds,
            "warm_up_seconds": WARM_UP_SECONDS,
            "rounds": self.options.rounds,
            "server_core": self.cores.0,
            "load_core": self.cores.1,
        }))
    }

    /// Every kind and connection count, the contenders taking turns. Failures end up in their rows, not here.
    fn measure(&self) -> Vec<Row> {
        let options = self.options;
        let runs = options.kinds.len() * options.connections.len() * self.contenders.len();
        let seconds = f64::from(options.seconds) + f64::from(WARM_UP_SECONDS);
        let minutes = runs as f64 * f64::from(options.rounds) * seconds / 60.0;
        eprintln!(
            "servers on CPU {}, load on CPU {}, about {minutes:.0} min",
            self.cores.0, self.cores.1
        );
        let mut rows = Vec::new();
        for kind in &options.kinds {
            let contenders = self.contenders.iter().copied();
            let contenders: Vec<_> = contenders.filter(|one| one.serves(kind)).collect();
            let failed: Vec<_> = contenders
                .iter()
                .map(|&contender| self.rehearse(contender, kind))
                .collect();
            for &connections in &options.connections {
                let mut turn: Vec<Row> = contenders
                    .iter()
                    .zip(&failed)
                    .map(|(&contender, failed)| Row {
                        kind: kind.name,
                        connections,
                        contender,
                        samples: Vec::new(),
                        invalid: failed.clone(),
                    })
                    .collect();
                for _ in 0..options.rounds {
                    for row in &mut turn {
                        self.add_sample(row, kind);
                    }
                }
                rows.append(&mut turn);
            }
        }
        rows
    }

    /// Starts the server once and asks it: says at once what cannot work, and leaves Hostel's cache of compiled code warm,
    /// so that every measured start is alike. Returns what is wrong.
    fn rehearse(&self, contender: Contender, kind: &Kind) -> Option<String> {
        let start = || self.start(contender, kind).map(drop);
        start().err().map(|error| loud(contender, kind, &error))
    }

    fn add_sample(&self, row: &mut Row, kind: &Kind) {
        if row.invalid.is_some() {
            return;
        }
        match self.sample(row.contender, kind, row.connections) {
            Ok(sample) => {
                eprintln!(
                    "{:<12}{:>5} {:<9}{:>9.0} req/s {:>8.2} CPU us, first answer {:.0} ms",
                    row.kind,
                    row.connections,
                    row.contender.name(),
                    sample.requests_per_second,
                    sample.cpu_us,
                    sample.first_answer_ms
                );
                row.samples.push(sample);
            }
            Err(error) => row.invalid = Some(loud(row.contender, kind, &error)),
        }
    }

    fn start(&self, contender: Contender, kind: &Kind) -> Result<Server> {
        let server = Server::start(contender.name(), self.programs.command(contender, kind)?)?;
        server.check_answer(contender.answer(kind))?;
        Ok(server)
    }

    /// One run: start, check, warm up, measure, end.
    fn sample(&self, contender: Contender, kind: &Kind, connections: u32) -> Result<Sample> {
        let begun = Instant::now();
        let mut server = self.start(contender, kind)?;
        let first_answer_ms = begun.elapsed().as_secs_f64() * 1e3;
        let started = proc::Usage::read(server.pid())?;
        let (url, asked) = match kind.scripts {
            // The control answers GET alone.
            Some(_) if contender != Contender::Native => {
                (format!("{}?name=visitor", server.url()), Asked::Form)
            }
            _ => (server.url(), Asked::Page),
        };
        let load = |seconds| self.load.run(&url, asked, seconds, connections);
        load(WARM_UP_SECONDS)?;
        let before = proc::Usage::read(server.pid())?;
        let clock = Instant::now();
        let outcome = load(self.options.seconds)?;
        let passed_ns = clock.elapsed().as_nanos() as f64;
        server.check_alive()?;
        let after = proc::Usage::read(server.pid())?;
        ensure!(
            outcome.errors.is_empty(),
            "{}: errors under load: {}",
            contender.name(),
            list(&outcome.errors)
        );
        ensure!(
            outcome.requests > 0,
            "{}: answered nothing",
            contender.name()
        );
        let cpu_ns = after.cpu_ns_since(&before) as f64;
        Ok(Sample {
            requests_per_second: outcome.requests_per_second,
            p50_us: outcome.p50_us,
            p99_us: outcome.p99_us,
            cpu_us: cpu_ns / 1e3 / outcome.requests as f64,
            busy: cpu_ns / passed_ns,
            wait: after.wait_ns_since(&before) as f64 / passed_ns,
            first_answer_ms,
            memory_start_mib: mib(started.memory_peak_bytes),
            memory_peak_mib: mib(after.memory_peak_bytes),
        })
    }
}

/// The control first, then the subjects; `wasmtime` may be missing only if nobody asked for it by name.
fn contenders(options: &Options, wasmtime: bool) -> Result<Vec<Contender>> {
    let mut all = vec![Contender::Native];
    match &options.subjects {
        Some(subjects) => all.extend(subjects),
        None => {
            all.push(Contender::Hostel);
            if wasmtime {
                all.push(Contender::Wasmtime);
            } else {
                eprintln!(
                    "no `wasmtime` on PATH: the comparison with `wasmtime serve` is left out"
                );
            }
        }
    }
    ensure!(
        wasmtime || !all.contains(&Contender::Wasmtime),
        "no `wasmtime` on PATH; leave it out of --subjects, or install it"
    );
    Ok(all)
}

/// Tells the reason at once, and returns it for the row.
fn loud(contender: Contender, kind: &Kind, error: &anyhow::Error) -> String {
    eprintln!("INVALID {} {}: {error:#}", kind.name, contender.name());
    error.to_string()
}

fn list(errors: &[(String, u64)]) -> String {
    let parts: Vec<String> = errors
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    parts.join(", ")
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// Runs a build step with the terminal's own output.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().context("`cargo` could not be started")?;
    ensure!(
        status.success(),
        "`cargo {:?}` failed ({status})",
        command.get_args().collect::<Vec<_>>()
    );
    Ok(())
}

/// The repository: the nearest folder from `start` upwards that has this bench in it.
fn root(start: &Path) -> Result<PathBuf> {
    let mut folders = start.ancestors();
    let found = folders.find(|folder| folder.join("bench/native/Cargo.toml").is_file());
    let found =
        found.with_context(|| format!("{} is not inside the repository", start.display()))?;
    Ok(found.to_owned())
}

/// The executable called `name` in one of PATH's folders.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| {
            fs::metadata(file)
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Options {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Options::parse(&args).unwrap()
    }

    #[test]
    fn the_control_always_runs_first_and_wasmtime_only_where_it_is() {
        use Contender::{Hostel, Native, Wasmtime};
        assert_eq!(
            contenders(&options(&[]), true).unwrap(),
            [Native, Hostel, Wasmtime]
        );
        assert_eq!(contenders(&options(&[]), false).unwrap(), [Native, Hostel]);
        let asked = options(&["--subjects", "wasmtime"]);
        assert_eq!(contenders(&asked, true).unwrap(), [Native, Wasmtime]);
        let error = contenders(&asked, false).unwrap_err().to_string();
        assert!(error.contains("no `wasmtime` on PATH"), "{error}");
    }

    #[test]
    fn no_bench_and_an_unknown_bench_are_errors_that_name_the_one_there_is() {
        for args in [vec![], vec!["sql".to_owned()]] {
            let error = main(args).unwrap_err().to_string();
            assert!(error.contains("there are http"), "{error}");
        }
    }

    #[test]
    fn the_repository_is_found_from_a_folder_inside_and_missed_outside() {
        let here = std::env::current_dir().unwrap();
        let folder = std::env::temp_dir().join(format!("hostel-root-{}", std::process::id()));
        let inside = folder.join("crates/app");
        fs::create_dir_all(&inside).unwrap();
        assert!(root(&inside).is_err());
        fs::create_dir_all(folder.join("bench/native")).unwrap();
        fs::write(folder.join("bench/native/Cargo.toml"), "").unwrap();
        assert_eq!(root(&inside).unwrap(), folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(std::env::current_dir().unwrap(), here);
    }

    #[test]
    fn a_folder_for_the_results_that_cannot_be_made_is_an_error_before_the_run() {
        let out = ["http", "--out", "/proc/no-such-folder/result.json"];
        let error = main(out.map(str::to_owned).to_vec()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("cannot create /proc/no-such-folder"),
            "{error}"
        );
    }

    #[test]
    fn programs_are_found_on_path() {
        assert!(on_path("sh").is_some());
        assert_eq!(on_path("no-such-program-anywhere"), None);
    }

    #[test]
    fn a_build_step_that_fails_is_an_error() {
        let error = run(Command::new("false").arg("build")).unwrap_err();
        assert!(error.to_string().contains("failed"), "{error}");
        assert!(run(&mut Command::new("./no-such-program")).is_err());
    }

    #[test]
    fn missing_files_are_errors_that_say_what_builds_them() {
        let options = options(&["--kinds", "p2-fresh", "--hostel", "/bin/sh"]);
        let programs = Programs {
            native: "/bin/sh".into(),
            hostel: "/bin/sh".into(),
            wasmtime: PathBuf::new(),
            guests: "no-such-folder".into(),
            root: "no-such-folder".into(),
            upstream: None,
            core: 0,
            scratch: Scratch::new().unwrap(),
        };
        let load = Load::find(Path::new("bench"), 1, |_| Some("wrk".into())).unwrap();
        let contenders = vec![Contender::Native, Contender::Hostel];
        let mut bench = Bench {
            options: &options,
            contenders,
            programs,
            load,
            cores: (0, 1),
            upstream: None,
        };
        let error = bench.check_files().unwrap_err().to_string();
        assert!(error.contains("`cargo xtask guests`"), "{error}");
        bench.programs.hostel = "no-such-hostel".into();
        let error = bench.check_files().unwrap_err().to_string();
        assert!(error.contains("no-such-hostel is not there"), "{error}");
        // A subject that cannot be started makes its row invalid and nothing else.
        let kind = options.kinds[0];
        bench.programs.hostel = "/bin/false".into();
        let reason = bench.rehearse(Contender::Hostel, kind).unwrap();
        assert!(reason.contains("ended before it listened"), "{reason}");
    }
}
