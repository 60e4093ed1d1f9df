//! What every driver does.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use hostel_stores::blob::{Error, Span};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Driver, all, body, filled, given_up, names, pieces, stalled, text};

/// Runs the suite against a driver.
macro_rules! suite {
    ($driver:ident: $($test:ident)+) => {
        mod $driver {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&crate::blob::Driver::$driver()).await;
            })+
        }
    };
}

macro_rules! drivers {
    ($($driver:ident)+, $tests:tt) => { $(drivers!(@ $driver $tests);)+ };
    (@ $driver:ident ($($test:ident)+)) => { suite!($driver: $($test)+); };
}

drivers!(memory directory s3, (
    a_container_is_made_and_removed_with_all_that_is_in_it
    nothing_works_without_a_container
    what_is_written_is_read
    a_part_is_read_and_what_lies_beyond_the_end_is_left_out
    a_reader_goes_on_with_what_it_began
    a_writer_that_gives_up_or_goes_away_changes_nothing
    names_come_in_pages
    objects_are_deleted_copied_and_cleared
    any_text_is_a_name
    a_name_that_is_too_long_is_refused_as_that
    writers_of_one_object_do_not_mix
    scopes_never_meet
));

async fn a_container_is_made_and_removed_with_all_that_is_in_it(driver: &Driver) {
    let blobs = driver.open("shop", "uploads");
    blobs.check().await.unwrap();
    assert_eq!(blobs.created_ms().await, Ok(None));
    assert_eq!(blobs.remove().await, Ok(false));
    assert_eq!(blobs.create().await, Ok(true));
    assert_eq!(blobs.create().await, Ok(false));
    let made = blobs.created_ms().await.unwrap().unwrap();
    assert!(made > 1_700_000_000_000, "{made}");
    blobs.put("a", body("one")).await.unwrap();
    assert_eq!(
        blobs.created_ms().await,
        Ok(Some(made)),
        "a write does not change it"
    );

    let same = driver.open("shop", "uploads");
    assert_eq!(text(&*same, "a").await, "one");
    assert_eq!(same.remove().await, Ok(true));
    assert_eq!(blobs.created_ms().await, Ok(None));
    assert_eq!(blobs.create().await, Ok(true));
    assert_eq!(blobs.info("a").await, Ok(None));
    assert!(names(&*blobs, 10).await.is_empty());
}

async fn nothing_works_without_a_container(driver: &Driver) {
    let blobs = driver.open("shop", "uploads");
    assert_eq!(blobs.put("a", body("x")).await, Err(Error::NoContainer));
    assert_eq!(
        blobs.get("a", Span::ALL).await.unwrap_err(),
        Error::NoContainer
    );
    assert_eq!(
        blobs
            .get("a", Span { start: 1, last: 2 })
            .await
            .unwrap_err(),
        Error::NoContainer
    );
    assert_eq!(blobs.info("a").await, Err(Error::NoContainer));
    assert_eq!(blobs.list(None, 10).await, Err(Error::NoContainer));
    assert_eq!(
        blobs.delete(&["a".to_owned()]).await,
        Err(Error::NoContainer)
    );
    assert_eq!(blobs.copy("a", "b").await, Err(Error::NoContainer));
    assert_eq!(blobs.clear().await, Err(Error::NoContainer));
    blobs.create().await.unwrap();
    assert_eq!(
        blobs.get("a", Span::ALL).await.unwrap_err(),
        Error::NoObject
    );
    assert_eq!(blobs.copy("a", "b").await, Err(Error::NoObject));
}

async fn what_is_written_is_read(driver: &Driver) {
    let blobs = driver.made().await;
    let odd = [&b"one "[..], b"", b"two ", b"three"].map(Bytes::from_static);
    let written = blobs.put("a", pieces(odd.to_vec())).await.unwrap();
    assert_eq!(written.size, 13);
    assert_eq!(text(&*blobs, "a").await, "one two three");
    blobs.put("a", body("shorter")).await.unwrap();
    assert_eq!(text(&*blobs, "a").await, "shorter");
    let info = blobs.info("a").await.unwrap().unwrap();
    assert_eq!(info.size, 7);
    assert!(info.written_ms > 1_700_000_000_000);
    blobs.put("empty", pieces(Vec::new())).await.unwrap();
    assert_eq!(text(&*blobs, "empty").await, "");
    // Small pieces, and around the size of a part of an upload.
    let crumbs = vec![Bytes::from_static(b"crumb"); 100_000];
    assert_eq!(
        blobs.put("crumbs", pieces(crumbs)).await.unwrap().size,
        500_000
    );
    assert_eq!(text(&*blobs, "crumbs").await, "crumb".repeat(100_000));
    for bytes in [(5 << 20) - 1, 5 << 20, (5 << 20) + 1, 11 << 20] {
        assert_eq!(
            blobs.put("large", filled(b'l', bytes)).await.unwrap().size,
            bytes as u64
        );
        let back = all(blobs.get("large", Span::ALL).await.unwrap())
            .await
            .unwrap();
        assert!(back.len() == bytes && back.iter().all(|byte| *byte == b'l'));
    }
}

