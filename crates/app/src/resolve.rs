//! From a path to an [`crate::App`]: which file it is, and what the command line adds.
//!
//! The result depends on nothing else: no clock, no environment, no network. Whether the components are any good is
//! for the host to find out; their bytes are read here and not looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::Resolved;
use crate::assemble::assemble;
use crate::dialect;
use crate::error::{Kind, ManifestError, ManifestErrors, Report, shown};
use crate::fields::At;
use crate::grant::{FileGrant, GrantArg};
use crate::limits::Limits;
use crate::listen_on::ListenOn;
use crate::manifest::{self, ComponentText, HttpText, Manifest, SourceText};
use crate::read::{self, Input};
use crate::server_config::ServerConfig;

/// What the command line adds; applied to every component. Here the operator speaks, so this beats the manifest.
#[derive(Debug, Clone, Default)]
pub struct Operator {
    /// `--env NAME=VALUE`; replaces a variable of the same name in the manifest.
    pub env: Vec<(String, String)>,
    /// `--dir HOST::GUEST`; replaces a directory of the same name in the manifest.
    pub dirs: Vec<FileGrant>,
    /// `--grant KIND=VALUE`.
    pub grants: Vec<GrantArg>,
    /// `--var NAME=VALUE`: values for the manifest's `[variables]`.
    pub vars: BTreeMap<String, String>,
    /// `--config FILE`: the operator's file.
    pub server: Arc<ServerConfig>,
    /// `--limit NAME=VALUE`, names and values as in the manifest.
    pub limits: Vec<(String, String)>,
    /// `--ceiling NAME=VALUE`: the most that a manifest may ask for; a default above it is lowered to it.
    pub ceilings: Vec<(String, String)>,
}

/// One component's build command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildStep {
    /// The component's name.
    pub component: String,
    /// What the author wrote, for a shell.
    pub command: String,
    /// The manifest's folder, where the command runs; never empty.
    pub dir: PathBuf,
}

/// Reads the manifest (or the bare component) at `path` and everything that it names.
///
/// `path` is a folder with a manifest, a `.toml` file, or a component: a `.wasm` or `.wat` file, or any file that
/// starts with `\0asm`. A bare component is an app of its own that answers every request and has no grants but the
/// operator's.
///
/// # Errors
/// Everything that is wrong, not only the first; a manifest that is not TOML is not looked at any further.
pub fn resolve(path: &Path, operator: &Operator) -> Result<Resolved, ManifestErrors> {
    match read::recognise(path)? {
        Input::Bare(file) => resolve_bare(&file, Limits::default(), operator),
        Input::Manifest(file) => {
            let text = read::manifest(&file)?;
            let mut report = Report::new(&file, &text);
            let resolved = dialect::parse(&mut report, &file).and_then(|manifest| {
                assemble(&mut report, manifest, manifest::folder(&file), operator)
            });
            resolved.ok_or_else(|| report.into_errors())
        }
    }
}

/// Reads one program for the foreground: no deadline, no CPU cap, memory up to its ceiling.
///
/// # Errors
/// As [`resolve`]; a manifest is refused.
pub fn resolve_command(file: &Path, operator: &Operator) -> Result<Resolved, ManifestErrors> {
    match read::recognise(file)? {
        Input::Bare(file) => resolve_bare(&file, Limits::for_command(), operator),
        Input::Manifest(manifest) => {
            let what = "this is a manifest, not a program";
            let help = "name a .wasm or .wat file";
            Err(ManifestError::whole(Kind::NotAManifest, shown(&manifest), what, help).into())
        }
    }
}

/// The build commands of the manifest at `path`, in the order of the components' names; none for a bare component.
///
/// # Errors
/// What is wrong with the text of the manifest; what it names need not exist yet.
pub fn build_steps(path: &Path) -> Result<Vec<BuildStep>, ManifestErrors> {
    let file = match read::recognise(path)? {
        Input::Bare(_) => return Ok(Vec::new()),
        Input::Manifest(file) => file,
    };
    let text = read::manifest(&file)?;
    let mut report = Report::new(&file, &text);
    let manifest = dialect::parse(&mut report, &file)
        .filter(|_| report.is_empty())
        .ok_or_else(|| report.into_errors())?;
    let dir = match manifest::folder(&file) {
        here if here.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    let step = |component: ComponentText| {
        let command = component.build?;
        Some(BuildStep {
            component: component.name,
            command,
            dir: dir.to_owned(),
        })
    };
    Ok(manifest.components.into_iter().filter_map(step).collect())
}

/// The files that decide what [`resolve`] makes of `path`: the manifest, and every component's file, there or not. As far as
/// they can be told: a manifest that is wrong names none.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let file = match read::recognise(path) {
        Ok(Input::Bare(file)) => return vec![file],
        Ok(Input::Manifest(file)) => file,
        Err(_) if path.is_dir() => return read::MANIFESTS.map(|name| path.join(name)).to_vec(),
        Err(_) => return vec![path.to_owned()],
    };
    let text = read::manifest(&file).unwrap_or_default();
    let manifest = dialect::parse(&mut Report::new(&file, &text), &file);
    let sources = manifest
        .into_iter()
        .flat_map(|manifest| manifest.components);
    let folder = manifest::folder(&file);
    let foreign = dialect::is_foreign(&text);
    let named = sources.flat_map(
        |component| match component.source.map(|source| source.value) {
            Some(SourceText::Path(path)) if foreign => read::places(folder, &path),
            Some(SourceText::Path(path)) => vec![folder.join(path)],
            Some(SourceText::Wat(_)) | None => Vec::new(),
        },
    );
    let named: Vec<PathBuf> = named.collect();
    [vec![file], named].concat()
}

/// Where the manifest at `path` says that it is served, if it says so and can be read. Nothing that it names is looked at.
pub fn listens_on(path: &Path) -> Option<ListenOn> {
    let Ok(Input::Manifest(file)) = read::recognise(path) else {
        return None;
    };
    let text = read::manifest(&file).ok()?;
    dialect::parse(&mut Report::new(&file, &text), &file)?.listen
}

/// Whether a folder holds a manifest.
pub fn has_manifest(folder: &Path) -> bool {
    matches!(read::recognise(folder), Ok(Input::Manifest(_)))
}

/// A component without a manifest is the manifest that its author did not have to write.
fn resolve_bare(
    file: &Path,
    limits: Limits,
    operator: &Operator,
) -> Result<Resolved, ManifestErrors> {
    let name = bare_name(file);
    let source = SourceText::Path(PathBuf::from(file.file_name().unwrap_or_default()));
    let component = ComponentText {
        source: Some(At::new(source, 0..0)),
        limits,
        ..ComponentText::new(&name)
    };
    let http = HttpText {
        span: 0..0,
        route: At::new("/...".to_owned(), 0..0),
        host: None,
        methods: None,
        component: At::new(name.clone(), 0..0),
        entrypoint: None,
    };
    let manifest = Manifest {
        name,
        components: vec![component],
        http: vec![http],
        ..Manifest::default()
    };
    let mut report = Report::without_text(file);
    let resolved = assemble(&mut report, manifest, manifest::folder(file), operator);
    resolved.ok_or_else(|| report.into_errors())
}

/// The file's stem, with everything that a name cannot hold replaced.
fn bare_name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    manifest::name_of(&stem.to_string_lossy())
}
