//! B: a good app, asked 100 times a second while another app is attacked.
//!
//! Open-loop: each request has its time, whatever became of those before it, and its answer counts from that time. So a
//! server that stalls is charged for every request that it kept waiting, not for one. Requests take turns between kept
//! connections and fresh ones. The probe has a thread and an address of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{Client, event_loop};
use super::judge::Samples;
use crate::bench::server::pause;

/// Where the probe comes from; no attacker uses it.
pub(super) const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The time from one request to the next.
const INTERVAL: Duration = Duration::from_millis(10);

/// A request that took this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests before the first that counts: they open connections and warm caches.
const WARM_UP: u32 = 20;

/// The route of B.
pub(super) const PATH: &str = "/b/";

/// A probe that runs until it is stopped.
pub(super) struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Samples>>,
}

impl Probe {
    /// Returns when the probe is warm: an attack that began before would be asked less often than it should be.
    pub(super) fn start(target: SocketAddr) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (warm, ready) = sync_channel(0);
        let thread = std::thread::spawn(move || {
            let samples = event_loop()?.block_on(run(target, &stopped, warm));
            Ok(samples)
        });
        // An end of the thread shows when it is joined.
        ready.recv().ok();
        Probe { stop, thread }
    }

    /// Sends nothing more, waits for what is on its way, and says what it saw.
    pub(super) fn stop(self) -> Result<Samples> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.join();
        joined.map_err(|_| anyhow!("the probe panicked"))?
    }
}

/// Probes for `time`.
pub(super) fn measure(target: SocketAddr, time: Duration) -> Result<Samples> {
    let probe = Probe::start(target);
    pause(time);
    probe.stop()
}

/// Connections that were kept, to be used again.
type Kept = Arc<Mutex<Vec<Client>>>;

/// `warm` is dropped as soon as the warm-up is over.
async fn run(target: SocketAddr, stop: &AtomicBool, warm: SyncSender<()>) -> Samples {
    let kept = Kept::default();
    let mut samples = Samples::default();
    let mut asked = JoinSet::new();
    for _ in 0..WARM_UP {
        let asked = exchange(target, Some(&kept));
        timeout(PATIENCE, asked).await.ok();
    }
    drop(warm);
    let begin = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = begin + INTERVAL * number;
        sleep_until(due).await;
        let kept = (number % 2 == 0).then(|| kept.clone());
        asked.spawn(ask(target, due, kept));
        number += 1;
        while let Some(Ok((time, failure))) = asked.try_join_next() {
            samples.add(time, failure);
        }
    }
    while let Some(done) = asked.join_next().await {
        if let Ok((time, failure)) = done {
            samples.add(time, failure);
        }
    }
    samples
}

/// One request: how long after `due` its answer was there, and what was wrong with it.
async fn ask(target: SocketAddr, due: Instant, kept: Option<Kept>) -> (Duration, Option<String>) {
    let outcome = timeout(PATIENCE, exchange(target, kept.as_ref())).await;
    let failure = match outcome {
        Ok(Ok(200)) => None,
        Ok(Ok(status)) => Some(format!("status {status}")),
        Ok(Err(error)) => Some(error.kind().to_string()),
        Err(_) => Some(format!("no answer in {PATIENCE:?}")),
    };
    (due.elapsed(), failure)
}

async fn exchange(target: SocketAddr, kept: Option<&Kept>) -> std::io::Result<u16> {
    if let Some(mut client) = kept.and_then(take) {
        // A server may close a kept connection at any time (RFC 9112, section 9.3.1): such a request is sent once more.
        if let Ok(answer) = client.get(PATH).await {
            keep(kept, client);
            return Ok(answer.status);
        }
    }
    let mut client = Client::open(SOURCE, target).await?;
    let answer = client.get(PATH).await?;
    keep(kept, client);
    Ok(answer.status)
}

fn take(kept: &Kept) -> Option<Client> {
    kept.lock().ok()?.pop()
}

fn keep(kept: Option<&Kept>, client: Client) {
    if let Some(Ok(mut kept)) = kept.map(|kept| kept.lock()) {
        kept.push(client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::AtomicU32;

    /// How many requests a server has seen, and how many of them it worked on at once.
    #[derive(Default)]
    struct Seen {
        total: AtomicU32,
        now: AtomicU32,
        most: AtomicU32,
    }

    /// Answers every request after `delay`; the first connection is closed after one answer.
    fn server(delay: Duration, status: &'static str) -> (SocketAddr, Arc<Seen>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let told = seen.clone();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (mut stream, seen) = (stream.unwrap(), seen.clone());
                std::thread::spawn(move || {
                    while stream.read(&mut [0; 256]).is_ok_and(|read| read > 0) {
                        let now = seen.now.fetch_add(1, Ordering::Relaxed) + 1;
                        seen.most.fetch_max(now, Ordering::Relaxed);
                        pause(delay);
                        seen.now.fetch_sub(1, Ordering::Relaxed);
                        seen.total.fetch_add(1, Ordering::Relaxed);
                        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                        if stream.write_all(answer.as_bytes()).is_err() || number == 0 {
                            return;
                        }
                    }
                });
            }
        });
        (address, told)
    }

    /// Probes until the server has answered `total` requests.
    fn probed(target: SocketAddr, seen: &Seen, total: u32) -> Samples {
        let probe = Probe::start(target);
        let until = Instant::now() + Duration::from_secs(60);
        while seen.total.load(Ordering::Relaxed) < total && Instant::now() < until {
            pause(Duration::from_millis(5));
        }
        probe.stop().unwrap()
    }

    #[test]
    fn a_good_server_is_asked_and_never_fails() {
        let (target, seen) = server(Duration::ZERO, "200 OK");
        let samples = probed(target, &seen, WARM_UP + 20);
        assert!(samples.count() > 10);
        assert_eq!(samples.failed(), 0, "{samples:?}");
    }

    #[test]
    fn a_slow_server_is_asked_before_it_has_answered() {
        let delay = Duration::from_millis(50);
        let (target, seen) = server(delay, "200 OK");
        let samples = probed(target, &seen, WARM_UP + 20);
        assert!(seen.most.load(Ordering::Relaxed) > 1);
        assert!(samples.percentile(0.01) >= delay);
    }

    #[test]
    fn a_refusal_is_a_failure() {
        let (target, seen) = server(Duration::ZERO, "503 Busy");
        let samples = probed(target, &seen, WARM_UP + 5);
        assert!(samples.count() > 0);
        assert_eq!(samples.failed() as usize, samples.count());
    }

    #[test]
    fn nobody_listening_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let samples = measure(address, Duration::from_millis(50)).unwrap();
        assert!(samples.count() > 0);
        assert_eq!(samples.failed() as usize, samples.count());
    }
}
