//! Size of one request body.

use crate::harness::message::{chunk, chunked_head, last_chunk, post, sized_head};
use crate::harness::server::Server;

fn server() -> Server {
    Server::with("stream-in-p2", &["--limit", "request_body=1KiB"])
}

#[test]
fn a_body_within_it_passes() {
    let server = server();
    assert_eq!(
        server.connect().ask(&post("/", [b'x'; 1024])).text(),
        "1024\n"
    );
    let chunked = [chunked_head("/", &[]), chunk([b'x'; 1024]), last_chunk(&[])].concat();
    assert_eq!(server.connect().ask(&chunked).text(), "1024\n");
}

#[test]
fn a_body_that_says_that_it_is_larger_is_413_before_it_is_sent() {
    let server = server();
    let mut connection = server.connect();
    connection.send(sized_head("/", 1025));
    assert_eq!(connection.answer().status, 413);
    connection.is_closed();
}

#[test]
fn a_body_that_turns_out_to_be_larger_is_cut_off() {
    let server = server();
    let mut connection = server.connect();
    connection.try_send(
        [
            chunked_head("/", &[]),
            chunk([b'x'; 600]),
            chunk([b'x'; 600]),
            last_chunk(&[]),
        ]
        .concat(),
    );
    // The guest is told that the body broke off; whatever it answers, no more than the limit has reached it.
    let answer = connection.answer();
    assert!(
        answer.status == 413 || answer.text() == "1024\n" || answer.text() == "600\n",
        "{} {}",
        answer.status,
        answer.text()
    );
    server.is_alive("/?read=0");
}

#[test]
fn the_same_over_http2() {
    use crate::harness::http2::{connect, content, converse};
    let server = server();
    converse(async {
        let client = connect(server.address()).await;
        let request = |length: usize| {
            client
                .request("POST", "/")
                .body(content(vec![b'x'; length]))
                .expect("a request")
        };
        assert_eq!(client.ask(request(1024)).await.text(), "1024\n");
        assert_eq!(client.ask(request(1025)).await.status, 413);
    });
}
