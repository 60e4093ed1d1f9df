//! The only file of this room that opens files: what a path is, and bounded reading.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::dialect;
use crate::error::{Kind, ManifestError, ManifestErrors, shown};
use crate::grant::plain;
use crate::limits;

/// What the user pointed at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A manifest to read.
    Manifest(PathBuf),
    /// A component without a manifest.
    Bare(PathBuf),
}

/// Recognises a folder with a manifest, a manifest, or a bare component.
pub(crate) fn recognise(path: &Path) -> Result<Input, ManifestErrors> {
    let error = |kind, what: String, help: &str| {
        ManifestErrors::from(ManifestError::whole(kind, shown(path), &what, help))
    };
    let found = std::fs::metadata(path).map_err(|found| {
        let help = "name a folder with a hostel.toml, a manifest, or a .wasm or .wat file";
        error(
            Kind::Unreadable,
            format!("cannot open \"{}\": {}", shown(path), plain(&found)),
            help,
        )
    })?;
    if found.is_dir() {
        return in_folder(path).map(Input::Manifest);
    }
    if !found.is_file() {
        return Err(error(
            Kind::NotAManifest,
            "this is neither a file nor a folder".to_owned(),
            "name a folder with a hostel.toml, a manifest, or a .wasm or .wat file",
        ));
    }
    let extension = path
        .extension()
        .map(|extension| extension.to_ascii_lowercase());
    match extension
        .as_deref()
        .and_then(|extension| extension.to_str())
    {
        Some("toml") => Ok(Input::Manifest(path.to_owned())),
        Some("wasm" | "wat") => Ok(Input::Bare(path.to_owned())),
        _ if starts_with_magic(path) => Ok(Input::Bare(path.to_owned())),
        _ => Err(error(
            Kind::NotAManifest,
            "this is neither a manifest nor a component".to_owned(),
            "a manifest ends in .toml; a component ends in .wasm or .wat, or starts with \"\\0asm\"",
        )),
    }
}

/// The names that a manifest has in its folder; one of another host counts only if its content is a manifest's.
pub(crate) const MANIFESTS: [&str; 3] = ["hostel.toml", "modules.toml", "config.toml"];

/// The manifest of a folder: a hostel.toml, else the only file that is one of another host.
fn in_folder(folder: &Path) -> Result<PathBuf, ManifestErrors> {
    let [ours, foreign @ ..] = MANIFESTS.map(|name| folder.join(name));
    if ours.is_file() {
        return Ok(ours);
    }
    let mut unread = None;
    let is_manifest = |file: &PathBuf| match file.is_file().then(|| manifest(file)) {
        Some(Ok(text)) => dialect::is_foreign(&text),
        Some(Err(errors)) => {
            unread = unread.take().or(Some(errors));
            false
        }
        None => false,
    };
    let mut found = foreign.into_iter().filter(is_manifest);
    let error = |what: &str, help: &str| {
        Err(ManifestError::whole(Kind::Unreadable, shown(folder), what, help).into())
    };
    match (found.next(), found.next(), unread) {
        (Some(only), None, _) => Ok(only),
        // It may be the one that is meant.
        (None, _, Some(errors)) => Err(errors),
        (None, _, None) => error(
            "there is no hostel.toml in this folder",
            "name the folder of an app, a manifest, or a .wasm or .wat file",
        ),
        (Some(_), Some(_), _) => error(
            "there is a modules.toml and a config.toml in this folder, and no hostel.toml",
            "name the one that is meant",
        ),
    }
}

/// A path that another host's manifest names: beside the manifest, or else where this command runs, as that host had it.
/// Whether it is the latter.
pub(crate) fn named_elsewhere(folder: &Path, written: &Path) -> (PathBuf, bool) {
    let here = std::path::absolute(written);
    match here {
        Ok(here) if !folder.join(written).exists() && here.exists() => (here, true),
        _ => (written.to_owned(), false),
    }
}

/// Where a file that another host's manifest names is, or may be once it is there.
pub(crate) fn places(folder: &Path, written: &Path) -> Vec<PathBuf> {
    let beside = folder.join(written);
    let same = std::path::absolute(&beside).ok();
    let here = std::path::absolute(written).ok();
    let here = here.filter(|here| same.as_ref() != Some(here) && !beside.exists());
    [beside].into_iter().chain(here).collect()
}

