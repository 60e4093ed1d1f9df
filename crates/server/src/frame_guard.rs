//! Counts the frames of an HTTP/2 connection that carry nothing of a request.
//!
//! h2 bounds what costs memory: resets before a stream was accepted, resets that the client provokes, streams beyond those
//! that may be open, continuations, empty and tiny DATA, header lists. PING, SETTINGS, PRIORITY and WINDOW_UPDATE cost it
//! nothing but CPU, and it takes as many as come; so does it with requests that are taken back once they were accepted.
//! Each of them counts here, and a client that sends more of them in a second than any honest one is cut off.
//!
//! An honest client sends WINDOW_UPDATEs for what it receives, some after every single frame, so every frame of an answer
//! earns a few. Only the heads of frames are read, in both directions; a frame that is no frame is h2's business.

use std::time::{Duration, Instant};

/// Bytes of the preface, which comes before the first frame of a client.
const PREFACE_LENGTH: u32 = 24;

/// What one frame of an answer earns: a WINDOW_UPDATE for the stream, one for the connection, a PING to measure the
/// line, and one to spare.
const EARNED: u32 = 4;

const WINDOW: Duration = Duration::from_secs(1);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// GOAWAY on stream 0: every stream may have been served, ENHANCE_YOUR_CALM (RFC 9113 sections 6.8 and 7).
pub(crate) const GOAWAY: &[u8; 17] = &[
    0, 0, 8, 7, 0, 0, 0, 0, 0, // Head: eight bytes of payload.
    0x7f, 0xff, 0xff, 0xff, // The last stream.
    0, 0, 0, 11, // The reason.
];

/// The guard of one HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct FrameGuard {
    max: u32,
    received: Frames,
    sent: Frames,
    since: Instant,
    count: u32,
    earned: u32,
}

impl FrameGuard {
    /// `max` frames a second.
    pub(crate) fn new(max: u32) -> Self {
        Self {
            max,
            received: Frames {
                skip: PREFACE_LENGTH,
                ..Frames::default()
            },
            sent: Frames::default(),
            since: Instant::now(),
            count: 0,
            earned: 0,
        }
    }

    /// Follows `bytes` from the client; `false` once there were too many of those frames.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> bool {
        let mut count = 0_u32;
        self.received.follow(bytes, |kind| {
            count += u32::from(!matches!(kind, DATA | HEADERS | CONTINUATION));
        });
        self.count = self.count.saturating_add(count);
        if self.count <= self.max.saturating_add(self.earned) {
            return true;
        }
        // The clock is read only now: most connections never come here.
        let now = Instant::now();
        let in_time = now.duration_since(self.since) >= WINDOW;
        self.since = now;
        self.count = 0;
        self.earned = 0;
        in_time
    }

    /// Follows `bytes` that the client was sent.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let earned = &mut self.earned;
        self.sent.follow(bytes, |kind| {
            if matches!(kind, DATA | HEADERS) {
                *earned = earned.saturating_add(EARNED);
            }
        });
    }

    /// Whether the last byte sent was the last one of a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.sent.at == 0 && self.sent.skip == 0
    }
}

/// Finds the frames in a stream of bytes (RFC 9113 section 4.1).
#[derive(Debug, Default)]
struct Frames {
    /// So many bytes to go until the next head.
    skip: u32,
    /// So many bytes of a head have come.
    at: u8,
    length: u32,
    kind: u8,
}

impl Frames {
    /// Tells `seen` the kind of every frame whose head ends in `bytes`.
    fn follow(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u8)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.skip > 0 {
                let skipped = bytes.len().min(self.skip as usize);
                self.skip -= skipped as u32;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            bytes = rest;
            match self.at {
                0 => self.length = u32::from(byte),
                1 | 2 => self.length = self.length << 8 | u32::from(byte),
                3 => self.kind = byte,
                _ => {}
            }
            self.at += 1;
            if self.at == 9 {
                self.at = 0;
                self.skip = self.length;
                seen(self.kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 0, 0, 0, 0, 1]);
        bytes.resize(9 + length, 6);
        bytes
    }

    fn guard(max: u32) -> FrameGuard {
        let mut guard = FrameGuard::new(max);
        assert!(guard.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        guard
    }

    #[test]
    fn one_more_than_allowed_is_noticed() {
        let mut guard = guard(3);
        for _ in 0..3 {
            assert!(guard.receive(&frame(PING, 8)));
        }
        assert!(!guard.receive(&frame(PING, 8)));
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let bytes = [frame(DATA, 300), frame(PING, 8), frame(HEADERS, 0)].concat();
        for step in [1, 2, 7, 9, 100, 1000] {
            let mut kinds = Vec::new();
            let mut frames = Frames::default();
            for part in bytes.chunks(step) {
                frames.follow(part, |kind| kinds.push(kind));
            }
            assert_eq!(kinds, [DATA, PING, HEADERS], "{step}");
            assert_eq!((frames.at, frames.skip), (0, 0), "{step}");
        }
    }

    #[test]
    fn requests_and_bodies_do_not_count() {
        let mut guard = guard(1);
        for _ in 0..100 {
            for kind in [HEADERS, CONTINUATION, DATA] {
                assert!(guard.receive(&frame(kind, 20)));
            }
        }
    }

    #[test]
    fn answers_earn_updates() {
        let mut guard = guard(1);
        for _ in 0..100 {
            guard.send(&frame(DATA, 10));
            assert!(guard.receive(&frame(WINDOW_UPDATE, 4)));
            assert!(guard.receive(&frame(WINDOW_UPDATE, 4)));
        }
    }

    #[test]
    fn a_second_later_the_count_begins_anew() {
        let mut guard = guard(1);
        assert!(guard.receive(&frame(PING, 8)));
        guard.since -= WINDOW;
        assert!(guard.receive(&frame(PING, 8)));
        assert!(guard.receive(&frame(PING, 8)));
        assert!(!guard.receive(&frame(PING, 8)));
    }

    #[test]
    fn a_farewell_stands_only_between_frames() {
        let mut guard = guard(1);
        assert!(guard.is_between_frames());
        let answer = frame(DATA, 10);
        guard.send(&answer[..4]);
        assert!(!guard.is_between_frames());
        guard.send(&answer[4..12]);
        assert!(!guard.is_between_frames());
        guard.send(&answer[12..]);
        assert!(guard.is_between_frames());
    }

    #[test]
    fn the_farewell_is_one_frame() {
        let mut kinds = Vec::new();
        let mut frames = Frames::default();
        frames.follow(GOAWAY, |kind| kinds.push(kind));
        assert_eq!((kinds, frames.at, frames.skip), (vec![7], 0, 0));
    }
}
