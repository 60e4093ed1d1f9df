//! While the server is killed, restarted and paused: what was acknowledged arrives, and what arrives twice was delivered
//! again.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::BoxStream;
use hostel_backends::{Nats, Redis};
use hostel_stores::messaging::{Delivery, Messaging, Subscription};
use tokio::time::{sleep, timeout};

use super::faults::Server;
use super::{LONG, message, stores, terms};

const MESSAGES: usize = 20_000;
const PUBLISHERS: usize = 64;
/// How long the server does nothing.
const PAUSE: Duration = Duration::from_secs(3);

/// Publishes until so many are acknowledged, each with a name of its own, and gives the names.
async fn publish(broker: Arc<dyn Messaging>, acknowledged: Arc<AtomicUsize>) -> HashSet<String> {
    let number = Arc::new(AtomicUsize::new(0));
    let publishers = (0..PUBLISHERS).map(|_| {
        let (broker, number, acknowledged) = (broker.clone(), number.clone(), acknowledged.clone());
        tokio::spawn(async move {
            let mut names = Vec::new();
            while acknowledged.load(Ordering::SeqCst) < MESSAGES {
                let name = number.fetch_add(1, Ordering::SeqCst).to_string();
                match broker.publish(message("a.b", &name)).await {
                    Ok(()) => {
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                        names.push(name);
                    }
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
            names
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut all = HashSet::new();
    for publisher in publishers {
        all.extend(publisher.await.unwrap());
    }
    all
}

/// What a subscription has heard.
#[derive(Default)]
struct Heard {
    /// By name, when each came for the first time.
    received: Mutex<HashMap<String, Vec<Instant>>>,
    again: AtomicUsize,
}

impl Heard {
    /// Acknowledges everything as it comes.
    async fn hear(self: Arc<Self>, mut deliveries: BoxStream<'static, Delivery>) {
        while let Some(delivery) = deliveries.next().await {
            let name = String::from_utf8(delivery.message.body.to_vec()).unwrap();
            let first = (delivery.attempt == 1).then(Instant::now);
            self.again
                .fetch_add(usize::from(first.is_none()), Ordering::SeqCst);
            self.received().entry(name).or_default().extend(first);
            tokio::spawn(delivery.settle.ack());
        }
    }

    async fn everything(&self, names: &HashSet<String>) {
        let began = Instant::now();
        loop {
            let missing = {
                let received = self.received();
                let missing = |name: &&String| !received.contains_key(*name);
                names.iter().filter(missing).count()
            };
            if missing == 0 {
                return;
            }
            let of = names.len();
            assert!(began.elapsed() < LONG, "{missing} of {of} are lost");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn received(&self) -> MutexGuard<'_, HashMap<String, Vec<Instant>>> {
        self.received.lock().unwrap()
    }
}

/// Kills and starts the server again when a quarter of the messages is acknowledged, pauses it after half, and kills it
/// again after three; gives the moments of the crashes.
async fn trouble<S: Server + Send + 'static>(
    mut server: S,
    acknowledged: &AtomicUsize,
) -> (S, Vec<Instant>) {
    let mut crashes = Vec::new();
    for (part, pauses) in [(1, false), (2, true), (3, false)] {
        let began = Instant::now();
        while acknowledged.load(Ordering::SeqCst) < MESSAGES * part / 4 {
            assert!(began.elapsed() < LONG * 4, "nothing is published any more");
            sleep(Duration::from_millis(5)).await;
        }
        if pauses {
            server.pause();
            sleep_for(PAUSE).await;
            server.resume();
        } else {
            crashes.push(Instant::now());
            // Others publish meanwhile.
            let restarted = tokio::task::spawn_blocking(move || {
                server.restart();
                server
            });
            server = restarted.await.unwrap();
        }
    }
    (server, crashes)
}

/// `forgets` is a server that may not know after a crash what it had delivered just before: its duplicates have one behind
/// them.
async fn nothing_is_lost<S: Server + Send + 'static>(forgets: bool) {
    let server = S::start();
    let stores = stores();
    let url = server.url_at(server.port());
    let broker = super::messaging(&stores, &url, Duration::from_secs(2));
    let terms = Subscription {
        ack_wait: Duration::from_secs(2),
        deliveries: 1000,
        in_flight: 256,
        ..terms("a.*", "group")
    };
    let heard = Arc::new(Heard::default());
    let deliveries = broker.subscribe(terms).await.unwrap();
    let hearing = tokio::spawn(heard.clone().hear(deliveries));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let publishing = tokio::spawn(publish(broker.clone(), acknowledged.clone()));
    let (_server, crashes) = trouble(server, &acknowledged).await;
    let names = timeout(LONG * 4, publishing).await.unwrap().unwrap();
    heard.everything(&names).await;
    hearing.abort();
    let received = heard.received();
    let twice: Vec<_> = received.values().filter(|times| times.len() > 1).collect();
    eprintln!(
        "{} acknowledged, {} heard, {} delivered again, {} twice",
        names.len(),
        received.len(),
        heard.again.load(Ordering::SeqCst),
        twice.len()
    );
    for times in twice {
        // What was on its way in this process came a little later.
        let after_a_crash = times.windows(2).all(|pair| {
            let between = |crash: &Instant| pair[0] < *crash + PAUSE && *crash < pair[1];
            crashes.iter().any(between)
        });
        assert!(
            forgets && after_a_crash,
            "delivered twice: {times:?} {crashes:?}"
        );
    }
}

/// In short pieces.
async fn sleep_for(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn jetstream_loses_nothing_that_it_acknowledged() {
    nothing_is_lost::<Nats>(true).await;
}

#[tokio::test]
async fn redis_streams_lose_nothing_that_they_acknowledged() {
    nothing_is_lost::<Redis>(false).await;
}
