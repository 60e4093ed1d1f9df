//! Everything that ends a command early, with its exit code.
//!
//! Exit codes: 0 success, 1 what was asked about or to be run is wrong, 2 the command line is wrong (clap's), and under
//! `hostel run` the program's own, or that of the fault that ended it (`hostel_host::Fault::row`).

use std::path::Path;
use std::process::ExitCode;

use hostel_app::error::ManifestErrors;
use hostel_app::{App, Component, Source};
use hostel_host::detect::DetectError;
use hostel_host::{Fault, LoadError};
use hostel_server::{DeployError, ReplaceError, ServeError};
use serde::Serialize;

/// Who has to act; the `kind` of an error in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The manifest or a file that it names.
    Manifest,
    /// A component that cannot be read, compiled or linked.
    Component,
    /// A build command failed.
    Build,
    /// A backend that the operator's file names.
    Backend,
    /// The command line does not fit what it names.
    Usage,
    /// The program under `hostel run` or `hostel call` ended in a fault.
    Fault,
    /// The machine or its settings: a port in use, a folder that cannot be written.
    Host,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Problem {
    /// For a manifest: the kind of mistake, stable for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<hostel_app::error::Kind>,
    /// The file as the user named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// Line from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    /// Column in characters from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<usize>,
    /// The component's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) component: Option<String>,
    /// What is wrong.
    pub(crate) what: String,
    /// The way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
    /// The whole problem as text, where its maker lays it out better than this crate could.
    #[serde(skip)]
    pub(crate) laid_out: Option<String>,
}

/// Why a command failed: one kind, one or more problems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    kind: Kind,
    pub(crate) problems: Vec<Problem>,
    #[serde(skip)]
    exit_code: u8,
}

impl Failure {
    /// One problem without a place; exit code 1.
    pub(crate) fn new(kind: Kind, what: impl Into<String>, help: impl Into<String>) -> Self {
        let problem = Problem {
            what: what.into(),
            help: Some(help.into()),
            ..Problem::default()
        };
        Self {
            kind,
            problems: vec![problem],
            exit_code: 1,
        }
    }

    /// The command line does not fit what it names; exit code 2.
    pub(crate) fn usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            exit_code: 2,
            ..Self::new(Kind::Usage, what, help)
        }
    }

    /// A guest failed in another process.
    pub(crate) fn fault(what: String, exit_code: u8) -> Self {
        Self {
            exit_code,
            ..Self::of(Kind::Fault, vec![what.into()])
        }
    }

    /// Several problems at once; exit code 1.
    pub(crate) fn of(kind: Kind, problems: Vec<Problem>) -> Self {
        Self {
            kind,
            problems,
            exit_code: 1,
        }
    }

    /// What a library says in one text: the way out follows `help: ` on a line of its own.
    pub(crate) fn saying(kind: Kind, text: &str) -> Self {
        let (what, help) = text
            .split_once("\n  help: ")
            .map_or((text, None), |(what, help)| (what, Some(help)));
        let problem = Problem {
            what: what.to_owned(),
            help: help.map(str::to_owned),
            ..Problem::default()
        };
        Self::of(kind, vec![problem])
    }

    /// Names the file of every problem that is about a component of `app`.
    pub(crate) fn in_app(mut self, app: &App) -> Self {
        for problem in self
            .problems
            .iter_mut()
            .filter(|problem| problem.file.is_none())
        {
            let named =
                |component: &&Component| Some(&component.name) == problem.component.as_ref();
            if let Some(Component {
                source: Source::File(path),
                ..
            }) = app.components.iter().find(named)
            {
                problem.file = Some(path.display().to_string());
            }
        }
        self
    }

    /// Names the file that every problem without a place is about.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        for problem in self
            .problems
            .iter_mut()
            .filter(|problem| problem.file.is_none())
        {
            problem.file = Some(path.display().to_string());
        }
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit_code)
    }
}

impl From<ManifestErrors> for Failure {
    fn from(errors: ManifestErrors) -> Self {
        let problem = |error: hostel_app::error::ManifestError| Problem {
            kind: Some(error.kind),
            laid_out: Some(error.to_string()),
            file: Some(error.file),
            line: error.line,
            column: error.column,
            component: None,
            what: error.what,
            help: error.help,
        };
        Self::of(Kind::Manifest, errors.0.into_iter().map(problem).collect())
    }
}

