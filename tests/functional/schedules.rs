//! Schedules: programs, exports and requests at the times that a manifest names, through restarts and clocks that are set.
//!
//! `HOSTEL_CLOCK` names a file that says how many milliseconds the host's clock is off; builds with debug assertions read it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::app::App;
use crate::harness::command::hostel_in;
use crate::harness::eventually;
use crate::harness::message::request;
use crate::harness::server::{Server, refused_start};

/// Every second.
const OFTEN: &str = "* * * * * *";

/// How a guest says for which time it runs.
const TIME: &str = "env HOSTEL_CRON_TIME=";

/// An app with a data directory and a clock of its own.
struct Scheduled {
    app: App,
    data: TempDir,
    server: Server,
}

impl Scheduled {
    fn new(manifest: &str) -> Self {
        Self::at("0", manifest)
    }

    /// With a clock that is set before the start.
    fn at(clock: &str, manifest: &str) -> Self {
        let app = App::new(&format!("[app]\nname = \"test\"\n{manifest}"));
        let data = tempfile::tempdir().expect("a folder");
        fs::write(Self::clock(&data), clock).expect("a file");
        let server = Self::launch(&app, &data);
        Self { app, data, server }
    }

    fn launch(app: &App, data: &TempDir) -> Server {
        let clock = Self::clock(data).display().to_string();
        let flags = ["--threads", "2"];
        Server::launch_with_env(
            app.folder(),
            data.path(),
            &flags,
            &[("HOSTEL_CLOCK", clock)],
        )
    }

    fn clock(data: &TempDir) -> PathBuf {
        data.path().join("clock")
    }

    /// Sets the clock: so many milliseconds beside the system's, or with `=` in front where it stands still.
    fn set_clock(&self, clock: &str) {
        let new = self.data.path().join("clock.new");
        fs::write(&new, clock).expect("a file");
        // Never half written.
        fs::rename(new, Self::clock(&self.data)).expect("another name");
    }

    /// The same app in another process, on the same data.
    fn again(&mut self) {
        self.server = Self::launch(&self.app, &self.data);
    }

    fn said(&self) -> String {
        self.server.stdout().text()
    }

    /// Waits until the guests' output says this so often.
    fn says(&self, text: &str, times: usize) {
        eventually(text, || {
            (self.said().matches(text).count() >= times).then_some(())
        });
    }

    /// Waits for one of the host's own lines.
    fn logs(&self, parts: &[&str]) {
        let stderr = self.server.stderr();
        eventually(parts[0], || {
            let text = stderr.text();
            let mut lines = text.lines();
            lines
                .any(|line| parts.iter().all(|part| line.contains(part)))
                .then_some(())
        });
    }

    /// The times that runs have told so far, each as often as it was told.
    fn times(&self) -> Vec<String> {
        let said = self.said();
        // A process that is killed may leave half of its last line.
        let lines = said
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let times = lines.filter_map(|line| Some(line.trim_end().split_once(TIME)?.1.to_owned()));
        times.collect()
    }
}

/// A program by this name, run as this schedule says.
fn program(name: &str, guest: &str, settings: &str) -> String {
    format!(
        "[component.{name}]\nsource = \"{guest}.wasm\"\n\n[[cron]]\ncomponent = \"{name}\"\n{settings}\n"
    )
}

#[test]
fn programs_of_every_generation_run_at_their_times() {
    let guests = ["p1", "p2", "p3"].map(|generation| {
        let settings = format!("schedule = \"{OFTEN}\"\nname = \"often\"\nargs = [\"0\", \"x\"]");
        let settings = settings.replace("often", &format!("often-{generation}"));
        program(generation, &format!("run-exit-{generation}"), &settings)
    });
    let scheduled = Scheduled::new(&guests.concat());
    for generation in ["p1", "p2", "p3"] {
        scheduled.says(&format!("env HOSTEL_CRON=often-{generation}"), 2);
    }
    scheduled.says("arg 2: x", 6);
    let text = scheduled.said();
    let line = text
        .lines()
        .find(|line| line.contains(TIME))
        .expect("a time");
    // `[p1 0123456789abcdef out] env HOSTEL_CRON_TIME=2026-11-20T06:00:00Z`
    assert!(
        line.starts_with('[') && line.ends_with("Z") && line.contains("T"),
        "{line}"
    );
}

/// A core module that says so when its export is called.
const MODULE: &str = r#"
[component.module]
source = '''(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\06\00\00\00")
  (data (i32.const 16) "swept\n")
  (func (export "sweep") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))'''

[[cron]]
component = "module"
export = "sweep"
schedule = "* * * * * *"
"#;

#[test]
fn an_export_is_called() {
    let scheduled = Scheduled::new(MODULE);
    scheduled.says("swept", 2);
}

#[test]
fn an_export_that_is_not_there_is_an_error_at_the_start() {
    let manifest = MODULE.replace("export = \"sweep\"", "export = \"swep\"");
    let app = App::new(&format!("[app]\nname = \"test\"\n{manifest}"));
    let checked = hostel_in(app.folder(), &["check"]).failure(1);
    for told in [refused_start(app.folder(), &[]), checked] {
        for part in ["module", "swep"] {
            assert!(told.contains(part), "{told}");
        }
    }
}

const REQUESTS: &str = r#"
[component.web]
source = "sweep-p2.wasm"

[[http]]
route = "/..."
component = "web"

[[cron]]
component = "web"
name = "sweep"
path = "/sweep?all=1"
schedule = "* * * * * *"
"#;

