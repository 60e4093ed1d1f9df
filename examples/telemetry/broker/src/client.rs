//! One connection: lines in, lines out, and how far its group is.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::journal::Journal;

/// Answers that a client may leave unread before it is let go.
const UNREAD_BYTES_MAX: usize = 1 << 20;

/// What a client asks for.
pub enum Request {
    Publish {
        topic: String,
        source: String,
        number: u64,
        text: String,
    },
    Subscribe {
        group: String,
        window: usize,
    },
    Done(u64),
    Crash,
    /// Nothing that there is, and why.
    Wrong(String),
}

pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    gone: bool,
    subscription: Option<Subscription>,
}

struct Subscription {
    group: String,
    window: usize,
    /// The last event that it was sent.
    sent: u64,
    /// Those that it was sent and has not done.
    open: VecDeque<u64>,
}

impl Client {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
            unsent: Vec::new(),
            gone: false,
            subscription: None,
        })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// The whole lines that have come.
    pub fn requests(&mut self, line_bytes: usize) -> Vec<Request> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => self.gone = true,
            Ok(count) => self.unread.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.gone = true,
        }
        let mut requests = Vec::new();
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            requests.push(request(line.trim_end()));
        }
        if self.unread.len() > line_bytes {
            eprintln!("a line of more than {line_bytes} bytes: the connection is closed");
            self.gone = true;
        }
        requests
    }

    pub fn subscribe(&mut self, group: String, done: u64, window: usize) {
        self.subscription = Some(Subscription {
            group,
            window,
            sent: done,
            open: VecDeque::new(),
        });
    }

    /// The group that has done this event.
    pub fn done(&mut self, offset: u64) -> Option<String> {
        let subscription = self.subscription.as_mut()?;
        subscription.open.retain(|open| *open > offset);
        Some(subscription.group.clone())
    }

    /// Says what it may be told of its group's events.
    pub fn push_events(&mut self, journal: &Journal) {
        let Some(subscription) = &mut self.subscription else {
            return;
        };
        while subscription.open.len() < subscription.window {
            let Some(event) = journal.after(subscription.sent) else {
                return;
            };
            subscription.sent = event.offset;
            subscription.open.push_back(event.offset);
            let line = format!("event {} {} {}\n", event.offset, event.topic, event.text);
            self.unsent.extend_from_slice(line.as_bytes());
        }
    }

    pub fn say(&mut self, line: &str) {
        self.unsent.extend_from_slice(line.as_bytes());
        self.unsent.push(b'\n');
    }

    /// Sends as much as the client takes.
    pub fn flush(&mut self) {
        while !self.unsent.is_empty() && !self.gone {
            match self.stream.write(&self.unsent) {
                Ok(0) => self.gone = true,
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.gone = true,
            }
        }
        if self.unsent.len() > UNREAD_BYTES_MAX {
            eprintln!("a client does not read: the connection is closed");
            self.gone = true;
        }
    }
}

fn request(line: &str) -> Request {
    let mut words = line.splitn(5, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (verb, first, second) = (word(), word(), word());
    match (verb, second.parse(), first.parse()) {
        ("publish", _, _) => {
            let (number, text) = (word().parse(), word());
            match number {
                Ok(number) if !first.is_empty() && !second.is_empty() => Request::Publish {
                    topic: first.to_owned(),
                    source: second.to_owned(),
                    number,
                    text: text.to_owned(),
                },
                _ => Request::Wrong("write: publish TOPIC SOURCE NUMBER TEXT".to_owned()),
            }
        }
        ("subscribe", Ok(window), _) if !first.is_empty() => Request::Subscribe {
            group: first.to_owned(),
            window,
        },
        ("done", _, Ok(offset)) => Request::Done(offset),
        ("crash", _, _) => Request::Crash,
        _ => Request::Wrong("write publish, subscribe or done".to_owned()),
    }
}
