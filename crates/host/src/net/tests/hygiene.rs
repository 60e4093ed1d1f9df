//! What of a message belongs to the connection, seen from the other end of it.

use http::header::HeaderMap;
use http_body::Frame;
use http_body_util::{Full, StreamBody};

use super::*;
use crate::testing::block_on;

fn text(body: &'static str) -> WasiBody {
    let body = Full::new(Bytes::from_static(body.as_bytes()));
    body.map_err(|never| match never {}).boxed_unsync()
}

/// Pieces, and trailers behind them.
fn pieces(pieces: &[&'static str], trailers: Option<HeaderMap>) -> WasiBody {
    let data = pieces
        .iter()
        .map(|piece| Bytes::from_static(piece.as_bytes()));
    let frames: Vec<Result<Frame<Bytes>, Error>> = data
        .map(Frame::data)
        .chain(trailers.map(Frame::trailers))
        .map(Ok)
        .collect();
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

async fn answered_with(answer: &str) -> Answer {
    let upstream = Upstream::new(answer, 1).await;
    send(&local(), get(&upstream.url())).await
}

#[test]
fn a_request_leaves_with_one_authority_and_nothing_of_a_connection() {
    block_on(async {
        let (guest, upstream) = (local(), Upstream::new(ok(""), 1).await);
        let request = http::Request::post(upstream.url() + "a/b?c=d")
            .header("connection", "x-private, close")
            .header("x-private", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-connection", "keep-alive")
            .header("proxy-authorization", "Basic x")
            .header("proxy-authenticate", "Basic")
            .header("transfer-encoding", "gzip")
            .header("upgrade", "websocket")
            .header("http2-settings", "x")
            .header("te", "gzip, trailers")
            .header("host", "evil.example")
            .header("host", "worse.example")
            .header("x-own", "yes")
            .header("content-length", "4")
            .body(text("body"));
        send(&guest, request.unwrap()).await.unwrap();
        let heard = upstream.heard().remove(0);
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        let mut lines: Vec<String> = head.split("\r\n").map(str::to_lowercase).collect();
        lines.sort();
        let host = format!("host: localhost:{}", upstream.address.port());
        let expected = [
            "content-length: 4",
            &host,
            "post /a/b?c=d http/1.1",
            "x-own: yes",
        ];
        assert_eq!(lines, expected);
        assert_eq!(body, "body");
    });
}

#[test]
fn te_says_trailers_or_nothing() {
    block_on(async {
        let (guest, upstream) = (local(), Upstream::new(ok(""), 1).await);
        let request = http::Request::get(upstream.url()).header("te", "Trailers");
        send(&guest, request.body(empty()).unwrap()).await.unwrap();
        let heard = upstream.heard().remove(0).to_lowercase();
        assert!(heard.contains("\r\nte: trailers\r\n"), "{heard}");
        assert!(!heard.contains("transfer-encoding"), "{heard}");
    });
}

#[test]
fn an_authority_or_a_path_that_two_read_in_two_ways_does_not_leave() {
    for uri in [
        "http://me@localhost/",
        "http://me:secret@localhost/",
        "http://evil.example@localhost/",
        "http://localhost:0/",
        "http://localhost:/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://127.0.0.1./",
        "http://a..b/",
        "http://localhost//evil.example/",
        "http://localhost/a\\b",
        "ftp://localhost/",
        "/",
        "*",
        "localhost:80",
    ] {
        let Ok(uri) = uri.parse::<http::Uri>() else {
            continue;
        };
        assert_eq!(super::super::message::server(&uri), None, "{uri}");
    }
    for (uri, scheme, authority) in [
        ("http://localhost/", "http", "localhost"),
        ("http://LOCALHOST.:8080/a//b", "http", "localhost:8080"),
        ("https://[::1]/?x", "https", "[::1]"),
        ("http://example.com:443", "http", "example.com:443"),
        ("https://127.0.0.1:443/", "https", "127.0.0.1"),
    ] {
        let server = super::super::message::server(&uri.parse().unwrap()).expect(uri);
        let found = (server.scheme(), server.authority());
        assert_eq!(found, (scheme, authority.to_owned()), "{uri}");
    }
}

#[test]
fn a_tunnel_is_not_asked_for() {
    block_on(async {
        let (guest, upstream) = (local(), Upstream::new(ok(""), 1).await);
        let mut request = get(&upstream.url());
        *request.method_mut() = http::Method::CONNECT;
        let error = send(&guest, request).await.unwrap_err();
        assert!(matches!(error, Error::HttpRequestMethodInvalid));
        assert_eq!(upstream.heard(), [""; 0]);
    });
}

#[test]
fn a_body_is_exactly_as_long_as_its_head_says() {
    block_on(async {
        for (length, body) in [
            ("4", pieces(&["bo"], None)),
            ("4", pieces(&["bo", "dies"], None)),
            ("4", text("longer")),
            ("4", empty()),
        ] {
            let (guest, upstream) = (local(), Upstream::new(ok(""), 1).await);
            let request = http::Request::post(upstream.url()).header("content-length", length);
            let error = send(&guest, request.body(body).unwrap()).await.unwrap_err();
            assert!(matches!(error, Error::Hyper(_)), "{error:?}");
            let heard = upstream.heard().concat();
            assert!(
                !heard.contains("dies") && !heard.contains("longer"),
                "{heard}"
            );
        }
        // Nothing is asked of a body of no length, and nothing of it leaves.
        let (guest, upstream) = (local(), Upstream::new(ok(""), 1).await);
        let request = http::Request::post(upstream.url()).header("content-length", "0");
        send(&guest, request.body(text("more")).unwrap())
            .await
            .unwrap();
        assert!(upstream.heard()[0].ends_with("\r\n\r\n"));
        let exact = pieces(&["bo", "dy"], None);
        let (guest, upstream) = (local(), Upstream::new(ok(""), 1).await);
        let request = http::Request::post(upstream.url()).header("content-length", "4");
        send(&guest, request.body(exact).unwrap()).await.unwrap();
        assert!(upstream.heard()[0].ends_with("\r\n\r\nbody"));
        for lengths in [&["4", "4"][..], &["4", "5"], &["+4"], &["4,4"], &["x"]] {
            let (guest, upstream) = (local(), Upstream::new(ok(""), 1).await);
            let mut request = http::Request::post(upstream.url());
            for length in lengths {
                request = request.header("content-length", *length);
            }
            let error = send(&guest, request.body(text("body")).unwrap()).await;
            assert!(
                matches!(error, Err(Error::HttpProtocolError)),
                "{lengths:?}"
            );
            assert_eq!(upstream.heard(), [""; 0]);
        }
    });
}

#[test]
fn trailers_carry_what_may_be_late_and_nothing_else() {
    block_on(async {
        let mut trailers = HeaderMap::new();
        for (name, value) in [
            ("x-checksum", "abc"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("host", "evil.example"),
            ("authorization", "Basic x"),
            ("set-cookie", "a=b"),
            ("connection", "x-private"),
            ("x-private", "1"),
        ] {
            trailers.insert(name, value.parse().unwrap());
        }
        let names: Vec<&str> = trailers.keys().map(|name| name.as_str()).collect();
        let announced = names.join(", ");
        let (guest, upstream) = (local(), Upstream::new(ok(""), 1).await);
        let request = http::Request::post(upstream.url())
            .header("trailer", &announced)
            .body(pieces(&["body"], Some(trailers.clone())));
        send(&guest, request.unwrap()).await.unwrap();
        let heard = upstream.heard().remove(0);
        let (_, behind) = heard.split_once("\r\n0\r\n").expect("chunks");
        assert_eq!(behind, "x-checksum: abc\r\n\r\n");
        // And the same of an answer's.
        let lines: String = trailers
            .iter()
            .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()))
            .collect();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: {announced}\r\n\r\n2\r\nhi\r\n0\r\n{lines}\r\n"
        );
        let upstream = Upstream::new(answer, 1).await;
        let finished = Box::new(std::future::ready(Ok(())));
        let sent = local().send_request(get(&upstream.url()), None, finished);
        let (response, _) = Box::into_pin(sent).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().expect("trailers");
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["x-checksum"], "abc");
    });
}

