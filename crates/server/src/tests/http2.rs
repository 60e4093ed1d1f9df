//! HTTP/2 with prior knowledge, in frames made by hand (RFC 9113; header blocks as in RFC 7541 appendix A).

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::client::Client;
use super::server::Server;
use crate::bounds::Bounds;
use crate::serve::Outcome;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `:method GET`, `:scheme http`, the path and the given literal fields.
fn get(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.bytes());
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
    }
    block
}

const AUTHORITY: (&str, &str) = (":authority", "h");

struct H2(Client);

impl H2 {
    fn connect(server: &Server) -> Self {
        let mut client = server.connect();
        client.send(PREFACE);
        client.send(frame(SETTINGS, 0, 0, &[]));
        Self(client)
    }

    fn headers(&mut self, stream: u32, flags: u8, block: &[u8]) {
        self.0
            .send(frame(HEADERS, flags | END_HEADERS, stream, block));
    }

    fn next(&mut self) -> Frame {
        let head = self.0.read(9);
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | u32::from(*byte))
        };
        let payload = self.0.read(number(&head[..3]) as usize);
        Frame {
            kind: head[3],
            flags: head[4],
            stream: number(&head[5..]),
            payload,
        }
    }

    /// What the server wants to hear back before it goes on.
    fn ping(&mut self) -> Vec<u8> {
        loop {
            let ping = self.expect(PING);
            if ping.flags & ACK == 0 {
                return ping.payload;
            }
        }
    }

    /// The next frame of this kind.
    fn expect(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next();
            if frame.kind == kind {
                return frame;
            }
            assert!(frame.kind != GOAWAY, "GOAWAY {:?}", frame.payload);
        }
    }

    /// Status and body of the next answer on an odd stream. The status is the block's first field.
    fn answer(&mut self) -> (u16, String) {
        let head = self.expect(HEADERS);
        let mut body = Vec::new();
        let mut ended = head.flags & END_STREAM != 0;
        while !ended {
            let part = self.next();
            if part.stream == head.stream {
                assert!(matches!(part.kind, DATA | HEADERS), "kind {}", part.kind);
                body.extend(if part.kind == DATA {
                    part.payload
                } else {
                    Vec::new()
                });
                ended = part.flags & END_STREAM != 0;
            }
        }
        (status(&head.payload), String::from_utf8(body).unwrap())
    }
}

fn status(block: &[u8]) -> u16 {
    match block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        _ => panic!("an unknown status: {block:x?}"),
    }
}

#[test]
fn streams_are_served_on_one_connection() {
    let server = Server::start();
    let mut h2 = H2::connect(&server);
    h2.headers(1, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.answer(), (200, "hello\n".into()));
    h2.headers(
        3,
        END_STREAM,
        &get("/seen", &[AUTHORITY, ("te", "trailers"), ("x-kept", "1")]),
    );
    let (_, seen) = h2.answer();
    assert_eq!(seen, "GET http://h/seen\nte: trailers\nx-kept: 1\n");
    h2.headers(5, END_STREAM, &get("/trap", &[AUTHORITY]));
    assert_eq!(h2.answer().0, 500);
}

#[test]
fn the_preface_may_arrive_in_pieces() {
    let server = Server::start();
    let mut client = server.connect();
    for piece in PREFACE.chunks(5) {
        client.send(piece);
        std::thread::park_timeout(Duration::from_millis(5));
    }
    client.send(frame(SETTINGS, 0, 0, &[]));
    let mut h2 = H2(client);
    h2.headers(1, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.answer(), (200, "hello\n".into()));
}

#[test]
fn a_slow_stream_does_not_hold_up_another() {
    let server = Server::start();
    let mut h2 = H2::connect(&server);
    h2.headers(1, END_STREAM, &get("/gate", &[AUTHORITY]));
    h2.headers(3, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.answer().1, "hello\n");
    server.gate.add_permits(1);
    assert_eq!(h2.answer().1, "through\n");
}

#[test]
fn authority_and_host_must_agree() {
    let server = Server::start();
    let mut h2 = H2::connect(&server);
    h2.headers(1, END_STREAM, &get("/", &[AUTHORITY, ("host", "other")]));
    assert_eq!(h2.answer().0, 400);
    h2.headers(3, END_STREAM, &get("/", &[]));
    assert_eq!(h2.answer().0, 400);
    h2.headers(5, END_STREAM, &get("/", &[AUTHORITY, ("host", "H")]));
    assert_eq!(h2.answer().0, 200);
}

