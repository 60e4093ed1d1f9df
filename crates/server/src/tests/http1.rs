//! HTTP/1 on the wire.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::server::Server;
use crate::bounds::Bounds;
use crate::serve::Outcome;

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

/// Sends `request` on a new connection and reads until the server closes it.
fn closing(server: &Server, request: &str) -> String {
    let mut client = server.connect();
    client.send(request);
    client.rest()
}

#[test]
fn a_connection_serves_request_after_request() {
    let server = Server::start();
    let mut client = server.connect();
    for _ in 0..3 {
        client.get("/", "");
        let answer = client.answer();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello\n"),
            "{answer}"
        );
        assert!(
            answer.contains("\r\ncontent-length: 6\r\n") && answer.contains("\r\ndate: "),
            "{answer}"
        );
    }
    assert_eq!(server.called.load(SeqCst), 3);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start();
    let mut client = server.connect();
    let one = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    let two = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let three =
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nd\r\n0\r\n\r\n";
    client.send([one, two, three].concat());
    assert!(
        client
            .read_until("0\r\n\r\n")
            .contains("\r\n\r\n3\r\nabc\r\n")
    );
    assert!(client.answer().ends_with("hello\n"));
    assert!(
        client
            .read_until("0\r\n\r\n")
            .contains("\r\n\r\n1\r\nd\r\n")
    );
}

#[test]
fn a_head_may_arrive_byte_by_byte() {
    let server = Server::start();
    let mut client = server.connect();
    for byte in
        b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab"
    {
        client.send([*byte]);
    }
    assert!(client.rest().contains("\r\n\r\n2\r\nab\r\n0\r\n\r\n"));
}

#[test]
fn the_guest_sees_the_message_and_not_the_connection() {
    let server = Server::start();
    let request = "GET /seen?q=1 HTTP/1.1\r\nHost: h:80\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
                   Proxy-Connection: x\r\nTE: trailers\r\nX-Kept: 2\r\n\r\n";
    let answer = closing(&server, request);
    assert!(
        answer.ends_with("\r\n\r\nGET /seen?q=1\nhost: h:80\nte: trailers\nx-kept: 2\n"),
        "{answer}"
    );
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[test]
fn ambiguous_framing_is_refused_and_the_connection_ends() {
    let server = Server::start();
    let smuggled = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let cases = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: x\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        "X: 1\n",
        "X: 1\r\n folded\r\n",
        "X : 1\r\n",
        "Host: h\r\n",
        "X: a\rb\r\n",
        "X: a\0b\r\n",
    ];
    for fields in cases {
        let request = format!("POST /echo HTTP/1.1\r\nHost: h\r\n{fields}\r\n0\r\n\r\n{smuggled}");
        let answer = closing(&server, &request);
        assert_eq!(status(&answer), "400", "{fields:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{fields:?}: {answer}"
        );
        assert!(
            answer.contains("connection: close\r\n"),
            "{fields:?}: {answer}"
        );
    }
    assert_eq!(server.called.load(SeqCst), 0);
}

#[test]
fn a_request_before_an_ambiguous_one_is_answered() {
    let server = Server::start();
    let good = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let bad = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answers = closing(&server, &[good, bad, good].concat());
    let statuses: Vec<_> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["200", "400"], "{answers}");
}

#[test]
fn requests_that_no_guest_may_see_get_their_status() {
    let server = Server::start();
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GARBAGE\r\n\r\n", "400"),
        ("GET / HTTP/3.7\r\n\r\n", "400"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "501"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "501",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "501",
        ),
    ];
    for (request, expected) in cases {
        let answer = closing(&server, request);
        assert_eq!(status(&answer), expected, "{request:?}: {answer}");
    }
    assert_eq!(server.called.load(SeqCst), 0);
}

#[test]
fn a_path_or_method_without_a_route_is_told_apart() {
    let server = Server::start();
    let mut client = server.connect();
    client.get("/no/route", "");
    assert!(client.answer().starts_with("HTTP/1.1 404 "));
    client.get("/only/put", "");
    let answer = client.answer();
    assert!(
        answer.starts_with("HTTP/1.1 405 ") && answer.contains("\r\nallow: PUT\r\n"),
        "{answer}"
    );
    client.get("/", "");
    assert!(
        client.answer().ends_with("hello\n"),
        "the connection goes on"
    );
}

