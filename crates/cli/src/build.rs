//! `hostel build`: the build commands of a manifest, one after the other, each in a shell in the manifest's folder.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

use hostel_app::{BuildStep, build_steps};
use serde::Serialize;

use crate::args::{Format, FormatFlag};
use crate::failure::{Failure, Kind, Problem};
use crate::output;

/// The flags of `hostel build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The manifest, or the folder that it is in.
    #[arg(default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// The result in JSON.
#[derive(Debug, Serialize)]
struct Report {
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    component: String,
    command: String,
    millis: u64,
}

/// Where the output of the build commands goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Each to its own.
    Inherit,
    /// Both to standard error, because standard output carries data.
    Stderr,
    /// Both to standard output, because the first line of standard error is promised to programs.
    Stdout,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let streams = match args.format.format {
        Format::Human => Streams::Inherit,
        Format::Json => Streams::Stderr,
    };
    let report = Report {
        steps: build(&args.path, streams)?,
    };
    output::data(args.format.format, &report, || {
        match report.steps.as_slice() {
            [] => "nothing to build: no component has a `build` command\n".to_owned(),
            steps => steps.iter().map(in_words).collect(),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn in_words(step: &Step) -> String {
    format!(
        "built {} in {}\n",
        step.component,
        output::seconds(step.millis)
    )
}

/// Runs every build command of the manifest at `path`; the first that fails ends it.
fn build(path: &Path, streams: Streams) -> Result<Vec<Step>, Failure> {
    build_steps(path)?
        .into_iter()
        .map(|step| run(step, streams))
        .collect()
}

/// For `hostel up --build`.
pub(crate) fn all(path: &Path, streams: Streams) -> Result<(), Failure> {
    build(path, streams).map(drop)
}

fn run(step: BuildStep, streams: Streams) -> Result<Step, Failure> {
    let begin = Instant::now();
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(&step.command)
        .current_dir(&step.dir)
        .stdin(Stdio::null());
    match streams {
        Streams::Inherit => {}
        Streams::Stderr => drop(shell.stdout(io::stderr())),
        Streams::Stdout => drop(shell.stderr(io::stdout())),
    }
    let status = shell
        .status()
        .map_err(|error| failed(&step, &format!("the shell `sh` did not start: {error}")))?;
    if !status.success() {
        return Err(failed(&step, &in_words_of(status)));
    }
    Ok(Step {
        component: step.component,
        command: step.command,
        millis: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn in_words_of(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("its build command exited with code {code}"),
        None => format!("its build command was ended by a signal ({status})"),
    }
}

fn failed(step: &BuildStep, why: &str) -> Failure {
    let problem = Problem {
        component: Some(step.component.clone()),
        what: format!("{why}: {}", step.command),
        help: Some(format!(
            "mend what the command reports; it ran in {}",
            step.dir.display()
        )),
        ..Problem::default()
    };
    Failure::of(Kind::Build, vec![problem])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(command: &str) -> BuildStep {
        BuildStep {
            component: "web".into(),
            command: command.into(),
            dir: std::env::temp_dir(),
        }
    }

    #[test]
    fn a_command_runs_in_the_folder_of_the_manifest() {
        let command = format!(
            "test \"$(pwd -P)\" = \"$(cd '{}' && pwd -P)\"",
            std::env::temp_dir().display()
        );
        let done = run(step(&command), Streams::Inherit).expect("success");
        assert_eq!((done.component.as_str(), done.command), ("web", command));
    }

    #[test]
    fn a_failing_command_names_the_component_and_its_code() {
        for (command, what) in [
            ("exit 7", "its build command exited with code 7: exit 7"),
            ("kill -9 $$", "its build command was ended by a signal"),
        ] {
            let failure = run(step(command), Streams::Inherit).expect_err(command);
            let problem = &failure.problems[0];
            assert_eq!(problem.component.as_deref(), Some("web"));
            assert!(problem.what.starts_with(what), "{}", problem.what);
        }
        let nowhere = BuildStep {
            dir: "/nowhere-at-all".into(),
            ..step("true")
        };
        let failure = run(nowhere, Streams::Inherit).expect_err("no folder");
        assert!(failure.problems[0].what.contains("did not start"));
    }
}
