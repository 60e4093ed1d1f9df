//! Crowds of clients that keep the server waiting: each costs little, and the others are served. How soon each of them is
//! cut off is shown in `crates/server`, with bounds of milliseconds.

use crate::harness::app::App;
use crate::harness::eventually;
use crate::harness::frames::{END_STREAM, INITIAL_WINDOW_SIZE, SETTINGS, Wire, frame, request};
use crate::harness::http::Connection;
use crate::harness::message::{get, sized_head};
use crate::harness::server::{Server, allow_a_crowd};

const CROWD: usize = 1000;
/// What one of them may cost.
const EACH: u64 = 64 << 10;

/// The memory that a crowd costs, which is there while the others are served.
fn cost<C>(server: &Server, client: impl FnMut(usize) -> C) -> u64 {
    allow_a_crowd();
    for _ in 0..10 {
        server.is_alive("/");
    }
    let before = server.memory_peak();
    let crowd: Vec<C> = (0..CROWD).map(client).collect();
    server.comes_to_rest();
    for _ in 0..10 {
        server.is_alive("/");
    }
    drop(crowd);
    (server.memory_peak() - before) / CROWD as u64
}

fn is_little(cost: u64) {
    assert!(cost <= EACH, "{cost} bytes for each of them");
}

#[test]
fn half_heads_cost_little() {
    let server = Server::of("hello-p2");
    is_little(cost(&server, |_| {
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: a head that ");
        client
    }));
}

#[test]
fn silent_clients_cost_little() {
    let server = Server::of("hello-p2");
    is_little(cost(&server, |_| server.connect()));
}

#[test]
fn clients_between_two_requests_cost_little() {
    let server = Server::of("hello-p2");
    is_little(cost(&server, |_| {
        let mut client = server.connect();
        assert_eq!(client.ask(&get("/")).status, 200);
        client
    }));
}

#[test]
fn idle_clients_of_http2_cost_little() {
    let server = Server::of("hello-p2");
    is_little(cost(&server, |_| Wire::open(server.address())));
}

#[test]
fn bodies_that_do_not_come_cost_little_beyond_their_instances() {
    // One is called, the others wait for their turn.
    let server = Server::with(
        "stream-in-p2",
        &["--limit", "concurrency=10", "--limit", "queue_depth=0"],
    );
    let head = sized_head("/", 1_000_000);
    allow_a_crowd();
    server.is_alive("/?read=0");
    let before = server.memory_peak();
    let mut crowd: Vec<Connection> = (0..CROWD).map(|_| server.connect()).collect();
    crowd.iter_mut().for_each(|client| client.try_send(&head));
    eventually("the others are told that there is no room", || {
        let waiting = crowd.iter().filter(|client| client.is_waiting()).count();
        (waiting <= 10).then_some(())
    });
    drop(crowd);
    is_little((server.memory_peak() - before) / CROWD as u64);
    server.comes_to_rest();
    server.is_alive("/?read=0");
}

#[test]
fn slow_readers_of_a_large_answer_cost_little_beyond_their_instances() {
    const READERS: usize = 50;
    let server = Server::of("stream-out-p2");
    server.is_alive("/?bytes=5");
    let before = server.memory_peak();
    let mut crowd: Vec<Connection> = (0..READERS).map(|_| server.connect()).collect();
    for client in &mut crowd {
        client.send(get("/?bytes=100000000"));
    }
    server.comes_to_rest();
    server.is_alive("/?bytes=5");
    let each = (server.memory_peak() - before) / READERS as u64;
    // An instance with its memory and its stack, and what is under way.
    assert!(each <= 2 << 20, "{each} bytes for each of them");
    drop(crowd);
    server.comes_to_rest();
    server.is_alive("/?bytes=5");
}

/// A guest that is still writing its answer has a permit until its client takes it, or the stream is reset for that: so it
/// is the other component of the app that must be served.
#[test]
fn a_hundred_streams_without_a_window_do_not_hold_up_another_component() {
    let app = App::new(
        "[app]\nname = \"two\"\n\
         [component.attacked]\nsource = \"hello-p2.wasm\"\n\
         [component.good]\nsource = \"hello-p3.wasm\"\n\
         [[http]]\nroute = \"/attacked\"\ncomponent = \"attacked\"\n\
         [[http]]\nroute = \"/...\"\ncomponent = \"good\"\n",
    );
    let server = app.up();
    server.is_alive("/");
    let before = server.memory_peak();
    let mut wires: Vec<Wire> = (0..10).map(|_| Wire::open(server.address())).collect();
    for wire in &mut wires {
        let window = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
        wire.send(frame(SETTINGS, 0, 0, &window));
        for number in 0..100 {
            let stream = 2 * number + 1;
            wire.send(request(stream, "GET", "/attacked", &[], END_STREAM));
        }
        server.is_alive("/");
    }
    server.comes_to_rest();
    for _ in 0..10 {
        server.is_alive("/");
    }
    let grown = server.memory_peak() - before;
    // The instances are most of it.
    assert!(grown < 128 << 20, "{grown} bytes for a thousand streams");
}

/// With the bound of the product: a head that dribbles is cut off at `head_timeout`, whoever else does the same.
#[test]
fn a_crowd_whose_heads_dribble_is_closed_at_the_head_timeout() {
    let server = Server::of("hello-p2");
    let mut crowd: Vec<Connection> = (0..CROWD / 2).map(|_| server.connect()).collect();
    for client in &mut crowd {
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    }
    eventually("all of them are closed", || {
        // Only those who wait: a byte to a closed connection is answered with a reset, which can destroy the answer.
        let mut waiting: Vec<&mut Connection> = crowd
            .iter_mut()
            .filter(|client| client.is_waiting())
            .collect();
        waiting.iter_mut().for_each(|client| client.try_send("x"));
        server.is_alive("/");
        waiting.is_empty().then_some(())
    });
    for mut client in crowd {
        let text = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 408 "),
            "{text}"
        );
    }
    server.comes_to_rest();
}
