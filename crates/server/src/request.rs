//! Which requests are served at all, and what of them a guest sees.
//!
//! hyper has parsed the head. What is left is what RFC 9112 and RFC 9113 ask of a server that passes requests on: one
//! authority, stated once; no field that belongs to the client's connection; no coding that the host would have to
//! undo.
//!
//! # Security
//!
//! `Forwarded`, `X-Forwarded-*`, `X-Real-IP` and their like reach the guest as the client wrote them. The host neither
//! adds to them nor believes them: routing, limits and the log never look at them. Every client can write anything there,
//! so a guest must not decide by them who is asking, over which scheme or for which host, unless the operator has put a
//! proxy in front that replaces them and no client can get past it. They are not taken out, because behind such a proxy
//! they are the guest's only way to know.

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};

use crate::fields::{self, ConnectionFields};

/// A request that no guest gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// One sentence for the client.
    pub(crate) reason: &'static str,
    /// Methods for the `Allow` field, where another method would be served.
    pub(crate) allow: Option<HeaderValue>,
    /// The connection cannot be used any further.
    pub(crate) close: bool,
}

impl Refusal {
    /// Refuses a request whose framing or authority is not to be trusted; nothing after it is read.
    pub(crate) fn closing(status: StatusCode, reason: &'static str) -> Self {
        Self {
            status,
            reason,
            allow: None,
            close: true,
        }
    }

    /// Refuses a well-formed request.
    pub(crate) fn plain(status: StatusCode, reason: &'static str) -> Self {
        Self {
            status,
            reason,
            allow: None,
            close: false,
        }
    }
}

/// An answer that the host itself has, without any guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) status: StatusCode,
    /// All of it, and nothing where the status has no body.
    pub(crate) text: &'static str,
    /// Methods for the `Allow` field.
    pub(crate) allow: Option<HeaderValue>,
}

impl Own {
    /// Which methods there are.
    pub(crate) fn methods(allow: &str) -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            text: "",
            allow: HeaderValue::from_str(allow).ok(),
        }
    }

    /// Whether the server goes on serving.
    pub(crate) fn health(draining: bool) -> Self {
        let (status, text) = match draining {
            false => (StatusCode::OK, "OK"),
            true => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        };
        Self {
            status,
            text,
            allow: None,
        }
    }
}

/// What the answer depends on once the request has been given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `HEAD`: the answer has no body.
    pub(crate) head: bool,
    /// HTTP/1.0: a body of unknown length ends with the connection.
    pub(crate) http10: bool,
    /// The client would rather read JSON than text.
    pub(crate) json: bool,
}

impl Asked {
    pub(crate) fn of(parts: &Parts) -> Self {
        Self {
            head: parts.method == Method::HEAD,
            http10: parts.version < Version::HTTP_11,
            json: parts.headers.get(header::ACCEPT).is_some_and(wants_json),
        }
    }
}

fn wants_json(accept: &HeaderValue) -> bool {
    const JSON: &[u8] = b"application/json";
    accept
        .as_bytes()
        .windows(JSON.len())
        .any(|part| part.eq_ignore_ascii_case(JSON))
}

/// Checks a request and takes out of it what the guest must not see.
///
/// `local` is the authority for an HTTP/1.0 request that names none: the listener's own address.
pub(crate) fn admit(parts: &mut Parts, local: &HeaderValue) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::closing(
            StatusCode::NOT_IMPLEMENTED,
            "CONNECT is not supported",
        ));
    }
    let mut host = None;
    let mut connection = ConnectionFields::default();
    for (name, value) in &parts.headers {
        if *name == header::HOST {
            if host.replace(value).is_some() {
                return Err(bad("Host is repeated"));
            }
        } else {
            connection.note(name);
        }
    }
    let named = check_authority(parts, host)?;
    if connection != ConnectionFields::default() {
        check_codings(&parts.headers)?;
        check_upgrade(&parts.headers)?;
    }
    if !parts.uri.path().starts_with('/') {
        return Err(bad("the request target is not a path"));
    }
    connection.strip(&mut parts.headers);
    if !named {
        parts.headers.insert(header::HOST, local.clone());
    }
    Ok(())
}

fn bad(reason: &'static str) -> Refusal {
    Refusal::closing(StatusCode::BAD_REQUEST, reason)
}

/// Whether the request names an authority. It must, and with one voice (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
fn check_authority(parts: &Parts, host: Option<&HeaderValue>) -> Result<bool, Refusal> {
    let target = parts
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let host = host.map(HeaderValue::as_bytes);
    if ![target, host].into_iter().flatten().all(is_authority) {
        return Err(bad("the host is not valid"));
    }
    match (target, host) {
        (Some(target), Some(host)) if !same_authority(target, host) => {
            Err(bad("the request target and Host name different hosts"))
        }
        // An absolute target does not replace Host in HTTP/1.1; `:authority` does in HTTP/2.
        (Some(_), None) if parts.version == Version::HTTP_11 => Err(bad("Host is missing")),
        (None, None) if parts.version != Version::HTTP_10 => Err(bad("Host is missing")),
        (target, host) => Ok(target.is_some() || host.is_some()),
    }
}

