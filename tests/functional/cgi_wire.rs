//! Programs that answer requests, met by clients of every kind: what one connection, one version of HTTP and one odd request make of
//! them. What programs themselves do wrong is in `faults::cgi`.

use std::collections::BTreeMap;

use crate::harness::http2;
use crate::harness::message::{chunk, chunked_head, get, last_chunk, request, sized_head};
use crate::harness::server::Server;

/// The variables that a program listed.
fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once(" = "))
        .collect()
}

/// Sends these bytes and reads until the server closes.
fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut connection = server.connect();
    connection.send(bytes);
    String::from_utf8_lossy(&connection.rest()).into_owned()
}

#[test]
fn one_connection_serves_programs_after_each_other_whatever_they_read() {
    let server = Server::of("cgi-p1");
    let mut connection = server.connect();
    // Read whole, not at all, and in part before the program ends.
    assert_eq!(
        connection
            .ask(&request("POST", "/?do=read", &[], "abc"))
            .text(),
        "3\n"
    );
    assert_eq!(
        connection
            .ask(&request("POST", "/?do=unread", &[], "abc"))
            .text(),
        "not read\n"
    );
    assert_eq!(
        connection
            .ask(&request("PUT", "/?do=read", &[], "abcd"))
            .text(),
        "4\n"
    );
    connection.send([get("/?do=unread"), get("/?do=read")].concat());
    assert_eq!(connection.answer().text(), "not read\n");
    assert_eq!(connection.answer().text(), "0\n");
}

#[test]
fn the_oldest_clients_need_neither_host_nor_chunks() {
    let server = Server::of("cgi-p1");
    let text = exchange(&server, b"GET /x?y HTTP/1.0\r\n\r\n");
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
    let (_, body) = text.split_once("\r\n\r\n").expect("a body");
    let told = variables(body);
    assert_eq!(told["SERVER_PROTOCOL"], "HTTP/1.0");
    let address = server.address();
    assert_eq!(told["X_FULL_URL"], format!("http://{address}/x?y"));
    // Nobody knows how long it will be, and there are no chunks: it ends with the connection.
    let text = exchange(&server, b"GET /?do=wait&ms=50 HTTP/1.0\r\n\r\n");
    let (head, body) = text.split_once("\r\n\r\n").expect("a body");
    assert!(
        !head.to_ascii_lowercase().contains("transfer-encoding"),
        "{head}"
    );
    assert_eq!(body, "first\nlast\n");
}

#[test]
fn what_is_no_request_for_a_program_does_not_reach_it() {
    let server = Server::of("cgi-p1");
    for (request, status) in [
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            400,
        ),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
        (
            "GET http://a/ HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            501,
        ),
    ] {
        let text = exchange(&server, request.as_bytes());
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {text}"
        );
        assert!(!text.contains("GATEWAY_INTERFACE"), "{text}");
    }
    let absolute =
        "BREW http://a.example/pot HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let text = exchange(&server, absolute.as_bytes());
    let told = variables(&text);
    assert_eq!(
        (told["REQUEST_METHOD"], told["PATH_INFO"]),
        ("BREW", "/pot"),
        "{text}"
    );
}

#[test]
fn a_body_in_chunks_is_standard_input_without_a_length() {
    let server = Server::of("cgi-p1");
    let mut connection = server.connect();
    connection.send(chunked_head("/?do=read", &[]));
    connection.send(chunk("abc"));
    connection.send([chunk("de"), last_chunk(&[("x-late", "1")])].concat());
    assert_eq!(connection.answer().text(), "5\n");
    connection.send([chunked_head("/", &[]), last_chunk(&[])].concat());
    let answer = connection.answer().text();
    assert!(
        !variables(&answer).contains_key("CONTENT_LENGTH"),
        "{answer}"
    );
    // What breaks off or is no chunk is an error of reading, never the end.
    let mut broken = server.connect();
    broken.send(
        [
            chunked_head("/?do=read", &[]),
            chunk("abc"),
            b"zz\r\n".to_vec(),
        ]
        .concat(),
    );
    assert_eq!(broken.answer().status, 400);
    let mut short = server.connect();
    short.send([sized_head("/?do=read", 50), b"hello".to_vec()].concat());
    short.finish_sending();
    assert_eq!(short.answer().status, 400);
}

