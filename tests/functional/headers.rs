//! What a guest sees of a request, in both versions of `wasi:http`.

use crate::harness::message::request;
use crate::harness::server::Server;

const GUESTS: [&str; 2] = ["headers-p2", "headers-p3"];

/// What the guest said about a request.
fn seen(server: &Server, request: &[u8]) -> String {
    let answer = server.connect().ask(request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

#[test]
fn method_path_query_scheme_and_authority_arrive_as_they_were_sent() {
    for guest in GUESTS {
        let server = Server::of(guest);
        let raw =
            b"PATCH /a%20b/../c//d?x=1&y=%C3%BC HTTP/1.1\r\nHost: shop.example.com:8080\r\n\r\n";
        let text = seen(&server, raw);
        let expected = "method: PATCH\npath: /a%20b/../c//d?x=1&y=%C3%BC\nscheme: http\nauthority: shop.example.com:8080\n";
        assert!(text.starts_with(expected), "{guest}: {text}");
    }
}

#[test]
fn a_method_of_its_own_arrives() {
    for guest in GUESTS {
        let text = seen(&Server::of(guest), &request("PROPFIND", "/", &[], ""));
        assert!(
            text.starts_with("method: PROPFIND\npath: /\n"),
            "{guest}: {text}"
        );
    }
}

#[test]
fn fields_arrive_with_every_value_in_order() {
    for guest in GUESTS {
        let fields = [
            ("X-Many", "one"),
            ("Accept", "text/plain"),
            ("X-Many", "two"),
            ("X-Empty", ""),
        ];
        let text = seen(&Server::of(guest), &request("GET", "/", &fields, ""));
        let many: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("x-many: "))
            .collect();
        assert_eq!(many, ["one", "two"], "{guest}: {text}");
        assert!(
            text.contains("\naccept: text/plain\n") && text.contains("\nx-empty: \n"),
            "{guest}: {text}"
        );
    }
}

#[test]
fn bytes_that_are_no_ascii_arrive() {
    for guest in GUESTS {
        let text = seen(
            &Server::of(guest),
            &request("GET", "/", &[("X-Name", "Grüße")], ""),
        );
        assert!(text.contains("\nx-name: Grüße\n"), "{guest}: {text}");
    }
}

#[test]
fn the_absolute_form_is_the_same_request() {
    for guest in GUESTS {
        let raw = b"GET http://shop.example.com/x?y HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
        let text = seen(&Server::of(guest), raw);
        assert!(
            text.contains("path: /x?y\nscheme: http\nauthority: shop.example.com\n"),
            "{guest}: {text}"
        );
    }
}

#[test]
fn http_1_0_without_a_host_gets_the_listener_as_authority() {
    for guest in GUESTS {
        let server = Server::of(guest);
        let mut connection = server.connect();
        connection.send(b"GET /old HTTP/1.0\r\n\r\n");
        let text = String::from_utf8_lossy(&connection.rest()).into_owned();
        assert!(
            text.contains(&format!("authority: {}\n", server.address())),
            "{guest}: {text}"
        );
    }
}
