//! Requests that no honest client sends: bombs, and heads that two parsers could read in two ways (RFC 9112, section 11.2).

/// A request that is too large in one of its parts.
pub(super) struct Bomb {
    pub(super) name: &'static str,
    /// The head is good and the body is the bomb: one answer is right too, whatever the guest makes of the body.
    pub(super) body: bool,
    pub(super) build: fn() -> Vec<u8>,
}

const MIB: usize = 1 << 20;

const START: &str = "GET /a/ HTTP/1.1\r\nHost: localhost\r\n";
const CHUNKED: &str = "POST /a/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";

pub(super) const BOMBS: &[Bomb] = &[
    refused("10,000 fields", || {
        let fields: String = (0..10_000).map(|at| format!("X-{at}: 1\r\n")).collect();
        format!("{START}{fields}\r\n").into()
    }),
    refused("a value of 1 MiB", || {
        format!("{START}X-Big: {}\r\n\r\n", "x".repeat(MIB)).into()
    }),
    refused("a name of 1 MiB", || {
        format!("{START}{}: 1\r\n\r\n", "x".repeat(MIB)).into()
    }),
    refused("a value without end", || {
        format!("{START}X-Big: {}", "x".repeat(4 * MIB)).into()
    }),
    refused("folded 10,000 times", || {
        format!("{START}X-Folded: 1{}\r\n\r\n", "\r\n 1".repeat(10_000)).into()
    }),
    refused("a URL of 64 KiB", || url(64 << 10)),
    refused("a URL of 1 MiB", || url(MIB)),
    refused("a method of 64 KiB", || {
        format!(
            "{} / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "G".repeat(64 << 10)
        )
        .into()
    }),
    refused("1,000,000 empty lines", || {
        format!("{}{START}\r\n", "\r\n".repeat(1_000_000)).into()
    }),
    body("1,000,000 chunks", || {
        format!("{CHUNKED}{}0\r\n\r\n", "1\r\nx\r\n".repeat(1_000_000)).into()
    }),
    body("a chunk extension of 1 MiB", || {
        format!("{CHUNKED}1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(MIB)).into()
    }),
    body("10,000 chunk extensions", || {
        let chunk = format!("1;{}\r\nx\r\n", "x".repeat(100));
        format!("{CHUNKED}{}0\r\n\r\n", chunk.repeat(10_000)).into()
    }),
    body("a chunk size of 1 MiB", || {
        format!("{CHUNKED}{}1\r\nx\r\n0\r\n\r\n", "0".repeat(MIB)).into()
    }),
    body("10,000 trailers", || {
        let fields: String = (0..10_000).map(|at| format!("X-{at}: 1\r\n")).collect();
        format!("{CHUNKED}1\r\nx\r\n0\r\n{fields}\r\n").into()
    }),
    body("a trailer of 1 MiB", || {
        format!("{CHUNKED}1\r\nx\r\n0\r\nX-Big: {}\r\n\r\n", "x".repeat(MIB)).into()
    }),
];

const fn refused(name: &'static str, build: fn() -> Vec<u8>) -> Bomb {
    let body = false;
    Bomb { name, body, build }
}

const fn body(name: &'static str, build: fn() -> Vec<u8>) -> Bomb {
    let body = true;
    Bomb { name, body, build }
}

fn url(bytes: usize) -> Vec<u8> {
    let path = "x".repeat(bytes);
    format!("GET /a/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into()
}

/// What a server must do with a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Refuse, close, and answer nothing behind it.
    Refused,
    /// The head was good: whatever the answer is, it is the last.
    AtMostOne,
    /// There is one reading: both requests are answered.
    Two,
}

/// One request, and a hidden one behind it.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) request: String,
    pub(super) expected: Expected,
}

/// The request that must never be answered where the one before it was ambiguous.
const SMUGGLED: &str = "GET /b/ HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Lengths that are none.
const LENGTHS: &[&str] = &[
    "+0",
    "-1",
    "--0",
    "0x0",
    "0,0",
    "0, 0",
    "0 0",
    "0\t0",
    "0;",
    "1e0",
    "0.0",
    "",
    "18446744073709551616",
    "99999999999999999999999",
    "\u{660}",
    "0\u{b}",
    "nil",
];

/// Codings that are not chunked, or not chunked alone.
const CODINGS: &[&str] = &[
    "gzip, chunked",
    "chunked, gzip",
    "xchunked",
    "chunkedx",
    "identity",
    "\u{b}chunked",
    "chunked\u{b}",
    "chunked, chunked",
    "chunked, identity",
    "\"chunked\"",
    "chunke d",
    "chunked\0",
    "cow",
    "gzip",
    "chunked;q=0",
];

