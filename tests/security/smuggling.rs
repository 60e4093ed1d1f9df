//! Two parsers that disagree about where a request ends let an attacker put words into another client's mouth (RFC 9112
//! section 11.2). The corpus: requests that some parser somewhere reads in another way than RFC 9112, family by family.
//! Each is followed by a second request on the same connection. Either the first one is refused and nothing behind it is
//! answered, or both are read as the RFC reads them and each has one answer.

use std::collections::BTreeSet;

use crate::harness::message::{chunk, chunked_head, get};
use crate::harness::server::Server;

/// The request behind each of them.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// 400 or 501 with `Connection: close`, and nothing more.
    Refused,
    /// The head was good, and the guest may have answered; the body is what is broken. Nothing behind it is answered.
    Broken,
    /// It is one request, and what follows is the next.
    Served,
}

use Verdict::{Broken, Refused, Served};

/// A request without its `POST / HTTP/1.1` and `Host`: further lines and the body.
type Case = (Verdict, &'static str);

/// `Content-Length` against `Transfer-Encoding`, in every order and disguise.
const BOTH_FRAMINGS: &[Case] = &[
    (
        Refused,
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        Refused,
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        Refused,
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        Refused,
        "transfer-encoding: CHUNKED\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        Refused,
        "Content-Length: 5\r\nX: 1\r\nTransfer-Encoding:chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        Refused,
        "Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello",
    ),
    (
        Refused,
        "Content-Length: 5\r\nTransfer-Encoding: x\r\n\r\nhello",
    ),
    (
        Refused,
        "Content-Length: 5\r\nTransfer-Encoding:\r\n\r\nhello",
    ),
    (
        Refused,
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
];

/// Lengths that are repeated, or no plain decimal number.
const LENGTHS: &[Case] = &[
    (Refused, "Content-Length: 0\r\nContent-Length: 46\r\n\r\n"),
    (Refused, "Content-Length: 46\r\nContent-Length: 0\r\n\r\n"),
    (Refused, "Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
    (
        Refused,
        "Content-Length: 0\r\ncontent-length: 0\r\nCONTENT-LENGTH: 0\r\n\r\n",
    ),
    (Refused, "Content-Length: +0\r\n\r\n"),
    (Refused, "Content-Length: -1\r\n\r\n"),
    (Refused, "Content-Length: -0\r\n\r\n"),
    (Refused, "Content-Length: 0x0\r\n\r\n"),
    (Refused, "Content-Length: 0,0\r\n\r\n"),
    (Refused, "Content-Length: 0, 46\r\n\r\n"),
    (Refused, "Content-Length: 0 0\r\n\r\n"),
    (Refused, "Content-Length: 0;q=1\r\n\r\n"),
    (Refused, "Content-Length: 1e1\r\n\r\n"),
    (Refused, "Content-Length: 5.0\r\n\r\nhello"),
    (Refused, "Content-Length: \"0\"\r\n\r\n"),
    (Refused, "Content-Length: zero\r\n\r\n"),
    (Refused, "Content-Length: \r\n\r\n"),
    (Refused, "Content-Length:\r\n\r\n"),
    (Refused, "Content-Length: 18446744073709551616\r\n\r\n"),
    (Refused, "Content-Length: 99999999999999999999999\r\n\r\n"),
    (Refused, "Content-Length: \u{663}\r\n\r\nabc"),
    (Refused, "Content-Length: \u{b}0\r\n\r\n"),
    (Served, "Content-Length: 00005\r\n\r\nhello"),
    (Served, "Content-Length: 5 \t \r\n\r\nhello"),
    (Served, "Content-Length:5\r\n\r\nhello"),
    (Served, "Content-Length: 0\r\n\r\n"),
];

/// Codings that are not `chunked`, or `chunked` in a disguise that some parser sees through and another does not.
const CODINGS: &[Case] = &[
    (Refused, "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (Refused, "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    (
        Refused,
        "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        Refused,
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (Refused, "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    (Refused, "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (Refused, "Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n"),
    (Refused, "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    (Refused, "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    (Refused, "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"),
    (Refused, "Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n"),
    (
        Refused,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        Refused,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    ),
    (
        Refused,
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        Refused,
        "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    ),
    (Refused, "Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
    (Refused, "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    (Refused, "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    (
        Served,
        "Transfer-Encoding: ChUnKeD\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        Served,
        "Transfer-Encoding:\tchunked \r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
];

/// Lines that end, go on or break in another way than CR LF.
const LINES: &[Case] = &[
    (Refused, "Content-Length: 0\nX-More: 1\r\n\r\n"),
    (Refused, "Content-Length: 0\n\r\n"),
    (Refused, "Content-Length: 0\n\n"),
    (Refused, "Content-Length: 0\r\n\n"),
    (Refused, "X: 1\rContent-Length: 0\r\n\r\n"),
    (Refused, "X: 1\r\r\nContent-Length: 0\r\n\r\n"),
    (Refused, "X: 1\r\n\rContent-Length: 0\r\n\r\n"),
    (
        Refused,
        "X-Folded: one\r\n two\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        Refused,
        "X-Folded: one\r\n\ttwo\r\nContent-Length: 0\r\n\r\n",
    ),
    (Refused, "Content-Length:\r\n 0\r\n\r\n"),
    (Refused, "X-Folded: one\r\n Content-Length: 5\r\n\r\n"),
];

/// Names that another parser takes for `Content-Length`, or for nothing.
const NAMES: &[Case] = &[
    (Refused, "Content-Length : 0\r\n\r\n"),
    (Refused, "Content-Length\t: 0\r\n\r\n"),
    (Refused, " Content-Length: 0\r\n\r\n"),
    (Refused, "Content\0-Length: 0\r\n\r\n"),
    (Refused, "Content-Length\0: 0\r\n\r\n"),
    (Refused, "Content-Length\r: 0\r\n\r\n"),
    (Refused, "Content Length: 0\r\n\r\n"),
    (Refused, "Content-Length\u{a0}: 0\r\n\r\n"),
    (Refused, "\"Content-Length\": 0\r\n\r\n"),
    (Refused, "Content-Length(: 0\r\n\r\n"),
    (Refused, "Content/Length: 0\r\n\r\n"),
    (Refused, "\u{441}ontent-length: 5\r\n\r\n"),
    (Refused, ": 0\r\n\r\n"),
    (Refused, "no colon\r\n\r\n"),
    (Refused, "\u{7f}X: 0\r\n\r\n"),
    // Another field for us and for everybody who reads the RFC; no guest reads its length out of it.
    (Served, "Content_Length: 5\r\n\r\n"),
];

/// Values that end somewhere in the middle for a parser in C, or start a new line.
const VALUES: &[Case] = &[
    (Refused, "X-Value: a\0b\r\n\r\n"),
    (Refused, "X-Value: a\rb\r\n\r\n"),
    (Refused, "X-Value: a\rContent-Length: 5\r\n\r\n"),
    (Refused, "X-Value: a\u{7f}b\r\n\r\n"),
    (Refused, "X-Value: a\u{1}b\r\n\r\n"),
    (Refused, "X-Value: \u{8}\r\n\r\n"),
    (Served, "X-Value: a\tb\r\n\r\n"),
    (Served, "X-Value: Transfer-Encoding: chunked\r\n\r\n"),
];

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";

/// Chunk sizes, behind `Transfer-Encoding: chunked`.
const SIZES: &[Case] = &[
    (Broken, "zz\r\nhello\r\n0\r\n\r\n"),
    (Broken, "-1\r\nhello\r\n0\r\n\r\n"),
    (Broken, "+5\r\nhello\r\n0\r\n\r\n"),
    (Broken, "0x5\r\nhello\r\n0\r\n\r\n"),
    (Broken, "5h\r\nhello\r\n0\r\n\r\n"),
    (Broken, " 5\r\nhello\r\n0\r\n\r\n"),
    (Broken, "5 5\r\nhello\r\n0\r\n\r\n"),
    (Broken, "5,0\r\nhello\r\n0\r\n\r\n"),
    (Broken, "\r\nhello\r\n0\r\n\r\n"),
    (Broken, ";x\r\nhello\r\n0\r\n\r\n"),
    (Broken, "ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    (Broken, "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    (Broken, "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    (Broken, "100000005\r\nhello\r\n0\r\n\r\n"),
    (Broken, "5\0\r\nhello\r\n0\r\n\r\n"),
    (Broken, "\u{665}\r\nhello\r\n0\r\n\r\n"),
    (Served, "05\r\nhello\r\n00\r\n\r\n"),
    (Served, "A\r\nhellohello\r\n0\r\n\r\n"),
    (Served, "a\r\nhellohello\r\n0\r\n\r\n"),
];

/// What stands around the data of a chunk.
const CHUNKS: &[Case] = &[
    (Broken, "3\r\nhello\r\n0\r\n\r\n"),
    (Broken, "5\r\nhel\r\n0\r\n\r\n"),
    (Broken, "5\nhello\n0\n\n"),
    (Broken, "5\rhello\r\n0\r\n\r\n"),
    (Broken, "5\r\nhello\n0\r\n\r\n"),
    (Broken, "5\r\nhello0\r\n\r\n"),
    (Broken, "5\r\nhello\r\r\n0\r\n\r\n"),
    (Broken, "0\r\n\n"),
    (Broken, "5;x\nhello\r\n0\r\n\r\n"),
    (Broken, "5;x=\"\n\"\r\nhello\r\n0\r\n\r\n"),
    (Served, "5;x\r\nhello\r\n0\r\n\r\n"),
    (Served, "5;name=\"a value; 0\"\r\nhello\r\n0;end\r\n\r\n"),
    (Served, "5 \r\nhello\r\n0\r\n\r\n"),
];

/// Trailers, which come after everybody has decided what the request is.
const TRAILERS: &[Case] = &[
    (Broken, "0\r\nX-Trailer: 1\n\r\n"),
    (Broken, "0\r\nX-Trailer: 1\n\n"),
    (Broken, "0\r\nX Trailer: 1\r\n\r\n"),
    (Broken, "0\r\nno colon\r\n\r\n"),
    (Served, "0\r\nX-Trailer: 1\r\n\r\n"),
    (Served, "0\r\nContent-Length: 60\r\n\r\n"),
    (Served, "0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (Served, "0\r\nHost: other\r\nConnection: keep-alive\r\n\r\n"),
];

/// Protocols that end the reading of requests.
const UPGRADES: &[Case] = &[
    (
        Refused,
        "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
    ),
    (Refused, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    (Refused, "Connection: upgrade\r\nUpgrade: tls/1.0\r\n\r\n"),
    (
        Served,
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    ),
];

/// Whole heads: request lines, and `Host` where it says who is meant.
const REQUEST_LINES: &[Case] = &[
    (Refused, "POST  / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (Refused, "POST /  HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (Refused, "POST\t/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (Refused, " POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (Refused, "POST / HTTP/1.1 \r\nHost: localhost\r\n\r\n"),
    (Refused, "POST / HTTP/1.1\nHost: localhost\r\n\r\n"),
    (Refused, "POST /a b HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (Refused, "POST /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (Refused, "POST / HTTP/1.2\r\nHost: localhost\r\n\r\n"),
    (Refused, "POST / HTTP/9.9\r\nHost: localhost\r\n\r\n"),
    (Refused, "POST / http/1.1\r\nHost: localhost\r\n\r\n"),
    (Refused, "POST / HTTP/1.10\r\nHost: localhost\r\n\r\n"),
    (Refused, "POST /\r\nHost: localhost\r\n\r\n"),
    (Refused, "PO(ST / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (
        Refused,
        "POST http://other/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ),
    (
        Refused,
        "POST http://localhost@other/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ),
    (
        Refused,
        "POST localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ),
    (
        Served,
        "POST http://localhost/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        Served,
        "\r\nPOST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    ),
    // HTTP/1.0 knows no chunks (RFC 9112 section 6.1): whoever sends some is not understood, and the connection ends.
    (
        Refused,
        "POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        Refused,
        "POST / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
];

/// Every family, with what stands before each of its cases.
const CORPUS: &[(&str, &[Case])] = &[
    (HEAD, BOTH_FRAMINGS),
    (HEAD, LENGTHS),
    (HEAD, CODINGS),
    (HEAD, LINES),
    (HEAD, NAMES),
    (HEAD, VALUES),
    (CHUNKED_HEAD, SIZES),
    (CHUNKED_HEAD, CHUNKS),
    (CHUNKED_HEAD, TRAILERS),
    (HEAD, UPGRADES),
    ("", REQUEST_LINES),
];

const HEAD: &str = "POST / HTTP/1.1\r\nHost: localhost\r\n";
const CHUNKED_HEAD: &str =
    "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Sends each of a family with the second request behind it, and judges all that comes until the end.
fn judge(head: &str, family: &[Case]) {
    let server = Server::of("echo-p2");
    let mut wrong = Vec::new();
    for (verdict, rest) in family {
        let mut connection = server.connect();
        connection.try_send(format!("{head}{rest}{SMUGGLED}"));
        let received = String::from_utf8_lossy(&connection.rest()).into_owned();
        if !holds(*verdict, &received) {
            wrong.push(format!("{verdict:?} {rest:?}: {received:?}"));
        }
        server.is_alive("/");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn holds(verdict: Verdict, received: &str) -> bool {
    let statuses: Vec<&str> = received
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| answer.get(..3).unwrap_or(answer))
        .collect();
    match verdict {
        Refused => {
            let closes = received
                .to_ascii_lowercase()
                .contains("\r\nconnection: close\r\n");
            closes && matches!(statuses[..], ["400" | "501"])
        }
        Broken => statuses.len() <= 1,
        Served => statuses == ["200", "200"],
    }
}

#[test]
fn both_framings() {
    judge(HEAD, BOTH_FRAMINGS);
}

#[test]
fn lengths() {
    judge(HEAD, LENGTHS);
}

#[test]
fn codings() {
    judge(HEAD, CODINGS);
}

#[test]
fn lines() {
    judge(HEAD, LINES);
}

#[test]
fn names() {
    judge(HEAD, NAMES);
}

#[test]
fn values() {
    judge(HEAD, VALUES);
}

#[test]
fn chunk_sizes() {
    judge(CHUNKED_HEAD, SIZES);
}

#[test]
fn chunks() {
    judge(CHUNKED_HEAD, CHUNKS);
}

#[test]
fn trailers() {
    judge(CHUNKED_HEAD, TRAILERS);
}

#[test]
fn upgrades() {
    judge(HEAD, UPGRADES);
}

#[test]
fn request_lines() {
    judge("", REQUEST_LINES);
}

#[test]
fn the_corpus_has_at_least_sixty_cases_and_none_twice() {
    let cases: Vec<String> = CORPUS
        .iter()
        .flat_map(|(head, family)| family.iter().map(move |(_, rest)| format!("{head}{rest}")))
        .collect();
    let distinct: BTreeSet<&String> = cases.iter().collect();
    assert_eq!(distinct.len(), cases.len());
    assert!(distinct.len() >= 60, "{}", distinct.len());
}

#[test]
fn a_request_behind_a_good_one_is_not_confused_with_its_body() {
    let server = Server::of("echo-p2");
    let mut connection = server.connect();
    let good = [
        chunked_head("/", &[]),
        chunk(SMUGGLED),
        b"0\r\n\r\n".to_vec(),
    ]
    .concat();
    assert_eq!(connection.ask(&good).text(), SMUGGLED);
    assert_eq!(connection.ask(&get("/")).status, 200);
}

/// A guest that does not read the body of one request does not get it as the next one.
#[test]
fn a_body_that_was_not_read_is_not_the_next_request() {
    let server = Server::of("hello-p2");
    for body in [
        format!("Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
        format!("{CHUNKED}{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
    ] {
        let mut connection = server.connect();
        connection.try_send(format!("{HEAD}{body}"));
        assert_eq!(connection.answer().status, 200);
        connection.try_finish_sending();
        connection.is_closed();
    }
}