#[test]
fn bodies_and_trailers_pass_in_both_directions() {
    let server = Server::start();
    let mut h2 = H2::connect(&server);
    let mut post = get("/echo", &[AUTHORITY]);
    post[0] = 0x83;
    h2.headers(1, 0, &post);
    h2.0.send(frame(DATA, 0, 1, b"ab"));
    h2.0.send(frame(DATA, 0, 1, b"c"));
    h2.headers(1, END_STREAM, b"\x00\x05x-sum\x0242");
    assert_eq!(status(&h2.expect(HEADERS).payload), 200);
    assert_eq!(h2.expect(DATA).payload, b"abc");
    let trailers = h2.expect(HEADERS);
    assert_ne!(trailers.flags & END_STREAM, 0);
    assert!(!trailers.payload.is_empty());
}

#[test]
fn head_and_no_content_have_no_body() {
    let server = Server::start();
    let mut h2 = H2::connect(&server);
    let mut head = vec![0x02, 4];
    head.extend(b"HEAD");
    head.extend(&get("/", &[AUTHORITY])[1..]);
    h2.headers(1, END_STREAM, &head);
    assert_eq!(h2.answer(), (200, String::new()));
    h2.headers(3, END_STREAM, &get("/no-content", &[AUTHORITY]));
    assert_eq!(h2.answer(), (204, String::new()));
}

#[test]
fn an_answer_that_breaks_off_is_reset() {
    let server = Server::start();
    let mut h2 = H2::connect(&server);
    for (stream, path) in [(1, "/broken"), (3, "/short"), (5, "/long")] {
        h2.headers(stream, END_STREAM, &get(path, &[AUTHORITY]));
        assert_eq!(h2.expect(RST_STREAM).stream, stream, "{path}");
    }
    h2.headers(7, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.answer().0, 200, "the other streams go on");
}