impl From<String> for Problem {
    fn from(what: String) -> Self {
        Self {
            what,
            ..Self::default()
        }
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        Self {
            component: Some(error.component).filter(|name| !name.is_empty()),
            what: error.what,
            help: Some(error.help),
            ..Self::default()
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let kind = if error.component.is_empty() {
            Kind::Host
        } else {
            Kind::Component
        };
        Self::of(kind, vec![error.into()])
    }
}

impl From<DetectError> for Failure {
    fn from(error: DetectError) -> Self {
        Self::new(Kind::Component, error.what, error.help)
    }
}

impl From<DeployError> for Failure {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Load(error) => error.into(),
            other => Self::saying(Kind::Manifest, &other.to_string()),
        }
    }
}

impl From<ReplaceError> for Failure {
    fn from(error: ReplaceError) -> Self {
        match error {
            ReplaceError::Deploy(error) => error.into(),
            ReplaceError::Start { component, fault } => {
                let problem = Problem {
                    component: Some(component),
                    what: format!("no instance of it can be made: {fault}"),
                    help: Some("mend what it does before its first call".to_owned()),
                    ..Problem::default()
                };
                Self::of(Kind::Component, vec![problem])
            }
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Self::saying(Kind::Host, &error.to_string())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let problem = Problem {
            what: fault.to_string(),
            ..Problem::default()
        };
        Self {
            kind: Kind::Fault,
            problems: vec![problem],
            exit_code: fault.row().exit_code,
        }
    }
}

/// A file that cannot be read, in words.
pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let (what, help) = match error.kind() {
        std::io::ErrorKind::NotFound => (
            "the file does not exist".to_owned(),
            "check the path; build the guest if it is yet to be built",
        ),
        std::io::ErrorKind::PermissionDenied => (
            "the file may not be read (permission denied)".to_owned(),
            "change its permissions, or run as its owner",
        ),
        std::io::ErrorKind::IsADirectory => (
            "this is a folder, not a .wasm or .wat file".to_owned(),
            "name a file in it; for an app use `hostel check` or `hostel up`",
        ),
        _ => (
            format!("the file cannot be read: {error}"),
            "check the file and the disk that it is on",
        ),
    };
    Failure::new(Kind::Component, what, help).in_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_keep_their_exit_codes() {
        assert_eq!(Failure::from(Fault::Trap("x".into())).exit_code, 134);
        assert_eq!(Failure::from(Fault::Memory(1)).exit_code, 137);
        assert_eq!(Failure::new(Kind::Host, "x", "y").exit_code, 1);
    }

    #[test]
    fn the_way_out_is_found_in_one_text() {
        let failure = Failure::from(ServeError::NoAddress);
        assert_eq!(failure.problems[0].what, "there is no address to listen on");
        assert_eq!(
            failure.problems[0].help.as_deref(),
            Some("give one with `--listen 127.0.0.1:3000`")
        );
        assert_eq!(
            Failure::from(ServeError::ThreadEnded).problems[0].help,
            None
        );
    }

    #[test]
    fn files_that_cannot_be_read_say_why() {
        use std::io::{Error, ErrorKind};
        for (kind, what) in [
            (ErrorKind::NotFound, "does not exist"),
            (ErrorKind::PermissionDenied, "permission denied"),
            (ErrorKind::IsADirectory, "this is a folder"),
            (ErrorKind::StorageFull, "the file cannot be read"),
        ] {
            let problem = &unreadable(Path::new("a.wasm"), &Error::from(kind)).problems[0];
            assert!(problem.what.contains(what), "{problem:?}");
            assert_eq!(problem.file.as_deref(), Some("a.wasm"));
        }
    }

    #[test]
    fn json_has_only_what_is_known() {
        let failure = Failure::new(Kind::Component, "w", "h").in_file(Path::new("a.wasm"));
        assert_eq!(
            serde_json::to_string(&failure).expect("JSON"),
            r#"{"kind":"component","problems":[{"file":"a.wasm","what":"w","help":"h"}]}"#
        );
    }

    #[test]
    fn a_load_error_of_the_host_is_not_the_component_s() {
        let load = |component: &str| LoadError {
            component: component.into(),
            what: "w".into(),
            help: "h".into(),
        };
        assert_eq!(Failure::from(load("")).kind, Kind::Host);
        assert_eq!(
            Failure::from(load("web")).problems[0].component.as_deref(),
            Some("web")
        );
    }
}
