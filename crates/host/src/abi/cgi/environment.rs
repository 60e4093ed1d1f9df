//! The variables that tell a program of its request: those of CGI 1.1 and those that WAGI adds.

use std::borrow::Cow;

use hostel_app::unescaped;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::{Authority, Scheme};

use crate::abi::cgi::place::Place;
use crate::guest::Call;

/// A variable.
pub(super) type Variable = (Cow<'static, str>, String);

/// In place of a value that is no UTF-8.
const CORRUPT: &str = "CORRUPT VALUE";

/// Fields that no variable is made of: what authenticates a client to the server, what belongs to the connection, and one that
/// would become a variable that programs take for their own (`HTTP_PROXY`).
const WITHHELD: [&str; 4] = [
    "authorization",
    "connection",
    "proxy",
    "proxy-authorization",
];

/// All of them. `length` is the body's, if it is known.
pub(super) fn of(request: &Parts, call: &Call, length: Option<u64>) -> Vec<Variable> {
    let fields = &request.headers;
    let path = request.uri.path();
    let route = call.origin.as_ref().map(|origin| &*origin.route.pattern);
    let place = Place::of(route.unwrap_or("/..."), path);
    let (host, port) = server(request, &call.scheme);
    // To a socket of IPv6 an address of IPv4 is `::ffff:` and the address, which programs would not know again.
    let client = call.origin.as_ref();
    let client = client.map(|origin| origin.client.to_canonical().to_string());
    let client = client.unwrap_or_else(|| "127.0.0.1".to_owned());
    let target = request.uri.path_and_query();
    let target = target.map_or(path, |target| target.as_str());
    let url = format!("{}://{host}:{port}{target}", call.scheme);
    let info = decoded(place.rest);
    let query = request.uri.query().unwrap_or_default();
    let constant = |name: &'static str, value: &str| (Cow::Borrowed(name), value.to_owned());
    let mut variables = Vec::with_capacity(24 + fields.keys_len());
    variables.extend([
        constant("AUTH_TYPE", ""),
        constant("CONTENT_TYPE", &content_type(fields)),
        constant("GATEWAY_INTERFACE", "CGI/1.1"),
        constant("PATH_INFO", &info),
        constant("PATH_TRANSLATED", &info),
        constant("QUERY_STRING", query),
        constant("REMOTE_ADDR", &client),
        constant("REMOTE_HOST", &client),
        constant("REMOTE_USER", ""),
        constant("REQUEST_METHOD", request.method.as_str()),
        constant("SCRIPT_NAME", &place.script),
        constant("SERVER_NAME", &host),
        constant("SERVER_PORT", &port),
        constant("SERVER_PROTOCOL", &format!("{:?}", request.version)),
        constant("SERVER_SOFTWARE", "WAGI/1"),
        constant("X_FULL_URL", &url),
        constant("X_MATCHED_ROUTE", place.route),
        constant("X_RAW_PATH_INFO", place.rest),
    ]);
    if let Some(length) = length {
        variables.push((Cow::Borrowed("CONTENT_LENGTH"), length.to_string()));
    }
    for name in fields.keys() {
        if let Some(variable) = variable_name(name) {
            variables.push((Cow::Owned(variable), joined(fields, name)));
        }
    }
    // HTTP/2 has the authority in place of the field that programs look for (RFC 9113 section 8.3.1).
    if let (false, Some(authority)) = (fields.contains_key(header::HOST), request.uri.authority()) {
        variables.push(constant("HTTP_HOST", authority.as_str()));
    }
    variables
}

fn content_type(fields: &HeaderMap) -> String {
    match fields.contains_key(header::CONTENT_TYPE) {
        true => joined(fields, &header::CONTENT_TYPE),
        false => String::new(),
    }
}

/// `HTTP_` and the field's name. Only a name of letters, digits and `-` has one: `X_Forwarded-For` would be taken for
/// `X-Forwarded-For`, which whoever stands in front of this server may have set.
fn variable_name(field: &HeaderName) -> Option<String> {
    let field = field.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if WITHHELD.contains(&field) || !field.bytes().all(plain) {
        return None;
    }
    let mut name = String::with_capacity("HTTP_".len() + field.len());
    name.push_str("HTTP_");
    name.extend(field.chars().map(|letter| match letter {
        '-' => '_',
        letter => letter.to_ascii_uppercase(),
    }));
    Some(name)
}

/// The values of a field that came several times are one list, as RFC 3875 section 4.1.18 asks; of cookies too, whose lists have
/// another separator.
fn joined(fields: &HeaderMap, name: &HeaderName) -> String {
    let separator = match *name == header::COOKIE {
        true => "; ",
        false => ", ",
    };
    let mut joined = String::new();
    for (index, value) in fields.get_all(name).iter().enumerate() {
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
            return CORRUPT.to_owned();
        };
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(value);
    }
    joined
}

/// The name and the port by which the client knows this server.
fn server(request: &Parts, scheme: &Scheme) -> (String, String) {
    let field = request.headers.get(header::HOST);
    let field = field.and_then(|value| Authority::try_from(value.as_bytes()).ok());
    let authority = field.as_ref().or_else(|| request.uri.authority());
    let host = authority.map_or("localhost", Authority::host);
    let port = authority.and_then(Authority::port_u16);
    let usual = match *scheme == Scheme::HTTPS {
        true => 443,
        false => 80,
    };
    (host.to_owned(), port.unwrap_or(usual).to_string())
}

/// A path without escapes. One that is no escape stays as it is, and so does that of the byte 0, at which most programs would
/// take the text to end.
pub(super) fn decoded(path: &str) -> String {
    String::from_utf8_lossy(&unescaped(path, |byte| byte == 0)).into_owned()
}
