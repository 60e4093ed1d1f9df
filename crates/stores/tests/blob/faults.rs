//! S3 behind a connection that fails: a typed error in time, and service again when it is over.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use hostel_backends::{Mode, Proxy, S3};
use hostel_stores::Failure;
use hostel_stores::blob::{Blob, Error, Result, Span};
use tokio::sync::Notify;

use super::{Driver, all, body, filled, text};

/// How long an operation may take; the place's default.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What a badly loaded machine may add.
const PATIENCE: Duration = Duration::from_secs(10);

/// The container, and the stores that serve it.
fn open(url: &str) -> (Driver, Arc<dyn Blob>) {
    let driver = Driver::at(url);
    let blobs = driver.open("shop", "uploads");
    (driver, blobs)
}

/// The failure, which comes in time.
async fn fails<T: std::fmt::Debug>(operation: impl Future<Output = Result<T>>) -> Failure {
    let begun = Instant::now();
    let error = operation.await.unwrap_err();
    assert!(
        begun.elapsed() < 2 * TIMEOUT + PATIENCE,
        "{:?}",
        begun.elapsed()
    );
    match error {
        Error::Failed(failure) => failure,
        other => panic!("{other}"),
    }
}

/// It works again, at once or soon.
async fn recovers(blobs: &dyn Blob) {
    let begun = Instant::now();
    while blobs.info("a").await.is_err() {
        assert!(begun.elapsed() < TIMEOUT + PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(text(blobs, "a").await, "still there");
}

#[tokio::test]
async fn every_fault_is_a_typed_failure_in_time_and_then_it_works_again() {
    let server = S3::start();
    let (_driver, blobs) = open(&server.url());
    blobs.create().await.unwrap();
    blobs.put("a", body("still there")).await.unwrap();
    let modes = [
        Mode::Refuse,
        Mode::Silence,
        Mode::ResetAfter(0),
        Mode::ResetAfter(20),
        Mode::Garbage,
        Mode::Delay(Duration::from_secs(10)),
    ];
    join_all(modes.map(|mode| is_typed_and_in_time(&server, mode))).await;
}

async fn is_typed_and_in_time(server: &S3, mode: Mode) {
    let mut proxy = Proxy::before(server.port());
    let (_driver, blobs) = open(&server.url_at(proxy.port()));
    // With a connection that is there.
    assert_eq!(text(&*blobs, "a").await, "still there");
    proxy.set(mode);
    proxy.cut();
    let (read, put, list, check) = tokio::join!(
        fails(async { all(blobs.get("a", Span::ALL).await?).await }),
        fails(blobs.put("a", body("torn"))),
        fails(blobs.list(None, 10)),
        fails(blobs.check()),
    );
    for failure in [read, put, list, check] {
        let fits = match mode {
            Mode::Garbage => matches!(failure, Failure::Broken(_) | Failure::Unavailable(_)),
            Mode::Silence | Mode::Delay(_) => matches!(failure, Failure::TimedOut(_)),
            _ => matches!(failure, Failure::Unavailable(_) | Failure::TimedOut(_)),
        };
        assert!(fits, "{mode:?}: {failure}");
        assert!(!failure.to_string().contains(server.secret()), "{failure}");
    }
    proxy.set(Mode::Pass);
    recovers(&*blobs).await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_fetched_on_or_ends_with_a_failure() {
    const BYTES: usize = 12 << 20;
    let server = S3::start();
    let mut proxy = Proxy::before(server.port());
    let (_driver, blobs) = open(&server.url_at(proxy.port()));
    let mut patient = Driver::at(&server.url());
    patient.place.timeout = Duration::from_secs(60);
    let stored = patient.made().await.put("a", filled(b'a', BYTES)).await;
    assert_eq!(stored.unwrap().size, BYTES as u64);
    // One reset in the middle: the rest is fetched, nothing is missing or twice.
    let mut object = blobs.get("a", Span::ALL).await.unwrap();
    let first = object.body.try_next().await.unwrap().unwrap();
    proxy.cut();
    let rest = all(object).await.unwrap();
    assert_eq!(first.len() + rest.len(), BYTES);
    // A server that never gets further.
    let mut object = blobs.get("a", Span::ALL).await.unwrap();
    object.body.try_next().await.unwrap().unwrap();
    proxy.set(Mode::Refuse);
    let failure = fails(all(object)).await;
    assert!(matches!(failure, Failure::Unavailable(_)), "{failure}");
    proxy.set(Mode::Pass);
    // The same on the way in: a typed failure, and nothing is stored.
    let begins = Arc::new(Notify::new());
    let (told, first) = (begins.clone(), filled(b'b', BYTES));
    let body = first.inspect(move |_| told.notify_one()).boxed();
    let put = async { blobs.put("b", body).await.map(|_| ()) };
    let cut = async {
        begins.notified().await;
        proxy.set(Mode::Refuse);
        Ok(())
    };
    let failure = fails(async { futures::future::try_join(put, cut).await.map(|_| ()) }).await;
    assert!(matches!(failure, Failure::Unavailable(_)), "{failure}");
    proxy.set(Mode::Pass);
    assert_eq!(blobs.info("b").await, Ok(None));
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_and_one_that_restarts() {
    let mut server = S3::start();
    server.kill();
    let (_driver, blobs) = open(&server.url());
    assert!(matches!(
        fails(blobs.create()).await,
        Failure::Unavailable(_)
    ));
    assert!(matches!(
        fails(blobs.check()).await,
        Failure::Unavailable(_)
    ));
    server.restart();
    blobs.check().await.unwrap();
    blobs.create().await.unwrap();
    blobs.put("a", body("still there")).await.unwrap();
    server.restart();
    recovers(&*blobs).await;
}

#[tokio::test]
async fn what_the_operator_got_wrong_is_said() {
    let server = S3::start();
    let (_driver, blobs) = open(&server.url().replace(server.secret(), "wrong"));
    let failure = fails(blobs.check()).await;
    assert!(matches!(failure, Failure::Refused(_)), "{failure}");
    let (_driver, blobs) = open(&server.url().replace("@tests", "@absent"));
    let failure = fails(blobs.check()).await;
    assert!(
        failure.to_string().contains("there is no bucket `absent`"),
        "{failure}"
    );
}

#[tokio::test]
async fn parts_of_an_upload_that_is_given_up_are_removed() {
    let server = S3::start();
    let (_driver, blobs) = open(&server.url());
    blobs.create().await.unwrap();
    let parts = || {
        let entries = std::fs::read_dir(server.folder()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".upload")).count()
    };
    blobs.put("a", super::given_up(12 << 20)).await.unwrap_err();
    let dropped = tokio::time::timeout(
        Duration::from_secs(3),
        blobs.put("a", super::stalled(12 << 20)),
    );
    tokio::select! {
        _ = dropped => {}
        () = async { while parts() < 2 { tokio::time::sleep(Duration::from_millis(5)).await } } => {}
    }
    let begun = Instant::now();
    while parts() > 0 {
        assert!(
            begun.elapsed() < PATIENCE,
            "{} files of uploads are left",
            parts()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
