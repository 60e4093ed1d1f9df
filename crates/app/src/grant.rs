//! What a guest may reach: outgoing HTTP, TCP, UDP and listening addresses, host directories, stores, topics, secrets.
//!
//! A grant is written once (manifest or command line), parsed here and asked by the host before anything is dialled,
//! bound or opened. Nothing here resolves a name or touches the network: a TCP or UDP grant is therefore about
//! addresses, never about names, and an HTTP grant is about the authority that the guest asked for. Which addresses
//! a *name* may lead to is the business of the host's dialer.

mod address;
mod files;
mod http;
mod name;
mod network;

use std::str::FromStr;

pub use address::AddressGrant;
pub use files::FileGrant;
pub(crate) use files::plain;
pub use http::{HttpGrant, NEIGHBOURS, is_neighbour};
pub(crate) use name::{group, label, secret, stands_for, topic, topics};
pub use network::Network;

use crate::nearest::nearest;

/// The keys of `[component.NAME.grants]`.
pub(crate) const KINDS: [&str; 10] = [
    "http",
    "tcp",
    "udp",
    "listen",
    "files",
    "keyvalue",
    "blobstore",
    "sql",
    "messaging",
    "secrets",
];

/// What `--grant` takes.
const ARGS: [&str; 12] = [
    "http",
    "tcp",
    "udp",
    "listen",
    "keyvalue",
    "blobstore",
    "sql",
    "messaging",
    "publish",
    "request",
    "subscribe",
    "secrets",
];

/// One `--grant KIND=VALUE` of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantArg {
    /// `http=https://api.example.com`
    Http(HttpGrant),
    /// `tcp=10.0.0.5:5432`
    Tcp(AddressGrant),
    /// `udp=10.0.0.5:53`
    Udp(AddressGrant),
    /// `listen=127.0.0.1:*`
    Listen(AddressGrant),
    /// `keyvalue=default`
    KeyValue(String),
    /// `blobstore=uploads`
    Blobstore(String),
    /// `sql=main`
    Sql(String),
    /// `messaging=default`: the label of a broker.
    Messaging(String),
    /// `publish=orders.*`
    Publish(String),
    /// `request=orders.*`
    Request(String),
    /// `subscribe=orders.*`: messages that the guest fetches itself.
    Subscribe(String),
    /// `secrets=api-key`
    Secret(String),
}

impl FromStr for GrantArg {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let Some((kind, value)) = text.split_once('=') else {
            return Err(GrantError::new(
                format!("\"{text}\" is not a grant"),
                "write KIND=VALUE, for example http=https://api.example.com or tcp=10.0.0.5:5432",
            ));
        };
        match kind {
            "http" => value.parse().map(Self::Http),
            "tcp" => value.parse().map(Self::Tcp),
            "udp" => value.parse().map(Self::Udp),
            "listen" => value.parse().map(Self::Listen),
            "files" => Err(GrantError::new(
                "directories are not granted with --grant",
                format!(
                    "use --dir {}::/GUEST",
                    if value.is_empty() { "HOST" } else { value }
                ),
            )),
            "keyvalue" => label(value).map(Self::KeyValue),
            "blobstore" => label(value).map(Self::Blobstore),
            "sql" => label(value).map(Self::Sql),
            "messaging" => label(value).map(Self::Messaging),
            "publish" => topics(value).map(Self::Publish),
            "request" => topics(value).map(Self::Request),
            "subscribe" => topics(value).map(Self::Subscribe),
            "secrets" => secret(value).map(Self::Secret),
            unknown => Err(GrantError::new(
                format!("unknown grant \"{unknown}\""),
                match nearest(unknown, ARGS) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("the grants are {}", ARGS.join(", ")),
                },
            )),
        }
    }
}

/// Why a grant was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct GrantError {
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub help: String,
}

impl GrantError {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: help.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_parsed_as_itself() {
        assert!(matches!(
            "http=https://a.example".parse(),
            Ok(GrantArg::Http(_))
        ));
        assert!(matches!("tcp=10.0.0.5:5432".parse(), Ok(GrantArg::Tcp(_))));
        assert!(matches!("udp=*:*".parse(), Ok(GrantArg::Udp(_))));
        assert!(matches!(
            "listen=127.0.0.1:*".parse(),
            Ok(GrantArg::Listen(_))
        ));
        for (text, grant) in [
            ("keyvalue=default", GrantArg::KeyValue("default".to_owned())),
            (
                "blobstore=uploads",
                GrantArg::Blobstore("uploads".to_owned()),
            ),
            ("sql=main", GrantArg::Sql("main".to_owned())),
            ("messaging=bus", GrantArg::Messaging("bus".to_owned())),
            ("publish=a.*", GrantArg::Publish("a.*".to_owned())),
            ("request=>", GrantArg::Request(">".to_owned())),
            ("subscribe=a", GrantArg::Subscribe("a".to_owned())),
            ("secrets=api-key", GrantArg::Secret("api-key".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(grant));
        }
    }

    #[test]
    fn what_is_no_grant_says_how_to_write_one() {
        for (text, what, help) in [
            (
                "http",
                "\"http\" is not a grant",
                "write KIND=VALUE, for example",
            ),
            ("", "\"\" is not a grant", "write KIND=VALUE"),
            (
                "htpp=https://a.example",
                "unknown grant \"htpp\"",
                "did you mean \"http\"?",
            ),
            (
                "volcano=1",
                "unknown grant \"volcano\"",
                "the grants are http, tcp, udp, listen, keyvalue",
            ),
            (
                "keyvalue=",
                "\"\" is not the label of a store",
                "use up to 64 letters",
            ),
            (
                "secret=a",
                "unknown grant \"secret\"",
                "did you mean \"secrets\"?",
            ),
            (
                "publish=orders.>.x",
                "\"orders.>.x\" is not a pattern of topics",
                "write words of letters",
            ),
            (
                "files=site",
                "directories are not granted with --grant",
                "use --dir site::/GUEST",
            ),
            (
                "tcp=db.example.com:5432",
                "\"db.example.com\" is a name, and this grant needs an address",
                "write",
            ),
        ] {
            let error = text.parse::<GrantArg>().expect_err(text);
            assert_eq!(error.what, what);
            assert!(error.help.starts_with(help), "{text}: {}", error.help);
        }
    }
}
