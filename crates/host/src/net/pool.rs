//! Connections that wait for the next request, of one app.
//!
//! A connection is used again only on the thread that made it, whose task drives it: a request would otherwise pay for
//! two wake-ups of another thread, which cost more than a connection to a server nearby. The address that it leads to was
//! checked when it was dialled; whoever takes it checks it again, because another component of the app has other grants.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use hostel_app::limits;
use tokio::runtime::Handle;

use super::Network;
use super::dial::Link;
use super::resolve::Host;
use crate::lock::lock;

/// The server as a guest named it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) tls: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

/// The idle connections of one app.
#[derive(Debug)]
pub(crate) struct Pool {
    links: Mutex<HashMap<Server, Vec<Idle>>>,
    /// Those of all apps.
    total: Arc<AtomicU32>,
    idle_time: Duration,
    /// A task closes those that were idle for too long.
    sweeping: AtomicBool,
}

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
    _counted: Counted,
}

/// One of the idle connections of all apps.
#[derive(Debug)]
struct Counted(Arc<AtomicU32>);

impl Counted {
    fn one(total: &Arc<AtomicU32>) -> Option<Self> {
        let most = limits::OUTBOUND_IDLE_TOTAL.count();
        let enter = |count: u32| (count < most).then(|| count.saturating_add(1));
        total.fetch_update(Relaxed, Relaxed, enter).ok()?;
        Some(Self(total.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    pub(super) fn new(network: &Network) -> Arc<Self> {
        Arc::new(Self {
            links: Mutex::default(),
            total: network.idle.clone(),
            idle_time: network.times.idle,
            sweeping: AtomicBool::new(false),
        })
    }

    /// A connection of this thread's to the server at an address that is permitted. Those of HTTP/2 stay for others too.
    pub(super) fn take(
        &self,
        server: &Server,
        permitted: impl Fn(SocketAddr) -> bool,
    ) -> Option<Link> {
        let home = Handle::try_current().ok()?.id();
        let mut links = lock(&self.links);
        let idle = links.get_mut(server)?;
        idle.retain(|idle| !idle.link.is_closed() && idle.since.elapsed() < self.idle_time);
        let found = idle.iter().rposition(|idle| {
            idle.link.home == home && permitted(idle.link.address) && idle.link.is_ready()
        });
        let taken = found.and_then(|at| match idle.get_mut(at) {
            Some(found) if found.link.is_shared() => {
                found.since = Instant::now();
                found.link.share()
            }
            _ => Some(idle.remove(at).link),
        });
        if idle.is_empty() {
            links.remove(server);
        }
        taken
    }

    /// Keeps a connection for the next request, unless there are enough.
    pub(super) fn put(self: &Arc<Self>, server: &Server, link: Link) {
        if link.is_closed() {
            return;
        }
        let mut links = lock(&self.links);
        let idle = links.entry(server.clone()).or_default();
        idle.retain(|idle| !idle.link.is_closed());
        let is_double = |other: &Idle| other.link.is_shared() && other.link.home == link.home;
        if !(link.is_shared() && idle.iter().any(is_double)) {
            if idle.len() >= limits::OUTBOUND_IDLE.size() {
                idle.remove(0);
            }
            if let Some(counted) = Counted::one(&self.total) {
                idle.push(Idle {
                    link,
                    since: Instant::now(),
                    _counted: counted,
                });
            }
        }
        if idle.is_empty() {
            links.remove(server);
        }
        drop(links);
        self.sweep_later();
    }

    /// Closes what was idle for too long; whether any is left.
    fn sweep(&self) -> bool {
        let mut links = lock(&self.links);
        links.retain(|_, idle| {
            idle.retain(|idle| !idle.link.is_closed() && idle.since.elapsed() < self.idle_time);
            !idle.is_empty()
        });
        !links.is_empty()
    }

    fn sweep_later(self: &Arc<Self>) {
        let Ok(home) = Handle::try_current() else {
            return;
        };
        if self.sweeping.swap(true, Relaxed) {
            return;
        }
        let (sweeper, pause) = (Sweeper(Arc::downgrade(self)), self.idle_time);
        home.spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(pool) = sweeper.0.upgrade() else {
                    return;
                };
                if pool.sweep() {
                    continue;
                }
                pool.sweeping.store(false, Relaxed);
                // One that is kept meanwhile finds either this task or none.
                if !pool.sweep() || pool.sweeping.swap(true, Relaxed) {
                    return;
                }
            }
        });
    }
}