/// Only `chunked`, once: any other coding would reach the guest undecoded (RFC 9112 section 6.1).
fn check_codings(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = fields::tokens(headers, &header::TRANSFER_ENCODING);
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::closing(
            StatusCode::NOT_IMPLEMENTED,
            "no transfer coding but a single chunked is supported",
        )),
    }
}

/// An offer to upgrade may be ignored (RFC 9110 section 7.8), and for HTTP/2 it is. A client that asks for another
/// protocol, such as WebSocket, cannot go on without it and is told so.
fn check_upgrade(headers: &HeaderMap) -> Result<(), Refusal> {
    let offered = fields::tokens(headers, &header::CONNECTION)
        .any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    let only_http2 = fields::tokens(headers, &header::UPGRADE)
        .all(|protocol| protocol.eq_ignore_ascii_case(b"h2c"));
    if offered && !only_http2 {
        return Err(Refusal::closing(
            StatusCode::NOT_IMPLEMENTED,
            "no upgrade is supported",
        ));
    }
    Ok(())
}

/// `host[:port]` of RFC 3986 without user information: a name, an IPv4 address or an IPv6 address in brackets.
fn is_authority(text: &[u8]) -> bool {
    let (host, port) = split_port(text);
    let host_is_valid = match host {
        [b'[', address @ .., b']'] => {
            !address.is_empty()
                && address
                    .iter()
                    .all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
        }
        name => !name.is_empty() && name.iter().all(|&byte| is_name_byte(byte)),
    };
    host_is_valid && port.is_none_or(is_port)
}

/// `reg-name` of RFC 3986; percent signs are not checked for two digits behind them, since nobody decodes a host here.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
        )
}

/// Empty (RFC 3986 allows it) or a number up to 65535.
fn is_port(digits: &[u8]) -> bool {
    digits.len() <= 5
        && digits.iter().all(u8::is_ascii_digit)
        && digits
            .iter()
            .fold(0, |port, digit| port * 10 + u32::from(digit - b'0'))
            <= 65_535
}

