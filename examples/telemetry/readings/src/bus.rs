//! The two ways of an event: to a broker on a socket, or into the app's messages.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use crate::bindings::wasi::messaging::producer;
use crate::bindings::wasi::messaging::types::{Client, Message};

pub enum Bus {
    /// A broker that speaks lines.
    Socket {
        address: String,
        connection: Option<BufReader<TcpStream>>,
    },
    /// Whatever the host keeps messages in.
    Messages(Client),
}

impl Bus {
    pub fn new(broker: Option<String>) -> Self {
        match broker {
            Some(address) => Self::Socket {
                address,
                connection: None,
            },
            None => Self::Messages(Client::connect("").expect("the broker of the manifest")),
        }
    }

    /// Returns when the event is safe.
    pub fn publish(&mut self, sensor: &str, number: u64, reading: &str) -> Result<(), String> {
        match self {
            Self::Messages(client) => {
                let message = Message::new(reading.as_bytes());
                message.set_content_type("application/json");
                let topic = format!("readings.{sensor}");
                producer::send(client, &topic, message).map_err(|error| format!("{error:?}"))
            }
            Self::Socket {
                address,
                connection,
            } => {
                let line = format!("publish readings {sensor} {number} {reading}\n");
                let answer = ask(address, connection, &line).inspect_err(|_| *connection = None)?;
                match answer.trim_end() == format!("ok {sensor} {number}") {
                    true => Ok(()),
                    false => Err(answer),
                }
            }
        }
    }
}

/// One line there, one line back, over the connection that there is or a new one.
fn ask(
    address: &str,
    connection: &mut Option<BufReader<TcpStream>>,
    line: &str,
) -> Result<String, String> {
    let plain = |error: std::io::Error| error.to_string();
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(BufReader::new(TcpStream::connect(address).map_err(plain)?)),
    };
    connection
        .get_mut()
        .write_all(line.as_bytes())
        .map_err(plain)?;
    let mut answer = String::new();
    match connection.read_line(&mut answer).map_err(plain)? {
        0 => Err("the broker has closed the connection".to_owned()),
        _ => Ok(answer),
    }
}
