//! [`ServerConfig`]: the operator's file `server.toml`, read and checked. All of it is optional: an empty one is a working
//! single-machine server. It can take away from a manifest, never add to it.
//!
//! The file may hold passwords, so its errors name keys, lines and columns and quote no values.

mod network;
mod read;
mod stores;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use read::duration;
pub use variables::Provider;

use crate::secret::Secret;
use crate::text::Text;
use crate::variable::Origin;

/// What the operator decided.
#[derive(Debug, Clone, Default)]
pub struct ServerConfig {
    /// The file, as the operator named it; empty when there is none.
    pub file: String,
    /// `[keyvalue.LABEL]`: where key-value stores are kept; a label that is not there is embedded.
    pub keyvalue: BTreeMap<String, StorePlace>,
    /// `[blobstore.LABEL]`
    pub blobstore: BTreeMap<String, StorePlace>,
    /// `[sql.LABEL]`
    pub sql: BTreeMap<String, StorePlace>,
    /// `[messaging.LABEL]`
    pub messaging: BTreeMap<String, StorePlace>,
    /// `[network]`
    pub network: NetworkPolicy,
    /// `[variables]`: where the value of each is.
    pub variables: BTreeMap<String, Origin>,
    /// `[[provider]]`: where values of other variables may be, in this order.
    pub providers: Vec<Provider>,
}

/// Where one label's data is.
#[derive(Clone, PartialEq, Eq)]
pub struct StorePlace {
    /// As written; may hold a password, and variables.
    pub url: Text,
    /// How long one operation may take; the default is 2 s.
    pub timeout: Option<Duration>,
    /// Its line in the file.
    pub line: usize,
}

/// Without the URL, which may hold a password.
impl std::fmt::Debug for StorePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorePlace")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// How guests may reach the network, beyond what their grants say.
#[derive(Debug, Clone, Default)]
pub struct NetworkPolicy {
    /// Addresses outside the public internet (loopback, private, link-local and so on) that grants may reach all the same, as
    /// `ADDRESS` or `ADDRESS/BITS`.
    pub allow: Vec<String>,
    /// PEM files of certificate authorities that are trusted besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// PEM files of the certificate, and its key, that the host shows to servers which ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long a connection may take; the default is 5 s.
    pub connect_timeout: Option<Duration>,
    /// How long an outgoing request may take, its answer's body included; the default is 30 s.
    pub total_timeout: Option<Duration>,
}

impl ServerConfig {
    /// Gives variables their values, whatever the file says of them: `--var`.
    pub fn give<'v>(&mut self, values: impl IntoIterator<Item = (&'v String, &'v String)>) {
        let given = |(name, value): (&String, &String)| {
            let origin = Origin::Given(Secret::new(value.as_str()));
            (name.clone(), origin)
        };
        self.variables.extend(values.into_iter().map(given));
    }

    /// Where the value of a variable may be; the first place that has one counts.
    pub fn origins(&self, name: &str) -> Vec<Origin> {
        match self.variables.get(name) {
            Some(origin) => vec![origin.clone()],
            None => self
                .providers
                .iter()
                .map(|from| from.origin(name))
                .collect(),
        }
    }

    /// The four tables of stores, by their names in the file.
    pub fn stores(&self) -> [(&'static str, &BTreeMap<String, StorePlace>); 4] {
        [
            ("keyvalue", &self.keyvalue),
            ("blobstore", &self.blobstore),
            ("sql", &self.sql),
            ("messaging", &self.messaging),
        ]
    }

    /// The variables of the file's own URLs. They are the operator's credentials, so no guest gets them.
    pub fn own_variables(&self) -> BTreeSet<&str> {
        let places = self.stores().into_iter().flat_map(|(_, all)| all.values());
        places.flat_map(|place| place.url.variables()).collect()
    }

    /// Whether the file's own URLs use this variable.
    pub(crate) fn uses(&self, name: &str) -> bool {
        self.own_variables().contains(name)
    }
}