#[test]
fn an_answer_comes_in_without_what_is_the_connection_s() {
    block_on(async {
        let answer = "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
                      proxy-authenticate: Basic\r\nproxy-authentication-info: x\r\nupgrade: h2c\r\nte: trailers\r\n\
                      x-own: yes\r\ncontent-length: 2\r\n\r\nhi";
        let (parts, body) = answered_with(answer).await.unwrap();
        let mut names: Vec<&str> = parts.headers.keys().map(|name| name.as_str()).collect();
        names.sort();
        assert_eq!(names, ["content-length", "x-own"]);
        assert_eq!(body, "hi");
    });
}

/// Two readers could read each of them in two ways, or it is no answer at all.
#[test]
fn an_answer_has_one_framing() {
    let head = "HTTP/1.1 200 OK\r\n";
    block_on(async {
        for fields in [
            "transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "transfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "transfer-encoding: identity\r\n\r\nhi",
            "transfer-encoding: chunked\r\n\r\nnothing\r\n",
            "content-length: 2\r\ncontent-length: 2\r\n\r\nhi",
            "content-length: 2\r\ncontent-length: 3\r\n\r\nhi!",
            "content-length: 2, 2\r\n\r\nhi",
            "content-length: +2\r\n\r\nhi",
            "content-length: 3\r\n\r\nhi",
            "content-length : 2\r\n\r\nhi",
            "x: a\r\n b\r\ncontent-length: 2\r\n\r\nhi",
            "x: a\0b\r\ncontent-length: 2\r\n\r\nhi",
        ] {
            let answer = answered_with(&format!("{head}{fields}")).await;
            assert!(answer.is_err(), "{fields}: {answer:?}");
        }
        for answer in [
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            "hello\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ] {
            let found = answered_with(answer).await;
            assert!(found.is_err(), "{answer}: {found:?}");
        }
        let large = format!("{head}x: {}\r\n\r\n", "a".repeat(1 << 20));
        assert!(answered_with(&large).await.is_err(), "a head without end");
    });
}

