//! An app in a folder of its own: a manifest, the guests that it names, and files beside them.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::guest;
use super::server::Server;

/// A folder with a `hostel.toml`.
pub(crate) struct App(TempDir);

impl App {
    /// Writes this manifest and nothing else.
    pub(crate) fn of_manifest(manifest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self(folder).with_file("hostel.toml", manifest)
    }

    /// A folder with nothing in it.
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Writes this manifest and copies every guest that it names as `source = "NAME.wasm"`.
    pub(crate) fn new(manifest: &str) -> Self {
        let app = Self(tempfile::tempdir().expect("a folder"));
        for name in manifest
            .split('"')
            .filter_map(|word| word.strip_suffix(".wasm"))
        {
            // A name that a test only pretends to have must not be looked for among the guests.
            if !name.starts_with("missing") {
                fs::copy(guest(name), app.0.path().join(format!("{name}.wasm"))).expect("a copy");
            }
        }
        app.with_file("hostel.toml", manifest)
    }

    /// One component, `web`, that answers everything. `settings` are further lines of `[component.web]`, then its tables.
    pub(crate) fn of(guest: &str, settings: &str) -> Self {
        Self::new(&format!(
            "[app]\nname = \"test\"\n\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\n\
             [component.web]\nsource = \"{guest}.wasm\"\n{settings}\n"
        ))
    }

    /// Adds a file, with the folders on the way to it.
    pub(crate) fn with_file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
        self
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// A file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Serves it.
    pub(crate) fn up(&self) -> Server {
        self.up_with(&[])
    }

    /// Serves it with further flags.
    pub(crate) fn up_with(&self, flags: &[&str]) -> Server {
        Server::start(self.folder(), flags)
    }
}
