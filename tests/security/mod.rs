//! One attack each: what a hostile client sends, and what a hostile guest tries.

mod advisories;
mod authority;
mod bombs;
mod canary;
mod heads;
mod hop_by_hop;
mod isolation;
mod loops;
mod smuggling;
mod storms;
mod terminal;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

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
    over: &'static AtomicBool,
    client: JoinHandle<usize>,
}

impl Neighbour {
    /// Starts to ask.
    fn of(server: &Server) -> Self {
        let over: &AtomicBool = Box::leak(Box::default());
        let address = server.address();
        let client = std::thread::spawn(move || {
            let mut connection = Connection::open(address).expect("the server accepts");
            let mut answered = 0;
            while !over.load(Ordering::Relaxed) {
                let answer = connection.ask(&get("/"));
                assert_eq!(answer.status, 200, "the neighbour: {}", answer.text());
                answered += 1;
                std::thread::park_timeout(std::time::Duration::from_millis(2));
            }
            answered
        });
        Self { over, client }
    }

    /// Stops; every answer so far was 200, and there was one.
    fn was_served(self) {
        self.over.store(true, Ordering::Relaxed);
        let answered = self.client.join().expect("every answer was 200");
        assert!(answered > 0, "the neighbour was never answered");
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