#[test]
fn a_client_that_waits_for_leave_to_send_gets_it_when_the_program_reads() {
    let server = Server::of("cgi-p1");
    let expecting = |what: &str| {
        let fields = [("Expect", "100-continue"), ("Content-Length", "5")];
        request("POST", &format!("/?do={what}"), &fields, "")
    };
    let mut connection = server.connect();
    connection.send(expecting("read"));
    assert_eq!(connection.head().status, 100);
    connection.send("hello");
    assert_eq!(connection.answer().text(), "5\n");
    let mut refused = server.connect();
    refused.send(expecting("unread"));
    assert_eq!(refused.answer().text(), "not read\n");
}

#[test]
fn over_http_2_programs_see_the_same_request() {
    let server = Server::of("cgi-p1");
    http2::converse(async {
        let client = http2::connect(server.address()).await;
        let answer = client.get("/a%20b?c").await;
        let text = answer.text();
        let told = variables(&text);
        assert_eq!(told["SERVER_PROTOCOL"], "HTTP/2.0");
        assert_eq!((told["PATH_INFO"], told["QUERY_STRING"]), ("/a b", "c"));
        let host = told["HTTP_HOST"];
        assert_eq!(
            told["X_FULL_URL"].split('/').nth(2),
            Some(with_port(host).as_str())
        );
        let posted = client
            .request("POST", "/?do=echo")
            .header("content-type", "a/b")
            .body(http2::content("some body"))
            .expect("a request");
        let echo = client.ask(posted).await;
        assert_eq!(
            (echo.field("content-type"), echo.text().as_str()),
            (Some("a/b"), "some body")
        );
        let head = client
            .request("HEAD", "/?do=write&bytes=100")
            .body(http2::nothing())
            .expect("a request");
        let head = client.ask(head).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        // Many at once on one connection, each with its own instance.
        let all = (0..20).map(|number| {
            let client = client.clone();
            async move { client.get(&format!("/{number}")).await.text() }
        });
        let mut answers = Vec::new();
        for task in all.map(tokio::spawn).collect::<Vec<_>>() {
            answers.push(task.await.expect("an answer"));
        }
        for (number, text) in answers.iter().enumerate() {
            assert_eq!(variables(text)["PATH_INFO"], format!("/{number}"));
        }
    });
}

fn with_port(host: &str) -> String {
    match host.contains(':') {
        true => host.to_owned(),
        false => format!("{host}:80"),
    }
}

#[test]
fn slow_readers_hold_up_nothing_but_their_own_program() {
    let server = Server::of("cgi-p1");
    let mut readers: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for reader in &mut readers {
        reader.send(get("/?do=write"));
        assert_eq!(reader.head().status, 200);
    }
    server.comes_to_rest();
    let before = server.memory_now();
    assert_eq!(server.page("/?do=unread"), "not read\n");
    assert!(
        server.memory_now() < before + (8 << 20),
        "what is unread is bounded"
    );
    drop(readers);
    server.is_alive("/?do=unread");
}

#[test]
fn components_of_wasi_cli_answer_like_modules_of_preview_1() {
    for guest in ["cgi-hello-p1", "cgi-hello-p2"] {
        let server = Server::of(guest);
        let mut connection = server.connect();
        for _ in 0..3 {
            let answer = connection.ask(&get("/"));
            assert_eq!(
                (answer.status, answer.field("content-type")),
                (200, Some("text/plain"))
            );
            assert_eq!(answer.text(), "Hello from a WASI guest.\n", "{guest}");
            assert_eq!(answer.field("content-length"), Some("25"), "{guest}");
        }
    }
    let (p1, p2) = (Server::of("cgi-p1"), Server::of("cgi-p2"));
    let ask = |server: &Server| {
        let fields = [("X-One", "1"), ("Host", "a.example")];
        let bytes = [
            b"POST /x%20y?q HTTP/1.1\r\n",
            fields
                .map(|(n, v)| format!("{n}: {v}\r\n"))
                .concat()
                .as_bytes(),
            b"Content-Length: 0\r\n\r\n",
        ]
        .concat();
        server.connect().ask(&bytes).text()
    };
    assert_eq!(ask(&p1), ask(&p2));
}