async fn a_part_is_read_and_what_lies_beyond_the_end_is_left_out(driver: &Driver) {
    let blobs = driver.made().await;
    blobs.put("digits", body("0123456789")).await.unwrap();
    blobs.put("empty", body("")).await.unwrap();
    for (name, start, last, part) in [
        ("digits", 0, 0, "0"),
        ("digits", 2, 4, "234"),
        ("digits", 9, 9, "9"),
        ("digits", 0, 9, "0123456789"),
        ("digits", 7, 1000, "789"),
        ("digits", 7, u64::MAX, "789"),
        ("digits", 10, 10, ""),
        ("digits", 1000, 2000, ""),
        ("digits", 5, 4, ""),
        ("digits", u64::MAX, u64::MAX, ""),
        ("empty", 0, 0, ""),
        ("empty", 0, u64::MAX, ""),
        ("empty", 3, 5, ""),
    ] {
        let object = blobs.get(name, Span { start, last }).await.unwrap();
        assert_eq!(object.info.size, if name == "empty" { 0 } else { 10 });
        let read = String::from_utf8(all(object).await.unwrap()).unwrap();
        assert_eq!(read, part, "{name} {start} to {last}");
    }
    let missing = blobs.get("none", Span { start: 0, last: 1 }).await;
    assert_eq!(missing.unwrap_err(), Error::NoObject);
}

async fn a_reader_goes_on_with_what_it_began(driver: &Driver) {
    const BYTES: usize = 8 << 20;
    let blobs = driver.made().await;
    for end in ["replaced", "deleted", "cleared"] {
        blobs.put("a", filled(b'1', BYTES)).await.unwrap();
        let mut object = blobs.get("a", Span::ALL).await.unwrap();
        let first = object.body.next().await.unwrap().unwrap();
        match end {
            "replaced" => blobs.put("a", filled(b'2', BYTES)).await.map(|_| ()),
            "deleted" => blobs.delete(&["a".to_owned()]).await,
            _ => blobs.clear().await,
        }
        .unwrap();
        let rest = all(object).await.unwrap();
        assert_eq!(first.len() + rest.len(), BYTES, "{end}");
        assert!(rest.iter().all(|byte| *byte == b'1'), "{end}");
    }
}

async fn a_writer_that_gives_up_or_goes_away_changes_nothing(driver: &Driver) {
    let blobs = driver.made().await;
    blobs.put("old", body("old")).await.unwrap();
    for bytes in [0, 1000, 12 << 20] {
        for name in ["old", "new"] {
            let error = blobs.put(name, given_up(bytes)).await.unwrap_err();
            assert_eq!(error.to_string(), "the writer gave up: enough");
            let left =
                tokio::time::timeout(Duration::from_millis(40), blobs.put(name, stalled(bytes)));
            assert!(left.await.is_err());
        }
        assert_eq!(text(&*blobs, "old").await, "old");
        assert_eq!(blobs.info("new").await, Ok(None));
    }
    assert_eq!(names(&*blobs, 10).await, ["old"]);
    blobs.put("new", body("new")).await.unwrap();
    assert_eq!(text(&*blobs, "new").await, "new");
}

