//! HTTP/2 frame by frame (RFC 9113), for clients that no library would play.
//!
//! Header fields are sent as literals, never indexed nor compressed (RFC 7541 section 6.2.2), so that nothing has to be
//! remembered. Answers are read as frames; their header blocks are not decoded, except for a status from the static table.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flag of DATA and HEADERS.
pub(crate) const END_STREAM: u8 = 1;
/// Flag of HEADERS and CONTINUATION.
pub(crate) const END_HEADERS: u8 = 4;

/// The setting that bounds concurrent streams.
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
/// The setting for what may be sent on a stream before more is allowed.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
/// The setting that bounds a header list.
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;

/// Error code for what was sent beyond a window.
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
/// Error code of a stream that its own client takes back.
pub(crate) const CANCEL: u32 = 8;
/// Error code of a stream beyond the concurrent ones.
pub(crate) const REFUSED_STREAM: u32 = 7;
/// Error code for a client that asks too much.
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// The static table's entry for `:status: 200` (RFC 7541 appendix A), as it stands at the start of a header block.
const STATUS_200: u8 = 0x88;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub(crate) fn error_code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// The value of a setting.
    pub(crate) fn setting(&self, id: u16) -> Option<u32> {
        let mut pairs = self.payload.chunks_exact(6);
        let pair = pairs.find(|pair| pair[..2] == id.to_be_bytes())?;
        Some(u32::from_be_bytes(
            pair[2..].try_into().expect("four bytes"),
        ))
    }

    /// Whether these are the headers of a 200.
    pub(crate) fn is_ok(&self) -> bool {
        self.kind == HEADERS && self.payload.first() == Some(&STATUS_200)
    }
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short frame")
        .to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The HEADERS frame of a request with one more field where one is given.
pub(crate) fn request(
    stream: u32,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
    flags: u8,
) -> Vec<u8> {
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", path),
    ];
    let block: Vec<u8> = pseudo
        .iter()
        .chain(more)
        .flat_map(|(name, value)| literal(name, value))
        .collect();
    frame(HEADERS, flags | END_HEADERS, stream, &block)
}

/// A field without indexing and without compression.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        prefixed(text.len(), &mut bytes);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// A length in the 7-bit prefix form of RFC 7541 section 5.1.
fn prefixed(length: usize, bytes: &mut Vec<u8>) {
    let Some(mut rest) = length.checked_sub(127) else {
        bytes.push(length as u8);
        return;
    };
    bytes.push(127);
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
}

/// A connection that has said its preface.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    /// Connects and sends the preface with default settings.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let mut wire = Self {
            stream,
            unread: Vec::new(),
        };
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        wire.send(frame(SETTINGS, 0, 0, &[]));
        wire
    }

    /// A second one for the same connection, for those who write and read at once.
    pub(crate) fn reader(&self) -> Self {
        Self {
            stream: self.stream.try_clone().expect("a second handle"),
            unread: Vec::new(),
        }
    }

    /// Sends bytes as they are, as far as they are taken.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _closed = self.try_send(bytes);
    }

    /// The same; whether they were all taken.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// The next frame; `None` once the server has closed the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let mut piece = [0; 64 << 10];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(length) => self.unread.extend_from_slice(&piece[..length]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("no frame came for {PATIENCE:?}")
                }
                Err(_) => return None,
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.unread.get(..9)?.try_into().ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = self.unread.get(9..9 + length)?.to_vec();
        self.unread.drain(..9 + length);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        })
    }

    /// The next frame that `wanted` picks; others are passed over.
    pub(crate) fn find(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            match self.next() {
                Some(frame) if wanted(&frame) => return frame,
                Some(_) => {}
                None => panic!("the connection ended without {what}"),
            }
        }
    }
}
