//! Outgoing HTTP by scheme, host and port.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{GrantError, Network};

/// Outgoing HTTP to some scheme, host and port, written `[SCHEME://]HOST[:PORT]`.
///
/// `https://api.example.com`, `*.internal.example.com:8443`, `http://127.0.0.1:8080`, `*://*:*`. Without a scheme it
/// is https; without a port it is the scheme's own. `*.example.com` is every name below `example.com`, at any depth,
/// and not `example.com` itself.
///
/// `http://NAME.app.internal` is a component of the own app ([`NEIGHBOURS`]), `http://*.app.internal` any of them. No
/// wider wildcard covers these: whoever opens the network does not open the app's inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    scheme: Scheme,
    host: Host,
    port: Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Any,
    Http,
    Https,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    Address(IpAddr),
    /// A whole name, in lower case and without a dot at its end.
    Name(String),
    /// `example.com` for `*.example.com`.
    Below(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Any,
    OfScheme,
    Exact(u16),
}

/// The zone of the app's own components: what is below it is answered in the process and never resolved.
pub const NEIGHBOURS: &str = "app.internal";

/// Whether the name, in any case and with or without a dot at its end, is the zone's or below it.
pub fn is_neighbour(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let start = host.len().checked_sub(NEIGHBOURS.len());
    let Some((labels, end)) = start.and_then(|at| host.split_at_checked(at)) else {
        return false;
    };
    end.eq_ignore_ascii_case(NEIGHBOURS) && (labels.is_empty() || labels.ends_with('.'))
}

impl HttpGrant {
    /// The component of the own app that it names, in lower case; `*` where it names all of them.
    pub fn neighbour(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) => name.strip_suffix(NEIGHBOURS)?.strip_suffix('.'),
            Host::Below(parent) => (parent == NEIGHBOURS).then_some("*"),
            Host::Any | Host::Address(_) => None,
        }
    }

    /// Whether a request with this scheme (`http` or `https`), host (a name, or an address with or without brackets)
    /// and port may leave. Anything that is not exactly covered may not.
    pub fn permits(&self, scheme: &str, host: &str, port: u16) -> bool {
        let Some((scheme, default_port)) = known_scheme(scheme) else {
            return false;
        };
        let port_fits = match self.port {
            Port::Any => true,
            Port::OfScheme => port == default_port,
            Port::Exact(exact) => port == exact,
        };
        port_fits && (self.scheme == Scheme::Any || self.scheme == scheme) && self.host.covers(host)
    }

    /// The addresses that it names: one, those of `localhost`, or none. What another name leads to is not said here.
    pub fn networks(&self) -> Vec<Network> {
        match &self.host {
            Host::Address(address) => vec![Network::of(*address)],
            Host::Name(name) if name == "localhost" => Network::LOCALHOST.to_vec(),
            Host::Any | Host::Name(_) | Host::Below(_) => Vec::new(),
        }
    }
}

impl Host {
    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Any => !is_neighbour(host),
            Self::Address(address) => parse_address(host) == Some(*address),
            Self::Name(name) => host
                .strip_suffix('.')
                .unwrap_or(host)
                .eq_ignore_ascii_case(name),
            Self::Below(parent) if is_neighbour(host) && parent != NEIGHBOURS => false,
            Self::Below(parent) => {
                let host = host.strip_suffix('.').unwrap_or(host);
                let Some((labels, end)) = host
                    .len()
                    .checked_sub(parent.len())
                    .and_then(|at| host.split_at_checked(at))
                else {
                    return false;
                };
                // The labels are checked too, so that no parser further down sees another host in front of the suffix.
                end.eq_ignore_ascii_case(parent) && labels.strip_suffix('.').is_some_and(is_name)
            }
        }
    }
}

