//! What each operation does.

use std::time::Duration;

use hostel_stores::kv::{Cursor, Entry, Error, SetOptions, When};

use super::subject::{Subject, all_keys, bytes, eventually, if_absent, living, put, sorted, value};

/// Keys that mean something to some backend, or look alike.
pub(crate) const KEYS: &[&str] = &[
    "",
    " ",
    "a",
    "A",
    "a b",
    "a.b",
    "a/b",
    "a:b",
    "a*",
    "*",
    ">",
    "a.>",
    "?",
    "[a]",
    "{a}",
    "%",
    "a%",
    "_",
    "a_",
    "ab",
    "\\",
    "\\x00",
    "'",
    "\"",
    "; DROP TABLE kv",
    "\0",
    "a\0",
    "a\0b",
    "\n",
    "\r\n",
    "..",
    "../a",
    "$KV",
    "$JS.API",
    "=",
    "\u{e9}",
    "e\u{301}",
    "\u{430}",
    "\u{65e5}\u{672c}",
    "\u{1f600}",
    "\u{10ffff}",
    "\u{feff}",
    "a\u{7f}",
    "-",
    "--",
];

pub(crate) async fn what_is_not_there(subject: &Subject) {
    let kv = subject.kv("default");
    assert_eq!(kv.get("a").await, Ok(None));
    assert_eq!(kv.exists("a").await, Ok(false));
    assert_eq!(kv.delete("a", When::Always).await, Ok(false));
    assert_eq!(kv.delete("a", When::Absent).await, Ok(false));
    assert_eq!(all_keys(&*kv, "", 10).await, Vec::<String>::new());
    assert_eq!(
        kv.get_many(&["a".into(), "b".into()]).await,
        Ok(vec![None, None])
    );
    let entry = Entry {
        value: bytes("x"),
        version: 1,
    };
    let unchanged = SetOptions {
        when: When::Unchanged(entry.clone()),
        ttl: None,
    };
    assert_eq!(kv.set("a", bytes("y"), unchanged).await, Ok(false));
    assert_eq!(kv.delete("a", When::Unchanged(entry)).await, Ok(false));
    assert_eq!(kv.get("a").await, Ok(None));
}

pub(crate) async fn what_is_written_is_read(subject: &Subject) {
    let kv = subject.kv("default");
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = vec![7; 500_000];
    for value_written in [&b""[..], b"one", &every_byte, &large, b"two"] {
        put(&*kv, "a", value_written).await;
        let read = value(&*kv, "a").await.unwrap();
        assert!(read == value_written, "{} bytes", value_written.len());
        assert_eq!(kv.exists("a").await, Ok(true));
    }
    assert_eq!(kv.delete("a", When::Always).await, Ok(true));
    assert_eq!(kv.delete("a", When::Always).await, Ok(false));
    assert_eq!(value(&*kv, "a").await, None);
    put(&*kv, "a", "again").await;
    assert_eq!(value(&*kv, "a").await, Some(bytes("again")));
}

pub(crate) async fn keys_of_any_characters(subject: &Subject) {
    let kv = subject.kv("default");
    for (number, key) in KEYS.iter().enumerate() {
        put(&*kv, key, number.to_string()).await;
    }
    for (number, key) in KEYS.iter().enumerate() {
        let read = value(&*kv, key).await;
        assert_eq!(read, Some(bytes(number.to_string())), "{key:?}");
    }
    let listed = all_keys(&*kv, "", 1000).await;
    assert_eq!(listed, sorted(KEYS.iter().map(|key| (*key).to_owned())));
    for (number, key) in KEYS.iter().enumerate() {
        assert_eq!(kv.delete(key, When::Always).await, Ok(true), "{key:?}");
        let left = KEYS.len() - number - 1;
        if number % 8 == 0 || left == 0 {
            assert_eq!(all_keys(&*kv, "", 1000).await.len(), left, "{key:?}");
        }
    }
}

