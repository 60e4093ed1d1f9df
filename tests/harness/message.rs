//! HTTP/1.1 messages: requests as bytes, answers as what was received.

/// A request whose body is all here: `Host` and, with a body, `Content-Length` are added.
pub(crate) fn request(
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Vec<u8> {
    let body = body.as_ref();
    let mut head = head(method, target, fields);
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// `GET TARGET`.
pub(crate) fn get(target: &str) -> Vec<u8> {
    request("GET", target, &[], "")
}

/// `POST TARGET` with a body.
pub(crate) fn post(target: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST", target, &[], body)
}

/// The head of a request whose body follows in chunks.
pub(crate) fn chunked_head(target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    (head("POST", target, fields) + "Transfer-Encoding: chunked\r\n\r\n").into_bytes()
}

/// The head of a request whose body of `length` bytes follows.
pub(crate) fn sized_head(target: &str, length: usize) -> Vec<u8> {
    (head("POST", target, &[]) + &format!("Content-Length: {length}\r\n\r\n")).into_bytes()
}

/// One chunk.
pub(crate) fn chunk(data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// The end of a chunked body, with trailers.
pub(crate) fn last_chunk(trailers: &[(&str, &str)]) -> Vec<u8> {
    format!("0\r\n{}\r\n", lines(trailers)).into_bytes()
}

fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{}",
        lines(fields)
    )
}

fn lines(fields: &[(&str, &str)]) -> String {
    fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect()
}

/// Header fields or trailers in the order of their arrival, names in lower case.
pub(crate) type Fields = Vec<(String, String)>;

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
}

/// A whole answer, or what came of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    /// The sizes of the chunks, where it came in chunks.
    pub(crate) chunks: Vec<usize>,
    pub(crate) trailers: Fields,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header field that stands there once at the most.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        value(&self.fields, name)
    }
}

/// The value of the one field with this name.
pub(crate) fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    let mut values = fields
        .iter()
        .filter(|(field, _)| field == name)
        .map(|(_, value)| value.as_str());
    let first = values.next();
    assert_eq!(values.next(), None, "{name} is repeated");
    first
}

/// Reads a head, without the empty line behind it.
pub(crate) fn parse_head(text: &str) -> Head {
    let (status_line, rest) = text.split_once("\r\n").unwrap_or((text, ""));
    let mut words = status_line.splitn(3, ' ');
    assert_eq!(words.next(), Some("HTTP/1.1"), "{status_line}");
    let status = words
        .next()
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("{status_line}"));
    Head {
        status,
        fields: parse_fields(rest),
    }
}

/// Reads header lines.
pub(crate) fn parse_fields(text: &str) -> Fields {
    let lines = text.split("\r\n").filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .unwrap_or_else(|| panic!("not a field: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect()
}
