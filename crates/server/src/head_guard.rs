//! Reads HTTP/1 framing along with hyper, to see what hyper hides from the service.
//!
//! hyper drops `Content-Length` when `Transfer-Encoding` is present, folds equal `Content-Length` fields into one and
//! accepts a bare LF as a line's end. Two parsers that disagree on such a request are how requests are smuggled (RFC
//! 9112 section 11.2), so each of them is an [`Offence`]: the trigger answers 400 and closes. The guard follows every
//! message to its end (heads, bodies by length, chunks, trailers), so that it can say *which* request offended even
//! when several are pipelined, and whether the client is silent between requests or inside one.
//!
//! It decodes nothing, allocates nothing and never refuses a byte: hyper judges everything else. Where framing is
//! broken beyond what hyper could accept, everything after it counts as offending.

/// Why a request is refused although hyper would serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Offence {
    /// `Content-Length` and `Transfer-Encoding` in one head.
    BothFramings = 1,
    /// More than one `Content-Length`.
    RepeatedLength = 2,
    /// A `Content-Length` that is not one decimal number.
    BadLength = 3,
    /// A line of the head that ends in LF without CR.
    BareLineFeed = 4,
    /// A header line continued on the next one.
    FoldedLine = 5,
    /// The bytes before this request were not HTTP/1 framing.
    BrokenFraming = 6,
}

impl Offence {
    /// The reverse of `self as u8`; `None` for 0 and everything unknown.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        use Offence::*;
        [
            BothFramings,
            RepeatedLength,
            BadLength,
            BareLineFeed,
            FoldedLine,
            BrokenFraming,
        ]
        .into_iter()
        .find(|offence| *offence as u8 == code)
    }

    /// One sentence for the client.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Offence::BothFramings => "Content-Length and Transfer-Encoding exclude each other",
            Offence::RepeatedLength => "Content-Length is repeated",
            Offence::BadLength => "Content-Length is not a number",
            Offence::BareLineFeed => "a header line ends without CR LF",
            Offence::FoldedLine => "a header line is folded",
            Offence::BrokenFraming => "the request before this one was not framed correctly",
        }
    }
}

/// Where in the client's byte stream a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Position {
    /// Between two requests, or before the first.
    Between = 0,
    /// Inside a request's head.
    Head = 1,
    /// Inside a request's body.
    Body = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    /// In the request line, or in a header line that does not matter: up to LF.
    Line,
    /// At the first byte of a header line, or of the empty line.
    LineStart,
    /// After the CR of the empty line.
    HeadEnd,
    /// So many bytes of a field name matched that of `Field`.
    Name(Field, u8),
    /// In the value of `Content-Length`.
    Length(Digits),
    /// So many body bytes to go.
    Body(u64),
    Chunk(Chunk),
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    ContentLength,
    TransferEncoding,
}

