//! HTTP/2 with prior knowledge.

use crate::harness::http2::{connect, content, converse, nothing, open_body, whole};
use crate::harness::server::Server;

#[test]
fn get_is_answered() {
    for guest in ["hello-p2", "hello-p3"] {
        let server = Server::of(guest);
        let answer = converse(async { connect(server.address()).await.get("/").await });
        assert_eq!(answer.status, 200, "{guest}");
        assert!(
            answer.text().starts_with("hello from wasi:http 0."),
            "{guest}"
        );
    }
}

#[test]
fn a_guest_sees_authority_and_scheme() {
    for guest in ["headers-p2", "headers-p3"] {
        let server = Server::of(guest);
        let answer = converse(async { connect(server.address()).await.get("/path?query").await });
        let expected = format!(
            "method: GET\npath: /path?query\nscheme: http\nauthority: {}\n",
            server.address()
        );
        assert!(
            answer.text().starts_with(&expected),
            "{guest}: {}",
            answer.text()
        );
    }
}

#[test]
fn a_posted_body_comes_back() {
    for guest in ["echo-p2", "echo-p3"] {
        let server = Server::of(guest);
        let sent: Vec<u8> = (0..1_000_000).map(|at| (at % 251) as u8).collect();
        let answer = converse(async {
            let client = connect(server.address()).await;
            client
                .ask(
                    client
                        .request("POST", "/")
                        .body(content(sent.clone()))
                        .expect("a request"),
                )
                .await
        });
        assert!(
            answer.status == 200 && answer.body == sent,
            "{guest}: {} bytes",
            answer.body.len()
        );
    }
}

#[test]
fn trailers_pass_in_both_directions() {
    for (guest, path) in [
        ("echo-p2", "/"),
        ("echo-p3", "/?how=join"),
        ("echo-p3", "/"),
    ] {
        let server = Server::of(guest);
        let answer = converse(async {
            let client = connect(server.address()).await;
            let (pen, body) = open_body();
            let request = client
                .request("POST", path)
                .header("te", "trailers")
                .body(body)
                .expect("a request");
            let response = client
                .send(request)
                .await
                .expect("a head before the body's end");
            pen.write("text").await;
            pen.end("x-sum", "42").await;
            whole(response).await
        });
        assert_eq!(answer.text(), "text", "{guest} {path}");
        assert_eq!(
            answer.trailers,
            [("x-sum".to_owned(), "42".to_owned())],
            "{guest} {path}"
        );
    }
}

#[test]
fn trailers_of_a_response_arrive() {
    let server = Server::of("trailers-p2");
    let answer = converse(async { connect(server.address()).await.get("/").await });
    let trailers = [
        ("x-count".to_owned(), "31".to_owned()),
        ("x-note".to_owned(), "end".to_owned()),
    ];
    assert_eq!(answer.trailers, trailers);
}

#[test]
fn a_hundred_streams_are_in_flight_at_once() {
    let server = Server::with("echo-p2", &["--limit", "concurrency=100"]);
    converse(async {
        let client = connect(server.address()).await;
        let mut open = Vec::new();
        for number in 0..100 {
            let (pen, body) = open_body();
            let request = client.request("POST", "/").body(body).expect("a request");
            // The head shows that the guest runs; its body goes on until the pen is dropped.
            open.push((number, pen, client.send(request).await.expect("a head")));
        }
        for (number, pen, response) in open {
            pen.write(format!("stream {number}")).await;
            drop(pen);
            assert_eq!(whole(response).await.text(), format!("stream {number}"));
        }
    });
}

#[test]
fn head_and_bodyless_statuses_have_no_body() {
    let server = Server::of("status-p2");
    converse(async {
        let client = connect(server.address()).await;
        let answer = client
            .ask(
                client
                    .request("HEAD", "/")
                    .body(nothing())
                    .expect("a request"),
            )
            .await;
        assert_eq!((answer.status, answer.text().as_str()), (200, ""));
        for code in [204, 304] {
            let answer = client.get(&format!("/?code={code}")).await;
            assert_eq!((answer.status, answer.text().as_str()), (code, ""));
        }
    });
}

#[test]
fn a_fault_on_one_stream_leaves_the_others_alone() {
    let server = Server::of("trap-p2");
    converse(async {
        let client = connect(server.address()).await;
        assert_eq!(client.get("/?when=before").await.status, 500);
        assert_eq!(client.get("/?when=never").await.text(), "a whole answer\n");
    });
}
