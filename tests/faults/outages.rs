//! Servers behind stores that are not there when the host starts, die, or stand still: a call that needs one gets a typed error
//! within its time, everything else is served meanwhile, and when the server is back so is the store.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hostel_backends::{Mode, Nats, Postgres, Proxy, Redis, S3};

use crate::harness::app::App;
use crate::harness::message::{Answer, get, post};
use crate::harness::server::Server;
use crate::harness::{PATIENCE, eventually};

const MANIFEST: &str = r#"
[app]
name = "outages"

[[http]]
route = "/plain"
component = "plain"

[[http]]
route = "/kv"
component = "kv"

[[http]]
route = "/sql"
component = "sql"

[[http]]
route = "/blob"
component = "blob"

[[http]]
route = "/message"
component = "message"

[[message]]
topic = "numbers"
component = "message"

[component.plain]
source = "hello-p2.wasm"

[component.kv]
source = "kv-p2.wasm"
grants = { keyvalue = ["default"] }

[component.sql]
source = "sql-p2.wasm"
grants = { sql = ["main"] }

[component.blob]
source = "blob-p2.wasm"
grants = { blobstore = ["uploads"] }

[component.message]
source = "messages-p2.wasm"
grants = { messaging = { publish = ["numbers"] } }
"#;

/// How long a store waits for its server where the operator does not say otherwise, and what a busy machine adds to it.
const ERROR_WITHIN: Duration = Duration::from_secs(2 + 8);
/// How long a server stands still.
const PAUSE: Duration = Duration::from_secs(3);

/// What one kind of store is asked.
struct Kind {
    name: &'static str,
    request: fn() -> Vec<u8>,
    /// The answer when its server is there.
    fine: &'static str,
    /// How the guest's own answer about its error begins when it is not.
    failed: &'static str,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "Redis",
        request: || get("/kv?api=hostel&store=default&do=set&key=k&value=v"),
        fine: "ok: true\n",
        failed: "error: Error::Unavailable",
    },
    Kind {
        name: "PostgreSQL",
        request: || post("/sql", "query SELECT 40 + 2"),
        fine: "42\n",
        failed: "error unavailable: the store ",
    },
    Kind {
        name: "S3",
        request: || post("/blob?name=a", "some bytes"),
        fine: "stored 10 bytes\n",
        failed: "the store ",
    },
    Kind {
        name: "NATS",
        request: || get("/message?send=numbers&text=before"),
        fine: "sent\n",
        failed: "Error::Connection(\"the message broker ",
    },
];

impl Kind {
    fn ask(&self, server: &Server) -> Answer {
        server.connect().ask(&(self.request)())
    }

    fn is_fine(&self, server: &Server) -> bool {
        let answer = self.ask(server);
        answer.status == 200 && answer.text() == self.fine
    }

    /// Works soon; how soon.
    fn works_again(&self, server: &Server, begin: Instant) -> Duration {
        eventually(self.name, || self.is_fine(server).then_some(()));
        begin.elapsed()
    }

    /// Fails with its error, in time; how long it took.
    fn fails(&self, server: &Server) -> Duration {
        let begin = Instant::now();
        let text = self.ask(server).text();
        let took = begin.elapsed();
        assert!(text.starts_with(self.failed), "{}: {text}", self.name);
        assert!(took < ERROR_WITHIN, "{}: {took:?}", self.name);
        took
    }
}

/// What happens to a server.
trait Backend {
    fn kill(&mut self);
    fn restart(&mut self);
    fn pause(&mut self);
    fn resume(&mut self);
}

macro_rules! backend {
    ($server:ident) => {
        impl Backend for $server {
            fn kill(&mut self) {
                $server::kill(self);
            }
            fn restart(&mut self) {
                $server::restart(self);
            }
            fn pause(&mut self) {
                $server::pause(self);
            }
            fn resume(&mut self) {
                $server::resume(self);
            }
        }
    };
}
backend!(Redis);
backend!(Postgres);
backend!(Nats);

/// The server of S3 is a part of this process, so that it is not stopped but cut off: connections are made and nothing comes.
struct Objects {
    s3: S3,
    proxy: Proxy,
}

impl Backend for Objects {
    fn kill(&mut self) {
        self.proxy.set(Mode::Refuse);
        self.s3.kill();
    }
    fn restart(&mut self) {
        self.s3.restart();
        self.proxy.set(Mode::Pass);
    }
    fn pause(&mut self) {
        self.proxy.set(Mode::Silence);
    }
    fn resume(&mut self) {
        self.proxy.set(Mode::Pass);
    }
}

/// All four servers in the order of [`KINDS`], and the app.
struct Outages {
    app: App,
    data: tempfile::TempDir,
    backends: [Box<dyn Backend>; 4],
}