#[test]
fn http_1_0_is_served_and_closed() {
    let server = Server::start();
    let answer = closing(&server, "GET /seen HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(
        answer.ends_with(&format!("host: {}\n", server.address)),
        "{answer}"
    );
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let server = Server::start();
    for (path, length) in [("/", "content-length: 6"), ("/trap", "content-length: 31")] {
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let answer = closing(&server, &request);
        assert!(
            answer.contains(length) && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
    }
}

#[test]
fn no_content_has_none() {
    let server = Server::start();
    let mut client = server.connect();
    client.get("/no-content", "");
    let answer = client.answer();
    assert!(
        answer.starts_with("HTTP/1.1 204 ") && !answer.contains("content-length"),
        "{answer}"
    );
    client.get("/", "");
    assert!(client.answer().ends_with("hello\n"));
}

#[test]
fn faults_become_answers_without_details() {
    let server = Server::start();
    let mut client = server.connect();
    client.get("/trap", "");
    let answer = client.answer();
    assert!(
        answer.starts_with("HTTP/1.1 500 ") && answer.contains("\r\n\r\ntrap: request "),
        "{answer}"
    );
    assert!(!answer.contains("secret"), "{answer}");
    client.get("/busy", "");
    let answer = client.answer();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: 7\r\n"),
        "{answer}"
    );
    client.get("/trap", "Accept: application/json\r\n");
    let answer = client.answer();
    assert!(
        answer.contains("content-type: application/json"),
        "{answer}"
    );
    assert!(
        answer.contains("\r\n\r\n{\"error\":\"trap\",\"request\":\""),
        "{answer}"
    );
    client.get("/continue", "");
    assert!(client.answer().starts_with("HTTP/1.1 502 "));
}

#[test]
fn every_fault_has_its_status_its_name_and_nothing_more() {
    let server = Server::start();
    let mut client = server.connect();
    for (path, status, name) in [
        ("/trap", "500", "trap"),
        ("/deadline", "504", "deadline"),
        ("/cpu", "504", "cpu"),
        ("/memory", "500", "memory"),
        ("/busy", "503", "busy"),
        ("/bad-guest", "502", "bad-guest"),
        ("/host", "500", "host"),
        // Nobody is ever told that he has left.
        ("/cancelled", "500", "host"),
    ] {
        client.get(path, "");
        let answer = client.answer();
        assert_eq!(answer.get(9..12), Some(status), "{path}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let id = body
            .strip_prefix(&format!("{name}: request "))
            .and_then(|rest| rest.strip_suffix('\n'))
            .unwrap_or_else(|| panic!("{path}: {body:?}"));
        let is_id = |id: &str| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_id(id), "{path}: {body:?}");
        assert_eq!(
            head.contains("\r\nretry-after: 7"),
            name == "busy",
            "{path}: {head}"
        );
        assert!(
            !answer.contains("1234") && !answer.contains("secret"),
            "{answer}"
        );
        client.get(path, "Accept: application/json\r\n");
        let answer = client.answer();
        let id = answer
            .split_once(&format!("\r\n\r\n{{\"error\":\"{name}\",\"request\":\""))
            .and_then(|(_, rest)| rest.strip_suffix("\"}\n"))
            .unwrap_or_else(|| panic!("{path}: {answer}"));
        assert!(is_id(id), "{path}: {answer}");
    }
}

#[test]
fn a_panic_costs_one_request() {
    let server = Server::start();
    let mut client = server.connect();
    client.get("/panic", "");
    assert!(client.answer().starts_with("HTTP/1.1 500 "));
    client.get("/", "");
    assert!(client.answer().ends_with("hello\n"));
}

#[test]
fn a_panic_within_an_answer_costs_one_connection() {
    let server = Server::start();
    let mut client = server.connect();
    client.get("/panic-later", "");
    let (answer, _) = client.rest_or_reset();
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    let mut other = server.connect();
    other.get("/", "");
    assert!(other.answer().ends_with("hello\n"));
    drop(other);
    server.signal();
    assert_eq!(
        server.outcome(),
        Outcome::Drained,
        "nothing still counts as open"
    );
}

#[test]
fn an_answer_that_breaks_off_does_not_end_like_a_complete_one() {
    let server = Server::start();
    for path in ["/broken", "/short", "/long"] {
        let mut client = server.connect();
        client.get(path, "");
        let (answer, _) = client.rest_or_reset();
        assert!(
            !answer.ends_with("0\r\n\r\n") && !answer.ends_with("abcd"),
            "{path}: {answer}"
        );
    }
    let mut client = server.connect();
    client.send("GET /broken HTTP/1.0\r\n\r\n");
    assert!(
        client.rest_or_reset().1,
        "without chunks only a reset shows that something is missing"
    );
}

#[test]
fn trailers_pass_in_both_directions() {
    let server = Server::start();
    let mut client = server.connect();
    client.get("/trailers", "TE: trailers\r\nConnection: close, TE\r\n");
    let answer = client.rest();
    assert!(
        answer.ends_with("4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n"),
        "{answer}"
    );
    let mut client = server.connect();
    client.get("/trailers", "Connection: close\r\n");
    assert!(
        client.rest().ends_with("4\r\nbody\r\n0\r\n\r\n"),
        "nobody asked for trailers"
    );
}