/// Further fields of a head with a good `Content-Length: 0` or chunked body that leave two readings.
const FIELDS: &[&str] = &[
    // CL.TE and TE.CL.
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "content-length: 5\r\nTRANSFER-ENCODING: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 0",
    // TE.TE.
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    // Two lengths.
    "Content-Length: 0\r\nContent-Length: 46",
    "Content-Length: 46\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: 0",
    "Content-Length: 0\r\nX-Between: 1\r\ncontent-length: 5",
    // Names that are read differently.
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "Transfer-Encoding\0: chunked",
    "Transfer\u{b}-Encoding: chunked",
    "Content-Length : 0",
    " Content-Length: 0",
    "Content-Length\r: 0",
    "Content\0-Length: 0",
    ": 0",
    "no colon",
    // Folded lines.
    "X-Folded: one\r\n two\r\nContent-Length: 0",
    "X-Folded: one\r\n\ttwo\r\nContent-Length: 0",
    "Transfer-Encoding:\r\n chunked",
    "Content-Length:\r\n 0",
    // Lines that end without a carriage return, and carriage returns that end no line.
    "Content-Length: 0\nX-More: 1",
    "X-More: 1\nTransfer-Encoding: chunked",
    "X-More: 1\rTransfer-Encoding: chunked",
    "X-More: a\rb",
    "Content-Length: 0\r\n\rX-More: 1",
    // Control characters.
    "X-Value: a\0b",
    "X-Value: a\u{1}b",
    "X-Value: a\u{7f}b",
    // Two hosts.
    "Host: other",
];

/// Request lines that are read differently.
const LINES: &[&str] = &[
    "GET  /a/ HTTP/1.1",
    "GET\t/a/\tHTTP/1.1",
    "GET /a/ HTTP/1.1 ",
    " GET /a/ HTTP/1.1",
    "GET /a/ HTTP/1.1\r",
    "GET /a/ http/1.1",
    "GET /a/ HTTP/01.1",
    "GET /a/ HTTP/1.10",
    "GET /a/ HTTP/9.9",
    "GET /a/ b/ HTTP/1.1",
    "GET /a/\0 HTTP/1.1",
    "G\0T /a/ HTTP/1.1",
    "GET HTTP/1.1",
    "GET /a/",
    "G(T /a/ HTTP/1.1",
];

/// Chunked bodies that are broken.
const BODIES: &[&str] = &[
    "zz\r\nhello\r\n0\r\n\r\n",
    "-1\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "\r\nhello\r\n0\r\n\r\n",
    "5 5\r\nhello\r\n0\r\n\r\n",
    "5\0\r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "3\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\r\nhelloXX0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\rhello\r0\r\r",
    "0\r\nX: y\n\n",
    "0\r\n folded\r\n\r\n",
    "0\r\nno colon\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
];

/// Fields with one reading only, whatever they look like.
const PLAIN: &[&str] = &[
    "Content-Length: 0",
    "Content-Length:0",
    "Content-Length: \t0 ",
    "Content-Length: 0\r\nTransfer_Encoding: chunked",
    "Content-Length: 0\r\nX-Transfer-Encoding: chunked",
    "Content-Length: 0\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",
];

/// The whole corpus.
pub(super) fn smuggling() -> Vec<Case> {
    let mut cases = Vec::new();
    let head = "POST /a/ HTTP/1.1\r\nHost: localhost";
    let mut add = |request: String, expected| {
        let request = request + SMUGGLED;
        cases.push(Case { request, expected });
    };
    for length in LENGTHS {
        add(
            format!("{head}\r\nContent-Length: {length}\r\n\r\n"),
            Expected::Refused,
        );
    }
    for coding in CODINGS {
        add(
            format!("{head}\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"),
            Expected::Refused,
        );
    }
    for fields in FIELDS {
        add(
            format!("{head}\r\n{fields}\r\n\r\n0\r\n\r\n"),
            Expected::Refused,
        );
    }
    for line in LINES {
        add(
            format!("{line}\r\nHost: localhost\r\n\r\n"),
            Expected::Refused,
        );
    }
    add("GET /a/ HTTP/1.1\r\n\r\n".to_owned(), Expected::Refused);
    for body in BODIES {
        add(
            format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            Expected::AtMostOne,
        );
    }
    for fields in PLAIN {
        add(format!("{head}\r\n{fields}\r\n\r\n"), Expected::Two);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_as_large_as_was_promised_and_no_case_is_in_it_twice() {
        let cases = smuggling();
        assert!(cases.len() >= 60, "{}", cases.len());
        let mut requests: Vec<&str> = cases.iter().map(|case| case.request.as_str()).collect();
        requests.sort_unstable();
        requests.dedup();
        assert_eq!(requests.len(), cases.len());
        assert!(requests.iter().all(|request| request.ends_with(SMUGGLED)));
    }

    #[test]
    fn bombs_are_as_large_as_they_say() {
        assert!(BOMBS.len() >= 12);
        for bomb in BOMBS {
            let bytes = (bomb.build)();
            assert!(bytes.len() > 30_000, "{}: {}", bomb.name, bytes.len());
        }
    }
}