impl Field {
    fn name(self) -> &'static [u8] {
        match self {
            Field::ContentLength => b"content-length",
            Field::TransferEncoding => b"transfer-encoding",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digits {
    None,
    Some,
    Ended,
}

/// Places inside a chunked body (RFC 9112 section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// At the first digit of a size.
    SizeStart,
    /// In a size that is so far this.
    Size(u64),
    /// In the white space after a size.
    SizeSpace(u64),
    /// In an extension; the size is this.
    Extension(u64),
    /// After the CR that ends a size line.
    SizeLf(u64),
    /// So many bytes of data to go.
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    EndLf,
}

/// The guard of one HTTP/1 connection.
#[derive(Debug)]
pub(crate) struct HeadGuard {
    state: State,
    /// The last byte of what was scanned before.
    previous: u8,
    heads: u32,
    /// Of the head being read.
    lengths: u8,
    length: u64,
    chunked: bool,
    offence: Option<Offence>,
    /// The first offending request of the connection, counted from 0; those behind it are not served either.
    verdict: Option<(u32, Offence)>,
}

impl HeadGuard {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Between,
            previous: 0,
            heads: 0,
            lengths: 0,
            length: 0,
            chunked: false,
            offence: None,
            verdict: None,
        }
    }

    /// Follows `bytes`, which hyper gets next.
    pub(crate) fn scan(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let used = self.step(byte, rest);
            if let Some(&last) = rest.get(..used).and_then(<[u8]>::last) {
                self.previous = last;
            }
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// Complete heads so far.
    pub(crate) fn heads(&self) -> u32 {
        self.heads
    }

    /// The first request that must not be served, counted from 0, and why.
    pub(crate) fn verdict(&self) -> Option<(u32, Offence)> {
        self.verdict
    }

    /// Whether nobody can tell where the current message ends.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.state, State::Broken)
    }

    /// Where the bytes scanned so far end.
    pub(crate) fn position(&self) -> Position {
        match self.state {
            State::Between => Position::Between,
            State::Line
            | State::LineStart
            | State::HeadEnd
            | State::Name(..)
            | State::Length(_) => Position::Head,
            State::Body(_) | State::Chunk(_) | State::Broken => Position::Body,
        }
    }

    /// Uses up some of `rest`, whose first byte is `byte`; 0 where only the state changes (never twice in a row).
    fn step(&mut self, byte: u8, rest: &[u8]) -> usize {
        match self.state {
            State::Between => self.between(byte),
            State::Line => self.line(rest),
            State::LineStart => self.line_start(byte),
            State::HeadEnd if byte == b'\n' => {
                self.end_head();
                1
            }
            State::HeadEnd => self.broken(),
            State::Name(field, matched) => self.name(field, matched, byte),
            State::Length(digits) => self.length(digits, byte),
            State::Body(left) => {
                let (used, left) = take(left, rest);
                self.state = if left == 0 {
                    State::Between
                } else {
                    State::Body(left)
                };
                used
            }
            State::Chunk(place) => self.chunk(place, byte, rest),
            State::Broken => rest.len(),
        }
    }

    /// Empty lines before a request line are skipped, as hyper does (RFC 9112 section 2.2).
    fn between(&mut self, byte: u8) -> usize {
        if byte == b'\r' || byte == b'\n' {
            return 1;
        }
        self.lengths = 0;
        self.length = 0;
        self.chunked = false;
        self.offence = None;
        self.state = State::Line;
        0
    }

    fn line(&mut self, rest: &[u8]) -> usize {
        let Some(at) = find_line_feed(rest) else {
            return rest.len();
        };
        let before = match at.checked_sub(1) {
            Some(before) => rest.get(before).copied().unwrap_or_default(),
            None => self.previous,
        };
        self.end_line(before);
        at + 1
    }

    fn end_line(&mut self, before: u8) {
        if before != b'\r' {
            self.offend(Offence::BareLineFeed);
        }
        self.state = State::LineStart;
    }

    fn line_start(&mut self, byte: u8) -> usize {
        match byte {
            b'\r' => {
                self.state = State::HeadEnd;
                return 1;
            }
            b'\n' => {
                self.offend(Offence::BareLineFeed);
                self.end_head();
                return 1;
            }
            b'c' | b'C' => self.state = State::Name(Field::ContentLength, 0),
            b't' | b'T' => self.state = State::Name(Field::TransferEncoding, 0),
            b' ' | b'\t' => {
                self.offend(Offence::FoldedLine);
                self.state = State::Line;
            }
            _ => self.state = State::Line,
        }
        0
    }

    fn name(&mut self, field: Field, matched: u8, byte: u8) -> usize {
        match field.name().get(usize::from(matched)) {
            Some(expected) if expected.eq_ignore_ascii_case(&byte) => {
                self.state = State::Name(field, matched + 1);
                1
            }
            None if byte == b':' => {
                match field {
                    Field::ContentLength => {
                        self.lengths = self.lengths.saturating_add(1);
                        self.length = 0;
                        self.state = State::Length(Digits::None);
                    }
                    Field::TransferEncoding => {
                        self.chunked = true;
                        self.state = State::Line;
                    }
                }
                1
            }
            _ => {
                self.state = State::Line;
                0
            }
        }
    }

    fn length(&mut self, digits: Digits, byte: u8) -> usize {
        match (byte, digits) {
            (b'0'..=b'9', Digits::None | Digits::Some) => {
                let digit = u64::from(byte - b'0');
                match self
                    .length
                    .checked_mul(10)
                    .and_then(|length| length.checked_add(digit))
                {
                    Some(length) => self.length = length,
                    None => self.offend(Offence::BadLength),
                }
                self.state = State::Length(Digits::Some);
            }
            (b' ' | b'\t', Digits::None) => {}
            (b' ' | b'\t', Digits::Some) => self.state = State::Length(Digits::Ended),
            (b' ' | b'\t' | b'\r', Digits::Ended) | (b'\r', Digits::Some) => {}
            (b'\n', Digits::Some | Digits::Ended) => self.end_line(self.previous),
            _ => {
                self.offend(Offence::BadLength);
                self.state = State::Line;
                return 0;
            }
        }
        1
    }

    fn offend(&mut self, offence: Offence) {
        self.offence.get_or_insert(offence);
    }

    fn end_head(&mut self) {
        if self.chunked && self.lengths > 0 {
            self.offend(Offence::BothFramings);
        } else if self.lengths > 1 {
            self.offend(Offence::RepeatedLength);
        }
        if let Some(offence) = self.offence {
            self.verdict.get_or_insert((self.heads, offence));
        }
        self.heads = self.heads.wrapping_add(1);
        self.state = match self.length {
            _ if self.chunked => State::Chunk(Chunk::SizeStart),
            0 => State::Between,
            length => State::Body(length),
        };
    }

    fn broken(&mut self) -> usize {
        self.verdict
            .get_or_insert((self.heads, Offence::BrokenFraming));
        self.state = State::Broken;
        0
    }

    fn chunk(&mut self, place: Chunk, byte: u8, rest: &[u8]) -> usize {
        let mut used = 1;
        let next = match (place, byte) {
            (Chunk::SizeStart, _) => hex(byte).map(Chunk::Size),
            (Chunk::Size(size), b' ' | b'\t') => Some(Chunk::SizeSpace(size)),
            (Chunk::Size(size) | Chunk::SizeSpace(size), b';') => Some(Chunk::Extension(size)),
            (Chunk::Size(size) | Chunk::SizeSpace(size) | Chunk::Extension(size), b'\r') => {
                Some(Chunk::SizeLf(size))
            }
            (Chunk::Size(size), _) => hex(byte)
                .and_then(|digit| size.checked_mul(16)?.checked_add(digit))
                .map(Chunk::Size),
            (Chunk::SizeSpace(size), b' ' | b'\t') => Some(Chunk::SizeSpace(size)),
            (Chunk::Extension(_), b'\n') => None,
            (Chunk::Extension(size), _) => Some(Chunk::Extension(size)),
            (Chunk::SizeLf(0), b'\n') => Some(Chunk::TrailerStart),
            (Chunk::SizeLf(size), b'\n') => Some(Chunk::Data(size)),
            (Chunk::Data(left), _) => {
                let (taken, left) = take(left, rest);
                used = taken;
                Some(if left == 0 {
                    Chunk::DataCr
                } else {
                    Chunk::Data(left)
                })
            }
            (Chunk::DataCr, b'\r') => Some(Chunk::DataLf),
            (Chunk::DataLf, b'\n') => Some(Chunk::SizeStart),
            (Chunk::TrailerStart, b'\r') => Some(Chunk::EndLf),
            (Chunk::TrailerStart | Chunk::Trailer, _) => {
                used = find_line_feed(rest).map_or(rest.len(), |at| at + 1);
                self.trailer(rest.get(..used).unwrap_or_default())
            }
            (Chunk::EndLf, b'\n') => {
                self.state = State::Between;
                return 1;
            }
            _ => None,
        };
        match next {
            Some(place) => self.state = State::Chunk(place),
            None => return self.broken(),
        }
        used
    }

    /// Part of a trailer line, up to its end if that is in sight; `None` where it ends in a bare LF.
    fn trailer(&self, part: &[u8]) -> Option<Chunk> {
        match part {
            [.., b'\r', b'\n'] => Some(Chunk::TrailerStart),
            [b'\n'] if self.previous == b'\r' => Some(Chunk::TrailerStart),
            [.., b'\n'] => None,
            _ => Some(Chunk::Trailer),
        }
    }
}

