//! The load generator: `wrk` or, where that is missing, `oha`; either keeps its connections alive and is bounded by time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Which generator runs, on which core.
pub(super) struct Load {
    tool: Tool,
    program: PathBuf,
    core: usize,
    /// For `wrk`: the folder of the scripts that print the figures as JSON.
    scripts: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Wrk,
    Oha,
}

/// What the generator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A page, with GET.
    Page,
    /// The answer to a form, with POST and cookies; `bench/post.lua` has the same.
    Form,
}

const FORM: &str = "line=I+was+here&again=yes";
const FORM_TYPE: &str = "Content-Type: application/x-www-form-urlencoded";
const COOKIES: &str = "Cookie: session=0123456789abcdef; seen=3";

/// What one run of the generator saw.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    /// Answers received.
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// Each kind of error with its count; empty for a run that can be used.
    pub(super) errors: Vec<(String, u64)>,
}

impl Load {
    /// Takes the first generator that `look_up` (a search of PATH) finds; `bench` is the repository's folder of that name.
    pub(super) fn find(
        bench: &Path,
        core: usize,
        look_up: impl Fn(&str) -> Option<PathBuf>,
    ) -> Result<Load> {
        let (tool, program) = if let Some(program) = look_up("wrk") {
            (Tool::Wrk, program)
        } else if let Some(program) = look_up("oha") {
            (Tool::Oha, program)
        } else {
            bail!(
                "no load generator: neither `wrk` nor `oha` is on PATH; `apt install wrk` or `cargo install oha` mends it"
            );
        };
        Ok(Load {
            tool,
            program,
            core,
            scripts: bench.to_owned(),
        })
    }

    /// The generator's name and version, for the report.
    pub(super) fn version(&self) -> String {
        let flag = match self.tool {
            Tool::Wrk => "-v",
            Tool::Oha => "--version",
        };
        // wrk answers `-v` with its version, its usage and an exit code of failure.
        let output = Command::new(&self.program).arg(flag).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let line = text.unwrap_or_default();
        let line = line.lines().next().unwrap_or_default();
        let line = line.split(" Copyright").next().unwrap_or_default();
        line.trim().to_owned()
    }

    /// Sends requests to `url` over `connections` connections for `seconds`.
    pub(super) fn run(
        &self,
        url: &str,
        asked: Asked,
        seconds: u32,
        connections: u32,
    ) -> Result<Outcome> {
        let (seconds, connections) = (format!("{seconds}s"), connections.to_string());
        let mut command = Command::new("taskset");
        command.arg("-c").arg(self.core.to_string());
        command.arg(&self.program).stdin(Stdio::null());
        match self.tool {
            Tool::Wrk => {
                command.args(["-t", "1", "-c", &connections, "-d", &seconds, "-s"]);
                command.arg(self.scripts.join(match asked {
                    Asked::Page => "report.lua",
                    Asked::Form => "post.lua",
                }));
            }
            Tool::Oha => {
                command.args(["--no-tui", "--output-format", "json"]);
                command.args(["-c", &connections, "-z", &seconds]);
                if asked == Asked::Form {
                    command.args(["-m", "POST", "-d", FORM, "-H", FORM_TYPE, "-H", COOKIES]);
                }
            }
        }
        let output = command
            .arg(url)
            .output()
            .context("`taskset` (package util-linux) could not be started")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("the load generator failed:\n{text}{errors}");
        }
        match self.tool {
            Tool::Wrk => parse_wrk(&text),
            Tool::Oha => parse_oha(&text),
        }
    }
}

/// Reads the line that `bench/report.lua` prints behind wrk's own text.
fn parse_wrk(text: &str) -> Result<Outcome> {
    let line = text.lines().find(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("wrk printed no figures: {text}"))?;
    let report: Value = serde_json::from_str(line)?;
    let requests = count(&report, "requests")?;
    let duration_us = count(&report, "duration_us")?.max(1);
    let mut errors = Vec::new();
    for kind in ["connect", "read", "write", "status", "timeout"] {
        errors.push((kind.to_owned(), count(&report, kind)?));
    }
    errors.retain(|(_, count)| *count > 0);
    Ok(Outcome {
        requests,
        requests_per_second: requests as f64 * 1e6 / duration_us as f64,
        p50_us: count(&report, "p50_us")? as f64,
        p99_us: count(&report, "p99_us")? as f64,
        errors,
    })
}