/// A directory as a path inside `folder`, however it was written, if it is there and lies inside.
pub(crate) fn inside(folder: &Path, directory: &Path) -> Option<PathBuf> {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let whole = folder.join(directory).canonicalize().ok()?;
    let rest = whole.strip_prefix(folder.canonicalize().ok()?).ok()?;
    match rest.as_os_str().is_empty() {
        true => Some(PathBuf::from(".")),
        false => Some(rest.to_owned()),
    }
}

/// Whether there is something at a path that a manifest names.
pub(crate) fn is_there(folder: &Path, path: &Path) -> bool {
    folder.join(path).exists()
}

/// The name of the folder that a file is in.
pub(crate) fn folder_name(file: &Path) -> Option<String> {
    let file = std::path::absolute(file).ok()?;
    let name = file.parent()?.file_name()?;
    Some(name.to_string_lossy().into_owned())
}

fn starts_with_magic(path: &Path) -> bool {
    let mut start = [0; 4];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok_and(|()| start == *b"\0asm")
}

/// The text of a manifest.
pub(crate) fn manifest(path: &Path) -> Result<String, ManifestErrors> {
    let what = Document {
        name: "the manifest",
        too_large: "is this really a manifest? Split a large app into several",
    };
    document(path, &what)
}

/// The text of the operator's file.
pub(crate) fn server_config(path: &Path) -> Result<String, ManifestErrors> {
    let what = Document {
        name: "the server's configuration",
        too_large: "is this really a server.toml?",
    };
    document(path, &what)
}

/// A file that people write, in the words of messages about it.
struct Document {
    name: &'static str,
    too_large: &'static str,
}

fn document(path: &Path, document: &Document) -> Result<String, ManifestErrors> {
    let name = document.name;
    let error = |kind, what: &str, help: &str| ManifestError::whole(kind, shown(path), what, help);
    let most = limits::MANIFEST_BYTES_MAX;
    let bytes = bounded(path, most.default).map_err(|found| {
        let what = format!("cannot read {name}: {}", plain(&found));
        error(Kind::Unreadable, &what, "check the file")
    })?;
    let Some(bytes) = bytes else {
        let what = format!("{name} is larger than {}", most.shown());
        return Err(error(Kind::TooLarge, &what, document.too_large).into());
    };
    String::from_utf8(bytes).map_err(|found| {
        let at = found.utf8_error().valid_up_to();
        let good = String::from_utf8_lossy(found.as_bytes().get(..at).unwrap_or(&[]));
        let column = good.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let line = good.matches('\n').count() + 1;
        let what = format!("{name} is not UTF-8");
        ManifestError {
            line: Some(line),
            column: Some(column),
            ..error(Kind::NotUtf8, &what, "save it as UTF-8")
        }
        .into()
    })
}

/// Why a component's file cannot be used.
#[derive(Debug)]
pub(crate) enum BadFile {
    Io(std::io::Error),
    NotAFile,
    TooLarge,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => f.write_str(&plain(error)),
            Self::NotAFile => f.write_str("it is not a file"),
            Self::TooLarge => write!(
                f,
                "it is larger than {}",
                limits::COMPONENT_BYTES_MAX.shown()
            ),
        }
    }
}

/// The size of a component's file.
pub(crate) fn component_size(path: &Path) -> Result<u64, BadFile> {
    let found = std::fs::metadata(path).map_err(BadFile::Io)?;
    if !found.is_file() {
        return Err(BadFile::NotAFile);
    }
    if found.len() > limits::COMPONENT_BYTES_MAX.default {
        return Err(BadFile::TooLarge);
    }
    Ok(found.len())
}

/// The bytes of a component.
pub(crate) fn component(path: &Path) -> Result<Vec<u8>, BadFile> {
    bounded(path, limits::COMPONENT_BYTES_MAX.default)
        .map_err(BadFile::Io)?
        .ok_or(BadFile::TooLarge)
}

/// The whole of a file, or `None` if it is larger than `most` bytes. The size is not taken from the file's metadata:
/// it may change while it is read.
fn bounded(path: &Path, most: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    let expected = file.metadata()?.len().min(most);
    bytes.reserve_exact(usize::try_from(expected).unwrap_or(0));
    let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((read as u64 <= most).then_some(bytes))
}
