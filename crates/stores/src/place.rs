//! [`Place`]: where a label's data is kept, as the operator writes it.

use std::fmt;
use std::time::Duration;

use url::Url;

/// The four kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// [`crate::kv`]
    KeyValue,
    /// [`crate::blob`]
    Blob,
    /// [`crate::sql`]
    Sql,
    /// [`crate::messaging`]
    Messaging,
}

impl Kind {
    /// The name of its table in the operator's file and of its grant in a manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyValue => "keyvalue",
            Self::Blob => "blobstore",
            Self::Sql => "sql",
            Self::Messaging => "messaging",
        }
    }

    /// The schemes that it has drivers for.
    pub const fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::KeyValue => &["embedded", "memory", "redis", "rediss", "nats"],
            Self::Blob => &["embedded", "memory", "s3"],
            Self::Sql => &["embedded", "postgres", "postgresql"],
            Self::Messaging => &["embedded", "memory", "nats", "nats+core", "redis", "rediss"],
        }
    }
}

/// Where the data of a label is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// What kind of store.
    pub kind: Kind,
    /// Which backend.
    pub backend: Backend,
    /// How long one operation may take until it is an error.
    pub timeout: Duration,
}

/// A backend of some kind.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Files in the data directory.
    Embedded {
        /// Whether an acknowledged write is on disk; without it a power failure may take the last second.
        durable: bool,
    },
    /// This process's memory; gone with it.
    Memory,
    /// A server; the scheme says which. May hold a password.
    Server(Url),
}

/// Why a place was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct PlaceError {
    /// What is wrong; without passwords.
    pub what: String,
    /// How to mend it.
    pub help: String,
}

/// How long an operation may take where the operator did not say.
pub const TIMEOUT: Duration = Duration::from_secs(2);

impl Place {
    /// The place where data is when nobody said anything.
    pub const fn embedded(kind: Kind) -> Self {
        Self {
            kind,
            backend: Backend::Embedded { durable: true },
            timeout: TIMEOUT,
        }
    }

    /// Reads `embedded:`, `embedded:?durable=false`, `memory:`, or the URL of a server.
    ///
    /// # Errors
    /// It is not a URL, or there is no driver of this kind for its scheme.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, PlaceError> {
        let url = Url::parse(text).map_err(|cause| PlaceError {
            // The text itself may hold a password.
            what: format!("the url of this {} is no URL: {cause}", kind.name()),
            help: format!("write one of {}", examples(kind)),
        })?;
        if !kind.schemes().contains(&url.scheme()) {
            return Err(PlaceError {
                what: format!("there is no {} driver for `{}:`", kind.name(), url.scheme()),
                help: format!("write one of {}", examples(kind)),
            });
        }
        let backend = match (url.scheme(), url.query()) {
            ("memory", None) => Backend::Memory,
            ("embedded", None | Some("durable=true")) => Backend::Embedded { durable: true },
            ("embedded", Some("durable=false")) => Backend::Embedded { durable: false },
            ("memory" | "embedded", Some(_)) => {
                return Err(PlaceError {
                    what: format!("`{}` has an option that this driver does not know", url),
                    help: "write embedded:, embedded:?durable=false or memory:".to_owned(),
                });
            }
            _ => Backend::Server(url),
        };
        Ok(Self {
            kind,
            backend,
            timeout: TIMEOUT,
        })
    }
}

fn examples(kind: Kind) -> &'static str {
    match kind {
        Kind::KeyValue => "embedded:, memory:, redis://HOST:6379/0, nats://HOST:4222",
        Kind::Blob => "embedded:, memory:, s3://BUCKET?endpoint=https://HOST&region=REGION",
        Kind::Sql => "embedded:, postgres://USER:PASSWORD@HOST:5432/DATABASE",
        Kind::Messaging => {
            "embedded:, memory:, nats://HOST:4222, nats+core://HOST:4222, redis://HOST:6379/0"
        }
    }
}

/// Without what may be secret.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded { durable: true } => f.write_str("embedded:"),
            Self::Embedded { durable: false } => f.write_str("embedded:?durable=false"),
            Self::Memory => f.write_str("memory:"),
            Self::Server(url) => f.write_str(redacted(url).as_str()),
        }
    }
}

/// User, password and query are left out: each may be secret.
fn redacted(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    // Both fail for a URL that can have neither.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.kind.name(), self.backend)
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_never_shows_its_password() {
        let place = Place::parse(
            Kind::Sql,
            "postgres://shop:secret@db.example:5432/shop?sslmode=require",
        )
        .unwrap();
        assert_eq!(
            format!("{place} {place:?}"),
            "postgres://db.example:5432/shop sql at postgres://db.example:5432/shop"
        );
        assert_eq!(
            Place::parse(Kind::KeyValue, "embedded:").unwrap(),
            Place::embedded(Kind::KeyValue)
        );
        let fast = Place::parse(Kind::Messaging, "embedded:?durable=false").unwrap();
        assert_eq!(fast.backend, Backend::Embedded { durable: false });
        assert_eq!(
            Place::parse(Kind::Blob, "memory:").unwrap().backend,
            Backend::Memory
        );
    }

    #[test]
    fn what_is_no_place_says_what_is() {
        for (kind, text, what) in [
            (
                Kind::KeyValue,
                "localhost",
                "the url of this keyvalue is no URL: ",
            ),
            (
                Kind::KeyValue,
                "mysql://a",
                "there is no keyvalue driver for `mysql:`",
            ),
            (Kind::Sql, "memory:", "there is no sql driver for `memory:`"),
            (
                Kind::Blob,
                "embedded:?fast=1",
                "`embedded:?fast=1` has an option",
            ),
        ] {
            let error = Place::parse(kind, text).unwrap_err();
            assert!(error.what.starts_with(what), "{error}");
            assert!(error.help.contains("embedded:"), "{}", error.help);
        }
        let secret = Place::parse(Kind::Sql, "postgres://u:hunter2@[bad/").unwrap_err();
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