#[test]
fn a_head_that_is_too_large_is_refused_before_it_is_complete() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX-Large: ");
    // More than the kernel holds back: somebody has to read it.
    let sent = client.try_send(vec![b'x'; 16 << 20]);
    assert!(
        sent,
        "the server reads on for a moment, so that its answer arrives"
    );
    let answer = client.rest();
    assert_eq!(status(&answer), "431", "{answer}");
    let many = "X: 1\r\n".repeat(101);
    assert_eq!(
        status(&closing(
            &server,
            &format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")
        )),
        "431"
    );
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(20_000));
    assert_eq!(status(&closing(&server, &long)), "431");
    assert!(
        closing(
            &server,
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
        .ends_with("hello\n")
    );
}

#[test]
fn a_refused_client_may_go_on_sending_for_a_moment() {
    let linger = Duration::from_millis(100);
    let server = Server::bounded(Bounds {
        linger,
        ..Bounds::default()
    });
    let begin = Instant::now();
    let mut client = server.connect();
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: h\r\nX: {}",
        "x".repeat(20_000)
    ));
    assert_eq!(status(&client.rest()), "431");
    while client.try_send("x") {
        assert!(begin.elapsed() < Duration::from_secs(5), "it still reads");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let lasted = begin.elapsed();
    assert!(lasted >= linger, "{lasted:?}");
}

#[test]
fn a_body_that_is_too_large_is_refused_whether_announced_or_not() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n");
    client.send(vec![b'x'; 1001]);
    assert_eq!(status(&client.rest()), "413");
    assert_eq!(server.called.load(SeqCst), 0, "not even begun");
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        client.send(format!("190\r\n{}\r\n", "x".repeat(400)));
    }
    let answer = client.rest();
    assert_eq!(status(&answer), "413", "{answer}");
}

#[test]
fn expect_continue_is_answered_when_the_guest_reads() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(
        client.read_until("\r\n\r\n"),
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    client.send("ab");
    assert!(client.read_until("0\r\n\r\n").contains("2\r\nab\r\n"));
}

fn hasty() -> Bounds {
    Bounds {
        head_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(300),
        body_stall: Duration::from_millis(100),
        ..Bounds::default()
    }
}

#[test]
fn a_client_that_says_nothing_is_left() {
    let server = Server::bounded(hasty());
    let begin = Instant::now();
    assert!(server.connect().is_closed());
    assert!(begin.elapsed() >= Duration::from_millis(100));
}

#[test]
fn half_a_head_is_answered_408_however_busily_it_dribbles() {
    let server = Server::bounded(hasty());
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\n");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(150) && client.try_send("X: 1\r\n") {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let (answer, _) = client.rest_or_reset();
    assert_eq!(status(&answer), "408", "{answer}");
    let mut client = server.connect();
    client.get("/", "");
    client.answer();
    client.send("GET /");
    assert_eq!(
        status(&client.answer()),
        "408",
        "the second request of a connection as well"
    );
    assert!(client.is_closed(), "there is more than was announced");
}

#[test]
fn a_client_that_stops_within_its_head_is_answered_400() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost");
    client.half_close();
    let answer = client.answer();
    assert_eq!(status(&answer), "400", "{answer}");
    assert!(client.is_closed(), "there is more than was announced");
}

#[test]
fn silence_between_requests_has_its_own_time() {
    let server = Server::bounded(hasty());
    let mut client = server.connect();
    client.get("/", "");
    client.answer();
    let begin = Instant::now();
    assert!(client.is_closed());
    let silence = begin.elapsed();
    assert!(silence >= Duration::from_millis(250), "{silence:?}");
}

#[test]
fn a_running_guest_is_not_silence() {
    let server = Server::bounded(Bounds {
        idle_timeout: Duration::from_millis(20),
        write_stall: Duration::from_millis(20),
        ..Bounds::default()
    });
    let mut client = server.connect();
    client.get("/gate", "");
    std::thread::park_timeout(Duration::from_millis(50));
    server.gate.add_permits(1);
    assert!(client.answer().ends_with("through\n"));
}

#[test]
fn a_body_that_stalls_is_answered_408() {
    let server = Server::bounded(hasty());
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    let answer = client.rest();
    assert_eq!(status(&answer), "408", "{answer}");
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let server = Server::bounded(Bounds {
        write_stall: Duration::from_millis(50),
        ..Bounds::default()
    });
    let mut client = server.connect();
    client.get("/endless", "");
    client.read_until("\r\n\r\n");
    let begin = Instant::now();
    while client.try_send("x") {
        assert!(begin.elapsed() < Duration::from_secs(5), "still there");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_client_that_leaves_cancels_its_call() {
    let server = Server::start();
    let mut client = server.connect();
    client.get("/gate", "");
    while server.called.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    drop(client);
    let begin = Instant::now();
    while server.cancelled.load(SeqCst) == 0 {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "the call goes on for nobody"
        );
        std::thread::yield_now();
    }
}