impl FromStr for HttpGrant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (scheme, authority) = match text.split_once("://") {
            None => (Scheme::Https, text),
            Some(("*", rest)) => (Scheme::Any, rest),
            Some((scheme, rest)) => match known_scheme(scheme) {
                Some((scheme, _)) => (scheme, rest),
                None => {
                    return Err(GrantError::new(
                        format!("\"{scheme}\" is not a scheme of HTTP"),
                        "write http://, https:// or *://",
                    ));
                }
            },
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#', '@', '\\']) {
            return Err(GrantError::new(
                format!("\"{text}\" is more than a scheme, a host and a port"),
                "leave out user, path and query: a grant covers every path of its host",
            ));
        }
        let (host, port) = split_port(authority)?;
        let grant = Self {
            scheme,
            host: parse_host(host)?,
            port,
        };
        match grant.is_of_neighbours_and_odd() {
            false => Ok(grant),
            true => Err(GrantError::new(
                format!("\"{text}\" is no way to a component of the app"),
                "they are called by http and without a port: http://NAME.app.internal, or http://*.app.internal for all",
            )),
        }
    }
}

impl HttpGrant {
    /// Whether it is about the app's own components, and nothing that they could be called by.
    fn is_of_neighbours_and_odd(&self) -> bool {
        let name = match &self.host {
            Host::Name(name) | Host::Below(name) => name,
            Host::Any | Host::Address(_) => return false,
        };
        let plain = self.scheme == Scheme::Http
            && matches!(self.port, Port::OfScheme | Port::Exact(80))
            && self.neighbour().is_some_and(|name| !name.contains('.'));
        is_neighbour(name) && !plain
    }
}

/// As it can be parsed again, always with scheme; the port only where it is not the scheme's own.
impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            Scheme::Any => "*://",
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        })?;
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Host::Name(name) => f.write_str(name)?,
            Host::Below(parent) => write!(f, "*.{parent}")?,
        }
        match self.port {
            Port::Any => f.write_str(":*"),
            Port::OfScheme => Ok(()),
            Port::Exact(port) => write!(f, ":{port}"),
        }
    }
}

fn known_scheme(scheme: &str) -> Option<(Scheme, u16)> {
    if scheme.eq_ignore_ascii_case("https") {
        Some((Scheme::Https, 443))
    } else if scheme.eq_ignore_ascii_case("http") {
        Some((Scheme::Http, 80))
    } else {
        None
    }
}

/// Splits at the colon in front of the port, which is never one inside brackets.
fn split_port(authority: &str) -> Result<(&str, Port), GrantError> {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority.rfind(':').filter(|colon| *colon >= after_bracket) else {
        return Ok((authority, Port::OfScheme));
    };
    let (host, port) = (
        authority.get(..colon).unwrap_or(""),
        authority.get(colon + 1..).unwrap_or(""),
    );
    if host.contains(':') && after_bracket == 0 {
        return Err(GrantError::new(
            format!("\"{authority}\" is not a host and a port"),
            "put an IPv6 address in brackets: [::1]:8080",
        ));
    }
    match port {
        "*" => Ok((host, Port::Any)),
        _ => match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok((host, Port::Exact(number)))
            }
            _ => Err(GrantError::new(
                format!("\"{port}\" is not a port"),
                "write a number from 1 to 65535, * for every port, or no port at all",
            )),
        },
    }
}

fn parse_host(host: &str) -> Result<Host, GrantError> {
    if host == "*" {
        return Ok(Host::Any);
    }
    if let Some(address) = parse_address(host) {
        return Ok(Host::Address(address));
    }
    let lower = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let (name, wildcard) = match lower.strip_prefix("*.") {
        Some(parent) => (parent, true),
        None => (lower.as_str(), false),
    };
    if name.is_empty() {
        return Err(GrantError::new(
            "the host is missing",
            "write a name, an address, *.example.com or *",
        ));
    }
    if name.contains('*') {
        return Err(GrantError::new(
            format!("\"{host}\" has a wildcard in the middle"),
            "a wildcard stands alone or first: * or *.example.com",
        ));
    }
    if !name.is_ascii() {
        return Err(GrantError::new(
            format!("\"{host}\" is not written in ASCII"),
            "write the name as it is resolved, with xn--",
        ));
    }
    // What ends in a number is an address to everyone who resolves it, so it must be one that is read the same way here.
    let last = name.rsplit('.').next().unwrap_or(name);
    if !is_name(name) || last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return Err(GrantError::new(
            format!("\"{host}\" is neither a name nor an address"),
            "write a name such as api.example.com, or an address such as 10.0.0.5 or [fd00::1]",
        ));
    }
    Ok(if wildcard {
        Host::Below(name.to_owned())
    } else {
        Host::Name(name.to_owned())
    })
}

