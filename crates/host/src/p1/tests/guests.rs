//! Programs that serve: a thousand connections, 64 at a time.

use std::time::Instant;

use futures::stream::{self, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::testing::block_on;

const CONNECTIONS: usize = 1000;
const AT_ONCE: usize = 64;

/// Sends a text, ends its half, and returns all that came back.
pub(crate) async fn talk(address: SocketAddr, text: String) -> String {
    let mut client = connect_async(address).unwrap();
    client.write_all(text.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Many clients, each of which must be answered as it expects; `expected` is the whole answer, or `None` its own text.
pub(crate) async fn crowd(address: SocketAddr, expected: Option<&str>) {
    let talks = stream::iter(0..CONNECTIONS).map(|number| async move {
        let text = format!("client {number} says {}", "word ".repeat(number % 50));
        let answer = talk(address, text.clone()).await;
        assert_eq!(answer, expected.unwrap_or(&text));
    });
    let all = talks.buffer_unordered(AT_ONCE).count();
    let answered = tokio::time::timeout(Duration::from_secs(120), all).await;
    assert_eq!(answered.expect("in time"), CONNECTIONS);
}

#[test]
fn an_unmodified_server_of_others_serves_a_thousand_connections() {
    let runtime = testing::runtime(None);
    let guest = service_with(&runtime, "serve-mio-p1", &[], |component| {
        component.env = vec![("LISTEN_FDS".to_owned(), "1".to_owned().into())];
    });
    block_on(async {
        let (listener, address) = listener();
        let service = start(&guest, vec![listener]);
        crowd(address, Some("Hello world!\n")).await;
        assert_eq!(service.ready.load(Relaxed), 1);
        assert!(!service.end.is_finished(), "it still serves");
        service.end.abort();
    });
}

#[test]
fn the_standard_library_accepts_behind_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = testing::runtime(None);
    let guest = service_with(&runtime, "serve-std-p1", &["4"], |component| {
        with_folder(component, folder.path());
    });
    block_on(async {
        let (listener, address) = listener();
        let service = start(&guest, vec![listener]);
        crowd(address, None).await;
        assert_eq!(service.ready.load(Relaxed), 1);
        service.end.abort();
    });
}

#[test]
fn plain_calls_serve_all_at_once_and_end_when_they_are_asked_to() {
    let runtime = testing::runtime(None);
    let guest = service(&runtime, "serve-raw-p1", &["4"]);
    block_on(async {
        let (first, unused) = listener();
        let (second, address) = listener();
        let service = start(&guest, vec![first, second]);
        let begin = Instant::now();
        crowd(address, None).await;
        println!("{CONNECTIONS} connections: {:?}", begin.elapsed());
        assert!(connect(unused).is_ok(), "nobody accepts");
        service.stop.send(true).unwrap();
        assert_eq!(service.ended().await, Ok(0));
    });
}
