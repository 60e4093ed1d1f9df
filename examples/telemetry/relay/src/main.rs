//! Hands the events of a broker on a socket on as messages of the app.
//!
//! An event is done at the broker once it is published as a message, so that none is lost between the two; one whose
//! confirmation is lost comes again.

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/config", "../../../wit/messaging", "../wit/relay"],
        world: "telemetry:relay/relay",
        generate_all,
    });
}

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use bindings::wasi::config::store as config;
use bindings::wasi::messaging::producer;
use bindings::wasi::messaging::types::{Client, Message};

/// Events that the broker may send ahead.
const WINDOW: u32 = 64;
/// Before the broker is tried again.
const PAUSE: Duration = Duration::from_millis(200);

fn main() {
    let broker = config::get("broker").ok().flatten();
    let broker = broker.expect("`broker` in the configuration");
    let client = Client::connect("").expect("the broker of the manifest");
    loop {
        if let Err(why) = relay(&broker, &client) {
            eprintln!("the broker at {broker}: {why}");
        }
        sleep(PAUSE);
    }
}

/// Until the connection ends.
fn relay(broker: &str, client: &Client) -> io::Result<()> {
    let mut connection = BufReader::new(TcpStream::connect(broker)?);
    let subscribe = format!("subscribe relay {WINDOW}\n");
    connection.get_mut().write_all(subscribe.as_bytes())?;
    let mut line = String::new();
    while connection.read_line(&mut line)? > 0 {
        let mut words = line.trim_end().splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (verb, offset, _topic, reading) = (word(), word(), word(), word());
        if verb != "event" {
            return Err(io::Error::other(line));
        }
        publish(client, reading)?;
        let done = format!("done {offset}\n");
        connection.get_mut().write_all(done.as_bytes())?;
        line.clear();
    }
    Err(io::Error::other("it has closed the connection"))
}

/// The topic is the sensor's, because messages of one topic can be kept in order.
fn publish(client: &Client, reading: &str) -> io::Result<()> {
    let sensor = reading.split('"').nth(3).unwrap_or("unknown");
    let message = Message::new(reading.as_bytes());
    message.set_content_type("application/json");
    producer::send(client, &format!("readings.{sensor}"), message)
        .map_err(|error| io::Error::other(format!("{error:?}")))
}
