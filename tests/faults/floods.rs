//! Floods of HTTP/2 frames: each ends in a farewell or a close, or does no harm; memory stays bounded, and other clients
//! are answered all the while. Which of h2, hyper and our own count ends them is said with each.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::harness::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire, frame, literal, request,
};
use crate::harness::message::get;
use crate::harness::server::Server;
use crate::harness::upstream::Held;

const MIB: u64 = 1 << 20;
/// What any flood may cost.
const COST_MAX: u64 = 32 * MIB;
/// Frames of a flood that is to be cut off long before.
const FLOOD: u32 = 50_000;

/// How a flood ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// All of it was taken, and a request behind it was answered.
    Harmless,
    /// The connection ended, with this reason where one could be read.
    Closed(Option<u32>),
}

/// Sends `piece(0)`, `piece(1)` … on a connection that begins with `opening`, and asks for `/` on stream `last` in the end,
/// while another client is served.
fn flood(
    server: &Server,
    opening: &[u8],
    pieces: u32,
    piece: impl Fn(u32) -> Vec<u8> + Sync,
) -> End {
    server.is_alive("/");
    let before = server.memory_peak();
    let over = AtomicBool::new(false);
    let end = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let end = pour(Wire::open(server.address()), opening, pieces, &piece);
            over.store(true, SeqCst);
            end
        });
        let mut good = server.connect();
        let mut answered = 0;
        while answered < 20 || !over.load(SeqCst) {
            assert_eq!(good.ask(&get("/")).status, 200);
            answered += 1;
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        flooding.join().expect("the flood ends")
    });
    let grown = server.memory_peak() - before;
    assert!(grown <= COST_MAX, "{grown} bytes");
    server.is_alive("/");
    end
}

fn pour(mut wire: Wire, opening: &[u8], pieces: u32, piece: &impl Fn(u32) -> Vec<u8>) -> End {
    const LAST: u32 = 1_000_001;
    // What the server still has to say must not fill the line.
    let mut reader = wire.reader();
    let read = std::thread::spawn(move || {
        let mut reason = None;
        while let Some(frame) = reader.next() {
            if frame.kind == GOAWAY {
                reason = Some(frame.error_code());
            }
            if frame.stream == LAST && frame.is_ok() {
                return End::Harmless;
            }
        }
        End::Closed(reason)
    });
    let mut taken = wire.try_send(opening);
    for number in 0..pieces {
        taken = taken && wire.try_send(piece(number));
    }
    if taken {
        wire.send(request(LAST, "GET", "/", &[], END_STREAM));
    }
    read.join().expect("the reader ends")
}

/// Closed, and by this reason where one could be read: a close with unread bytes can overtake it.
fn is_closed_for(end: &End, reason: u32) {
    match end {
        End::Closed(told) => assert!(told.is_none_or(|told| told == reason), "{told:?}"),
        End::Harmless => panic!("all of it was taken"),
    }
}

