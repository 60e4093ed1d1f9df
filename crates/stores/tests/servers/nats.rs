//! NATS: names, and what another client sees.

use std::time::Duration;

use hostel_backends::Nats;
use hostel_stores::kv::{Cursor, Error, Kv, SetOptions, When};
use tokio::time::Instant;

use super::{LONG, kv, stores};

async fn jetstream(server: &Nats) -> async_nats::jetstream::Context {
    let client = async_nats::connect(server.url()).await.unwrap();
    async_nats::jetstream::new(client)
}

async fn all_keys(kv: &dyn Kv, prefix: &str, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let page = kv.list(prefix, cursor.as_ref(), limit).await.unwrap();
        assert!(page.keys.len() <= limit);
        found.extend(page.keys);
        cursor = page.next;
        if cursor.is_none() {
            found.sort();
            return found;
        }
    }
}

#[tokio::test]
async fn keys_and_values_are_plain_for_other_clients() {
    let server = Nats::start();
    let stores = stores();
    let kv = kv(&stores, &server.url(), LONG);
    let set = kv.set("user.42", "hello".into(), SetOptions::default());
    assert!(set.await.unwrap());
    let bucket = jetstream(&server)
        .await
        .get_key_value("hostel")
        .await
        .unwrap();
    let entry = bucket.get("shop.default.user.42").await.unwrap();
    assert_eq!(entry.as_deref(), Some(&b"hello"[..]));
    bucket.put("shop.default.count", "41".into()).await.unwrap();
    assert_eq!(kv.increment("count", 1).await.unwrap(), 42);
    bucket.delete("shop.default.count").await.unwrap();
    assert_eq!(kv.get("count").await.unwrap(), None);
    bucket.purge("shop.default.user.42").await.unwrap();
    assert!(all_keys(&*kv, "", 10).await.is_empty());
    assert_eq!(kv.get("user.42").await.unwrap(), None);
    let absent = SetOptions {
        when: When::Absent,
        ..SetOptions::default()
    };
    assert!(
        kv.set("user.42", "again".into(), absent.clone())
            .await
            .unwrap()
    );
    assert!(!kv.set("user.42", "more".into(), absent).await.unwrap());
}

#[tokio::test]
async fn a_listing_has_every_key_once_and_pages() {
    let server = Nats::start();
    let stores = stores();
    let kv = kv(&stores, &server.url(), LONG);
    let keys: Vec<String> = (0..1200).map(|n| format!("k.{:04}", n)).collect();
    let odd = ["*", ">", ".", "..", "a..b", "k.", "k", "\u{e9} x", ""];
    let entries = keys.iter().map(String::as_str).chain(odd);
    let entries = entries.map(|key| (key.to_owned(), "v".into())).collect();
    kv.set_many(entries).await.unwrap();
    assert_eq!(all_keys(&*kv, "k.0", 100).await, keys[..1000]);
    assert_eq!(all_keys(&*kv, "k.", 7).await.len(), 1201);
    assert_eq!(all_keys(&*kv, "", 10_000).await.len(), 1200 + odd.len());
    assert_eq!(all_keys(&*kv, ".", 1).await, [".", ".."]);
    assert_eq!(all_keys(&*kv, "*", 1).await, ["*"]);
    kv.delete_many(&keys).await.unwrap();
    assert_eq!(all_keys(&*kv, "k", 2).await, ["k", "k."]);
    let foreign = kv.list("", Some(&Cursor("0:x".to_owned())), 1).await;
    assert_eq!(foreign, Err(Error::BadCursor));
}

#[tokio::test]
async fn a_value_ends_to_the_millisecond_and_the_server_forgets_it() {
    let server = Nats::start();
    let stores = stores();
    let kv = kv(&stores, &server.url(), LONG);
    let ttl = |ms| SetOptions {
        ttl: Some(Duration::from_millis(ms)),
        ..SetOptions::default()
    };
    kv.set("short", "1".into(), ttl(150)).await.unwrap();
    kv.set("long", "1".into(), ttl(60_000)).await.unwrap();
    kv.increment("long", 1).await.unwrap();
    let entry = kv.get("short").await.unwrap();
    let begin = Instant::now();
    while kv.get("short").await.unwrap().is_some() {
        assert!(begin.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(all_keys(&*kv, "", 10).await, ["long"]);
    if let Some(entry) = entry {
        let unchanged = SetOptions {
            when: When::Unchanged(entry),
            ..SetOptions::default()
        };
        assert!(!kv.set("short", "2".into(), unchanged).await.unwrap());
    }
    assert_eq!(
        kv.increment("short", 5).await.unwrap(),
        5,
        "it is a new one"
    );
    kv.set("short", "1".into(), ttl(1)).await.unwrap();
    let stream = jetstream(&server)
        .await
        .get_stream("KV_hostel")
        .await
        .unwrap();
    let begin = Instant::now();
    while stream.get_info().await.unwrap().state.messages > 1 {
        assert!(begin.elapsed() < LONG, "the server keeps it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_too_large_says_what_is_not() {
    let server = Nats::start();
    let stores = stores();
    let kv = kv(&stores, &server.url(), LONG);
    let large = vec![7_u8; 2 << 20];
    let error = kv
        .set("large", large.clone().into(), SetOptions::default())
        .await
        .unwrap_err();
    let Error::TooLarge { what, bytes, most } = error else {
        panic!("{error}")
    };
    assert_eq!((what, bytes), ("a value", 2 << 20));
    let fits = large[..most].to_vec();
    assert!(
        kv.set("large", fits.into(), SetOptions::default())
            .await
            .unwrap()
    );
    let error = kv.get(&"\u{e9}".repeat(1000)).await.unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { what: "a key", .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_bucket_that_was_removed_is_made_again_and_an_unfit_one_is_refused() {
    let server = Nats::start();
    let stores = stores();
    let kv = kv(&stores, &format!("{}/shop", server.url()), LONG);
    kv.check().await.unwrap();
    assert_eq!(kv.get("a").await.unwrap(), None);
    let jetstream = jetstream(&server).await;
    jetstream.delete_key_value("shop").await.unwrap();
    assert!(
        kv.set("a", "1".into(), SetOptions::default())
            .await
            .unwrap()
    );
    jetstream.delete_key_value("shop").await.unwrap();
    // The server answers from a bucket for a moment after it said that it was removed.
    let begin = Instant::now();
    while kv.get("a").await.unwrap().is_some() {
        assert!(begin.elapsed() < LONG, "it is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    kv.set("b", "1".into(), SetOptions::default())
        .await
        .unwrap();
    jetstream.delete_key_value("shop").await.unwrap();
    while !all_keys(&*kv, "", 10).await.is_empty() {
        assert!(begin.elapsed() < LONG, "it is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let config = async_nats::jetstream::kv::Config {
        bucket: "old".to_owned(),
        history: 5,
        ..Default::default()
    };
    jetstream.create_key_value(config).await.unwrap();
    let old = super::kv(&stores, &format!("{}/old", server.url()), LONG);
    for error in [
        old.check().await.unwrap_err(),
        old.get("a").await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("a history of 1"), "{error}");
    }
}
