//! Requests as fast as they are answered, over kept connections, and what came back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{Client, PATIENCE, assault, attacker};

/// What is asked.
pub(super) struct Hammer {
    pub(super) target: SocketAddr,
    /// Taken in turns, one for each request.
    pub(super) paths: Vec<String>,
    pub(super) connections: usize,
    /// Ends after so many requests,
    pub(super) requests: u64,
    /// or after this time, whichever is first.
    pub(super) time: Duration,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Answers by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Requests without a whole answer.
    pub(super) cut: u64,
    /// The longest time from request to answer.
    pub(super) worst: Duration,
    /// The last answer that was no 200, and the last that was: for people.
    pub(super) last: BTreeMap<u16, String>,
}

impl Tally {
    pub(super) fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Answers with one of these statuses.
    pub(super) fn of(&self, statuses: &[u16]) -> u64 {
        let found = statuses
            .iter()
            .filter_map(|status| self.statuses.get(status));
        found.sum()
    }

    /// As a figure: `{"200": 7, "cut": 0}`.
    pub(super) fn value(&self) -> Value {
        let mut value = json!({"cut": self.cut});
        if let Some(map) = value.as_object_mut() {
            for (status, count) in &self.statuses {
                map.insert(status.to_string(), json!(count));
            }
        }
        value
    }

    pub(super) fn merge(&mut self, other: Tally) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.cut += other.cut;
        self.worst = self.worst.max(other.worst);
        self.last.extend(other.last);
    }

    fn add(&mut self, answer: Option<(u16, Vec<u8>)>, took: Duration) {
        let Some((status, body)) = answer else {
            self.cut += 1;
            return;
        };
        *self.statuses.entry(status).or_default() += 1;
        self.worst = self.worst.max(took);
        let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        self.last.insert(status, text);
    }
}

impl Hammer {
    /// Runs on a thread of its own.
    pub(super) fn run(self) -> Result<Tally> {
        assault(async move {
            let hammer = Arc::new(self);
            let next = Arc::new(AtomicU64::new(0));
            let until = Instant::now() + hammer.time;
            let mut tasks = JoinSet::new();
            for number in 0..hammer.connections {
                tasks.spawn(strike(hammer.clone(), next.clone(), number, until));
            }
            let mut tally = Tally::default();
            while let Some(done) = tasks.join_next().await {
                tally.merge(done?);
            }
            Ok(tally)
        })
    }
}

/// One connection, opened again whenever it ends.
async fn strike(hammer: Arc<Hammer>, next: Arc<AtomicU64>, number: usize, until: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut client = None;
    loop {
        let turn = next.fetch_add(1, Ordering::Relaxed);
        if turn >= hammer.requests || Instant::now() >= until {
            return tally;
        }
        let index = turn as usize % hammer.paths.len().max(1);
        let path = hammer.paths.get(index).map_or("/", String::as_str);
        let from = attacker(number);
        let began = Instant::now();
        let exchange = async {
            let mut open = match client.take() {
                Some(open) => open,
                None => Client::open(from, hammer.target).await?,
            };
            let answer = open.get(path).await?;
            Ok::<_, std::io::Error>((open, answer))
        };
        match timeout(PATIENCE, exchange).await {
            Ok(Ok((open, answer))) => {
                if answer.field("connection") != Some("close") {
                    client = Some(open);
                }
                tally.add(Some((answer.status, answer.body)), began.elapsed());
            }
            Ok(Err(_)) | Err(_) => tally.add(None, began.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_sums_statuses_and_keeps_the_worst() {
        let mut tally = Tally::default();
        tally.add(Some((500, b"trap".to_vec())), Duration::from_millis(3));
        let mut other = Tally::default();
        other.add(Some((500, Vec::new())), Duration::from_millis(5));
        other.add(Some((200, Vec::new())), Duration::from_millis(1));
        other.add(None, Duration::from_secs(9));
        tally.merge(other);
        assert_eq!(tally.value(), json!({"200": 1, "500": 2, "cut": 1}));
        assert_eq!((tally.answers(), tally.of(&[500, 504])), (3, 2));
        assert_eq!(tally.worst, Duration::from_millis(5));
    }

    #[test]
    fn requests_to_nobody_are_all_cut_and_come_to_an_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        drop(listener);
        let hammer = Hammer {
            target,
            paths: vec!["/".to_owned()],
            connections: 2,
            requests: 5,
            time: Duration::from_secs(60),
        };
        assert_eq!(hammer.run().unwrap().cut, 5);
    }
}
