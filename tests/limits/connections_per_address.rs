//! Open connections of one address.

use hostel_app::limits::CONNECTIONS_PER_ADDRESS;

use crate::harness::eventually;
use crate::harness::http::Connection;
use crate::harness::message::get;
use crate::harness::server::{Server, allow_a_crowd};

#[test]
fn one_more_is_turned_away_and_other_addresses_are_served() {
    allow_a_crowd();
    let server = Server::with_ulimit("hello-p2", "-n $(ulimit -Hn)");
    let mut crowd: Vec<Connection> = (0..CONNECTIONS_PER_ADDRESS.size())
        .map(|_| server.connect())
        .collect();
    for client in crowd.iter_mut().step_by(100) {
        assert_eq!(client.ask(&get("/")).status, 200);
    }
    assert!(crowd.iter().all(Connection::is_waiting), "they have seats");
    let answer = server.connect().answer();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert_eq!(answer.text(), "too many connections from this address\n");
    let mut other = Connection::open_from(9, server.address()).expect("the kernel accepts");
    assert_eq!(other.ask(&get("/")).status, 200);
    crowd.pop();
    eventually("the seat is free again", || {
        let mut client = server.connect();
        client.try_send(get("/"));
        (client.try_answer().ok()?.status == 200).then_some(())
    });
}