/// How many of `rest` belong to something with `left` bytes to go, and how many are left then.
fn take(left: u64, rest: &[u8]) -> (usize, u64) {
    let used = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
    (used, left - used as u64)
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// The first LF. Eight bytes at a time (the classic "has a zero byte" test), since every byte of every head passes
/// through here and a loop over bytes is what it would otherwise cost most.
fn find_line_feed(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const LINE_FEEDS: u64 = u64::from_ne_bytes([b'\n'; 8]);
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word) ^ LINE_FEEDS;
        let hit = word.wrapping_sub(LOW) & !word & HIGH;
        if hit != 0 {
            return Some(index * 8 + hit.trailing_zeros() as usize / 8);
        }
    }
    let at = tail.iter().position(|&byte| byte == b'\n')?;
    Some(words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans in pieces of every size from 1 to the whole, and checks that the cuts make no difference.
    fn scan(bytes: &[u8]) -> (u32, Option<(u32, Offence)>, Position) {
        let outcome = |size: usize| {
            let mut guard = HeadGuard::new();
            for piece in bytes.chunks(size) {
                guard.scan(piece);
            }
            (guard.heads(), guard.verdict(), guard.position())
        };
        let whole = outcome(bytes.len().max(1));
        for size in 1..bytes.len() {
            assert_eq!(
                outcome(size),
                whole,
                "in pieces of {size}: {}",
                bytes.escape_ascii()
            );
        }
        whole
    }

    fn request(fields: &str) -> String {
        format!("POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
    }

    fn offence(bytes: &str) -> Option<(u32, Offence)> {
        scan(bytes.as_bytes()).1
    }

    #[test]
    fn counts_pipelined_requests_with_and_without_bodies() {
        let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let sized = request("Content-Length: 12\r\n") + "\r\n\r\nGET / x\r\n";
        let chunked =
            request("Transfer-Encoding: chunked\r\n") + "5;a=b\r\nab\r\nc\r\n0\r\nX-Sum: 1\r\n\r\n";
        let all = format!("{get}{sized}\r\n{chunked}{get}");
        assert_eq!(scan(all.as_bytes()), (4, None, Position::Between));
    }

    #[test]
    fn knows_where_a_stream_breaks_off() {
        assert_eq!(scan(b"").2, Position::Between);
        assert_eq!(scan(b"\r\n").2, Position::Between);
        assert_eq!(scan(b"G").2, Position::Head);
        assert_eq!(scan(b"GET / HTTP/1.1\r\nHost: h\r\n\r").2, Position::Head);
        assert_eq!(
            scan((request("Content-Length: 2\r\n") + "a").as_bytes()).2,
            Position::Body
        );
        assert_eq!(
            scan((request("Transfer-Encoding: chunked\r\n") + "0\r\n").as_bytes()).2,
            Position::Body
        );
    }

    #[test]
    fn length_and_coding_in_one_head_offend_in_either_order() {
        let one = request("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n");
        let other = request("transfer-encoding:chunked\r\nCONTENT-LENGTH:3\r\n");
        assert_eq!(offence(&one), Some((0, Offence::BothFramings)));
        assert_eq!(offence(&other), Some((0, Offence::BothFramings)));
    }

    #[test]
    fn the_verdict_names_the_request_that_offends() {
        let good = request("Content-Length: 2\r\n") + "ab";
        let bad = request("Content-Length: 2\r\nContent-Length: 2\r\n");
        assert_eq!(
            offence(&format!("{good}{good}{bad}ab")),
            Some((2, Offence::RepeatedLength))
        );
    }

    #[test]
    fn the_first_verdict_stands() {
        let first = request("Content-Length: 0\r\nContent-Length: 0\r\n");
        let second = request("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n");
        assert_eq!(
            offence(&format!("{first}{second}")),
            Some((0, Offence::RepeatedLength))
        );
    }

    #[test]
    fn a_length_must_be_one_number() {
        for bad in [
            "",
            "+1",
            "-1",
            "1,1",
            "1 1",
            "0x1",
            "99999999999999999999999",
        ] {
            let head = request(&format!("Content-Length: {bad}\r\n"));
            assert_eq!(offence(&head), Some((0, Offence::BadLength)), "{bad:?}");
        }
        assert_eq!(offence(&request("Content-Length: \t 0 \t\r\n")), None);
    }

    #[test]
    fn line_ends_and_folds_are_judged() {
        assert_eq!(
            offence("GET / HTTP/1.1\nHost: h\r\n\r\n"),
            Some((0, Offence::BareLineFeed))
        );
        assert_eq!(
            offence("GET / HTTP/1.1\r\nHost: h\n\r\n"),
            Some((0, Offence::BareLineFeed))
        );
        assert_eq!(
            offence("GET / HTTP/1.1\r\nHost: h\r\n\n"),
            Some((0, Offence::BareLineFeed))
        );
        assert_eq!(
            offence(&request("Content-Length: 0\n")),
            Some((0, Offence::BareLineFeed))
        );
        assert_eq!(
            offence(&request("X: a\r\n b\r\n")),
            Some((0, Offence::FoldedLine))
        );
    }

    #[test]
    fn look_alike_fields_do_not_count() {
        let head = request(
            "Content-Lengthy: 5\r\nX-Content-Length: 5\r\nContent: 5\r\nTransfer-Encodings: x\r\nC\r\n",
        );
        assert_eq!(scan(head.as_bytes()), (1, None, Position::Between));
    }

    #[test]
    fn broken_chunks_condemn_what_follows_but_not_their_own_request() {
        let head = request("Transfer-Encoding: chunked\r\n");
        for bad in [
            "x\r\n",
            "5\r\nabcdeX",
            "5\nabcde\r\n",
            "0\r\nX: 1\n\r\n",
            "fffffffffffffffff\r\n",
            "5;a\nb",
            " 5\r\n",
        ] {
            let outcome = scan(format!("{head}{bad}").as_bytes());
            assert_eq!(
                outcome,
                (1, Some((1, Offence::BrokenFraming)), Position::Body),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn chunk_sizes_are_hexadecimal_and_may_be_followed_by_space() {
        let head = request("Transfer-Encoding: chunked\r\n");
        let body = format!("1A \t\r\n{}\r\n0;last\r\n\r\n", "z".repeat(26));
        assert_eq!(
            scan(format!("{head}{body}").as_bytes()),
            (1, None, Position::Between)
        );
    }

    #[test]
    fn line_feeds_are_found_wherever_they_are() {
        for length in 0..40 {
            for at in 0..length {
                let mut bytes = vec![b'\x0b'; length];
                bytes[at] = b'\n';
                assert_eq!(find_line_feed(&bytes), Some(at));
            }
            assert_eq!(find_line_feed(&vec![b'\x8a'; length]), None);
        }
    }

    #[test]
    fn offences_survive_their_code() {
        for code in 1..=6 {
            let offence = Offence::from_code(code).unwrap();
            assert_eq!(offence as u8, code);
            assert!(!offence.reason().is_empty());
        }
        assert_eq!(Offence::from_code(0), None);
        assert_eq!(Offence::from_code(7), None);
    }
}