/// Where the largest is differs. What is larger is refused by every operation that would store it.
pub(crate) async fn a_key_or_value_beyond_the_largest_is_refused(subject: &Subject) {
    let kv = subject.kv("default");
    let key = "k".repeat(100_000);
    match kv.set(&key, bytes("x"), SetOptions::default()).await {
        Ok(written) => {
            assert!(written);
            assert_eq!(value(&*kv, &key).await, Some(bytes("x")));
        }
        Err(error) => {
            let Error::TooLarge {
                what: "a key",
                bytes: size,
                most,
            } = error
            else {
                panic!("{error:?}");
            };
            assert!(size > most && most >= 512, "{size} {most}");
            let again = kv.increment(&key, 1).await;
            assert!(matches!(again, Err(Error::TooLarge { .. })), "{again:?}");
            let entries = vec![("a".to_owned(), bytes("x")), (key, bytes("x"))];
            let many = kv.set_many(entries).await;
            assert!(matches!(many, Err(Error::TooLarge { .. })), "{many:?}");
        }
    }
    let key = "\u{65e5}".repeat(170);
    put(&*kv, &key, "510 bytes are not too long").await;
    assert!(value(&*kv, &key).await.is_some());
}

pub(crate) async fn prefixes_mean_themselves(subject: &Subject) {
    let kv = subject.kv("default");
    let keys = [
        "a",
        "a%",
        "a%b",
        "a*",
        "a_",
        "a_b",
        "aXb",
        "aa",
        "b",
        "A",
        "\u{e9}",
        "\u{e9}t\u{e9}",
        "e",
        "%",
        "_",
        "[ab]",
        "a\\",
        "user:1",
        "user:2",
        "user.1",
        "\u{10ffff}",
        "\u{10ffff}a",
        "",
    ];
    for key in keys {
        put(&*kv, key, "").await;
    }
    for prefix in [
        "",
        "a",
        "a%",
        "a*",
        "a_",
        "%",
        "_",
        "*",
        "[",
        "\\",
        "a\\",
        "\u{e9}",
        "user:",
        "user.",
        "\u{10ffff}",
        "zzz",
        "a%bc",
    ] {
        let with_it = keys.iter().filter(|key| key.starts_with(prefix));
        let expected = sorted(with_it.map(|key| (*key).to_owned()));
        for limit in [2, 1000] {
            assert_eq!(all_keys(&*kv, prefix, limit).await, expected, "{prefix:?}");
        }
    }
}

pub(crate) async fn pages_cover_everything(subject: &Subject) {
    let kv = subject.kv("default");
    let keys = sorted((0..503).map(|number| format!("key-{number}")));
    let entries = keys.iter().map(|key| (key.clone(), bytes(key)));
    kv.set_many(entries.collect()).await.unwrap();
    put(&*kv, "other", "").await;
    for limit in [1, 7, 100, 503, 1000] {
        assert_eq!(
            all_keys(&*kv, "key-", limit).await,
            keys,
            "pages of {limit}"
        );
    }
    assert_eq!(all_keys(&*kv, "", 100).await.len(), 504);
}

pub(crate) async fn what_stays_is_listed_while_others_come_and_go(subject: &Subject) {
    let kv = subject.kv("default");
    let stays = sorted((0..60).map(|number| format!("stays-{number:03}")));
    for key in &stays {
        put(&*kv, key, "").await;
    }
    let mut seen = Vec::new();
    let mut from = None;
    for round in 0..1000 {
        let page = kv.list("", from.as_ref(), 5).await.unwrap();
        seen.extend(page.keys);
        from = page.next;
        if from.is_none() {
            break;
        }
        put(&*kv, &format!("comes-{round}"), "").await;
        put(&*kv, &format!("zzz-{}", round % 3), "").await;
        if round > 0 {
            let goes = format!("comes-{}", round - 1);
            assert_eq!(kv.delete(&goes, When::Always).await, Ok(true));
        }
        // Rewritten, and there all the time.
        put(&*kv, &stays[round % stays.len()], "again").await;
    }
    assert_eq!(from, None, "the listing does not end");
    for key in stays {
        assert!(seen.contains(&key), "{key} is missing");
    }
}

pub(crate) async fn foreign_cursors_are_refused(subject: &Subject) {
    let kv = subject.kv("default");
    put(&*kv, "a", "").await;
    for cursor in ["", "?", "\u{1}garbage", "-1", "99999999999999999999999"] {
        let cursor = Cursor(cursor.to_owned());
        assert_eq!(
            kv.list("", Some(&cursor), 10).await,
            Err(Error::BadCursor),
            "{cursor:?}"
        );
    }
}

