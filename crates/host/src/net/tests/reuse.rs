//! Connections that serve several requests.

use std::time::Duration;

use super::super::dial::tests::h1;
use super::super::pool::Server;
use super::super::resolve::Host;
use super::*;
use crate::testing::block_on;

/// Waits, within reason, until it is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not so: {what}");
}

#[test]
fn one_connection_serves_request_after_request() {
    block_on(async {
        let (guest, upstream) = (local(), Upstream::new(ok("again"), 100).await);
        for _ in 0..10 {
            let (_, body) = send(&guest, get(&upstream.url())).await.unwrap();
            assert_eq!(body, "again");
        }
        let heard = upstream.heard();
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0].matches("GET / HTTP/1.1").count(), 10);
    });
}

#[test]
fn an_answer_without_a_body_frees_its_connection_too() {
    block_on(async {
        for answer in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ] {
            let (guest, upstream) = (local(), Upstream::new(answer, 100).await);
            for _ in 0..3 {
                send(&guest, get(&upstream.url())).await.unwrap();
            }
            assert_eq!(upstream.heard().len(), 1, "{answer}");
        }
    });
}

#[test]
fn a_connection_that_the_server_ends_is_not_used_again() {
    block_on(async {
        let said = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        // With and without a word before.
        for answer in [said.to_owned(), ok("bye")] {
            let (guest, upstream) = (local(), Upstream::new(answer, 1).await);
            for round in 1..=5 {
                send(&guest, get(&upstream.url())).await.unwrap();
                until("a request arrived", || upstream.heard().len() == round).await;
                // The end of the connection arrives after the answer.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(upstream.heard().len(), 5);
        }
    });
}

/// The server is gone, and nobody here has noticed when the next request comes.
#[test]
fn a_request_that_was_not_sent_is_sent_on_a_fresh_connection() {
    block_on(async {
        let (guest, upstream) = (local(), Upstream::new(ok("fresh"), 100).await);
        let server = Server {
            tls: false,
            host: Host::parse("localhost").unwrap(),
            port: upstream.address.port(),
        };
        let (mut link, far_end) = h1().await;
        link.address = upstream.address;
        guest.template.network.pool.put(&server, link);
        drop(far_end);
        let body = http_body_util::Full::new(Bytes::from_static(b"once"));
        let body = body.map_err(|never| match never {}).boxed_unsync();
        let request = http::Request::post(upstream.url())
            .header("content-length", "4")
            .body(body);
        let (_, answer) = send(&guest, request.unwrap()).await.unwrap();
        assert_eq!(answer, "fresh");
        let heard = upstream.heard();
        assert_eq!(heard.len(), 1);
        assert!(heard[0].starts_with("POST / ") && heard[0].ends_with("\r\n\r\nonce"));
    });
}

/// Part of it may have arrived: whether it may be sent twice only its sender knows.
#[test]
fn a_request_that_was_sent_is_not_sent_again() {
    block_on(async {
        let (guest, upstream) = (local(), Upstream::new(ok("first"), 1).await);
        send(&guest, get(&upstream.url())).await.unwrap();
        let silent = Upstream::new("", 1).await;
        let error = send(&guest, get(&silent.url())).await.unwrap_err();
        assert!(matches!(error, Error::Hyper(_)), "{error:?}");
        assert_eq!(silent.heard().len(), 1);
    });
}

#[test]
fn requests_at_the_same_time_have_a_connection_each() {
    block_on(async {
        let (guest, upstream) = (local(), Upstream::new(ok("both"), 100).await);
        for _ in 0..3 {
            let url = upstream.url();
            let (one, two) = tokio::join!(send(&guest, get(&url)), send(&guest, get(&url)));
            assert!(one.is_ok() && two.is_ok());
        }
        assert_eq!(upstream.heard().len(), 2);
    });
}

#[test]
fn what_a_guest_does_not_read_takes_its_connection_with_it() {
    block_on(async {
        let (guest, upstream) = (local(), Upstream::new(ok("unread"), 100).await);
        for _ in 0..3 {
            let finished = Box::new(std::future::ready(Ok(())));
            let request = get(&upstream.url());
            let sent = guest.clone().send_request(request, None, finished);
            drop(Box::into_pin(sent).await.unwrap());
        }
        assert_eq!(upstream.heard().len(), 3);
    });
}

#[test]
fn an_idle_connection_is_closed_after_a_while() {
    block_on(async {
        let mut network = Network::default();
        network.times.idle = Duration::from_millis(50);
        let idle = network.idle.clone();
        let guest = guest(operator("http", "http://localhost:*"), network);
        let upstream = Upstream::new(ok("and then"), 100).await;
        send(&guest, get(&upstream.url())).await.unwrap();
        let kept = || idle.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(kept(), 1);
        until("it is closed", || kept() == 0).await;
        send(&guest, get(&upstream.url())).await.unwrap();
        assert_eq!(upstream.heard().len(), 2);
        until("the next one too", || kept() == 0).await;
    });
}

/// What is in the pool of one app is not there for another.
#[test]
fn apps_do_not_share_connections() {
    block_on(async {
        let upstream = Upstream::new(ok("mine"), 100).await;
        let network = Arc::new(Network::default());
        for _ in 0..2 {
            let mut template = template(operator("http", "http://localhost:*"));
            template.network = Arc::new(AppNetwork::new(&network));
            let guest = Outgoing::new(&Arc::new(template));
            send(&guest, get(&upstream.url())).await.unwrap();
        }
        assert_eq!(upstream.heard().len(), 2);
    });
}