/// Reads oha's JSON report; its times are in seconds.
fn parse_oha(text: &str) -> Result<Outcome> {
    let report: Value =
        serde_json::from_str(text).with_context(|| format!("oha printed no JSON: {text}"))?;
    let mut requests = 0;
    let mut errors = Vec::new();
    for (status, count) in table(&report, "statusCodeDistribution")? {
        requests += count;
        if !status.starts_with('2') {
            errors.push((format!("status {status}"), count));
        }
    }
    for (error, count) in table(&report, "errorDistribution")? {
        // What was in flight when the time was up is no error of the server.
        if error != "aborted due to deadline" {
            errors.push((error, count));
        }
    }
    Ok(Outcome {
        requests,
        requests_per_second: requests as f64 / seconds(&report, "/summary/total")?.max(1e-6),
        p50_us: seconds(&report, "/latencyPercentiles/p50")? * 1e6,
        p99_us: seconds(&report, "/latencyPercentiles/p99")? * 1e6,
        errors,
    })
}

fn count(report: &Value, key: &str) -> Result<u64> {
    let value = report.get(key).and_then(Value::as_u64);
    value.with_context(|| format!("the load generator's report has no count `{key}`"))
}

fn seconds(report: &Value, pointer: &str) -> Result<f64> {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.with_context(|| format!("the load generator's report has no time `{pointer}`"))
}

fn table(report: &Value, key: &str) -> Result<Vec<(String, u64)>> {
    let table = report.get(key).and_then(Value::as_object);
    let table = table.with_context(|| format!("the load generator's report has no `{key}`"))?;
    let pairs = table
        .iter()
        .map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(1)));
    Ok(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 2s test\n  39881 requests in 2.08s\n{\"requests\":40000,\"duration_us\":2000000,\
        \"p50_us\":190,\"p99_us\":23506,\"connect\":0,\"read\":0,\"write\":0,\"status\":3,\"timeout\":0}\n";

    #[test]
    fn both_generators_send_the_same_form() {
        let script = include_str!("../../../bench/post.lua");
        for text in [FORM, FORM_TYPE, COOKIES] {
            let value = text.split_once(": ").map_or(text, |(_, value)| value);
            assert!(script.contains(&format!("\"{value}\"")), "{value}");
        }
    }

    #[test]
    fn wrk_figures_and_errors_are_read_from_the_script_line() {
        let outcome = parse_wrk(WRK).unwrap();
        assert_eq!(outcome.requests, 40_000);
        assert_eq!(outcome.requests_per_second, 20_000.0);
        assert_eq!((outcome.p50_us, outcome.p99_us), (190.0, 23_506.0));
        assert_eq!(outcome.errors, [("status".to_owned(), 3)]);
    }

    #[test]
    fn oha_figures_are_seconds_and_its_deadline_is_no_error() {
        let text = r#"{"summary": {"total": 2.0}, "latencyPercentiles": {"p50": 0.001, "p99": 0.25},
            "statusCodeDistribution": {"200": 100, "503": 2},
            "errorDistribution": {"aborted due to deadline": 32, "connection refused": 1}}"#;
        let outcome = parse_oha(text).unwrap();
        assert_eq!(outcome.requests, 102);
        assert_eq!(outcome.requests_per_second, 51.0);
        assert_eq!((outcome.p50_us, outcome.p99_us), (1000.0, 250_000.0));
        let errors = [("status 503", 2), ("connection refused", 1)];
        assert_eq!(outcome.errors, errors.map(|(name, n)| (name.to_owned(), n)));
    }

    #[test]
    fn wrk_is_taken_before_oha_and_having_neither_is_an_error_that_says_what_to_install() {
        let found = |names: &'static [&'static str]| {
            let look_up = move |name: &str| names.contains(&name).then(|| PathBuf::from(name));
            Load::find(Path::new("bench"), 1, look_up)
        };
        assert_eq!(found(&["oha", "wrk"]).unwrap().tool, Tool::Wrk);
        assert_eq!(found(&["oha"]).unwrap().tool, Tool::Oha);
        let error = found(&[]).err().unwrap().to_string();
        assert!(error.contains("apt install wrk"), "{error}");
    }

    #[test]
    fn a_generator_that_fails_is_an_error() {
        let program = PathBuf::from("false");
        let load = Load {
            tool: Tool::Oha,
            program,
            core: 0,
            scripts: PathBuf::new(),
        };
        let error = load
            .run("http://127.0.0.1:9/", Asked::Page, 1, 1)
            .unwrap_err();
        assert!(error.to_string().contains("failed"), "{error}");
    }

    #[test]
    fn a_report_without_figures_is_an_error_that_says_which() {
        let none = parse_wrk("unable to connect").unwrap_err().to_string();
        assert!(none.contains("unable to connect"), "{none}");
        let part = parse_wrk("{\"requests\":1}").unwrap_err().to_string();
        assert!(part.contains("`duration_us`"), "{part}");
        let text = parse_oha("Summary: fine").unwrap_err().to_string();
        assert!(text.contains("no JSON"), "{text}");
        let empty = parse_oha("{}").unwrap_err().to_string();
        assert!(empty.contains("statusCodeDistribution"), "{empty}");
    }
}
