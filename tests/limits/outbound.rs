//! What one call may start on the network.

use crate::harness::app::App;
use crate::harness::server::Server;
use crate::harness::upstream::{Upstream, udp};

const OUTGOING: [&str; 2] = ["outgoing-p2", "outgoing-p3"];

fn limited(guest: &str, grant: &str, limit: u32) -> Server {
    Server::with(
        guest,
        &["--grant", grant, "--limit", &format!("outbound={limit}")],
    )
}

#[test]
fn one_more_request_fails_inside_the_guest_and_the_next_call_starts_anew() {
    for guest in OUTGOING {
        let upstream = Upstream::http("from upstream");
        let server = limited(guest, &format!("http=http://{}", upstream.address()), 3);
        let path = format!("/?url=http://{}/&times=", upstream.address());
        for _ in 0..2 {
            assert_eq!(server.get(&format!("{path}3")).status, 203, "{guest}");
        }
        let refused = server.get(&format!("{path}4"));
        assert_eq!(refused.status, 502, "{guest}");
        assert!(
            refused.text().contains("ConnectionLimitReached"),
            "{guest}: {}",
            refused.text()
        );
        assert_eq!(server.get(&format!("{path}1")).status, 203, "{guest}");
        assert_eq!(upstream.heard().len(), 3 + 3 + 3 + 1, "{guest}");
        // Nothing was logged as a fault.
        assert!(!server.stderr().text().contains("fault="), "{guest}");
    }
}

#[test]
fn each_call_of_an_instance_that_is_used_again_has_its_own() {
    for (guest, reuse) in [
        ("outgoing-p2", "reuse = 100"),
        ("outgoing-p3", "reuse = 100"),
        ("outgoing-p3", "reuse = 100\nconcurrent = 2"),
    ] {
        let upstream = Upstream::http("from upstream");
        let grant = format!("http=http://{}", upstream.address());
        let flags = ["--grant", &grant, "--limit", "outbound=2", "--threads", "1"];
        let server = App::of(guest, reuse).up_with(&flags);
        let path = format!("/?url=http://{}/&times=", upstream.address());
        for call in 0..5 {
            let status = server.get(&format!("{path}2")).status;
            assert_eq!(status, 203, "{guest}, {reuse}, call {call}");
        }
        assert_eq!(server.get(&format!("{path}100")).status, 502, "{guest}");
        assert_eq!(server.get(&format!("{path}1")).status, 203, "{guest}");
    }
}

#[test]
fn connects_binds_datagrams_and_name_look_ups_count_too() {
    let upstream = Upstream::tcp();
    let (socket, peer) = (udp(), upstream.address());
    let datagrams = socket.local_addr().expect("an address");
    for (guest, grant, path, within) in [
        (
            "sockets-p2",
            format!("tcp={peer}"),
            format!("tcp={peer}&send=a"),
            2,
        ),
        // A datagram of this guest's is one step: its bind is to any port.
        (
            "sockets-p2",
            format!("udp={datagrams}"),
            format!("udp={datagrams}"),
            2,
        ),
        (
            "sockets-p2",
            "tcp=localhost:1".to_owned(),
            "name=localhost".to_owned(),
            2,
        ),
        (
            "lookup-p3",
            "udp=localhost:1".to_owned(),
            "name=localhost".to_owned(),
            2,
        ),
        // The bind is to any port too; only the listening counts.
        (
            "sockets-p2",
            "listen=127.0.0.1:*".to_owned(),
            "listen=127.0.0.1:0".to_owned(),
            2,
        ),
    ] {
        let server = limited(guest, &grant, within);
        let page = server.page(&format!("/?{path}&times={within}"));
        assert!(page.starts_with("ok: "), "{path}: {page}");
        let page = server.page(&format!("/?{path}&times={}", within + 1));
        assert!(page.starts_with("error: "), "{path}: {page}");
        let page = server.page(&format!("/?{path}"));
        assert!(page.starts_with("ok: "), "{path}: {page}");
    }
}

#[test]
fn nothing_at_all_may_be_allowed() {
    for guest in OUTGOING {
        let upstream = Upstream::http("from upstream");
        let server = limited(guest, &format!("http=http://{}", upstream.address()), 0);
        let answer = server.get(&format!("/?url=http://{}/", upstream.address()));
        assert_eq!(answer.status, 502, "{guest}");
        assert_eq!(upstream.heard(), [""; 0], "{guest}");
    }
}
