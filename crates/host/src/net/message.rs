//! What of a message belongs to the connection and not to the guest, in both directions.
//!
//! The request that leaves has one authority, the one that was checked; one framing, which is the host's; and a path that
//! nobody can read as another address. The answer that comes in has one framing too, or it is no answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode, Uri, Version, request, response};
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use super::pool::Server;
use super::resolve::Host;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Connection-level fields, which a guest neither sets nor sees: they belong to the host's connection.
const OF_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    KEEP_ALIVE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    HTTP2_SETTINGS,
];

/// Fields that change how a message is framed, routed or authorised: behind the body they come too late to be checked
/// (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [HeaderName; 15] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_RANGE,
    header::TRAILER,
    header::TE,
    header::AUTHORIZATION,
    header::WWW_AUTHENTICATE,
    header::COOKIE,
    header::SET_COOKIE,
    header::CACHE_CONTROL,
    header::EXPECT,
    header::MAX_FORWARDS,
    header::RANGE,
    header::LOCATION,
];

/// Whether a field is the connection's.
pub(super) fn is_of_connection(name: &HeaderName) -> bool {
    OF_CONNECTION.contains(name)
}

/// The server that a request is for. Nothing but a plain authority and a plain path is one.
pub(super) fn server(uri: &Uri) -> Option<Server> {
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return None,
    };
    let authority = uri.authority()?;
    let port = match (authority.port_u16(), tls) {
        (Some(0), _) => return None,
        (Some(port), _) => port,
        (None, true) => 443,
        (None, false) => 80,
    };
    // What is left beside host and port is a user, or a port that is no number.
    let host = authority.host();
    let rest = authority.as_str().strip_prefix(host)?;
    let is_port = rest.is_empty() || rest.strip_prefix(':')?.parse::<u16>().is_ok();
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    (is_port && is_plain_path(path)).then_some(Server {
        tls,
        host: Host::parse(host)?,
        port,
    })
}

/// A path that is read as one by everybody: no second authority in front of it, nothing that ends a line, no backslash
/// that some turn over.
fn is_plain_path(path: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#');
    matches!(path.bytes().next(), None | Some(b'/' | b'?'))
        && !path.starts_with("//")
        && path.bytes().all(inside)
}

impl Server {
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Host and port, without the scheme's own port.
    pub(super) fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.bare(),
            (_, port) => format!("{}:{port}", self.host.bare()),
        }
    }
}

/// Makes a guest's request one that may leave. Returns how long its body has to be, where it says so.
pub(super) fn clean_request(parts: &mut request::Parts) -> Result<Option<u64>, Error> {
    if parts.method == Method::CONNECT {
        return Err(Error::HttpRequestMethodInvalid);
    }
    let trailers = parts.headers.get(header::TE);
    let trailers = trailers.is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    strip(&mut parts.headers);
    parts.headers.remove(header::HOST);
    if trailers {
        let te = HeaderValue::from_static("trailers");
        parts.headers.insert(header::TE, te);
    }
    length(&parts.headers).map_err(|()| Error::HttpProtocolError)
}

/// Addresses a request as the connection wants it: HTTP/1 has a path and `Host`, HTTP/2 the whole URI.
pub(super) fn address(parts: &mut request::Parts, server: &Server, h2: bool) -> Result<(), Error> {
    let authority = server.authority();
    let path = match parts.uri.path_and_query().map(PathAndQuery::as_str) {
        None | Some("") => "/".to_owned(),
        Some(path) if path.starts_with('?') => format!("/{path}"),
        Some(path) => path.to_owned(),
    };
    let invalid = |_| Error::HttpRequestUriInvalid;
    let path = PathAndQuery::try_from(path).map_err(|_| Error::HttpRequestUriInvalid)?;
    let builder = Uri::builder().path_and_query(path);
    if h2 {
        let authority = Authority::try_from(authority).map_err(|_| Error::HttpRequestUriInvalid)?;
        let whole = builder.scheme(server.scheme()).authority(authority);
        parts.uri = whole.build().map_err(invalid)?;
        parts.version = Version::HTTP_2;
        parts.headers.remove(header::HOST);
    } else {
        parts.uri = builder.build().map_err(invalid)?;
        parts.version = Version::HTTP_11;
        let host = HeaderValue::try_from(authority).map_err(|_| Error::HttpRequestUriInvalid)?;
        parts.headers.insert(header::HOST, host);
    }
    Ok(())
}

/// Makes a server's answer one that a guest may see; an error where two readers could read it in two ways.
pub(super) fn clean_response(parts: &mut response::Parts) -> Result<(), Error> {
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::HttpUpgradeFailed);
    }
    let codings: Vec<_> = parts
        .headers
        .get_all(header::TRANSFER_ENCODING)
        .iter()
        .collect();
    match codings.as_slice() {
        [] => {}
        [one] if one.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            if parts.headers.contains_key(header::CONTENT_LENGTH) {
                return Err(Error::HttpProtocolError);
            }
        }
        [first, ..] => {
            let shown = first.to_str().ok().map(str::to_owned);
            return Err(Error::HttpResponseTransferCoding(shown));
        }
    }
    length(&parts.headers).map_err(|()| Error::HttpProtocolError)?;
    strip(&mut parts.headers);
    Ok(())
}

/// Takes out what belongs to a connection, and what the message itself says does.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::CONTENT_LENGTH)
        .collect();
    let known = [header::TE, PROXY_AUTHENTICATION_INFO];
    for name in named.iter().chain(&OF_CONNECTION).chain(&known) {
        headers.remove(name);
    }
}

/// The one length that the fields say, or none.
fn length(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    let mut all = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    let text = value.to_str().map_err(drop)?;
    if all.next().is_some() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    text.parse().map(Some).map_err(drop)
}

/// Takes out of trailers what has no business there.
pub(super) fn clean_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    let mut trailers = match frame.into_trailers() {
        Ok(trailers) => trailers,
        Err(frame) => return frame,
    };
    strip(&mut trailers);
    for name in &NOT_IN_TRAILERS {
        trailers.remove(name);
    }
    Frame::trailers(trailers)
}

/// A guest's body on its way out: exactly as long as its head says.
pub(super) struct Outward {
    body: WasiBody,
    declared: Option<u64>,
    left: u64,
}

impl Outward {
    pub(super) fn new(body: WasiBody, declared: Option<u64>) -> Self {
        Self {
            body,
            declared,
            left: declared.unwrap_or(u64::MAX),
        }
    }

    fn wrong(&self) -> Error {
        Error::HttpRequestBodySize(self.declared)
    }

    fn is_short(&self) -> bool {
        self.declared.is_some() && self.left > 0
    }
}

impl Body for Outward {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None if self.is_short() => return Poll::Ready(Some(Err(self.wrong()))),
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => frame,
        };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = self.left.checked_sub(length) else {
            return Poll::Ready(Some(Err(self.wrong())));
        };
        self.left = left;
        if frame.is_trailers() && self.is_short() {
            return Poll::Ready(Some(Err(self.wrong())));
        }
        Poll::Ready(Some(Ok(clean_trailers(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.is_short()
    }

    fn size_hint(&self) -> SizeHint {
        match self.declared {
            Some(_) => SizeHint::with_exact(self.left),
            None => self.body.size_hint(),
        }
    }
}