async fn names_come_in_pages(driver: &Driver) {
    let blobs = driver.made().await;
    assert_eq!(blobs.list(None, 10).await.unwrap().next, None);
    let mut written: Vec<_> = (0..25).map(|n| format!("n{:02}", n * 7 % 25)).collect();
    written.extend(["A/b".to_owned(), "\u{e9}".to_owned(), "Z".to_owned()]);
    join_all(written.iter().map(|name| blobs.put(name, body(name)))).await;
    written.sort();
    for limit in [1, 4, 28, 29, 5000] {
        let mut listed = names(&*blobs, limit).await;
        if !driver.ordered {
            listed.sort();
        }
        assert_eq!(listed, written, "{limit} on a page");
    }
    let page = blobs.list(None, 5).await.unwrap();
    assert_eq!(page.names.len(), 5);
    // What a page ends with may be gone when the next is asked for.
    blobs.delete(&page.names).await.unwrap();
    let rest = blobs.list(page.next.as_ref(), 5000).await.unwrap();
    assert_eq!(rest.names.len(), 23);
    assert!(rest.names.iter().all(|name| !page.names.contains(name)));
}

async fn objects_are_deleted_copied_and_cleared(driver: &Driver) {
    let blobs = driver.made().await;
    for name in ["a", "b", "c", "d"] {
        blobs.put(name, body(name)).await.unwrap();
    }
    blobs.copy("a", "copy").await.unwrap();
    blobs.copy("a", "b").await.unwrap();
    blobs.copy("c", "c").await.unwrap();
    assert_eq!(
        text(&*blobs, "copy").await + &text(&*blobs, "b").await,
        "aa"
    );
    assert_eq!(text(&*blobs, "c").await, "c");
    let gone = ["a", "none", "c", "a"].map(str::to_owned);
    blobs.delete(&gone).await.unwrap();
    blobs.delete(&[]).await.unwrap();
    assert_eq!(blobs.copy("a", "e").await, Err(Error::NoObject));
    assert_eq!(
        text(&*blobs, "copy").await,
        "a",
        "a copy does not depend on its source"
    );
    let mut left = names(&*blobs, 10).await;
    left.sort();
    assert_eq!(left, ["b", "copy", "d"]);
    blobs.put("large", filled(b'l', 9 << 20)).await.unwrap();
    blobs.copy("large", "larger").await.unwrap();
    assert_eq!(blobs.info("larger").await.unwrap().unwrap().size, 9 << 20);
    blobs.clear().await.unwrap();
    blobs.clear().await.unwrap();
    assert!(names(&*blobs, 10).await.is_empty());
    assert!(blobs.created_ms().await.unwrap().is_some());
    blobs.put("after", body("x")).await.unwrap();
    assert_eq!(names(&*blobs, 10).await, ["after"]);
}

/// Names that mean something to a file system, a shell, a server or a reader.
const ODD_NAMES: &[&str] = &[
    "",
    ".",
    "..",
    "...",
    "/",
    "//",
    "a/b",
    "/a",
    "a/",
    "a//b",
    "../../etc/passwd",
    "..\\x",
    "a",
    "A",
    "%",
    "%2e",
    "!",
    "!2e",
    "+",
    "a+",
    " ",
    "a b",
    "\0",
    "a\nb",
    "\u{e9}",
    "e\u{301}",
    "*",
    "?",
    "<x>",
    "&amp;",
    "\"",
    "'",
    "#",
    "a?b=c&d",
    "~",
    "CON",
    "container",
    "objects",
    "o",
    "temporary",
    "-rf",
    ".hidden",
    "name.",
    "\u{202e}",
    "\u{feff}",
];

async fn any_text_is_a_name(driver: &Driver) {
    let blobs = driver.made().await;
    let long = ["x".repeat(100), "\u{1f980}".repeat(8)];
    let all: Vec<&str> = ODD_NAMES
        .iter()
        .copied()
        .chain(long.iter().map(String::as_str))
        .collect();
    for name in &all {
        blobs
            .put(name, body(format!("content of {name:?}")))
            .await
            .unwrap();
    }
    for name in &all {
        assert_eq!(text(&*blobs, name).await, format!("content of {name:?}"));
    }
    let mut listed = names(&*blobs, 7).await;
    listed.sort();
    let mut written: Vec<_> = all.iter().map(|name| (*name).to_owned()).collect();
    written.sort();
    assert_eq!(listed, written);
    blobs.delete(&written).await.unwrap();
    assert!(names(&*blobs, 10).await.is_empty());
}

