//! From a path to an [`crate::App`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::app::Resolved;
use crate::error::ManifestErrors;
use crate::grant::{FileGrant, GrantArg};

/// What the command line adds; applied to every component.
#[derive(Debug, Clone, Default)]
pub struct Operator {
    /// `--env NAME=VALUE`; replaces a variable of the same name in the manifest.
    pub env: Vec<(String, String)>,
    /// `--dir HOST::GUEST`.
    pub dirs: Vec<FileGrant>,
    /// `--grant KIND=VALUE`.
    pub grants: Vec<GrantArg>,
    /// `--var NAME=VALUE`: values for the manifest's `[variables]`.
    pub vars: BTreeMap<String, String>,
    /// `--limit NAME=VALUE`, names and values as in the manifest.
    pub limits: Vec<(String, String)>,
}

/// One component's build command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildStep {
    /// The component's name.
    pub component: String,
    /// What the author wrote, for a shell.
    pub command: String,
    /// The manifest's folder, where the command runs.
    pub dir: PathBuf,
}

/// Reads the manifest (or the bare component) at `path` and everything that it names.
///
/// # Errors
/// Everything that is wrong, not only the first.
pub fn resolve(path: &Path, operator: &Operator) -> Result<Resolved, ManifestErrors> {
    let _ = (path, operator);
    Err(ManifestErrors(Vec::new()))
}

/// The build commands of the manifest at `path`, in the order of the components' names; none for a bare component.
///
/// # Errors
/// As [`resolve`], except that the components need not exist yet.
pub fn build_steps(path: &Path) -> Result<Vec<BuildStep>, ManifestErrors> {
    let _ = path;
    Err(ManifestErrors(Vec::new()))
}
