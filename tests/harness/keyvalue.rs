//! A server of `kv-p2` with a data directory of its own.

use tempfile::TempDir;

use super::app::App;
use super::server::Server;

/// The guest, granted `default` and `sessions`.
pub(crate) struct KeyValue {
    pub(crate) server: Server,
    /// Dropped after the server.
    _data: TempDir,
}

impl KeyValue {
    /// With two stores.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// With further flags.
    pub(crate) fn with(flags: &[&str]) -> Self {
        Self::of("", flags)
    }

    /// With further lines of `[component.web]`, and flags.
    pub(crate) fn of(settings: &str, flags: &[&str]) -> Self {
        let grants = "[component.web.grants]\nkeyvalue = [\"default\", \"sessions\"]";
        Self::app(&App::of("kv-p2", &format!("{settings}\n{grants}")), flags)
    }

    /// Serves this app.
    pub(crate) fn app(app: &App, flags: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        Self {
            server: Server::launch(app.folder(), data.path(), flags),
            _data: data,
        }
    }

    /// What the guest says to this query, without the line's end.
    pub(crate) fn ask(&self, query: &str) -> String {
        self.server
            .page(&format!("/?{query}"))
            .trim_end()
            .to_owned()
    }

    /// The same for the store `default`.
    pub(crate) fn default(&self, api: &str, query: &str) -> String {
        self.ask(&format!("store=default&api={api}&{query}"))
    }
}