/// An address with or without brackets; IPv4 inside IPv6 counts as IPv4.
fn parse_address(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => IpAddr::V6(bare.parse().ok()?),
        None => host.parse().ok()?,
    };
    Some(address.to_canonical())
}

/// Dot-separated labels of letters, digits, dashes and underscores (RFC 1123, plus what DNS carries in practice).
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant(text: &str) -> HttpGrant {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn neighbours_are_granted_by_name_only() {
        let host = "pricing.app.internal";
        let one = grant("http://pricing.app.internal");
        assert!(one.permits("http", host, 80) && one.permits("http", "Pricing.APP.internal.", 80));
        assert!(!one.permits("http", "web.app.internal", 80));
        assert!(!one.permits("https", host, 443) && !one.permits("http", host, 8080));
        assert_eq!(one.neighbour(), Some("pricing"));
        let all = grant("http://*.app.internal");
        assert!(all.permits("http", host, 80) && all.permits("http", "web.app.internal", 80));
        assert_eq!(all.neighbour(), Some("*"));
        for wide in ["*://*:*", "http://*", "*://*.internal:*", "*.internal"] {
            let wide = grant(wide);
            assert!(!wide.permits("http", host, 80) && wide.neighbour().is_none());
            assert!(!wide.permits("http", "app.internal.", 80), "{wide}");
        }
        assert!(grant("*://*.internal:*").permits("http", "db.internal", 80));
        assert!(grant("*://*:*").permits("http", "myapp.internal", 80));
        for odd in [
            "pricing.app.internal",
            "*://pricing.app.internal",
            "http://pricing.app.internal:8080",
            "http://a.b.app.internal",
            "http://*.a.app.internal",
            "http://app.internal",
            "https://*.app.internal",
        ] {
            let error = odd.parse::<HttpGrant>().unwrap_err();
            assert!(
                error.help.contains("http://NAME.app.internal"),
                "{odd}: {error}"
            );
        }
    }

    #[test]
    fn what_a_grant_covers() {
        for (text, scheme, host, port) in [
            ("https://api.example.com", "https", "api.example.com", 443),
            ("https://api.example.com/", "https", "api.example.com", 443),
            ("https://api.example.com", "HTTPS", "API.Example.COM.", 443),
            ("HTTPS://API.example.com.", "https", "api.example.com", 443),
            ("api.example.com", "https", "api.example.com", 443),
            (
                "*.internal.example.com:8443",
                "https",
                "a.internal.example.com",
                8443,
            ),
            (
                "*.internal.example.com:8443",
                "https",
                "a.b.internal.example.com.",
                8443,
            ),
            ("http://127.0.0.1:8080", "http", "127.0.0.1", 8080),
            ("http://127.0.0.1:8080", "http", "[::ffff:127.0.0.1]", 8080),
            ("http://[::1]:8080", "http", "::1", 8080),
            ("http://[::1]:8080", "http", "[0:0::1]", 8080),
            ("http://[::1]", "http", "[::1]", 80),
            ("http://localhost:*", "http", "localhost", 1),
            ("*://*:*", "http", "anything", 1),
            ("*://*:*", "https", "10.0.0.1", 65535),
            ("*://example.com", "http", "example.com", 80),
            ("*://example.com", "https", "example.com", 443),
        ] {
            assert!(
                grant(text).permits(scheme, host, port),
                "{text} must cover {scheme}://{host}:{port}"
            );
            assert_eq!(grant(text).to_string().parse(), Ok(grant(text)));
        }
    }

    #[test]
    fn what_a_grant_does_not_cover() {
        for (text, scheme, host, port) in [
            ("https://api.example.com", "http", "api.example.com", 80),
            ("https://api.example.com", "http", "api.example.com", 443),
            ("https://api.example.com", "https", "api.example.com", 8443),
            ("https://api.example.com", "https", "example.com", 443),
            ("https://api.example.com", "https", "xapi.example.com", 443),
            (
                "https://api.example.com",
                "https",
                "api.example.com.evil",
                443,
            ),
            ("https://api.example.com", "https", "api.example.com..", 443),
            ("*.example.com", "https", "example.com", 443),
            ("*.example.com", "https", ".example.com", 443),
            ("*.example.com", "https", "evilexample.com", 443),
            ("*.example.com", "https", "a..example.com", 443),
            ("*.example.com", "https", "evil/.example.com", 443),
            ("*.example.com", "https", "evil#.example.com", 443),
            ("*.example.com", "https", "a@.example.com", 443),
            ("*.example.com", "https", "ü.example.com", 443),
            ("*.example.com", "https", "com", 443),
            ("*.example.com", "https", "", 443),
            ("http://127.0.0.1", "http", "127.1", 80),
            ("http://127.0.0.1", "http", "2130706433", 80),
            ("http://127.0.0.1", "http", "0x7f.0.0.1", 80),
            ("http://127.0.0.1", "http", "127.0.0.1.", 80),
            ("http://127.0.0.1", "http", "[127.0.0.1]", 80),
            ("http://localhost", "http", "127.0.0.1", 80),
            ("*://example.com", "http", "example.com", 443),
            ("*://example.com", "https", "example.com", 80),
            ("*://*:*", "ftp", "example.com", 21),
            ("*://*:*", "", "example.com", 80),
        ] {
            assert!(
                !grant(text).permits(scheme, host, port),
                "{text} must not cover {scheme}://{host}:{port}"
            );
        }
    }

    #[test]
    fn what_is_refused() {
        for (text, what) in [
            ("", "the host is missing"),
            ("https://", "the host is missing"),
            ("https://*.", "\"*.\" has a wildcard in the middle"),
            (":443", "the host is missing"),
            ("ftp://example.com", "\"ftp\" is not a scheme of HTTP"),
            ("://example.com", "\"\" is not a scheme of HTTP"),
            (
                "https://example.com/api",
                "\"https://example.com/api\" is more than a scheme, a host and a port",
            ),
            (
                "https://me@example.com",
                "\"https://me@example.com\" is more than a scheme, a host and a port",
            ),
            (
                "example.com?x",
                "\"example.com?x\" is more than a scheme, a host and a port",
            ),
            ("example.com:0", "\"0\" is not a port"),
            ("example.com:65536", "\"65536\" is not a port"),
            ("example.com:+80", "\"+80\" is not a port"),
            ("example.com:", "\"\" is not a port"),
            ("::1", "\"::1\" is not a host and a port"),
            (
                "a*.example.com",
                "\"a*.example.com\" has a wildcard in the middle",
            ),
            ("api.*.com", "\"api.*.com\" has a wildcard in the middle"),
            ("*.*.com", "\"*.*.com\" has a wildcard in the middle"),
            (
                "bücher.example",
                "\"bücher.example\" is not written in ASCII",
            ),
            ("127.1", "\"127.1\" is neither a name nor an address"),
            (
                "0x7f000001",
                "\"0x7f000001\" is neither a name nor an address",
            ),
            (
                "exa mple.com",
                "\"exa mple.com\" is neither a name nor an address",
            ),
            ("a..b", "\"a..b\" is neither a name nor an address"),
            ("[::1", "\"[::1\" is not a host and a port"),
            (
                "[example.com]",
                "\"[example.com]\" is neither a name nor an address",
            ),
        ] {
            let error = text.parse::<HttpGrant>().expect_err(text);
            assert_eq!(error.what, what, "{text}");
            assert!(!error.help.is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_panics(text in ".{0,40}", scheme in "https?|\\PC{0,4}", host in ".{0,40}", port: u16) {
            if let Ok(grant) = text.parse::<HttpGrant>() {
                grant.permits(&scheme, &host, port);
                prop_assert_eq!(grant.to_string().parse(), Ok(grant));
            }
            grant("*.example.com:*").permits(&scheme, &host, port);
        }

        /// A name grant covers that name and no other.
        #[test]
        fn a_name_covers_only_itself(name in "[a-z]{1,8}(\\.[a-z]{1,4}){0,2}", other in "[a-z]{1,8}(\\.[a-z]{1,4}){0,2}") {
            let grant = grant(&name);
            prop_assert!(grant.permits("https", &name, 443));
            prop_assert_eq!(grant.permits("https", &other, 443), name == other);
        }
    }
}