async fn a_name_that_is_too_long_is_refused_as_that(driver: &Driver) {
    let blobs = driver.made().await;
    let name = "n".repeat(64 << 10);
    let too_large = |error: &Error| matches!(error, Error::TooLarge { what, bytes: 65_536, .. } if what.starts_with("a name"));
    assert!(too_large(&blobs.put(&name, body("x")).await.unwrap_err()));
    assert!(too_large(&blobs.get(&name, Span::ALL).await.unwrap_err()));
    assert!(too_large(&blobs.info(&name).await.unwrap_err()));
    blobs.put("a", body("x")).await.unwrap();
    assert!(too_large(&blobs.copy("a", &name).await.unwrap_err()));
    blobs.delete(&[name, "a".to_owned()]).await.unwrap();
    assert_eq!(blobs.info("a").await, Ok(None));
}

async fn writers_of_one_object_do_not_mix(driver: &Driver) {
    let blobs = driver.made().await;
    let writers = (b'a'..b'i').map(|with| {
        let blobs = blobs.clone();
        async move { blobs.put("one", filled(with, 700_000)).await }
    });
    let mut writers = pin!(join_all(writers));
    let written = loop {
        tokio::select! {
            written = &mut writers => break written,
            seen = async { all(blobs.get("one", Span::ALL).await?).await } => match seen {
                Ok(bytes) => assert!(bytes.len() == 700_000 && bytes.windows(2).all(|two| two[0] == two[1])),
                Err(error) => assert_eq!(error, Error::NoObject),
            },
        }
    };
    assert!(written.into_iter().all(|written| written.is_ok()));
    let bytes = all(blobs.get("one", Span::ALL).await.unwrap())
        .await
        .unwrap();
    assert!(bytes.len() == 700_000 && bytes.windows(2).all(|two| two[0] == two[1]));
}

/// Containers of apps and labels that look alike, against a map for each.
async fn scopes_never_meet(driver: &Driver) {
    let scopes = [
        ("a", "b"),
        ("a", "B"),
        ("A", "b"),
        ("a", "bc"),
        ("ab", "c"),
        ("a", "b-c"),
        ("o", "o"),
    ];
    let name = "[a-bA/.%!+\\x00-]{0,4}|\\.\\./[ab]/[bB]/o/[ab]|\\PC{0,6}";
    let steps = prop::collection::vec((0..scopes.len(), name, 0..4_u8), 1..24);
    let cases = if driver.ordered { 24 } else { 6 };
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let tried = std::cell::RefCell::new(Vec::new());
    runner
        .run(&steps, |steps| {
            tried.borrow_mut().push(steps);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    for steps in tried.into_inner() {
        let mut expected: Vec<BTreeMap<String, String>> = vec![BTreeMap::new(); scopes.len()];
        let containers: Vec<_> = scopes
            .iter()
            .map(|(app, label)| driver.open(app, label))
            .collect();
        for container in &containers {
            container.create().await.unwrap();
            container.clear().await.unwrap();
        }
        for (at, (which, name, act)) in steps.iter().enumerate() {
            let (container, expected) = (&containers[*which], &mut expected[*which]);
            match act {
                0 | 1 => {
                    container
                        .put(name, body(format!("{which} {at}")))
                        .await
                        .unwrap();
                    expected.insert(name.clone(), format!("{which} {at}"));
                }
                2 => {
                    container.delete(std::slice::from_ref(name)).await.unwrap();
                    expected.remove(name);
                }
                _ => {
                    container.clear().await.unwrap();
                    expected.clear();
                }
            }
        }
        for (container, expected) in containers.iter().zip(&expected) {
            let mut listed = names(&**container, 5).await;
            listed.sort();
            assert_eq!(
                listed,
                expected.keys().cloned().collect::<Vec<_>>(),
                "after {steps:?}"
            );
            for (name, content) in expected {
                assert_eq!(&text(&**container, name).await, content, "after {steps:?}");
            }
        }
    }
}

/// A reader that leaves early costs nothing but its own time.
#[tokio::test]
async fn readers_may_leave_at_any_point() {
    for driver in [Driver::memory(), Driver::directory(), Driver::s3()] {
        let blobs = driver.made().await;
        blobs.put("a", filled(b'a', 3 << 20)).await.unwrap();
        for _ in 0..50 {
            let mut object = blobs.get("a", Span::ALL).await.unwrap();
            object.body.try_next().await.unwrap().unwrap();
        }
        assert_eq!(blobs.info("a").await.unwrap().unwrap().size, 3 << 20);
    }
}
