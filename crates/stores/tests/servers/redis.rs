//! Redis: names, and what another client sees.

use std::time::Duration;

use hostel_backends::Redis;
use hostel_stores::kv::{Cursor, Error, SetOptions};

use super::{LONG, kv, other_client, stores};

fn cli(server: &Redis, arguments: &[&str]) -> String {
    let port = server.port().to_string();
    let mut all = vec!["-h", "127.0.0.1", "-p", port.as_str(), "--raw"];
    all.extend(arguments);
    other_client("redis-cli", &all)
}

#[tokio::test]
async fn keys_and_values_are_plain_for_other_clients() {
    let server = Redis::start();
    let stores = stores();
    let kv = kv(&stores, &server.url(), LONG);
    kv.set("user:1 \u{e9}", "hello".into(), SetOptions::default())
        .await
        .unwrap();
    assert_eq!(
        cli(&server, &["KEYS", "*"]),
        "hostel:shop:default:user:1 \u{e9}"
    );
    assert_eq!(
        cli(&server, &["GET", "hostel:shop:default:user:1 \u{e9}"]),
        "hello"
    );
    cli(&server, &["SET", "hostel:shop:default:count", "41"]);
    assert_eq!(kv.increment("count", 1).await.unwrap(), 42);
    let ttl = SetOptions {
        ttl: Some(Duration::from_secs(100)),
        ..SetOptions::default()
    };
    kv.set("count", "1".into(), ttl).await.unwrap();
    kv.increment("count", 1).await.unwrap();
    let left: u64 = cli(&server, &["TTL", "hostel:shop:default:count"])
        .parse()
        .unwrap();
    assert!((90..=100).contains(&left), "{left}");
    // What is of another type is an error, and stays.
    cli(&server, &["RPUSH", "hostel:shop:default:list", "one"]);
    let error = kv.get("list").await.unwrap_err();
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    assert_eq!(cli(&server, &["LLEN", "hostel:shop:default:list"]), "1");
    assert!(kv.increment("list", 1).await.is_err());
}

#[tokio::test]
async fn a_prefix_means_itself_whatever_it_is_made_of() {
    let server = Redis::start();
    let stores = stores();
    let kv = kv(&stores, &server.url(), LONG);
    let keys = [
        "*", "**", "a*b", "axb", "?", "x", "[ab]", "a", "\\", "\\*", "[", "]", "^", "-",
    ];
    for key in keys {
        kv.set(key, "1".into(), SetOptions::default())
            .await
            .unwrap();
    }
    for prefix in ["", "*", "a*", "?", "[", "[ab]", "\\", "]", "^", "-", "a"] {
        let mut found = Vec::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let page = kv.list(prefix, cursor.as_ref(), 1).await.unwrap();
            assert!(page.keys.len() <= 2);
            found.extend(page.keys);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        found.sort();
        found.dedup();
        let mut expected: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).collect();
        expected.sort();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{prefix}");
    }
    let foreign = kv.list("", Some(&Cursor("x".to_owned())), 1).await;
    assert_eq!(foreign, Err(Error::BadCursor));
}
