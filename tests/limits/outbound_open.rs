//! Outgoing HTTP connections that an app may have open at once.

use crate::harness::eventually;
use crate::harness::message::get;
use crate::harness::metrics::{FLAGS, read};
use crate::harness::server::Server;
use crate::harness::upstream::{Held, Upstream};

#[test]
fn one_more_fails_inside_the_guest_until_another_has_ended() {
    for guest in ["outgoing-p2", "outgoing-p3"] {
        let (upstream, quick) = (Held::new(), Upstream::http("quick"));
        let limit = ["--grant", "http=*://*:*", "--limit", "outbound_open=2"];
        let server = Server::with(guest, &[&limit[..], &FLAGS].concat());
        let open = || read(&server).get("hostel_outbound_open", &[]);
        let mut clients: Vec<_> = (0..2).map(|_| server.connect()).collect();
        let mut calls = Vec::new();
        for client in &mut clients {
            client.send(get(&upstream.query()));
            calls.push(upstream.accept());
        }
        assert_eq!(open(), 2.0, "{guest}");
        let refused = server.get(&upstream.query());
        assert_eq!(refused.status, 502, "{guest}");
        assert!(
            refused.text().contains("ConnectionLimitReached"),
            "{guest}: {}",
            refused.text()
        );
        calls.remove(0).answer("first");
        assert_eq!(clients.remove(0).answer().text(), "first", "{guest}");
        // The connection is gone soon after the answer was read.
        let path = format!("/?url=http://{}/", quick.address());
        eventually("there is room again", || {
            (server.get(&path).status == 203).then_some(())
        });
        // A client that leaves takes its guest's connection with it.
        drop(clients);
        calls.remove(0).wait_until_abandoned();
        eventually("none is open", || (open() == 0.0).then_some(()));
    }
}
