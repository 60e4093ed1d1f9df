//! Many clients that leave in the middle of their calls.

use crate::harness::eventually;
use crate::harness::http::Connection;
use crate::harness::message::get;
use crate::harness::server::Server;
use crate::harness::upstream::Held;

const CROWD: usize = 50;
const ALL_CALLED: [&str; 3] = ["concurrency=50", "queue_depth=0", "queue_wait=0ms"];
const MOST_WAIT: [&str; 3] = ["concurrency=5", "queue_depth=45", "queue_wait=1m"];

/// So many calls in flight at once, none of them answered; `None` while there are not places for all of them.
fn call_all(server: &Server, path: &str) -> Option<Vec<Connection>> {
    let mut crowd: Vec<Connection> = (0..CROWD).map(|_| server.connect()).collect();
    crowd.iter_mut().for_each(|client| client.send(get(path)));
    // One more is refused once all places are taken, and nobody else is there to take them; or it has the place of one of
    // the crowd, who is refused then.
    let mut one_more = server.connect();
    one_more.send(get(path));
    eventually("the places are taken", || {
        let surplus = crowd.iter().chain([&one_more]);
        let refused = surplus.filter(|client| !client.is_waiting()).count();
        (refused > 0).then_some(())
    });
    crowd.iter().all(Connection::is_waiting).then_some(crowd)
}

/// `places` are the permits and the queue, for so many as the crowd has.
fn leave_in_mid_call(guest: &str, path: &str, places: [&str; 3]) {
    let flags = [&places[..], &["cpu=10m", "deadline=1h"]]
        .concat()
        .into_iter()
        .flat_map(|limit| ["--limit", limit])
        .collect::<Vec<_>>();
    let server = Server::with(guest, &flags);
    for _ in 0..2 {
        let crowd = eventually("every permit is free", || call_all(&server, path));
        drop(crowd);
        server
            .stderr()
            .wait_for("hostel: level=info fault=cancelled component=");
        server.comes_to_rest();
    }
    // Permits that were lost would never let all of them in again.
    eventually("every permit is free again", || call_all(&server, path));
}

#[test]
fn spinning_guests_of_clients_that_left_end_and_give_back_their_permits() {
    for guest in ["loop-p2", "loop-p3"] {
        leave_in_mid_call(guest, "/", ALL_CALLED);
    }
}

#[test]
fn waiting_guests_of_clients_that_left_end_and_give_back_their_permits() {
    for guest in ["slow-p2", "slow-p3"] {
        leave_in_mid_call(guest, "/?ms=600000", ALL_CALLED);
    }
}

#[test]
fn calls_that_wait_for_their_turn_give_back_their_places() {
    leave_in_mid_call("slow-p2", "/?ms=600000", MOST_WAIT);
}

#[test]
fn a_client_that_leaves_is_named_with_its_request_and_one_that_stays_is_not() {
    let upstream = Held::new();
    let server = Server::with("outgoing-p2", &["--grant", "http=http://127.0.0.1:*"]);
    let mut staying = server.connect();
    staying.send(get(&upstream.query()));
    upstream.accept().answer("fine");
    assert_eq!(staying.answer().text(), "fine");
    let mut leaving = server.connect();
    leaving.send(get(&upstream.query()));
    let _call = upstream.accept();
    drop(leaving);
    let line = server.stderr().find("the line", |text| {
        let line = text.lines().find(|line| line.contains("fault=cancelled"))?;
        Some(line.to_owned())
    });
    let request = line
        .strip_prefix("hostel: level=info fault=cancelled component=outgoing-p2 request=")
        .and_then(|rest| rest.strip_suffix(" the client went away"))
        .unwrap_or_else(|| panic!("{line}"));
    assert!(
        request.len() == 16 && request.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{request}"
    );
    let text = server.stderr().text();
    assert_eq!(text.matches("fault=").count(), 1, "{text}");
}

#[test]
fn the_end_of_the_server_is_not_blamed_on_its_clients() {
    let upstream = Held::new();
    let mut server = Server::with("outgoing-p2", &["--grant", "http=http://127.0.0.1:*"]);
    let mut waiting = server.connect();
    waiting.send(get(&upstream.query()));
    let _call = upstream.accept();
    server.signal(rustix::process::Signal::TERM);
    server.refuses();
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.end().code(), Some(1));
    let text = server.stderr().text();
    assert!(!text.contains("fault=cancelled"), "{text}");
}
