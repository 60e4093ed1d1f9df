//! Header fields that belong to one connection, not to a message, and so never cross the host in either direction
//! (RFC 9110 section 7.6.1); those by which the host itself tells a guest what it is called for; and fields that may not stand in a trailer (section 6.5.1).

use hostel_host::{SCHEDULE_FIELD, SCHEDULE_TIME_FIELD};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What is always taken out. `Expect` is answered by hyper, `HTTP2-Settings` goes with `Upgrade: h2c`.
const CONNECTION_FIELDS: [HeaderName; 12] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    header::EXPECT,
    HeaderName::from_static(SCHEDULE_FIELD),
    HeaderName::from_static(SCHEDULE_TIME_FIELD),
];

/// Framing and authority: a `Connection` that names one of these is an attempt to make hosts disagree.
const NEVER_CONNECTION_OPTIONS: [HeaderName; 2] = [header::HOST, header::CONTENT_LENGTH];

/// Fields of [`CONNECTION_FIELDS`] that a message has, found in one pass over its fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ConnectionFields(u16);

impl ConnectionFields {
    /// Notes `name` if it is one of them; whether it was.
    pub(crate) fn note(&mut self, name: &HeaderName) -> bool {
        let bit = match name.as_str() {
            "connection" => 0,
            "keep-alive" => 1,
            "proxy-connection" => 2,
            "proxy-authenticate" => 3,
            "proxy-authorization" => 4,
            "te" => 5,
            "transfer-encoding" => 6,
            "upgrade" => 7,
            "http2-settings" => 8,
            "expect" => 9,
            SCHEDULE_FIELD => 10,
            SCHEDULE_TIME_FIELD => 11,
            _ => return false,
        };
        self.0 |= 1 << bit;
        true
    }

    /// Takes the noted fields out of `headers`, and those that `Connection` names. `TE: trailers` stays: it tells the
    /// receiver that trailers reach the client.
    pub(crate) fn strip(self, headers: &mut HeaderMap) {
        if self.0 == 0 {
            return;
        }
        let named = named_by_connection(headers);
        let trailers = accepts_trailers(headers);
        for (bit, name) in CONNECTION_FIELDS.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                headers.remove(name);
            }
        }
        for name in named {
            headers.remove(name);
        }
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// The fields that `Connection` lists beside the well-known options; usually none, and then nothing is allocated.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &header::CONNECTION)
        .filter(|token| {
            !matches!(
                *token,
                b"keep-alive" | b"close" | b"Keep-Alive" | b"Upgrade"
            )
        })
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !NEVER_CONNECTION_OPTIONS.contains(name))
        .collect()
}

/// Whether the sender of these fields takes trailers.
pub(crate) fn accepts_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, &header::TE).any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

/// The members of a comma-separated field, over all its lines.
pub(crate) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Takes out of a trailer what would change the message or the connection after the fact.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    const ALSO_NEVER: [HeaderName; 9] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::TRAILER,
        header::AUTHORIZATION,
        header::SET_COOKIE,
        header::CACHE_CONTROL,
    ];
    for name in CONNECTION_FIELDS.iter().chain(&ALSO_NEVER) {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let mut fields = ConnectionFields::default();
        for name in headers.keys() {
            fields.note(name);
        }
        fields.strip(&mut headers);
        let mut left: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        left.sort();
        left
    }

    #[test]
    fn every_connection_field_is_noted_and_taken_out() {
        for name in &CONNECTION_FIELDS {
            let mut fields = ConnectionFields::default();
            assert!(fields.note(name), "{name}");
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static("x"));
            headers.insert("x-kept", HeaderValue::from_static("1"));
            fields.strip(&mut headers);
            assert_eq!(
                headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
                ["x-kept"],
                "{name}"
            );
        }
    }

    #[test]
    fn fields_named_by_connection_go_too_over_all_its_lines() {
        let left = strip(&[
            ("connection", "close, X-One"),
            ("connection", " x-two ,,"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ]);
        assert_eq!(left, ["x-three: 3"]);
    }

    #[test]
    fn connection_cannot_take_away_host_or_length() {
        let left = strip(&[
            ("connection", "host, content-length"),
            ("host", "example.com"),
            ("content-length", "5"),
        ]);
        assert_eq!(left, ["content-length: 5", "host: example.com"]);
    }

    #[test]
    fn te_keeps_only_trailers() {
        assert_eq!(strip(&[("te", "gzip, Trailers;q=1")]), Vec::<String>::new());
        assert_eq!(
            strip(&[("te", "gzip"), ("te", "Trailers")]),
            ["te: trailers"]
        );
    }

    #[test]
    fn a_message_without_connection_fields_is_left_alone() {
        assert_eq!(
            strip(&[("accept", "*/*"), ("trailer", "x-sum")]),
            ["accept: */*", "trailer: x-sum"]
        );
    }

    #[test]
    fn trailers_lose_framing_and_routing_fields() {
        let mut trailers = HeaderMap::new();
        for name in [
            "content-length",
            "host",
            "transfer-encoding",
            "connection",
            "set-cookie",
            "grpc-status",
        ] {
            trailers.insert(name, HeaderValue::from_static("0"));
        }
        strip_trailers(&mut trailers);
        assert_eq!(
            trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["grpc-status"]
        );
    }
}
