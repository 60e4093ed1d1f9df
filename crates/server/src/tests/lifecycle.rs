//! Start, total of connections, drain, end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use hostel_app::ListenOn;
use hostel_host::LogSink;

use super::client::Client;
use super::fake::{Fake, app};
use super::server::Server;
use crate::bounds::Bounds;
use crate::live::Live;
use crate::serve::{Outcome, ServeError, ServeOptions, supervise};

fn waiting_call(server: &Server) -> Client {
    let before = server.called.load(SeqCst);
    let mut client = server.connect();
    client.get("/gate", "");
    while server.called.load(SeqCst) == before {
        std::thread::yield_now();
    }
    client
}

#[test]
fn a_drain_answers_what_is_in_flight_and_closes_what_is_idle() {
    let server = Server::start();
    let mut idle = server.connect();
    idle.get("/", "");
    idle.answer();
    let mut silent = server.connect();
    let mut busy = waiting_call(&server);
    server.signal();
    assert!(idle.is_closed());
    assert!(silent.is_closed());
    server.gate.add_permits(1);
    let answer = busy.rest();
    assert!(
        answer.ends_with("through\n") && answer.contains("\r\nconnection: close\r\n"),
        "{answer}"
    );
    assert_eq!(server.outcome(), Outcome::Drained);
}

#[test]
fn a_drain_takes_no_new_connection() {
    let server = Server::start();
    let _busy = waiting_call(&server);
    server.signal();
    let begin = Instant::now();
    loop {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the client, not the host"
        )]
        let refused = std::net::TcpStream::connect(server.address).is_err();
        if refused {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "it still accepts");
        std::thread::yield_now();
    }
    server.gate.add_permits(1);
    assert_eq!(server.outcome(), Outcome::Drained);
}

#[test]
fn a_drain_ends_in_time_and_tells_what_it_cut_off() {
    let server = Server::with(Bounds::default(), Duration::from_millis(50), 1);
    let (mut one, mut other) = (waiting_call(&server), waiting_call(&server));
    let cancelled = server.cancelled.clone();
    server.signal();
    assert_eq!(server.outcome(), Outcome::DrainTimedOut { calls: 2 });
    assert!(one.is_closed() && other.is_closed());
    assert_eq!(cancelled.load(SeqCst), 2);
}

#[test]
fn a_second_signal_ends_at_once() {
    let server = Server::start();
    let _busy = waiting_call(&server);
    server.signal();
    server.signal();
    let begin = Instant::now();
    assert_eq!(server.outcome(), Outcome::Interrupted { calls: 1 });
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_answer_that_is_still_streaming_counts_as_in_flight() {
    let server = Server::with(Bounds::default(), Duration::from_millis(50), 1);
    let mut client = server.connect();
    client.get("/hang", "");
    client.read_until("begun");
    server.signal();
    assert_eq!(server.outcome(), Outcome::DrainTimedOut { calls: 1 });
}

#[test]
fn connections_beyond_the_total_are_turned_away_and_seats_come_back() {
    let server = Server::bounded(Bounds {
        connections: 2,
        ..Bounds::default()
    });
    let (mut one, mut two) = (server.connect(), server.connect());
    for client in [&mut one, &mut two] {
        client.get("/", "");
        client.answer();
    }
    let mut third = server.connect();
    let answer = third.answer();
    assert!(third.is_closed(), "there is more than was announced");
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with("\r\n\r\ntoo many connections\n"),
        "{answer}"
    );
    drop(one);
    let begin = Instant::now();
    loop {
        let mut third = server.connect();
        third.try_send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        if third.rest_or_reset().0.ends_with("hello\n") {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "the seat is lost");
    }
}

#[test]
fn every_thread_serves() {
    let server = Server::with(Bounds::default(), Duration::from_secs(10), 4);
    let mut clients: Vec<_> = (0..32).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.get("/", "");
    }
    for client in &mut clients {
        assert!(client.answer().ends_with("hello\n"));
    }
    drop(clients);
    server.signal();
    assert_eq!(server.outcome(), Outcome::Drained);
}

fn start(listen: Vec<SocketAddr>) -> Result<Outcome, ServeError> {
    let live = Arc::new(Live::answering(
        app(&[("/...", &[])]),
        vec![Some(Fake::new())],
    ));
    let mut options = ServeOptions::on(SocketAddr::from(([127, 0, 0, 1], 0)), LogSink::null());
    options.listen = listen.into_iter().map(ListenOn::Address).collect();
    let runtime = crate::worker::runtime().unwrap();
    let mut signalled = false;
    let stop = async || {
        if std::mem::replace(&mut signalled, true) {
            std::future::pending::<()>().await;
        }
    };
    runtime.block_on(supervise(live, options, |_| {}, stop))
}

#[test]
fn a_port_in_use_is_told_before_anything_is_served() {
    let server = Server::start();
    let message = start(vec![server.address]).unwrap_err().to_string();
    assert!(
        message.contains("in use") && message.contains(&server.address.to_string()),
        "{message}"
    );
}

#[test]
fn no_address_is_an_error() {
    assert!(matches!(start(Vec::new()), Err(ServeError::NoAddress)));
}

#[test]
fn two_addresses_are_served_at_once() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    assert_eq!(start(vec![any, any]).unwrap(), Outcome::Drained);
}

#[test]
fn a_drain_reports_what_is_open() {
    let (reports, reported) = std::sync::mpsc::sync_channel(16);
    let (ready, address) = std::sync::mpsc::sync_channel(1);
    let fake = Fake::new();
    let (gate, called) = (fake.gate.clone(), fake.called.clone());
    let live = Arc::new(Live::answering(app(&[("/...", &[])]), vec![Some(fake)]));
    let server = std::thread::spawn(move || {
        let mut options = ServeOptions::on(SocketAddr::from(([127, 0, 0, 1], 0)), LogSink::null());
        options.threads = Some(1);
        options.draining = Some(Box::new(move |draining| reports.send(draining).unwrap()));
        let mut signalled = false;
        let stop = async || {
            if std::mem::replace(&mut signalled, true) {
                std::future::pending::<()>().await;
            }
            while called.load(SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        };
        let runtime = crate::worker::runtime().unwrap();
        runtime.block_on(supervise(
            live,
            options,
            |addresses| ready.send(addresses[0]).unwrap(),
            stop,
        ))
    });
    let mut client = Client::connect(address.recv().unwrap());
    client.get("/gate", "");
    let draining = reported.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!((draining.calls, draining.connections), (1, 1));
    gate.add_permits(1);
    assert!(client.rest().ends_with("through\n"));
    assert_eq!(server.join().unwrap().unwrap(), Outcome::Drained);
}
