//! Fields that belong to one connection never cross the host (RFC 9110 section 7.6.1).

use crate::harness::message::request;
use crate::harness::server::Server;
use crate::harness::upstream::Upstream;

#[test]
fn fields_of_the_client_s_connection_do_not_reach_the_guest() {
    let fields = [
        ("Connection", "keep-alive, X-Named"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic c2VjcmV0"),
        ("TE", "gzip"),
        ("X-Named", "1"),
        ("X-Kept", "2"),
    ];
    for guest in ["headers-p2", "headers-p3"] {
        let server = Server::of(guest);
        let text = server
            .connect()
            .ask(&request("GET", "/", &fields, ""))
            .text();
        let (_, seen) = text.split_once("\n\n").expect("fields");
        let names: Vec<&str> = seen
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, _)| name)
            .collect();
        assert!(names.contains(&"x-kept"), "{guest}: {text}");
        assert!(
            names.iter().all(|name| matches!(*name, "x-kept" | "host")),
            "{guest}: {text}"
        );
    }
}

#[test]
fn an_offer_to_upgrade_to_http2_is_ignored_and_taken_out() {
    let fields = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    ];
    let server = Server::of("headers-p2");
    let answer = server.connect().ask(&request("GET", "/", &fields, ""));
    assert_eq!(answer.status, 200);
    let text = answer.text().to_ascii_lowercase();
    assert!(
        !text.contains("upgrade") && !text.contains("http2-settings"),
        "{text}"
    );
}

#[test]
fn a_guest_cannot_set_fields_of_a_connection() {
    let upstream = Upstream::http("answered");
    for guest in ["outgoing-p2", "outgoing-p3"] {
        let server = Server::with(guest, &["--grant", "http=http://127.0.0.1:*"]);
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
            "host",
            "http2-settings",
        ] {
            let answer = server.get(&format!(
                "/?url=http://{}/&header={name}:x",
                upstream.address()
            ));
            assert_eq!(answer.status, 400, "{guest} {name}: {}", answer.text());
            assert!(
                answer.text().contains("Forbidden"),
                "{guest} {name}: {}",
                answer.text()
            );
        }
    }
    assert_eq!(upstream.heard(), [""; 0]);
}
