//! [`ServerConfig`]: the operator's file `server.toml`, read and checked. All of it is optional: an empty one is a working
//! single-machine server. It can take away from a manifest, never add to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What the operator decided.
#[derive(Debug, Clone, Default)]
pub struct ServerConfig {
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
}

/// Where one label's data is.
#[derive(Clone, PartialEq, Eq)]
pub struct StorePlace {
    /// As written, variables filled in; may hold a password.
    pub url: String,
    /// How long one operation may take; the default is 2 s.
    pub timeout: Option<Duration>,
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