#[test]
fn a_path_is_requested_and_no_client_can_pretend_to_be_a_schedule() {
    let scheduled = Scheduled::new(REQUESTS);
    scheduled.says("POST /sweep?all=1 at web.test.internal for sweep 2", 2);
    let fields = [
        ("Hostel-Cron", "sweep"),
        ("Hostel-Cron-Time", "2026-11-20T06:00:00Z"),
    ];
    let answer = scheduled
        .server
        .connect()
        .ask(&request("POST", "/sweep", &fields, ""));
    assert_eq!(answer.status, 200);
    scheduled.says("POST /sweep at localhost for - -", 1);
}

#[test]
fn a_run_that_fails_is_told_with_its_schedule_and_its_time() {
    let badly = program(
        "badly",
        "run-exit-p1",
        "schedule = \"* * * * * *\"\nargs = [\"3\"]",
    );
    let trap = program(
        "trap",
        "run-exit-p2",
        "schedule = \"* * * * * *\"\nargs = [\"trap\"]",
    );
    let web = REQUESTS.replace("all=1", "code=500");
    let scheduled = Scheduled::new(&format!("{badly}{trap}{web}"));
    scheduled.logs(&[
        "component=badly",
        "schedule=badly-1 time=2",
        "it exited with code 3",
    ]);
    scheduled.logs(&["fault=trap component=trap", "schedule=trap-1 time=2"]);
    scheduled.logs(&["component=web", "schedule=sweep time=2", "it answered 500"]);
}

#[test]
fn no_time_has_two_runs_through_kills_and_restarts() {
    let mut scheduled = Scheduled::new(&program(
        "often",
        "run-exit-p1",
        "schedule = \"* * * * * *\"\nmissed = \"all\"\noverlap = \"queue\"",
    ));
    let mut all = BTreeSet::new();
    for round in 0..6 {
        eventually("a run", || (!scheduled.times().is_empty()).then_some(()));
        if round % 2 == 0 {
            scheduled.server.signal(Signal::KILL);
        } else {
            scheduled.server.signal(Signal::TERM);
        }
        scheduled.server.end();
        // What came before the end may still be on its way through the pipe.
        scheduled.server.stdout().to_the_end();
        for time in scheduled.times() {
            assert!(all.insert(time.clone()), "{time} ran twice");
        }
        scheduled.again();
    }
    assert!(all.len() >= 6, "{all:?}");
}

#[test]
fn no_time_has_two_runs_when_the_clock_is_set() {
    let often = program("often", "run-exit-p1", "schedule = \"* * * * * *\"");
    let scheduled = Scheduled::new(&often);
    let runs = |from: usize| {
        eventually("runs", || {
            (scheduled.times().len() >= from + 2).then(|| scheduled.times().len())
        })
    };
    let mut count = runs(0);
    let decade: i64 = 10 * 365 * 24 * 3600;
    for seconds in [3600, 0, decade, 0, -decade, 0, -3600, -1, 0] {
        scheduled.set_clock(&(seconds * 1000).to_string());
        // After it was set back, times that had their run are waited out: those are a few.
        count = runs(count);
    }
    let times = scheduled.times();
    let different: BTreeSet<&String> = times.iter().collect();
    assert_eq!(different.len(), times.len(), "{times:?}");
    scheduled.server.signal(Signal::TERM);
}

#[test]
fn what_was_missed_while_the_host_was_down_is_made_up() {
    let crons = ["skip", "once", "all"].map(|missed| {
        let settings =
            format!("schedule = \"@hourly\"\nname = \"{missed}\"\nmissed = \"{missed}\"");
        program(missed, "run-exit-p1", &settings)
    });
    // 2026-01-01, half an hour into the day.
    let half_past = |hour: i64| format!("={}", (1_767_225_600 + 1800 + hour * 3600) * 1000);
    let mut scheduled = Scheduled::at(&half_past(0), &crons.concat());
    // The book is written at once; a server that has come to rest has done so.
    scheduled.server.comes_to_rest();
    scheduled.server.signal(Signal::TERM);
    scheduled.server.end();
    scheduled.set_clock(&half_past(3));
    scheduled.again();
    scheduled.says("env HOSTEL_CRON=all", 3);
    scheduled.says("env HOSTEL_CRON=once", 1);
    scheduled.logs(&["no run", "skip since 2026-01-01T01:00:00Z"]);
    scheduled.server.comes_to_rest();
    let said = scheduled.said();
    let count = |text: &str| said.matches(text).count();
    assert_eq!(count("env HOSTEL_CRON=all"), 3, "{said}");
    assert_eq!(count("env HOSTEL_CRON=once"), 1, "{said}");
    assert_eq!(count("env HOSTEL_CRON=skip"), 0, "{said}");
    let times = scheduled.times();
    let last = times.iter().max().expect("a time");
    assert_eq!(
        times.iter().filter(|time| *time == last).count(),
        2,
        "once gets the last one"
    );
}

#[test]
fn a_run_in_flight_is_finished_and_none_begins_after_the_signal() {
    let settings = "schedule = \"* * * * * *\"\nargs = [\"1500\"]";
    let mut scheduled = Scheduled::new(&program("slow", "run-clocks-p1", settings));
    scheduled.says("wall", 1);
    scheduled.server.signal(Signal::TERM);
    assert!(scheduled.server.end().success());
    scheduled.says("slept", 1);
    assert_eq!(scheduled.said().matches("wall").count(), 1);
}

#[test]
fn a_time_that_comes_while_the_last_run_is_going_is_left_out_and_told() {
    let settings = "schedule = \"* * * * * *\"\nargs = [\"2500\"]";
    let scheduled = Scheduled::new(&program("slow", "run-clocks-p1", settings));
    scheduled.logs(&["schedule=slow-1", "left out: the last run is still going"]);
    scheduled.says("slept", 2);
}
