//! Crowds: clients without a seat, and clients that let the server wait.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::client::Client;
use super::server::Server;
use crate::bounds::Bounds;

const PATIENCE: Duration = Duration::from_secs(20);

const THERE: [u8; 4] = [127, 0, 0, 2];

/// Asks on a new connection until there is an answer of the guest.
fn is_served(mut connect: impl FnMut() -> Client) {
    let begin = Instant::now();
    loop {
        let mut client = connect();
        client.try_send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        if client.rest_or_reset().0.ends_with("hello\n") {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "nobody is served");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A client that has a seat.
fn seated(mut client: Client) -> Client {
    client.get("/", "");
    assert!(client.answer().ends_with("hello\n"));
    client
}

#[test]
fn one_address_cannot_take_every_seat() {
    let server = Server::with(
        Bounds {
            connections: 4,
            connections_per_address: 2,
            ..Bounds::default()
        },
        Duration::from_secs(10),
        2,
    );
    let here = || Client::connect(server.address);
    let there = || Client::connect_from(THERE, server.address);
    let mut seats = vec![seated(here()), seated(here())];
    let answer = here().rest();
    assert!(
        answer.starts_with("HTTP/1.1 503 ")
            && answer.contains("\r\nretry-after: 1\r\n")
            && answer.ends_with("\r\n\r\ntoo many connections from this address\n"),
        "{answer}"
    );
    seats.extend([seated(there()), seated(there())]);
    assert!(there().rest().ends_with("\r\n\r\ntoo many connections\n"));
    // Every seat comes back, whoever had it.
    for _ in 0..3 {
        seats.clear();
        is_served(here);
        is_served(there);
        let begin = Instant::now();
        while seats.len() < 2 {
            let mut client = here();
            client.try_send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            let head = client.read_until("\r\n\r\n");
            if head.starts_with("HTTP/1.1 200 ") {
                seats.push(client);
            }
            assert!(begin.elapsed() < PATIENCE, "a seat is lost");
        }
        assert!(here().rest().contains(" 503 "), "there is one too many");
    }
}

#[test]
fn a_client_without_a_seat_reads_its_answer_although_it_has_sent_a_request() {
    let server = Server::bounded(Bounds {
        connections: 1,
        ..Bounds::default()
    });
    let _seat = seated(server.connect());
    for _ in 0..20 {
        let mut client = server.connect();
        client.try_send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n");
        client.try_send([b'x'; 50_000]);
        let answer = client.rest();
        assert!(
            answer.ends_with("\r\n\r\ntoo many connections\n"),
            "{answer}"
        );
    }
}

#[test]
fn a_crowd_that_is_turned_away_holds_nothing() {
    const CROWD: usize = 50;
    const MAY_STAY: usize = 3;
    let server = Server::bounded(Bounds {
        connections: 1,
        turned_away: MAY_STAY,
        linger: Duration::from_secs(60),
        ..Bounds::default()
    });
    let seat = seated(server.connect());
    let mut crowd: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    for client in &mut crowd {
        let answer = client.rest();
        assert!(
            answer.ends_with("\r\n\r\ntoo many connections\n"),
            "{answer}"
        );
    }
    // Whoever sends to a socket that is closed learns that sooner or later; those who may stay do not.
    let begin = Instant::now();
    let mut closed = 0;
    while closed < CROWD - MAY_STAY {
        crowd.retain_mut(|client| client.try_send("x"));
        closed = CROWD - crowd.len();
        assert!(begin.elapsed() < PATIENCE, "{closed} of {CROWD} are closed");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(crowd.len(), MAY_STAY);
    drop(seat);
    is_served(|| server.connect());
}

#[test]
fn those_who_were_turned_away_have_to_leave() {
    let server = Server::bounded(Bounds {
        connections: 1,
        linger: Duration::from_millis(50),
        ..Bounds::default()
    });
    let _seat = seated(server.connect());
    let mut client = server.connect();
    assert!(client.rest().contains(" 503 "));
    let begin = Instant::now();
    while client.try_send("x") {
        assert!(begin.elapsed() < PATIENCE, "it may stay");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_crowd_of_slow_heads_is_closed_and_the_others_are_served() {
    const CROWD: usize = 50;
    let server = Server::bounded(Bounds {
        head_timeout: Duration::from_millis(300),
        ..Bounds::default()
    });
    let mut crowd: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    let mut good = seated(server.connect());
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(400) {
        for client in &mut crowd {
            client.try_send("G");
        }
        good.get("/", "");
        assert!(good.answer().ends_with("hello\n"));
        std::thread::park_timeout(Duration::from_millis(10));
    }
    for mut client in crowd {
        let (text, _) = client.rest_or_reset();
        // A byte that comes after the close resets the connection, and the answer may be lost.
        assert!(text.is_empty() || text.contains(" 408 "), "{text}");
    }
}

#[test]
fn a_crowd_of_slow_bodies_is_answered_408() {
    const CROWD: usize = 20;
    let server = Server::bounded(Bounds {
        head_timeout: Duration::from_millis(200),
        body_rate: 1024,
        ..Bounds::default()
    });
    let mut crowd: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    for client in &mut crowd {
        client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n");
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(300) {
        for client in &mut crowd {
            client.try_send("x");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    for mut client in crowd {
        let (text, _) = client.rest_or_reset();
        assert!(text.contains(" 408 "), "{text}");
    }
    is_served(|| server.connect());
}

#[test]
fn a_crowd_of_slow_readers_is_cut_off() {
    const CROWD: usize = 10;
    let server = Server::bounded(Bounds {
        write_stall: Duration::from_millis(100),
        ..Bounds::default()
    });
    let mut crowd: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    for client in &mut crowd {
        client.get("/endless", "");
    }
    for client in &mut crowd {
        // It is a reset, which throws away what was not read: an end would look like a complete answer.
        let begin = Instant::now();
        while client.try_send("x") {
            assert!(begin.elapsed() < PATIENCE, "it is still served");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    is_served(|| server.connect());
}

#[test]
fn a_crowd_that_leaves_is_cancelled_and_nothing_of_it_is_left() {
    const CROWD: usize = 50;
    let server = Server::with(Bounds::default(), Duration::from_secs(10), 2);
    let mut crowd: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    for client in &mut crowd {
        client.get("/gate", "");
    }
    let begin = Instant::now();
    while server.called.load(SeqCst) < CROWD {
        assert!(begin.elapsed() < PATIENCE, "not all were called");
        std::thread::yield_now();
    }
    drop(crowd);
    while server.cancelled.load(SeqCst) < CROWD {
        assert!(begin.elapsed() < PATIENCE, "some go on");
        std::thread::yield_now();
    }
    // A drain has nothing to wait for.
    server.signal();
    assert_eq!(server.outcome(), crate::serve::Outcome::Drained);
}