/// Makes room for another task when this one ends, also with its thread.
struct Sweeper(Weak<Pool>);

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.sweeping.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dial::tests::{h1, h2};
    use super::*;
    use crate::testing::block_on;

    fn server(port: u16) -> Server {
        Server {
            tls: false,
            host: Host::parse("127.0.0.1").unwrap(),
            port,
        }
    }

    fn kept(pool: &Pool) -> usize {
        lock(&pool.links).values().map(Vec::len).sum()
    }

    #[test]
    fn idle_connections_are_bounded() {
        block_on(async {
            let network = Network::default();
            let (one, two) = (Pool::new(&network), Pool::new(&network));
            let most = limits::OUTBOUND_IDLE.size();
            let mut far_ends = Vec::new();
            for _ in 0..most + 3 {
                let (link, far_end) = h1().await;
                far_ends.push(far_end);
                one.put(&server(1), link);
            }
            assert_eq!(kept(&one), most, "to one server");
            let total = limits::OUTBOUND_IDLE_TOTAL.count();
            network.idle.store(total - 1, Relaxed);
            for port in 0..2 {
                let (link, far_end) = h1().await;
                far_ends.push(far_end);
                two.put(&server(port), link);
            }
            assert_eq!(kept(&two), 1, "of all apps");
            assert_eq!(network.idle.load(Relaxed), total);
            drop(two);
            assert_eq!(network.idle.load(Relaxed), total - 1);
        });
    }

    #[test]
    fn a_connection_is_taken_by_one_request_and_only_where_it_is_permitted() {
        block_on(async {
            let pool = Pool::new(&Network::default());
            let (link, _far_end) = h1().await;
            let address = link.address;
            pool.put(&server(1), link);
            assert!(pool.take(&server(2), |_| true).is_none(), "another server");
            assert!(pool.take(&server(1), |_| false).is_none(), "not permitted");
            let taken = pool.take(&server(1), |to| to == address).unwrap();
            assert!(pool.take(&server(1), |_| true).is_none(), "it is taken");
            assert_eq!(lock(&pool.links).len(), 0, "nothing is left of it");
            pool.put(&server(1), taken);
            let other_thread = std::thread::scope(|scope| {
                let take = || block_on(async { pool.take(&server(1), |_| true).is_some() });
                scope.spawn(take).join().unwrap()
            });
            assert!(!other_thread, "its task is on this thread");
            assert!(pool.take(&server(1), |_| true).is_some());
        });
    }

    #[test]
    fn a_connection_of_http_2_is_taken_by_many_and_kept_once() {
        block_on(async {
            let pool = Pool::new(&Network::default());
            let (link, _far_end) = h2().await;
            pool.put(&server(1), link);
            let (again, _other_end) = h2().await;
            pool.put(&server(1), again);
            assert_eq!(kept(&pool), 1);
            assert!(pool.take(&server(1), |_| true).is_some());
            assert!(pool.take(&server(1), |_| true).is_some());
            assert_eq!(kept(&pool), 1);
        });
    }

    #[test]
    fn what_the_server_closed_is_not_taken() {
        block_on(async {
            let pool = Pool::new(&Network::default());
            let (link, far_end) = h1().await;
            pool.put(&server(1), link);
            drop(far_end);
            while !lock(&pool.links)[&server(1)][0].link.is_closed() {
                tokio::task::yield_now().await;
            }
            assert!(pool.take(&server(1), |_| true).is_none());
            assert_eq!(kept(&pool), 0);
        });
    }
}
