//! One attack each: what a hostile client sends, and what a hostile guest tries.

mod advisories;
mod authority;
mod bombs;
mod cache_entries;
mod canary;
mod compile_bombs;
mod heads;
mod hop_by_hop;
mod isolation;
mod loops;
mod neighbours;
mod smuggling;
mod ssrf;
mod storms;
mod terminal;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::app::App;
use crate::harness::http::Connection;
use crate::harness::message::get;
use crate::harness::server::Server;

/// Two components in one app: `bad` at `/bad`, with these further settings, and a good neighbour at every other path.
fn beside_a_neighbour(guest: &str, settings: &str) -> App {
    App::new(&format!(
        "[app]\nname = \"attacked\"\n\
         [component.good]\nsource = \"hello-p2.wasm\"\n\
         [component.bad]\nsource = \"{guest}.wasm\"\n{settings}\n\
         [[http]]\nroute = \"/bad\"\ncomponent = \"bad\"\n\
         [[http]]\nroute = \"/...\"\ncomponent = \"good\"\n"
    ))
}

/// A client of the good neighbour that asks again and again while an attack goes on.
struct Neighbour {
    over: Arc<AtomicBool>,
    client: JoinHandle<()>,
}

impl Neighbour {
    /// Starts to ask.
    fn of(server: &Server) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let mut connection = server.connect();
        let client = std::thread::spawn(move || {
            // Once more after the attack as well.
            let mut is_last = false;
            while !is_last {
                is_last = until.load(Ordering::Relaxed);
                let answer = connection.ask(&get("/"));
                assert_eq!(answer.status, 200, "the neighbour: {}", answer.text());
                std::thread::park_timeout(Duration::from_millis(2));
            }
        });
        Self { over, client }
    }

    /// Stops; every answer was 200.
    fn was_served(self) {
        self.over.store(true, Ordering::Relaxed);
        self.client.join().expect("every answer was 200");
    }
}

/// Sends the same request on so many connections at once and returns what each was answered: its status and text, or the
/// status and part of what was cut off.
fn at_once(server: &Server, path: &str, clients: usize) -> Vec<(u16, String)> {
    let open = |_| {
        let mut connection = server.connect();
        connection.send(get(path));
        connection
    };
    let connections: Vec<Connection> = (0..clients).map(open).collect();
    connections.into_iter().map(outcome).collect()
}

/// What came of a request: 0 stands for a connection that ended before a head.
fn outcome(mut connection: Connection) -> (u16, String) {
    match connection.try_answer() {
        Ok(answer) => (answer.status, answer.text()),
        Err(cut) => cut.part.map_or((0, cut.how.clone()), |part| {
            (part.status, format!("cut: {}", cut.how))
        }),
    }
}