/// The second answer belongs to nobody: it must not be the next request's.
#[test]
fn an_answer_that_nobody_asked_for_is_not_the_next_one_s() {
    block_on(async {
        let twice = ok("first") + &ok("second");
        let (guest, upstream) = (local(), Upstream::new(twice, 1).await);
        let (_, body) = send(&guest, get(&upstream.url())).await.unwrap();
        assert_eq!(body, "first");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let (_, body) = send(&guest, get(&upstream.url())).await.unwrap();
        assert_eq!(body, "first");
        assert_eq!(upstream.heard().len(), 2, "on a connection of its own");
    });
}

#[test]
fn a_grant_names_scheme_host_and_port() {
    let outgoing = outgoing(grants("http", "https://api.example.com"));
    for (uri, allowed) in [
        ("https://api.example.com/x", true),
        ("https://api.example.com:443/x", true),
        ("https://api.example.com./x", true),
        ("https://api.example.com:444/x", false),
        ("http://api.example.com/x", false),
        ("https://example.com/x", false),
        ("https://evil@other.example.com/x", false),
        ("https://api.example.com@other.example.com/x", false),
    ] {
        let sent = outgoing.lets_go(&uri.parse().unwrap());
        assert_eq!(sent.is_ok(), allowed, "{uri}");
    }
    let none = super::outgoing(grants("", ""));
    let sent = none.lets_go(&"http://127.0.0.1:80/".parse().unwrap());
    assert!(matches!(sent.err(), Some(Error::HttpRequestDenied)));
}
