//! Outgoing HTTP and sockets, each by its grant. (Without one: `security::isolation`.)

use crate::harness::app::App;
use crate::harness::eventually;
use crate::harness::server::Server;
use crate::harness::upstream::{Upstream, udp};

const OUTGOING: [&str; 2] = ["outgoing-p2", "outgoing-p3"];

#[test]
fn a_granted_request_leaves_and_its_answer_comes_back() {
    for guest in OUTGOING {
        let upstream = Upstream::http("from upstream");
        let url = format!("http://{}", upstream.address());
        let server = Server::with(guest, &["--grant", &format!("http={url}")]);
        let answer = server.get(&format!("/?url={url}/path%3Fq=1&header=x-own:yes"));
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (203, "from upstream"),
            "{guest}"
        );
        let heard = eventually("the upstream was asked", || {
            upstream.heard().into_iter().next()
        });
        let lines: Vec<&str> = heard.split("\r\n").collect();
        assert_eq!(lines[0], "GET /path?q=1 HTTP/1.1", "{guest}");
        let host = format!("host: {}", upstream.address());
        assert!(
            lines.iter().any(|line| line.eq_ignore_ascii_case(&host)),
            "{guest}: {heard}"
        );
        assert!(lines.contains(&"x-own: yes"), "{guest}: {heard}");
    }
}

#[test]
fn a_grant_covers_its_own_port_only() {
    for guest in OUTGOING {
        let (granted, other) = (Upstream::http("granted"), Upstream::http("other"));
        let grant = format!("http=http://{}", granted.address());
        let server = Server::with(guest, &["--grant", &grant]);
        assert_eq!(
            server
                .get(&format!("/?url=http://{}/", granted.address()))
                .text(),
            "granted",
            "{guest}"
        );
        let answer = server.get(&format!("/?url=http://{}/", other.address()));
        assert_eq!(answer.status, 502, "{guest}");
        assert!(
            answer.text().contains("HttpRequestDenied"),
            "{guest}: {}",
            answer.text()
        );
        assert_eq!(other.heard(), [""; 0], "{guest}");
    }
}

#[test]
fn an_upstream_that_is_not_there_is_an_error_of_the_guest_s_call() {
    for guest in OUTGOING {
        let server = Server::with(guest, &["--grant", "http=http://127.0.0.1:*"]);
        // A port that was free a moment ago.
        let gone = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|it| it.local_addr())
            .expect("a port");
        let answer = server.get(&format!("/?url=http://{gone}/"));
        assert_eq!(answer.status, 502, "{guest}");
        assert!(
            answer.text().contains("Connection"),
            "{guest}: {}",
            answer.text()
        );
    }
}

#[test]
fn a_granted_tcp_connection_carries_bytes_both_ways() {
    let upstream = Upstream::tcp();
    let server = Server::with(
        "sockets-p2",
        &["--grant", &format!("tcp={}", upstream.address())],
    );
    assert_eq!(
        server.page(&format!("/?tcp={}&send=hello", upstream.address())),
        "ok: HELLO\n"
    );
    let other = Upstream::tcp();
    let page = server.page(&format!("/?tcp={}&send=hello", other.address()));
    assert!(page.starts_with("error: PermissionDenied"), "{page}");
    assert_eq!(other.heard(), [""; 0]);
}

#[test]
fn a_granted_datagram_arrives() {
    let socket = udp();
    let address = socket.local_addr().expect("an address");
    let server = Server::with("sockets-p2", &["--grant", &format!("udp={address}")]);
    assert_eq!(
        server.page(&format!("/?udp={address}")),
        "ok: sent 4 bytes\n"
    );
    let mut bytes = [0; 16];
    assert_eq!(socket.recv(&mut bytes).expect("a datagram"), 4);
    assert_eq!(&bytes[..4], b"ping");
}

#[test]
fn a_granted_address_is_bound() {
    let server = Server::with("sockets-p2", &["--grant", "listen=127.0.0.1:*"]);
    assert!(
        server
            .page("/?listen=127.0.0.1:0")
            .starts_with("ok: listening on 127.0.0.1:")
    );
    let page = server.page("/?listen=127.0.0.2:0");
    assert!(page.starts_with("error: PermissionDenied"), "{page}");
}

#[test]
fn a_name_is_resolved_where_sockets_are_granted() {
    let server = Server::with("sockets-p2", &["--grant", "tcp=localhost:80"]);
    let page = server.page("/?name=localhost");
    assert!(
        page.starts_with("ok: ") && page.contains("127.0.0.1"),
        "{page}"
    );
}

/// Its author is not the operator: what a manifest grants of this machine is refused until the operator says so.
#[test]
fn a_manifest_s_grant_of_this_machine_needs_the_operator_s() {
    for guest in OUTGOING {
        let upstream = Upstream::http("from upstream");
        let url = format!("http://{}", upstream.address());
        let app = App::of(
            guest,
            &format!("[component.web.grants]\nhttp = [\"{url}\"]"),
        );
        let server = app.up();
        let answer = server.get(&format!("/?url={url}/"));
        assert_eq!(answer.status, 502, "{guest}");
        assert!(
            answer.text().contains("DestinationIpProhibited"),
            "{guest}: {}",
            answer.text()
        );
        let line = eventually("the log says what would allow it", || {
            let log = server.stderr().text();
            log.lines()
                .find(|line| line.contains("denied=network"))
                .map(str::to_owned)
        });
        assert!(line.contains(&format!("`--grant http={url}`")), "{line}");
        assert!(line.contains("(loopback)"), "{line}");
        assert_eq!(upstream.heard(), [""; 0], "{guest}");
        let server = app.up_with(&["--grant", &format!("http={url}")]);
        let answer = server.get(&format!("/?url={url}/"));
        assert_eq!(answer.text(), "from upstream", "{guest}");
    }
}

#[test]
fn connections_to_a_server_are_kept() {
    for guest in OUTGOING {
        let upstream = Upstream::keeping("kept");
        let url = format!("http://{}", upstream.address());
        let flags = ["--grant", &format!("http={url}"), "--threads", "1"];
        let server = Server::with(guest, &flags);
        for _ in 0..20 {
            let answer = server.get(&format!("/?url={url}/"));
            assert_eq!(answer.text(), "kept", "{guest}");
        }
        assert_eq!(upstream.connections(), 1, "{guest}");
    }
}
