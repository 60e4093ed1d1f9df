//! A broker of events, as a program of WASI preview 1 that serves a socket.
//!
//! It has no way to open a socket: the host listens, and hands the listener over as an open descriptor behind the directories.
//! `config` holds its configuration, `events` what it must not forget. Requests are lines, and so are the answers:
//!
//! ```text
//! publish TOPIC SOURCE NUMBER TEXT    ok SOURCE NUMBER           once it is on disk
//! subscribe GROUP WINDOW              event OFFSET TOPIC TEXT    at most WINDOW that are not done
//! done OFFSET                                                    the group is not told of it again
//! ```
//!
//! An event is known by its source and number. A source counts upwards and publishes one event at a time, so that what it sends
//! again after a broken connection is not stored twice. `client` is one connection, `journal` the events, `descriptors` what
//! preview 1 has and the standard library has not: waiting for several things at once.

mod client;
mod descriptors;
mod journal;

use std::fs;
use std::io;
use std::net::TcpListener;

use client::{Client, Request};
use descriptors::{Ready, Wait};
use journal::Journal;

/// What `config/broker.toml` says.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    topics: Vec<String>,
    line_bytes: usize,
    connections: usize,
    /// Events that may wait; whoever publishes more is told to come again.
    events: usize,
    /// Whether `crash` ends it at once: to see what a crash costs.
    #[serde(default)]
    drill: bool,
}

fn main() {
    if let Err(error) = Broker::start().and_then(|mut broker| broker.serve()) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

struct Broker {
    config: Config,
    listener: TcpListener,
    journal: Journal,
    clients: Vec<Client>,
}

impl Broker {
    fn start() -> io::Result<Self> {
        let text = fs::read_to_string("/config/broker.toml")?;
        let config: Config = toml::from_str(&text).map_err(io::Error::other)?;
        let listener = descriptors::listener()
            .ok_or_else(|| io::Error::other("no socket was handed over: listen = [...]"))?;
        listener.set_nonblocking(true)?;
        let journal = Journal::open("/events")?;
        println!("{} events are not done", journal.len());
        Ok(Self {
            config,
            listener,
            journal,
            clients: Vec::new(),
        })
    }

    /// Until the host ends the standard input.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.contains(&Ready::End) {
                println!("the host says stop");
                return Ok(());
            }
            if ready.contains(&Ready::Listener) {
                self.accept()?;
            }
            let mut answers = Vec::new();
            for at in 0..self.clients.len() {
                if ready.contains(&Ready::Client(at)) {
                    self.read(at, &mut answers)?;
                }
            }
            // Everything that came together is one write to the disk, and nobody is told before.
            self.journal.commit()?;
            for (at, answer) in answers {
                self.clients[at].say(&answer);
            }
            for client in &mut self.clients {
                client.push_events(&self.journal);
                client.flush();
            }
            self.clients.retain(|client| !client.is_gone());
        }
    }

    fn wait(&self) -> io::Result<Vec<Ready>> {
        let mut wait = Wait::default();
        wait.for_end();
        if self.clients.len() < self.config.connections {
            wait.for_listener(&self.listener);
        }
        for (at, client) in self.clients.iter().enumerate() {
            wait.for_client(at, client.stream(), client.has_unsent());
        }
        wait.now()
    }

    fn accept(&mut self) -> io::Result<()> {
        while self.clients.len() < self.config.connections {
            match self.listener.accept() {
                Ok((stream, _)) => self.clients.push(Client::new(stream)?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Whoever was there has left again.
                Err(error) => {
                    eprintln!("accept: {error}");
                    break;
                }
            }
        }
        Ok(())
    }

    /// What a client asks for; answers are kept until the disk has what they promise.
    fn read(&mut self, at: usize, answers: &mut Vec<(usize, String)>) -> io::Result<()> {
        for request in self.clients[at].requests(self.config.line_bytes) {
            let answer = match request {
                Request::Publish { topic, .. } if !self.config.topics.contains(&topic) => {
                    format!("error there is no topic {topic}")
                }
                Request::Publish { .. } if self.journal.len() >= self.config.events => {
                    "error too many events wait; come again".to_owned()
                }
                Request::Publish {
                    topic,
                    source,
                    number,
                    text,
                } => {
                    self.journal.publish(&topic, &source, number, &text)?;
                    format!("ok {source} {number}")
                }
                Request::Subscribe { group, window } => {
                    let from = self.journal.done_of(&group);
                    self.clients[at].subscribe(group, from, window);
                    continue;
                }
                Request::Done(offset) => match self.clients[at].done(offset) {
                    Some(group) => {
                        self.journal.done(&group, offset)?;
                        continue;
                    }
                    None => "error nothing is subscribed".to_owned(),
                },
                Request::Crash if self.config.drill => std::process::abort(),
                Request::Crash => "error this is no drill".to_owned(),
                Request::Wrong(why) => format!("error {why}"),
            };
            answers.push((at, answer));
        }
        Ok(())
    }
}