#[test]
fn a_stream_that_is_reset_cancels_its_call() {
    let server = Server::start();
    let mut h2 = H2::connect(&server);
    h2.headers(1, END_STREAM, &get("/gate", &[AUTHORITY]));
    h2.headers(3, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.answer().0, 200);
    h2.0.send(frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
    h2.headers(5, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.answer().0, 200);
    assert_eq!(server.cancelled.load(SeqCst), 1);
}

#[test]
fn too_many_streams_are_refused() {
    let server = Server::bounded(Bounds {
        h2_streams: 1,
        ..Bounds::default()
    });
    let mut h2 = H2::connect(&server);
    let settings = h2.expect(SETTINGS);
    assert!(
        settings
            .payload
            .chunks(6)
            .any(|setting| setting == [0, 3, 0, 0, 0, 1]),
        "{:?}",
        settings.payload
    );
    h2.0.send(frame(SETTINGS, ACK, 0, &[]));
    h2.headers(1, END_STREAM, &get("/gate", &[AUTHORITY]));
    h2.headers(3, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.expect(RST_STREAM).stream, 3);
}

#[test]
fn an_idle_connection_is_ended_with_goaway() {
    let server = Server::bounded(Bounds {
        idle_timeout: Duration::from_millis(50),
        ..Bounds::default()
    });
    let mut h2 = H2::connect(&server);
    h2.headers(1, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.answer().0, 200);
    while h2.next().kind != GOAWAY {}
}

#[test]
fn a_client_that_ignores_the_farewell_is_left() {
    let (idle_timeout, h2_goodbye) = (Duration::from_millis(50), Duration::from_millis(100));
    let server = Server::bounded(Bounds {
        idle_timeout,
        h2_goodbye,
        ..Bounds::default()
    });
    let begin = Instant::now();
    let mut h2 = H2::connect(&server);
    h2.headers(1, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.answer().0, 200);
    while h2.next().kind != GOAWAY {}
    h2.ping();
    assert!(h2.0.rest().is_empty());
    let (lasted, granted) = (begin.elapsed(), idle_timeout + h2_goodbye);
    assert!(lasted >= granted, "{lasted:?}");
}

#[test]
fn a_client_that_does_not_answer_a_ping_is_gone() {
    let server = Server::bounded(Bounds {
        h2_keepalive: Duration::from_millis(50),
        ..Bounds::default()
    });
    let mut h2 = H2::connect(&server);
    h2.headers(1, END_STREAM, &get("/gate", &[AUTHORITY]));
    // One that answers is asked again, and served all the while.
    for stream in [3, 5] {
        let question = h2.ping();
        h2.0.send(frame(PING, ACK, 0, &question));
        h2.headers(stream, END_STREAM, &get("/", &[AUTHORITY]));
        assert_eq!(h2.answer().1, "hello\n");
    }
    assert_eq!(server.cancelled.load(SeqCst), 0);
    h2.ping();
    while h2.next().kind != GOAWAY {}
    assert!(h2.0.is_closed());
    let begin = Instant::now();
    while server.cancelled.load(SeqCst) == 0 {
        let waited = begin.elapsed();
        assert!(waited < Duration::from_secs(5), "its call goes on");
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_makes_us_reset_its_streams_is_sent_away() {
    const FLOW_CONTROL_ERROR: [u8; 4] = [0, 0, 0, 3];
    const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 11];
    let server = Server::bounded(Bounds {
        h2_local_resets: 2,
        ..Bounds::default()
    });
    let mut h2 = H2::connect(&server);
    // More window than there can be ("MadeYouReset", CVE-2025-8671).
    let offend = |h2: &mut H2, stream| {
        h2.headers(stream, END_STREAM, &get("/gate", &[AUTHORITY]));
        let most = (u32::MAX >> 1).to_be_bytes();
        h2.0.send(frame(WINDOW_UPDATE, 0, stream, &most));
    };
    for stream in [1, 3] {
        offend(&mut h2, stream);
        let reset = h2.expect(RST_STREAM);
        assert_eq!(
            (reset.stream, &reset.payload[..]),
            (stream, &FLOW_CONTROL_ERROR[..])
        );
    }
    h2.headers(5, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.answer().1, "hello\n", "so far it is served");
    offend(&mut h2, 7);
    let goaway = loop {
        let frame = h2.next();
        if frame.kind == GOAWAY {
            break frame;
        }
    };
    assert_eq!(goaway.payload[4..8], ENHANCE_YOUR_CALM);
    assert!(h2.0.is_closed());
}

#[test]
fn a_client_that_never_asks_for_anything_is_left_as_soon_as_one_with_half_a_head() {
    let server = Server::bounded(Bounds {
        head_timeout: Duration::from_millis(50),
        ..Bounds::default()
    });
    let mut h2 = H2::connect(&server);
    while h2.next().kind != GOAWAY {}
}

#[test]
fn a_drain_says_goaway_and_answers_what_is_in_flight() {
    let server = Server::start();
    let mut h2 = H2::connect(&server);
    h2.headers(1, END_STREAM, &get("/gate", &[AUTHORITY]));
    h2.headers(3, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.answer().1, "hello\n");
    server.signal();
    while h2.next().kind != GOAWAY {}
    server.gate.add_permits(1);
    loop {
        let next = h2.next();
        match next.kind {
            // How h2 learns that the client knows of the drain.
            PING if next.flags & ACK == 0 => h2.0.send(frame(PING, ACK, 0, &next.payload)),
            DATA if next.stream == 1 => break,
            _ => {}
        }
    }
    drop(h2);
    assert_eq!(server.outcome(), Outcome::Drained);
}

/// A connection whose client lets every stream have `window` bytes, and the connection as many as there can be.
fn with_stream_window(server: &Server, window: u32) -> H2 {
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
    let mut h2 = H2::connect(server);
    let setting = [&INITIAL_WINDOW_SIZE[..], &window.to_be_bytes()].concat();
    h2.0.send(frame(SETTINGS, 0, 0, &setting));
    let most = (u32::MAX >> 1) - 65_535;
    h2.0.send(frame(WINDOW_UPDATE, 0, 0, &most.to_be_bytes()));
    h2
}

fn hasty_reader() -> Server {
    Server::bounded(Bounds {
        write_stall: Duration::from_millis(100),
        ..Bounds::default()
    })
}

const CANCEL: [u8; 4] = [0, 0, 0, 8];

#[test]
fn a_stream_that_is_given_no_window_is_cut_off() {
    let server = hasty_reader();
    let mut h2 = H2::connect(&server);
    h2.headers(1, END_STREAM, &get("/endless", &[AUTHORITY]));
    let mut received = 0;
    // The first window of 65,535 bytes, then nothing more until the end.
    while received < 65_535 {
        received += h2.expect(DATA).payload.len();
    }
    let reset = h2.expect(RST_STREAM);
    assert_eq!((reset.stream, &reset.payload[..]), (1, &CANCEL[..]));
}

#[test]
fn a_stream_that_stalls_is_cut_off_although_the_connection_is_busy() {
    let server = hasty_reader();
    let mut h2 = with_stream_window(&server, 1000);
    h2.headers(1, END_STREAM, &get("/endless", &[AUTHORITY]));
    let mut stream = 3;
    let (mut answered, mut reset) = (0, None);
    while reset.is_none() {
        h2.headers(stream, END_STREAM, &get("/", &[AUTHORITY]));
        loop {
            let frame = h2.next();
            match frame.kind {
                RST_STREAM => reset = Some((frame.stream, frame.payload)),
                DATA if frame.stream == stream => break,
                _ => {}
            }
        }
        answered += 1;
        stream += 2;
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(reset, Some((1, CANCEL.to_vec())));
    assert!(answered > 1, "the connection was not busy");
}

#[test]
fn a_hundred_streams_without_a_window_are_all_cut_off() {
    let server = hasty_reader();
    let mut h2 = with_stream_window(&server, 0);
    let paths = ["/", "/endless", "/trap", "/seen"];
    let streams: Vec<u32> = (0..100).map(|number| 2 * number + 1).collect();
    for (stream, path) in streams.iter().zip(paths.iter().cycle()) {
        h2.headers(*stream, END_STREAM, &get(path, &[AUTHORITY]));
    }
    let mut reset: Vec<u32> = streams
        .iter()
        .map(|_| h2.expect(RST_STREAM).stream)
        .collect();
    reset.sort_unstable();
    assert_eq!(reset, streams);
    // Whoever asks with a window is answered, on this connection too.
    h2.headers(201, END_STREAM, &get("/", &[AUTHORITY]));
    h2.0.send(frame(WINDOW_UPDATE, 0, 201, &1000_u32.to_be_bytes()));
    while h2.expect(DATA).stream != 201 {}
}

#[test]
fn a_stream_whose_client_reads_slowly_but_reads_goes_on() {
    let server = hasty_reader();
    let mut h2 = with_stream_window(&server, 16 * 1024);
    h2.headers(1, END_STREAM, &get("/endless", &[AUTHORITY]));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(300) {
        let mut received = 0;
        while received < 16 * 1024 {
            received += h2.expect(DATA).payload.len();
        }
        std::thread::park_timeout(Duration::from_millis(20));
        h2.0.send(frame(WINDOW_UPDATE, 0, 1, &(16 * 1024_u32).to_be_bytes()));
    }
}

#[test]
fn a_client_that_never_reads_gains_no_time_by_asking() {
    let server = hasty_reader();
    let mut h2 = with_stream_window(&server, u32::MAX >> 1);
    h2.headers(1, END_STREAM, &get("/endless", &[AUTHORITY]));
    let begin = Instant::now();
    let mut stream = 3;
    let block = get("/", &[AUTHORITY]);
    while h2
        .0
        .try_send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block))
    {
        stream += 2;
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "it is still served"
        );
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn a_client_may_send_so_much_ahead_and_no_more() {
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
    let server = Server::bounded(Bounds {
        h2_stream_window_bytes: 70_000,
        h2_connection_window_bytes: 100_000,
        ..Bounds::default()
    });
    let mut h2 = H2::connect(&server);
    let settings = h2.expect(SETTINGS).payload;
    let mut pairs = settings
        .chunks(6)
        .filter(|pair| pair[..2] == INITIAL_WINDOW_SIZE);
    assert_eq!(pairs.next().unwrap()[2..], 70_000_u32.to_be_bytes());
    let update = h2.expect(WINDOW_UPDATE);
    assert_eq!(update.stream, 0);
    assert_eq!(update.payload, (100_000_u32 - 65_535).to_be_bytes());
}

#[test]
fn control_frames_are_counted_by_the_second() {
    let server = Server::bounded(Bounds {
        h2_control_frames: 50,
        ..Bounds::default()
    });
    let mut h2 = H2::connect(&server);
    for _ in 0..40 {
        h2.0.send(frame(PING, 0, 0, &[7; 8]));
    }
    h2.headers(1, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(h2.answer().0, 200);
    for _ in 0..100 {
        h2.0.try_send(frame(PING, 0, 0, &[7; 8]));
    }
    // Closed; unread bytes make that a reset, and the farewell came before it or was lost with it.
    let _farewell = h2.0.rest_or_reset_bytes();
    let mut other = H2::connect(&server);
    other.headers(1, END_STREAM, &get("/", &[AUTHORITY]));
    assert_eq!(other.answer().0, 200);
}
