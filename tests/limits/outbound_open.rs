//! Outgoing HTTP requests and sockets that an app may have open at once.

use crate::harness::eventually;
use crate::harness::message::get;
use crate::harness::metrics::{FLAGS, read};
use crate::harness::server::Server;
use crate::harness::upstream::{Held, Upstream};

#[test]
fn one_more_fails_inside_the_guest_until_another_has_ended() {
    for guest in ["outgoing-p2", "outgoing-p3"] {
        let (upstream, quick) = (Held::new(), Upstream::http("quick"));
        let limit = [
            "--grant",
            "http=http://127.0.0.1:*",
            "--limit",
            "outbound_open=2",
        ];
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

#[test]
fn sockets_count_until_they_are_dropped() {
    for guest in ["sockets-p2", "sockets-p3"] {
        let grants = ["--grant", "tcp=localhost:1", "--grant", "udp=localhost:1"];
        let limit = ["--limit", "outbound_open=3"];
        let server = Server::with(guest, &[&grants[..], &limit, &FLAGS].concat());
        for _ in 0..3 {
            let page = server.page("/?hold=3");
            assert!(page.starts_with("ok: "), "{guest}: {page}");
            let page = server.page("/?hold=4");
            assert!(page.starts_with("error: "), "{guest}: {page}");
        }
        let open = || read(&server).get("hostel_outbound_open", &[]);
        eventually("none is open", || (open() == 0.0).then_some(()));
    }
}
