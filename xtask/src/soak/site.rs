//! What every row starts from: the binary, the guests, a folder of its own, and servers of an app with an attacker and B.
//!
//! An app here has the components that a row names, each below the route of its name, and `b`: the good neighbour.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::judge::Held;
use super::probe::{self, Probe};
use super::random::Random;
use crate::bench::proc::{self, Usage};
use crate::bench::server::{Server, pause};

/// How long B is probed before the attack.
const UNLOADED: Duration = Duration::from_secs(5);

/// What p99 B has alone at most where nothing else runs.
const QUIET: Duration = Duration::from_millis(10);

/// How long a server may rest before what it holds is taken for what it keeps.
pub(super) const REST: Duration = Duration::from_secs(1);

/// The guest of B.
const GOOD: &str = "hello-p2";

/// The run.
pub(super) struct Site {
    pub(super) binary: PathBuf,
    pub(super) guests: PathBuf,
    pub(super) scratch: PathBuf,
    pub(super) scale: f64,
    pub(super) seed: u64,
}

/// A component of an attacked app.
pub(super) struct Part {
    /// Its name, and its route.
    pub(super) name: String,
    /// The guest's file, without `.wasm`.
    pub(super) guest: String,
    /// Lines of its table of limits.
    pub(super) limits: String,
}

impl Part {
    pub(super) fn new(name: &str, guest: &str, limits: &str) -> Part {
        Part {
            name: name.to_owned(),
            guest: guest.to_owned(),
            limits: limits.to_owned(),
        }
    }
}

/// A served app.
pub(super) struct Target {
    pub(super) server: Server,
    pub(super) address: SocketAddr,
    pub(super) pid: u32,
}

impl Site {
    /// A number of the table, scaled; at least 1.
    pub(super) fn count(&self, full: u64) -> u64 {
        ((full as f64 * self.scale).round() as u64).max(1)
    }

    /// A time of the table, scaled; at least half a second.
    pub(super) fn time(&self, full: Duration) -> Duration {
        full.mul_f64(self.scale).max(Duration::from_millis(500))
    }

    /// The random numbers of a row.
    pub(super) fn random(&self, row: &str) -> Random {
        Random::new(self.seed, row)
    }

    /// The file of a guest, which must be there.
    pub(super) fn guest(&self, name: &str) -> Result<PathBuf> {
        let path = self.guests.join(format!("{name}.wasm"));
        ensure!(
            path.is_file(),
            "the guest {name} is not there; `cargo xtask guests` builds it"
        );
        Ok(path)
    }

    /// A folder in the scratch folder, made anew.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    /// Writes an app of these parts and B.
    pub(super) fn app(&self, parts: &[Part]) -> Result<PathBuf> {
        let folder = self.folder("app")?;
        let good = Part::new("b", GOOD, "");
        for part in parts.iter().chain([&good]) {
            let file = format!("{}.wasm", part.guest);
            fs::copy(self.guest(&part.guest)?, folder.join(file))?;
        }
        fs::write(folder.join("hostel.toml"), manifest(parts, &good))?;
        Ok(folder)
    }

    /// Serves these parts beside B.
    pub(super) fn serve(&self, parts: &[Part]) -> Result<Target> {
        self.serve_with(parts, &[])
    }

    /// The same with further flags of `hostel up`.
    pub(super) fn serve_with(&self, parts: &[Part], flags: &[&str]) -> Result<Target> {
        let app = self.app(parts)?;
        let mut command = self.up(&app);
        command.args(flags);
        Target::of(Server::start("hostel", command)?)
    }

    /// The command that serves `app` on a free loopback port.
    pub(super) fn up(&self, app: &Path) -> Command {
        // No server outlives a run that was killed and could not clean up.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(&self.binary);
        command.arg("up").arg(app).arg("--data").arg(self.data());
        command.args(["--listen", "127.0.0.1:0"]);
        command
    }

