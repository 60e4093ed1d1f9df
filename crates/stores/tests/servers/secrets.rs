//! Passwords: needed where they are asked for, and never shown.

use std::fmt::Debug;
use std::time::Duration;

use hostel_backends::{Nats, Redis};
use hostel_stores::kv::SetOptions;
use hostel_stores::place::{Kind, Place};
use hostel_stores::{Failure, Scope, Stores, kv};

use super::{LONG, kv, message, messaging, other_client, stores, terms};

const WRONG: &str = "hunter22";

fn shows_nothing(what: &impl Debug) {
    let shown = format!("{what:?} {what:#?}");
    for secret in [WRONG, "sesame"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// `url` with a user's name and password.
fn with(url: &str, credentials: &str) -> String {
    url.replace("://", &format!("://{credentials}@"))
}

async fn is_refused(stores: &Stores, url: &str) {
    let kv = kv(stores, url, LONG);
    let broker = messaging(stores, url, LONG);
    let refused = kv.get("a").await.unwrap_err();
    assert!(
        matches!(refused, kv::Error::Failed(Failure::Refused(_))),
        "{refused:?}"
    );
    let published = broker.publish(message("a", "1")).await.unwrap_err();
    let subscribed = broker.subscribe(terms("a", "group")).await.err().unwrap();
    let requested = broker
        .request(message("a", "1"), 1, Duration::from_secs(1))
        .await;
    let requested = requested.unwrap_err();
    for error in [&published, &subscribed, &requested] {
        assert!(error.to_string().contains("refuses"), "{error}");
    }
    shows_nothing(&(
        &kv, &broker, stores, refused, published, subscribed, requested,
    ));
}

async fn is_let_in(stores: &Stores, url: &str) {
    let kv = kv(stores, url, LONG);
    kv.check().await.unwrap();
    kv.set("a", "1".into(), SetOptions::default())
        .await
        .unwrap();
    let broker = messaging(stores, url, LONG);
    broker.check().await.unwrap();
    let heard = broker.subscribe(terms("a", "group")).await.unwrap();
    broker.publish(message("a", "1")).await.unwrap();
    drop(heard);
    shows_nothing(&(kv, broker, stores));
}

#[tokio::test]
async fn redis_asks_for_a_password() {
    let server = Redis::start();
    let port = server.port().to_string();
    let set = [
        "-p",
        port.as_str(),
        "CONFIG",
        "SET",
        "requirepass",
        "open sesame",
    ];
    assert_eq!(other_client("redis-cli", &set), "OK");
    let stores = stores();
    is_refused(&stores, &server.url()).await;
    is_refused(&stores, &with(&server.url(), &format!(":{WRONG}"))).await;
    is_refused(&stores, &with(&server.url(), &format!("shop:{WRONG}"))).await;
    is_let_in(&stores, &with(&server.url(), ":open%20sesame")).await;
}

#[tokio::test]
async fn nats_asks_for_a_password() {
    let server = Nats::start_with_password();
    let stores = stores();
    is_refused(&stores, &server.url()).await;
    is_refused(&stores, &with(&server.url(), &format!("shop:{WRONG}"))).await;
    is_refused(&stores, &with(&server.url(), WRONG)).await;
    is_let_in(&stores, &with(&server.url(), "shop:open%20sesame")).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_shows_nothing_either() {
    let mut server = Nats::start();
    server.kill();
    let (nats, redis) = (server.url(), server.url().replace("nats:", "redis:"));
    let stores = stores();
    for url in [nats.clone(), redis, nats.replace("nats:", "nats+core:")] {
        let url = with(&url, &format!("shop:{WRONG}"));
        let broker = messaging(&stores, &url, LONG);
        let error = broker.publish(message("a", "1")).await.unwrap_err();
        assert!(error.to_string().contains("cannot be reached"), "{error}");
        shows_nothing(&(broker, error));
    }
    shows_nothing(&stores);
}

#[test]
fn urls_that_make_no_sense_say_what_does() {
    let stores = stores();
    let scope = Scope::new("shop", "default").unwrap();
    for (url, what) in [
        ("redis://shop:hunter22@host/notes", "is not understood"),
        ("redis://shop:hunter22@host/0?fast=1", "no option `fast`"),
        ("nats://shop:hunter22@host/a.b", "no name of a bucket"),
        (
            "nats://shop:hunter22@host?replicas=9",
            "`replicas` has no good value",
        ),
        ("nats://host?fast=1", "no option `fast`"),
    ] {
        let place = Place::parse(Kind::KeyValue, url).unwrap();
        let error = stores.kv(&place, &scope).unwrap_err();
        assert!(error.what.contains(what), "{url}: {error}");
        assert!(error.help.contains("HOST"), "{}", error.help);
        shows_nothing(&error);
    }
}
