//! Few file descriptors: as many clients are served as they allow, and that is said.

use crate::harness::http::Connection;
use crate::harness::server::{Server, allow_a_crowd};
use crate::harness::{eventually, message::get};

const CYCLES: usize = 2;
const CROWD: usize = 1000;

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let server = Server::with_ulimit("hello-p2", "-Sn 64");
    let (soft, hard) = server.files_allowed();
    assert_eq!(soft, hard);
    assert_ne!(soft, Some(64));
    server.is_alive("/");
}

#[test]
fn few_descriptors_are_said_and_the_server_serves() {
    let server = Server::with_ulimit("hello-p2", "-n 256");
    server
        .stderr()
        .wait_for("hostel: the system allows 256 open files (RLIMIT_NOFILE), so ");
    server.is_alive("/");
}

#[test]
fn enough_descriptors_are_not_mentioned() {
    let server = Server::with_ulimit("hello-p2", "-n 15000");
    server.is_alive("/");
    let text = server.stderr().text();
    assert!(!text.contains("open files"), "{text}");
}

#[test]
fn a_crowd_beyond_the_descriptors_is_turned_away_and_afterwards_everybody_is_served() {
    allow_a_crowd();
    let server = Server::with_ulimit("hello-p2", "-n 256");
    for _ in 0..CYCLES {
        // From twenty addresses, so that it is the total that is full.
        let mut crowd: Vec<Connection> = (0..CROWD)
            .map(|number| {
                let address = 2 + (number % 20) as u8;
                Connection::open_from(address, server.address()).expect("the kernel accepts")
            })
            .collect();
        for client in &mut crowd {
            client.try_send("GET / HTTP/1.1\r\nHost: loc");
        }
        // Whoever has no seat is told so, and not made to wait for one.
        eventually("all but the seats are answered", || {
            let waiting = crowd.iter().filter(|client| client.is_waiting()).count();
            (waiting < 256).then_some(())
        });
        server
            .stderr()
            .wait_for("hostel: all connections are taken: ");
        let refused = crowd.iter_mut().find(|client| !client.is_waiting());
        let answer = refused.expect("somebody is turned away").answer();
        assert_eq!(answer.status, 503);
        assert!(answer.text().starts_with("too many connections"));
        drop(crowd);
        eventually("a request is answered", || {
            let mut client = server.try_connect().ok()?;
            client.try_send(get("/"));
            (client.try_answer().ok()?.status == 200).then_some(())
        });
    }
    assert!(!server.stderr().text().contains("cannot accept"));
}