/// Our own count (`h2_control_frames`).
#[test]
fn floods_of_frames_that_carry_nothing() {
    let server = Server::of("hello-p2");
    let setting = [0, 3, 0, 0, 0, 100];
    let floods = [
        ("PING", frame(PING, 0, 0, b"are you?")),
        ("PING with ACK", frame(PING, 1, 0, b"are you?")),
        ("SETTINGS", frame(SETTINGS, 0, 0, &setting)),
        ("empty SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("PRIORITY", frame(PRIORITY, 0, 7, &[0, 0, 0, 1, 16])),
        ("unknown", frame(0xbe, 0, 0, b"what is this?")),
    ];
    for (name, piece) in floods {
        let end = flood(&server, &[], FLOOD, |_| piece.clone());
        assert!(matches!(end, End::Closed(_)), "{name}");
        is_closed_for(&end, ENHANCE_YOUR_CALM);
    }
}

/// Some clients tell of every frame that they have read, twice: for its stream and for the connection.
#[test]
fn a_client_that_reads_a_large_answer_frame_by_frame_is_no_flood() {
    const LENGTH: usize = 30_000_000;
    let server = Server::of("stream-out-p2");
    let mut wire = Wire::open(server.address());
    let path = format!("/?bytes={LENGTH}");
    wire.send(request(1, "GET", &path, &[], END_STREAM));
    let mut received = 0;
    while received < LENGTH {
        let data = wire.find("data", |frame| frame.kind == DATA);
        received += data.payload.len();
        let more = (data.payload.len() as u32).to_be_bytes();
        if data.payload.is_empty() {
            continue;
        }
        wire.send(frame(WINDOW_UPDATE, 0, 0, &more));
        wire.send(frame(WINDOW_UPDATE, 0, 1, &more));
    }
    assert_eq!(received, LENGTH);
}

/// h2's `max_pending_accept_reset_streams` where they come at once, our own count where each was accepted before.
#[test]
fn rapid_resets() {
    let server = Server::of("hello-p2");
    let taken_back = |number: u32| {
        let stream = 2 * number + 1;
        let reset = frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        [request(stream, "GET", "/", &[], END_STREAM), reset].concat()
    };
    is_closed_for(&flood(&server, &[], 20_000, taken_back), ENHANCE_YOUR_CALM);
    let apart = |number: u32| {
        let stream = number / 2 * 2 + 1;
        if number.is_multiple_of(2) {
            request(stream, "GET", "/", &[], END_STREAM)
        } else {
            frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
        }
    };
    let end = flood(&server, &[], 20_000, apart);
    is_closed_for(&end, ENHANCE_YOUR_CALM);
}

/// h2's `max_local_error_reset_streams`: the client makes the server reset its streams ("MadeYouReset").
#[test]
fn resets_that_the_client_provokes() {
    let server = Server::of("hello-p2");
    let most = (u32::MAX >> 1).to_be_bytes();
    type Offence<'a> = (&'static str, &'a (dyn Fn(u32) -> Vec<u8> + Sync));
    let offences: [Offence; 4] = [
        ("a window that overflows", &|stream| {
            let open = request(stream, "POST", "/", &[], 0);
            [open, frame(WINDOW_UPDATE, 0, stream, &most)].concat()
        }),
        ("an update of nothing", &|stream| {
            let open = request(stream, "POST", "/", &[], 0);
            [open, frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        }),
        ("a body behind its end", &|stream| {
            let open = request(stream, "GET", "/", &[], END_STREAM);
            [open, frame(DATA, 0, stream, b"more")].concat()
        }),
        ("a longer body than announced", &|stream| {
            let length = [("content-length", "1")];
            let open = request(stream, "POST", "/", &length, 0);
            [open, frame(DATA, 0, stream, b"more")].concat()
        }),
    ];
    for (name, offence) in offences {
        let end = flood(&server, &[], 5_000, |number| offence(2 * number + 1));
        assert!(matches!(end, End::Closed(_)), "{name}");
    }
}

/// h2's count of continuations: five, where a header list fits into one frame.
#[test]
fn continuations_of_a_head_that_never_ends() {
    let server = Server::of("hello-p2");
    let open = frame(HEADERS, 0, 1, &literal("x-first", "1"));
    for piece in [
        frame(CONTINUATION, 0, 1, &[]),
        frame(CONTINUATION, 0, 1, &literal("x", "1")),
        frame(CONTINUATION, 0, 1, &literal("x", &"1".repeat(16_000))),
    ] {
        let end = flood(&server, &open, 10_000, |_| piece.clone());
        assert!(matches!(end, End::Closed(_)), "{end:?}");
    }
}

/// h2's count of empty DATA: a hundred on one connection.
#[test]
fn empty_data() {
    let server = Server::of("hello-p2");
    let open = request(1, "POST", "/", &[], 0);
    let end = flood(&server, &open, 10_000, |_| frame(DATA, 0, 1, &[]));
    is_closed_for(&end, ENHANCE_YOUR_CALM);
}

/// Harmless where the guest reads: each byte costs the client a frame, and the guest its CPU. Where nobody reads, h2's
/// budget for small DATA, which follows the connection's window.
#[test]
fn tiny_data() {
    let upstream = Held::new();
    let server = Server::with("outgoing-p2", &["--grant", "http=http://127.0.0.1:*"]);
    let mut wire = Wire::open(server.address());
    let before = server.memory_peak();
    wire.send(request(1, "POST", &upstream.query(), &[], 0));
    let call = upstream.accept();
    for _ in 0..20_000 {
        wire.send(frame(DATA, 0, 1, b"x"));
    }
    while wire.next().is_some() {}
    call.wait_until_abandoned();
    let grown = server.memory_peak() - before;
    assert!(grown <= COST_MAX, "{grown} bytes");

    let server = Server::of("echo-p2");
    let open = request(1, "POST", "/", &[], 0);
    let end = flood(&server, &open, 2_000, |_| frame(DATA, 0, 1, b"x"));
    assert!(!matches!(end, End::Closed(Some(0))), "{end:?}");
}

/// The bound on a header list counts what a reference stands for, not its one byte.
#[test]
fn a_header_block_of_references() {
    let server = Server::of("hello-p2");
    // A literal that is put into the table (RFC 7541 section 6.2.1), then thousands of references to it.
    let mut big = literal("x-bomb", &"x".repeat(3_900));
    big[0] = 0x40;
    let pseudo = request(1, "GET", "/", &[], END_STREAM);
    let block = [&pseudo[9..], &big, &[0xbe; 8_000]].concat();
    let end = flood(&server, &[], 200, |number| {
        frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &block)
    });
    // Thirty megabytes behind each eight kilobytes.
    assert!(matches!(end, End::Closed(_)), "{end:?}");
}

/// h2's `max_local_error_reset_streams` again: a stream that is refused counts.
#[test]
fn more_streams_than_are_served_at_once() {
    let server = Server::of("echo-p2");
    let end = flood(&server, &[], 20_000, |number| {
        request(2 * number + 1, "POST", "/", &[], 0)
    });
    is_closed_for(&end, ENHANCE_YOUR_CALM);
}