impl Outages {
    fn new() -> Self {
        let (redis, postgres, nats) = (Redis::start(), Postgres::start(), Nats::start());
        let s3 = S3::start();
        let proxy = Proxy::before(s3.port());
        let operator = format!(
            "[keyvalue.default]\nurl = \"{}\"\n[sql.main]\nurl = \"{}\"\n\
             [blobstore.uploads]\nurl = \"{}\"\n[messaging.default]\nurl = \"{}\"\n",
            redis.url(),
            postgres.url(),
            s3.url_at(proxy.port()),
            nats.url()
        );
        Self {
            app: App::new(MANIFEST).with_file("server.toml", operator),
            data: tempfile::tempdir().expect("a folder"),
            backends: [
                Box::new(redis),
                Box::new(postgres),
                Box::new(Objects { s3, proxy }),
                Box::new(nats),
            ],
        }
    }

    fn serve(&self) -> Server {
        let config = self.app.path("server.toml").display().to_string();
        Server::launch(self.app.folder(), self.data.path(), &["--config", &config])
    }
}

/// Calls the one whose server is away, and meanwhile the route that needs none; then the others.
fn only_this_one_fails(server: &Server, kind: &Kind) -> Duration {
    let took = thread::scope(|scope| {
        let call = scope.spawn(|| kind.fails(server));
        loop {
            server.is_alive("/plain");
            if call.is_finished() {
                return call.join().expect("the error that was expected");
            }
        }
    });
    for other in KINDS.iter().filter(|other| other.name != kind.name) {
        other.works_again(server, Instant::now());
    }
    took
}

/// Kills a server while several callers ask for it, one call after the other: each ends with its error.
fn killed_under_way(server: &Server, kind: &Kind, backend: &mut dyn Backend) {
    const CALLERS: usize = 4;
    let calls = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                eventually("the server is missed", || {
                    let begin = Instant::now();
                    let text = kind.ask(server).text();
                    assert!(begin.elapsed() < ERROR_WITHIN, "{}", kind.name);
                    if text == kind.fine {
                        calls.fetch_add(1, Relaxed);
                        return None;
                    }
                    assert!(text.starts_with(kind.failed), "{}: {text}", kind.name);
                    Some(())
                });
            });
        }
        eventually("they are under way", || {
            (calls.load(Relaxed) >= 5 * CALLERS).then_some(())
        });
        backend.kill();
    });
}

/// A message that is published now arrives.
fn messages_arrive(server: &Server, text: &str) {
    let target = format!("/message?send=numbers&text={text}");
    eventually("it is published", || {
        (server.get(&target).status == 200).then_some(())
    });
    server.stdout().wait_for(&format!("done {text}."));
}

/// Messages that are published now and then arrive soon. What is published before the first subscription ever is for nobody.
fn messages_begin_to_arrive(server: &Server, text: &str) {
    let begin = Instant::now();
    let target = format!("/message?send=numbers&text={text}");
    eventually("a message arrives", || {
        thread::park_timeout(Duration::from_millis(20));
        let published = server.get(&target).status == 200;
        let arrived = server.stdout().text().contains(&format!("done {text}."));
        (published && arrived).then_some(())
    });
    println!("messages arrive after {:?}", begin.elapsed());
}

#[test]
fn servers_that_are_down_at_start_are_found_when_they_come() {
    let mut outages = Outages::new();
    for backend in &mut outages.backends {
        backend.kill();
    }
    // Its first line is its address all the same.
    let server = outages.serve();
    server.stderr().wait_for("no messages of numbers yet");
    for kind in &KINDS {
        server.is_alive("/plain");
        let failed = kind.fails(&server);
        println!("{} down at start: error after {failed:?}", kind.name);
    }
    for (kind, backend) in KINDS.iter().zip(&mut outages.backends) {
        backend.restart();
        let again = kind.works_again(&server, Instant::now());
        println!("{} there: works after {again:?}", kind.name);
        assert!(again < PATIENCE);
    }
    messages_begin_to_arrive(&server, "late");
}

#[test]
fn a_server_that_is_killed_costs_its_own_calls_and_is_found_again() {
    let mut outages = Outages::new();
    let server = outages.serve();
    for kind in &KINDS {
        kind.works_again(&server, Instant::now());
    }
    for (kind, backend) in KINDS.iter().zip(&mut outages.backends) {
        killed_under_way(&server, kind, backend.as_mut());
        let failed = only_this_one_fails(&server, kind);
        backend.restart();
        let again = kind.works_again(&server, Instant::now());
        println!(
            "{} killed: error after {failed:?}, works {again:?} after it was back",
            kind.name
        );
    }
    messages_arrive(&server, "again");
}

#[test]
fn a_server_that_stands_still_costs_its_own_calls_and_is_used_when_it_goes_on() {
    let mut outages = Outages::new();
    let server = outages.serve();
    for kind in &KINDS {
        kind.works_again(&server, Instant::now());
    }
    for (kind, backend) in KINDS.iter().zip(&mut outages.backends) {
        let begin = Instant::now();
        backend.pause();
        let failed = only_this_one_fails(&server, kind);
        while begin.elapsed() < PAUSE {
            server.is_alive("/plain");
            thread::park_timeout(Duration::from_millis(20));
        }
        kind.fails(&server);
        backend.resume();
        let again = kind.works_again(&server, Instant::now());
        println!(
            "{} stood still: error after {failed:?}, works {again:?} after it went on",
            kind.name
        );
    }
    messages_arrive(&server, "again");
}