pub(crate) async fn writes_with_conditions(subject: &Subject) {
    let kv = subject.kv("default");
    assert_eq!(kv.set("a", bytes("1"), if_absent()).await, Ok(true));
    assert_eq!(kv.set("a", bytes("2"), if_absent()).await, Ok(false));
    assert_eq!(value(&*kv, "a").await, Some(bytes("1")));

    let first = kv.get("a").await.unwrap().unwrap();
    let unchanged = |entry: &Entry| SetOptions {
        when: When::Unchanged(entry.clone()),
        ttl: None,
    };
    assert_eq!(kv.set("a", bytes("3"), unchanged(&first)).await, Ok(true));
    assert_eq!(kv.set("a", bytes("4"), unchanged(&first)).await, Ok(false));
    assert_eq!(
        kv.delete("a", When::Unchanged(first.clone())).await,
        Ok(false)
    );
    assert_eq!(value(&*kv, "a").await, Some(bytes("3")));

    let third = kv.get("a").await.unwrap().unwrap();
    assert_ne!(third, first);
    assert_eq!(kv.delete("a", When::Absent).await, Ok(false));
    assert_eq!(
        kv.delete("a", When::Unchanged(third.clone())).await,
        Ok(true)
    );
    assert_eq!(value(&*kv, "a").await, None);
    assert_eq!(kv.set("a", bytes("5"), unchanged(&third)).await, Ok(false));
    assert_eq!(kv.set("a", bytes("6"), if_absent()).await, Ok(true));
    assert_eq!(value(&*kv, "a").await, Some(bytes("6")));
}

/// Where versions are counted; by the value alone nobody can tell.
pub(crate) async fn a_value_that_came_back_has_changed(subject: &Subject) {
    let kv = subject.kv("default");
    put(&*kv, "a", "same").await;
    let first = kv.get("a").await.unwrap().unwrap();
    put(&*kv, "a", "other").await;
    put(&*kv, "a", "same").await;
    let again = kv.get("a").await.unwrap().unwrap();
    assert_eq!(again.value, first.value);
    kv.delete("a", When::Always).await.unwrap();
    put(&*kv, "a", "same").await;
    let reborn = kv.get("a").await.unwrap().unwrap();
    if first.version == 0 {
        assert_eq!((again.version, reborn.version), (0, 0));
        return;
    }
    assert!(first.version != again.version && again.version != reborn.version);
    assert_ne!(first.version, reborn.version);
    for old in [first, again] {
        let unchanged = SetOptions {
            when: When::Unchanged(old),
            ttl: None,
        };
        assert_eq!(kv.set("a", bytes("late"), unchanged).await, Ok(false));
    }
    assert_eq!(value(&*kv, "a").await, Some(bytes("same")));
}

pub(crate) async fn increments(subject: &Subject) {
    let kv = subject.kv("default");
    assert_eq!(kv.increment("n", 5).await, Ok(5));
    assert_eq!(kv.increment("n", -7).await, Ok(-2));
    assert_eq!(kv.increment("n", 0).await, Ok(-2));
    assert_eq!(value(&*kv, "n").await, Some(bytes("-2")));
    put(&*kv, "n", "41").await;
    assert_eq!(kv.increment("n", 1).await, Ok(42));
    assert_eq!(kv.increment("low", i64::MIN).await, Ok(i64::MIN));
    assert_eq!(kv.increment("high", i64::MAX).await, Ok(i64::MAX));
    kv.delete("n", When::Always).await.unwrap();
    assert_eq!(kv.increment("n", 1).await, Ok(1));
}

pub(crate) async fn no_number_is_not_incremented(subject: &Subject) {
    let kv = subject.kv("default");
    for text in [
        "",
        "one",
        "1.5",
        "1 ",
        " 1",
        "0x1",
        "9223372036854775808",
        "\u{661}",
    ] {
        put(&*kv, "n", text).await;
        let sum = kv.increment("n", 1).await;
        assert!(
            matches!(sum, Err(Error::NotANumber(_))),
            "{text:?}: {sum:?}"
        );
        assert_eq!(value(&*kv, "n").await, Some(bytes(text)));
    }
    for (text, delta) in [
        ("9223372036854775807", 1),
        ("-9223372036854775808", -1),
        ("-2", i64::MIN),
    ] {
        put(&*kv, "n", text).await;
        let sum = kv.increment("n", delta).await;
        assert!(matches!(sum, Err(Error::NotANumber(_))), "{text}: {sum:?}");
        assert_eq!(value(&*kv, "n").await, Some(bytes(text)));
    }
}

