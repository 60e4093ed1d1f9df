//! How long a guest waits at the most.

use std::time::{Duration, Instant};

use super::*;
use crate::testing::block_on;

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(3600);
/// What no wait of these tests comes near, however slow the machine is.
const NEVER: Duration = Duration::from_secs(20);

/// A guest in a network with these times.
fn hasty(connect: Duration, total: Duration) -> Outgoing {
    let mut network = Network::default();
    (network.times.connect, network.times.total) = (connect, total);
    guest(operator("http", "*://localhost:*"), network)
}

/// A server that says `start` to whoever connects, and then `more` again and again.
async fn trickle(start: &'static str, more: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut said = stream.write_all(start.as_bytes()).await;
                while said.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    said = stream.write_all(more.as_bytes()).await;
                }
            });
        }
    });
    address
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";

async fn ends_with(guest: &Outgoing, uri: &str, options: Option<RequestOptions>) -> Error {
    let begin = Instant::now();
    let error = send_within(guest, get(uri), options).await.unwrap_err();
    assert!(begin.elapsed() < NEVER, "{error:?}");
    error
}

#[test]
fn a_server_that_does_not_answer_the_handshake() {
    block_on(async {
        let address = trickle("", "").await;
        let guest = hasty(SHORT, LONG);
        let uri = format!("https://localhost:{}/", address.port());
        let error = ends_with(&guest, &uri, None).await;
        assert!(matches!(error, Error::ConnectionTimeout), "{error:?}");
    });
}

#[test]
fn an_answer_that_does_not_end() {
    block_on(async {
        let guest = hasty(LONG, SHORT);
        for (start, more) in [
            ("", ""),
            ("", "HTTP/1.1 103 Wait\r\n\r\n"),
            (HEAD, ""),
            (HEAD, "x"),
        ] {
            let address = trickle(start, more).await;
            let uri = format!("http://localhost:{}/", address.port());
            let error = ends_with(&guest, &uri, None).await;
            assert!(
                matches!(error, Error::HttpResponseTimeout),
                "{start} {more}: {error:?}"
            );
        }
    });
}

#[test]
fn a_guest_can_only_ask_for_less() {
    let options = |time| RequestOptions {
        connect_timeout: Some(time),
        first_byte_timeout: Some(time),
        between_bytes_timeout: Some(time),
    };
    block_on(async {
        let (silent, stalls) = (trickle("", "").await, trickle(HEAD, "").await);
        let uri = |scheme, address: SocketAddr| format!("{scheme}://localhost:{}/", address.port());
        let patient = hasty(LONG, LONG);
        let less =
            |uri: String| async { ends_with(&patient, &{ uri }, Some(options(SHORT))).await };
        let error = less(uri("https", silent)).await;
        assert!(matches!(error, Error::ConnectionTimeout), "{error:?}");
        let error = less(uri("http", silent)).await;
        assert!(matches!(error, Error::ConnectionReadTimeout), "{error:?}");
        let error = less(uri("http", stalls)).await;
        assert!(matches!(error, Error::ConnectionReadTimeout), "{error:?}");
        let hasty = hasty(SHORT, SHORT);
        for (scheme, address) in [("https", silent), ("http", silent), ("http", stalls)] {
            ends_with(&hasty, &uri(scheme, address), Some(options(LONG))).await;
        }
    });
}

#[test]
fn a_resolver_that_does_not_answer() {
    struct Silent;
    impl Resolver for Silent {
        fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            let (_never, answer) = std::sync::mpsc::sync_channel::<()>(0);
            let _never = answer.recv_timeout(Duration::from_millis(500));
            Ok(vec![])
        }
    }
    block_on(async {
        let mut network = Network {
            names: Names::of(Arc::new(Silent)),
            ..Network::default()
        };
        network.times.connect = SHORT;
        let guest = guest(grants("http", "*://*:*"), network);
        let error = ends_with(&guest, "http://slow.example/", None).await;
        assert!(matches!(error, Error::ConnectionTimeout), "{error:?}");
        let error = guest.look_up("slow.example").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}
