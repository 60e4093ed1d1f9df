//! Each driver against a server that fails: every operation ends in a typed failure in time, and works again soon after the
//! server does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use hostel_backends::{Mode, Nats, Proxy, Redis};
use hostel_stores::kv::{Kv, SetOptions};
use hostel_stores::messaging::Messaging;
use hostel_stores::{Failure, Stores, kv, messaging};
use tokio::time::{sleep, timeout};

use super::{LONG, message, stores, terms};

/// What one operation may take here.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Far more than that: the machine may be busy with other tests.
const LATE: Duration = Duration::from_secs(10);

/// A server of either kind.
pub(super) trait Server {
    fn start() -> Self;
    fn url_at(&self, port: u16) -> String;
    fn port(&self) -> u16;
    fn kill(&mut self);
    fn restart(&mut self);
    fn pause(&self);
    fn resume(&self);
}

macro_rules! server {
    ($server:ident) => {
        impl Server for $server {
            fn start() -> Self {
                $server::start()
            }
            fn url_at(&self, port: u16) -> String {
                $server::url_at(self, port)
            }
            fn port(&self) -> u16 {
                $server::port(self)
            }
            fn kill(&mut self) {
                $server::kill(self);
            }
            fn restart(&mut self) {
                $server::restart(self);
            }
            fn pause(&self) {
                $server::pause(self);
            }
            fn resume(&self) {
                $server::resume(self);
            }
        }
    };
}

server!(Redis);
server!(Nats);

/// A driver, and an operation of it that needs the server's answer.
pub(super) trait Target {
    type Server: Server;
    fn new(stores: &Stores, url: &str) -> Self;
    async fn operate(&self) -> Result<(), Failure>;
}

struct KvOn<S>(Arc<dyn Kv>, std::marker::PhantomData<S>);

impl<S: Server> Target for KvOn<S> {
    type Server = S;

    fn new(stores: &Stores, url: &str) -> Self {
        Self(super::kv(stores, url, TIMEOUT), std::marker::PhantomData)
    }

    async fn operate(&self) -> Result<(), Failure> {
        let read = async {
            self.0.set("a", "1".into(), SetOptions::default()).await?;
            self.0.get("a").await
        };
        match read.await {
            Ok(entry) => {
                assert_eq!(entry.unwrap().value, "1");
                Ok(())
            }
            Err(kv::Error::Failed(failure)) => Err(failure),
            Err(other) => panic!("{other:?}"),
        }
    }
}

struct Stored<S>(Arc<dyn Messaging>, std::marker::PhantomData<S>);

impl<S: Server> Target for Stored<S> {
    type Server = S;

    fn new(stores: &Stores, url: &str) -> Self {
        let messaging = super::messaging(stores, url, TIMEOUT);
        Self(messaging, std::marker::PhantomData)
    }

    async fn operate(&self) -> Result<(), Failure> {
        failed(self.0.publish(message("a", "1")).await)
    }
}

/// NATS core: a publication needs no answer, and so the check stands for all that do.
struct Core(Arc<dyn Messaging>);

impl Target for Core {
    type Server = Nats;

    fn new(stores: &Stores, url: &str) -> Self {
        let url = url.replace("nats://", "nats+core://");
        Self(super::messaging(stores, &url, TIMEOUT))
    }

    async fn operate(&self) -> Result<(), Failure> {
        failed(self.0.check().await)
    }
}

fn failed(result: messaging::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(messaging::Error::Failed(failure)) => Err(failure),
        Err(other) => panic!("{other:?}"),
    }
}

/// Fails in time, several times and at once.
async fn fails(target: &impl Target, why: &str) {
    let mut failures = Vec::new();
    let began = Instant::now();
    // What was on its way may still arrive.
    while failures.len() < 4 {
        let tried = Instant::now();
        let results = futures::future::join_all((0..4).map(|_| target.operate())).await;
        assert!(tried.elapsed() < LATE, "{why}: {:?}", tried.elapsed());
        assert!(began.elapsed() < LONG, "{why}: it does not fail");
        failures.extend(results.into_iter().filter_map(Result::err));
    }
    for failure in failures {
        assert!(!failure.to_string().is_empty(), "{why}");
        assert!(!matches!(failure, Failure::Full(_)), "{why}: {failure}");
    }
}