const TTL: Duration = Duration::from_secs(2);

pub(crate) async fn a_time_to_live_ends(subject: &Subject) {
    let kv = subject.kv("default");
    for key in ["get", "set", "delete", "increment"] {
        assert_eq!(kv.set(key, bytes("1"), living(TTL)).await, Ok(true));
        assert_eq!(value(&*kv, key).await, Some(bytes("1")));
    }
    put(&*kv, "stays", "1").await;
    subject.elapse(TTL).await;
    eventually("it ends", async || kv.get("get").await == Ok(None)).await;
    assert_eq!(kv.exists("get").await, Ok(false));
    eventually("the others", async || {
        let keys = ["set", "delete", "increment"].map(str::to_owned);
        kv.get_many(&keys)
            .await
            .unwrap()
            .iter()
            .all(Option::is_none)
    })
    .await;
    assert_eq!(all_keys(&*kv, "", 100).await, ["stays"]);
    assert_eq!(kv.set("set", bytes("2"), if_absent()).await, Ok(true));
    assert_eq!(kv.delete("delete", When::Always).await, Ok(false));
    assert_eq!(kv.increment("increment", 10).await, Ok(10));
    // What was written after the end has none.
    subject.elapse(TTL).await;
    assert_eq!(value(&*kv, "set").await, Some(bytes("2")));
    assert_eq!(value(&*kv, "increment").await, Some(bytes("10")));
    assert_eq!(value(&*kv, "stays").await, Some(bytes("1")));
}

pub(crate) async fn a_time_to_live_is_replaced(subject: &Subject) {
    let kv = subject.kv("default");
    for key in ["forever", "many", "longer", "shorter"] {
        kv.set(key, bytes("1"), living(TTL)).await.unwrap();
    }
    put(&*kv, "forever", "2").await;
    kv.set_many(vec![("many".to_owned(), bytes("2"))])
        .await
        .unwrap();
    kv.set("longer", bytes("2"), living(Duration::from_secs(3600)))
        .await
        .unwrap();
    subject.elapse(TTL).await;
    eventually("it ends", async || kv.get("shorter").await == Ok(None)).await;
    for key in ["forever", "many", "longer"] {
        assert_eq!(value(&*kv, key).await, Some(bytes("2")), "{key}");
    }
}

pub(crate) async fn an_increment_keeps_the_time_to_live(subject: &Subject) {
    let kv = subject.kv("default");
    kv.set("n", bytes("1"), living(TTL)).await.unwrap();
    assert_eq!(kv.increment("n", 1).await, Ok(2));
    subject.elapse(TTL).await;
    eventually("it ends", async || kv.get("n").await == Ok(None)).await;
}

pub(crate) async fn several_at_once(subject: &Subject) {
    let kv = subject.kv("default");
    kv.set_many(Vec::new()).await.unwrap();
    assert_eq!(kv.get_many(&[]).await, Ok(Vec::new()));
    kv.delete_many(&[]).await.unwrap();

    let entries = [("b", "2"), ("a", "1"), ("\0", "zero"), ("c*", "3")];
    let entries = entries.map(|(key, value)| (key.to_owned(), bytes(value)));
    kv.set_many(entries.to_vec()).await.unwrap();
    let keys = ["c*", "none", "a", "a", "\0"].map(str::to_owned);
    let read = kv.get_many(&keys).await.unwrap();
    let read: Vec<_> = read
        .into_iter()
        .map(|entry| entry.map(|entry| entry.value))
        .collect();
    let expected = [Some("3"), None, Some("1"), Some("1"), Some("zero")];
    assert_eq!(read, expected.map(|value| value.map(bytes)));

    let single = kv.get("a").await.unwrap();
    assert_eq!(kv.get_many(&["a".to_owned()]).await, Ok(vec![single]));

    kv.delete_many(&["a", "none", "c*", "a"].map(str::to_owned))
        .await
        .unwrap();
    assert_eq!(all_keys(&*kv, "", 100).await, ["\0", "b"]);
}

pub(crate) async fn it_can_be_checked(subject: &Subject) {
    let kv = subject.kv("default");
    assert_eq!(kv.check().await, Ok(()));
    assert_eq!(all_keys(&*kv, "", 100).await, Vec::<String>::new());
}
