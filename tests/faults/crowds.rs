//! Many clients that leave in the middle of their calls.

use crate::harness::eventually;
use crate::harness::http::Connection;
use crate::harness::message::get;
use crate::harness::server::Server;

const CROWD: usize = 50;

/// So many calls in flight at once, none of them answered; `None` while there are not permits for all of them.
fn call_all(server: &Server, path: &str) -> Option<Vec<Connection>> {
    let mut crowd: Vec<Connection> = (0..CROWD).map(|_| server.connect()).collect();
    crowd.iter_mut().for_each(|client| client.send(get(path)));
    // One more is refused only once all permits are taken, and nobody else is there to take them.
    eventually("the permits are taken", || {
        let mut one_more = server.connect();
        one_more.send(get(path));
        eventually(
            "it is refused, or it has the permit of one that was",
            || {
                let refused = !one_more.is_waiting();
                let surplus = crowd.iter().any(|client| !client.is_waiting());
                (refused || surplus).then_some(())
            },
        );
        (!one_more.is_waiting() || crowd.iter().any(|client| !client.is_waiting())).then_some(())
    });
    crowd.iter().all(Connection::is_waiting).then_some(crowd)
}

fn leave_in_mid_call(guest: &str, path: &str) {
    let limits = ["concurrency=50", "queue_depth=0", "cpu=10m", "deadline=1h"];
    let flags = limits.map(|limit| ["--limit", limit]);
    let server = Server::with(guest, flags.as_flattened());
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
        leave_in_mid_call(guest, "/");
    }
}

#[test]
fn waiting_guests_of_clients_that_left_end_and_give_back_their_permits() {
    for guest in ["slow-p2", "slow-p3"] {
        leave_in_mid_call(guest, "/?ms=600000");
    }
}

#[test]
fn a_client_that_leaves_is_named_with_its_request_and_one_that_stays_is_not() {
    let server = Server::of("slow-p2");
    assert_eq!(server.get("/?ms=1").status, 200);
    let mut leaving = server.connect();
    leaving.send(get("/?ms=600000"));
    // It must be called before it can be cancelled.
    server.comes_to_rest();
    drop(leaving);
    let line = server.stderr().find("the line", |text| {
        let line = text.lines().find(|line| line.contains("fault=cancelled"))?;
        Some(line.to_owned())
    });
    let request = line
        .strip_prefix("hostel: level=info fault=cancelled component=slow-p2 request=")
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
    let mut server = Server::of("slow-p2");
    let mut waiting = server.connect();
    waiting.send(get("/?ms=600000"));
    server.comes_to_rest();
    server.signal(rustix::process::Signal::TERM);
    server.refuses();
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.end().code(), Some(1));
    let text = server.stderr().text();
    assert!(!text.contains("fault=cancelled"), "{text}");
}