    /// Where compiled code is kept between the rows.
    pub(super) fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// Probes B alone, then during the attack; fails where the server did not survive.
    pub(super) fn under_attack<T>(
        &self,
        target: &mut Target,
        attack: impl FnOnce(&Target) -> Result<T>,
    ) -> Result<(Held, T)> {
        let unloaded = probe::measure(target.address, self.time(UNLOADED))?;
        if unloaded.failed() > 0 {
            bail!("B failed before the attack: {unloaded:?}");
        }
        let alone = unloaded.percentile(0.99);
        if alone > QUIET {
            eprintln!("  B alone has a p99 of {alone:?}: this machine is busy, believe no latency");
        }
        let probe = Probe::start(target.address);
        let outcome = attack(target);
        let loaded = probe.stop()?;
        target.server.check_alive()?;
        ensure!(
            !target.server.panicked(),
            "the server panicked: its standard error says so"
        );
        Ok((Held { unloaded, loaded }, outcome?))
    }
}

impl Target {
    pub(super) fn of(server: Server) -> Result<Target> {
        let (address, pid) = (server.address(), server.pid());
        Ok(Target {
            server,
            address,
            pid,
        })
    }

    /// Resident bytes after a moment of rest.
    pub(super) fn rested(&self) -> Result<u64> {
        pause(REST);
        proc::resident_bytes(self.pid)
    }

    /// The share of one CPU that the server uses over the next `time`.
    pub(super) fn busy(&self, time: Duration) -> Result<f64> {
        let before = Usage::read(self.pid)?;
        pause(time);
        let after = Usage::read(self.pid)?;
        Ok(after.cpu_ns_since(&before) as f64 / time.as_nanos() as f64)
    }
}

fn manifest(parts: &[Part], good: &Part) -> String {
    let mut text = "[app]\nname = \"soak\"\n".to_owned();
    for part in parts.iter().chain([good]) {
        let Part {
            name,
            guest,
            limits,
        } = part;
        // Writing to a string cannot fail.
        write!(
            text,
            "\n[component.{name}]\nsource = \"{guest}.wasm\"\n\n[component.{name}.limits]\n{limits}\n\n\
             [[http]]\nroute = \"/{name}/...\"\ncomponent = \"{name}\"\n"
        )
        .ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(scale: f64) -> Site {
        Site {
            binary: "hostel".into(),
            guests: "no-such-folder".into(),
            scratch: std::env::temp_dir().join(format!("hostel-site-{}", std::process::id())),
            scale,
            seed: 1,
        }
    }

    #[test]
    fn sizes_and_times_shrink_to_a_least() {
        assert_eq!(site(1.0).count(10_000), 10_000);
        assert_eq!(site(0.01).count(10_000), 100);
        assert_eq!(site(0.01).count(3), 1);
        let minute = Duration::from_secs(60);
        assert_eq!(site(1.0).time(minute), minute);
        assert_eq!(site(0.5).time(minute), minute / 2);
        assert_eq!(site(0.01).time(minute), Duration::from_millis(600));
    }

    #[test]
    fn a_manifest_has_every_part_below_its_route_and_b() {
        let part = Part::new("a", "loop-p2", "cpu = \"1s\"");
        let text = manifest(&[part], &Part::new("b", GOOD, ""));
        assert!(text.contains("[component.a]\nsource = \"loop-p2.wasm\""));
        assert!(text.contains("[component.a.limits]\ncpu = \"1s\"\n"));
        assert!(text.contains("route = \"/a/...\"\ncomponent = \"a\""));
        assert!(text.contains("route = \"/b/...\"\ncomponent = \"b\""));
        assert_eq!(probe::PATH, "/b/");
    }

    #[test]
    fn a_missing_guest_is_named_with_what_builds_it() {
        let error = site(1.0).guest("bomb-p2").unwrap_err().to_string();
        assert!(error.contains("bomb-p2") && error.contains("cargo xtask guests"));
    }
}