/// Works again soon.
async fn works(target: &impl Target, why: &str) {
    let began = Instant::now();
    loop {
        match target.operate().await {
            Ok(()) => break,
            Err(failure) => {
                assert!(began.elapsed() < LATE, "{why}: {failure}");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    eprintln!("{why}: works after {:?}", began.elapsed());
    assert!(began.elapsed() < LATE, "{why}: {:?}", began.elapsed());
    for _ in 0..10 {
        target.operate().await.unwrap();
    }
}

pub(super) async fn a_server_that_is_down_at_the_start<T: Target>() {
    let mut server = T::Server::start();
    let url = server.url_at(server.port());
    server.kill();
    let stores = stores();
    let target = T::new(&stores, &url);
    fails(&target, "down at the start").await;
    server.restart();
    works(&target, "started").await;
}

pub(super) async fn a_network_that_fails_in_every_way<T: Target>() {
    let server = T::Server::start();
    let mut proxy = Proxy::before(server.port());
    let stores = stores();
    let target = T::new(&stores, &server.url_at(proxy.port()));
    works(&target, "at first").await;
    for mode in [
        Mode::Refuse,
        Mode::ResetAfter(3),
        Mode::Delay(Duration::from_secs(10)),
        Mode::Garbage,
        Mode::Silence,
    ] {
        let accepted = proxy.accepted();
        proxy.set(mode);
        fails(&target, &format!("{mode:?}")).await;
        let attempts = proxy.accepted() - accepted;
        assert!(attempts < 400, "{mode:?}: {attempts} connections");
        proxy.set(Mode::Pass);
        works(&target, &format!("after {mode:?}")).await;
    }
    proxy.cut();
    works(&target, "after a cut").await;
}

pub(super) async fn a_server_that_restarts_or_pauses<T: Target>() {
    let mut server = T::Server::start();
    let stores = stores();
    let target = T::new(&stores, &server.url_at(server.port()));
    works(&target, "at first").await;
    server.restart();
    works(&target, "restarted").await;
    server.pause();
    fails(&target, "paused").await;
    server.resume();
    works(&target, "resumed").await;
    server.kill();
    fails(&target, "killed").await;
    server.restart();
    works(&target, "back").await;
}

/// A call that its caller gives up before it is late leaves nothing behind that hangs.
pub(super) async fn a_caller_that_does_not_wait<T: Target>() {
    let server = T::Server::start();
    let mut proxy = Proxy::before(server.port());
    let stores = stores();
    let target = T::new(&stores, &server.url_at(proxy.port()));
    works(&target, "at first").await;
    proxy.set(Mode::Silence);
    for _ in 0..20 {
        let given_up = timeout(Duration::from_millis(50), target.operate()).await;
        assert!(!matches!(given_up, Ok(Ok(()))), "nothing answers");
    }
    proxy.set(Mode::Pass);
    works(&target, "after it").await;
}

macro_rules! faults {
    ($driver:ident, $target:ty) => {
        mod $driver {
            use super::*;

            #[tokio::test]
            async fn a_server_that_is_down_at_the_start() {
                super::a_server_that_is_down_at_the_start::<$target>().await;
            }

            #[tokio::test]
            async fn a_network_that_fails_in_every_way() {
                super::a_network_that_fails_in_every_way::<$target>().await;
            }

            #[tokio::test]
            async fn a_server_that_restarts_or_pauses() {
                super::a_server_that_restarts_or_pauses::<$target>().await;
            }

            #[tokio::test]
            async fn a_caller_that_does_not_wait() {
                super::a_caller_that_does_not_wait::<$target>().await;
            }
        }
    };
}

faults!(redis_kv, KvOn<Redis>);
faults!(nats_kv, KvOn<Nats>);
faults!(redis_streams, Stored<Redis>);
faults!(jetstream, Stored<Nats>);
faults!(nats_core, Core);

/// A subscription goes on after its server was away, and after a network that was silent.
async fn goes_on<S: Server>(scheme: impl Fn(String) -> String) {
    let mut server = S::start();
    let mut proxy = Proxy::before(server.port());
    let stores = stores();
    let url = scheme(server.url_at(proxy.port()));
    let broker = super::messaging(&stores, &url, TIMEOUT);
    let mut heard = broker.subscribe(terms("a.*", "group")).await.unwrap();
    for round in 0..4 {
        match round {
            1 => server.restart(),
            2 => {
                proxy.set(Mode::Silence);
                sleep(Duration::from_millis(40)).await;
                proxy.set(Mode::Pass);
                proxy.cut();
            }
            3 => {
                server.pause();
                let refused = broker.publish(message("a.b", "paused")).await;
                assert!(refused.is_err() || !broker.is_durable());
                server.resume();
            }
            _ => {}
        }
        // NATS core forgets what is published while nobody can hear it.
        let wanted = format!("{round}");
        let began = Instant::now();
        loop {
            let _perhaps = broker.publish(message("a.b", &wanted)).await;
            let next = timeout(Duration::from_millis(300), heard.next()).await;
            assert!(began.elapsed() < LONG, "round {round}");
            let Ok(Some(delivery)) = next else { continue };
            let body = delivery.message.body.clone();
            let _perhaps = delivery.settle.ack().await;
            if body == wanted {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_subscription_of_redis_streams_goes_on() {
    goes_on::<Redis>(|url| url).await;
}

#[tokio::test]
async fn a_subscription_of_jetstream_goes_on() {
    goes_on::<Nats>(|url| url).await;
}

#[tokio::test]
async fn a_subscription_of_nats_core_goes_on() {
    goes_on::<Nats>(|url| url.replace("nats://", "nats+core://")).await;
}
