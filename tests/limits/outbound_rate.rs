//! New outgoing connections in one second.

use std::time::{Duration, Instant};

use crate::harness::server::Server;
use crate::harness::upstream::Upstream;

#[test]
fn beyond_a_second_s_worth_each_waits_for_its_turn() {
    for guest in ["outgoing-p2", "outgoing-p3"] {
        let upstream = Upstream::http("slowly"); // it closes every connection
        let grant = format!("http=http://{}", upstream.address());
        let server = Server::with(guest, &["--grant", &grant, "--limit", "outbound_rate=5"]);
        let begin = Instant::now();
        let path = format!("/?url=http://{}/&times=10", upstream.address());
        assert_eq!(server.get(&path).status, 203, "{guest}");
        assert!(
            begin.elapsed() >= Duration::from_millis(900),
            "{guest}: five at once, then five a second"
        );
        assert_eq!(upstream.heard().len(), 10, "{guest}");
    }
}

#[test]
fn a_turn_that_is_too_far_away_fails_inside_the_guest() {
    let upstream = Upstream::http("one");
    let grant = format!("http=http://{}", upstream.address());
    let flags = ["--grant", &grant, "--limit", "outbound_rate=1"];
    let server = Server::with("outgoing-p3", &flags);
    // The first goes at once and five more may wait as long as a connection may take; of twelve some are refused.
    let path = format!("/?url=http://{}/", upstream.address());
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let mut client = server.connect();
            client.send(crate::harness::message::get(&path));
            client
        })
        .collect();
    let answers: Vec<_> = clients
        .into_iter()
        .map(|mut client| client.answer())
        .collect();
    let fine = answers.iter().filter(|answer| answer.status == 203).count();
    let refused = answers
        .iter()
        .filter(|answer| answer.text().contains("ConnectionLimitReached"))
        .count();
    assert!(fine >= 1 && refused >= 1, "{fine} {refused}");
    // Of one that was connected in its last moment the guest may not have seen the answer.
    let heard = upstream.heard().len();
    assert!(
        (fine..=answers.len() - refused).contains(&heard),
        "{heard} were heard, {fine} answered and {refused} refused"
    );
}

#[test]
fn sockets_take_turns_too() {
    for guest in ["sockets-p2", "sockets-p3"] {
        let upstream = Upstream::tcp();
        let grant = format!("tcp={}", upstream.address());
        let server = Server::with(guest, &["--grant", &grant, "--limit", "outbound_rate=2"]);
        let begin = Instant::now();
        for _ in 0..4 {
            let page = server.page(&format!("/?tcp={}", upstream.address()));
            assert!(page.starts_with("ok: "), "{guest}: {page}");
        }
        assert!(begin.elapsed() >= Duration::from_millis(900), "{guest}");
    }
}
