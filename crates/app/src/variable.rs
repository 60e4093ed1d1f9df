//! [`Variable`]: a value that is not written where it is used, and where it comes from.
//!
//! This room describes the places; going to them (a file that may change, the environment) is the host's business.

use std::path::PathBuf;

use crate::secret::Secret;

/// A variable that a component uses and whose value is not part of the app: it may change while the app runs, or nobody is
/// to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Whether the host keeps its value to itself.
    pub secret: bool,
    /// Where its value may be; the first place that has one counts.
    pub origins: Vec<Origin>,
}

/// One place where a value may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It was given: on the command line, in `server.toml`, or as the manifest's default.
    Given(Secret),
    /// The host's environment variable of this name.
    Env(String),
    /// The whole of a file, without the line's end at its end.
    File(PathBuf),
    /// A line of a `.env` file.
    Dotenv {
        /// The file.
        path: PathBuf,
        /// What stands in front of the `=`.
        key: String,
    },
}