/// The host, and what follows its colon.
fn split_port(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = match text.first() {
        Some(b'[') => text
            .iter()
            .position(|&byte| byte == b']')
            .map_or(text.len(), |at| at + 1),
        _ => text
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at_checked(end).unwrap_or((text, b""));
    match rest {
        [] => (host, None),
        [b':', port @ ..] => (host, Some(port)),
        // Something between `]` and the port: not a host at all.
        _ => (text, None),
    }
}

/// Equal hosts (case does not count) and equal ports; without a port it is 80, since every listener speaks plain HTTP.
fn same_authority(one: &[u8], other: &[u8]) -> bool {
    let port = |port: Option<&[u8]>| match port {
        None | Some(b"") => b"80".to_vec(),
        Some(digits) => digits.to_vec(),
    };
    let (one, other) = (split_port(one), split_port(other));
    one.0.eq_ignore_ascii_case(other.0) && (one.1 == other.1 || port(one.1) == port(other.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn the_health_check_tells_a_drain() {
        let answer = |draining| {
            let own = Own::health(draining);
            (own.status.as_u16(), own.text)
        };
        assert_eq!(answer(false), (200, "OK"));
        assert_eq!(answer(true), (503, "draining"));
    }

    fn parts(version: Version, target: &str, fields: &[(&'static str, &str)]) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.version = version;
        parts.uri = target.parse().unwrap();
        for (name, value) in fields {
            parts
                .headers
                .append(*name, HeaderValue::from_str(value).unwrap());
        }
        parts
    }

    fn outcome(
        version: Version,
        target: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Parts, u16> {
        let mut parts = parts(version, target, fields);
        let local = HeaderValue::from_static("127.0.0.1:3000");
        admit(&mut parts, &local)
            .map(|()| parts)
            .map_err(|refusal| refusal.status.as_u16())
    }

    fn h1(target: &str, fields: &[(&'static str, &str)]) -> Result<Parts, u16> {
        outcome(Version::HTTP_11, target, fields)
    }

    #[test]
    fn a_request_names_its_host_once() {
        assert!(h1("/", &[("host", "a.example")]).is_ok());
        assert_eq!(h1("/", &[]).unwrap_err(), 400);
        assert_eq!(h1("/", &[("host", "a"), ("host", "a")]).unwrap_err(), 400);
        assert_eq!(h1("/", &[("host", "a"), ("host", "b")]).unwrap_err(), 400);
        assert_eq!(outcome(Version::HTTP_2, "/", &[]).unwrap_err(), 400);
        assert_eq!(
            outcome(Version::HTTP_2, "http://a/", &[("host", "b")]).unwrap_err(),
            400
        );
        assert!(outcome(Version::HTTP_2, "http://a/", &[]).is_ok());
        assert!(outcome(Version::HTTP_2, "/", &[("host", "a")]).is_ok());
    }

    #[test]
    fn an_absolute_target_agrees_with_host() {
        assert!(h1("http://A.example/x", &[("host", "a.EXAMPLE")]).is_ok());
        assert!(h1("http://a/x", &[("host", "a:80")]).is_ok());
        assert!(h1("http://a:80/x", &[("host", "a:")]).is_ok());
        assert_eq!(h1("http://a/x", &[("host", "b")]).unwrap_err(), 400);
        assert_eq!(h1("http://a:81/x", &[("host", "a")]).unwrap_err(), 400);
        assert_eq!(h1("http://a/x", &[]).unwrap_err(), 400);
        assert_eq!(h1("http://user@a/x", &[("host", "a")]).unwrap_err(), 400);
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in [
            "a",
            "a.b-c_d:8080",
            "127.0.0.1",
            "[::1]",
            "[::1]:80",
            "[::ffff:1.2.3.4]",
            "a:",
            "a%20b",
            "xn--bcher-kva.example.",
        ] {
            assert!(h1("/", &[("host", good)]).is_ok(), "{good}");
        }
        for bad in [
            "", ":80", "a b", "a/b", "a@b", "a,b", "a:b", "a:65536", "a:123456", "[::1", "[::1]x",
            "[]", "[g]", "a\\b", "a:80:80", "?", "a#",
        ] {
            assert_eq!(h1("/", &[("host", bad)]).unwrap_err(), 400, "{bad}");
        }
        assert_eq!(outcome_bytes(b"a\xffb"), 400);
    }

    fn outcome_bytes(host: &[u8]) -> u16 {
        let mut parts = parts(Version::HTTP_11, "/", &[]);
        parts
            .headers
            .insert(header::HOST, HeaderValue::from_bytes(host).unwrap());
        admit(&mut parts, &HeaderValue::from_static("x"))
            .unwrap_err()
            .status
            .as_u16()
    }

    #[test]
    fn http_1_0_without_host_gets_the_listeners_address() {
        let parts = outcome(Version::HTTP_10, "/", &[]).unwrap();
        assert_eq!(parts.headers[header::HOST], "127.0.0.1:3000");
    }

    #[test]
    fn only_a_single_chunked_coding_is_taken() {
        let host = ("host", "a");
        assert!(h1("/", &[host, ("transfer-encoding", "Chunked")]).is_ok());
        for bad in ["gzip, chunked", "chunked, chunked", "gzip", "identity"] {
            assert_eq!(
                h1("/", &[host, ("transfer-encoding", bad)]).unwrap_err(),
                501,
                "{bad}"
            );
        }
        let twice = [
            host,
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked"),
        ];
        assert_eq!(h1("/", &twice).unwrap_err(), 501);
    }

    #[test]
    fn no_tunnels_and_no_other_protocols() {
        let mut connect = parts(Version::HTTP_11, "a:443", &[("host", "a:443")]);
        connect.method = Method::CONNECT;
        let refusal = admit(&mut connect, &HeaderValue::from_static("x")).unwrap_err();
        assert_eq!(
            (refusal.status, refusal.close),
            (StatusCode::NOT_IMPLEMENTED, true)
        );
        let websocket = [
            ("host", "a"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
        ];
        assert_eq!(h1("/", &websocket).unwrap_err(), 501);
        let h2c = [
            ("host", "a"),
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAA"),
        ];
        let parts = h1("/", &h2c).unwrap();
        assert_eq!(
            parts
                .headers
                .keys()
                .map(|name| name.as_str())
                .collect::<Vec<_>>(),
            ["host"]
        );
    }

    #[test]
    fn the_target_is_a_path() {
        assert_eq!(h1("*", &[("host", "a")]).unwrap_err(), 400);
        assert!(h1("http://a", &[("host", "a")]).is_ok());
    }

    #[test]
    fn the_guest_sees_no_connection_fields() {
        let parts = h1(
            "/",
            &[
                ("host", "a"),
                ("connection", "keep-alive, x-secret"),
                ("x-secret", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-authorization", "Basic AA"),
                ("te", "trailers, gzip"),
                ("expect", "100-continue"),
                ("content-length", "3"),
            ],
        )
        .unwrap();
        let mut names: Vec<_> = parts.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "host", "te"]);
        assert_eq!(parts.headers[header::TE], "trailers");
    }

    #[test]
    fn what_a_client_claims_to_forward_is_left_as_it_is_and_not_believed() {
        let claims = [
            ("host", "a"),
            ("forwarded", "for=1.2.3.4;host=b;proto=https"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x-forwarded-host", "b"),
            ("x-forwarded-proto", "https"),
        ];
        let parts = h1("/", &claims).unwrap();
        let seen: Vec<_> = parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(seen, claims);
    }

    #[test]
    fn json_is_for_those_who_ask() {
        let asked = |accept: &'static str| {
            Asked::of(&parts(Version::HTTP_11, "/", &[("accept", accept)])).json
        };
        assert!(asked("text/html, Application/JSON;q=0.9"));
        assert!(!asked("*/*"));
        assert!(!asked("application/jso"));
    }
}
