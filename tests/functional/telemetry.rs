//! `examples/telemetry`, the reference scenario: readings of sensors reach an HTTP endpoint through a broker that is a guest, or
//! through the host's messages; and whatever is killed on the way, no reading that was acknowledged is lost.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::server::Server;
use crate::harness::{PATIENCE, built, eventually, root};

const EXAMPLE: &str = "examples/telemetry";
const COMPONENTS: [&str; 4] = ["broker", "readings", "relay", "gateway"];
/// Rounds of killing.
const ROUNDS: usize = 20;

/// How the endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Taking,
    /// 503 to everybody.
    Refusing,
    /// Reads, and never answers.
    Silent,
}

/// The endpoint that the gateway posts to. It lives as long as the test's process.
struct Sink {
    address: SocketAddr,
    state: Arc<Mutex<Received>>,
}

struct Received {
    mood: Mood,
    /// The numbers that were taken, by their sensors, in the order in which they came.
    taken: BTreeMap<String, Vec<u64>>,
    /// Requests that were not taken.
    turned_away: usize,
}

impl Sink {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(Received {
            mood: Mood::Taking,
            taken: BTreeMap::new(),
            turned_away: 0,
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    fn state(&self) -> MutexGuard<'_, Received> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, mood: Mood) {
        self.state().mood = mood;
    }

    fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// The last reading that each of the three sensors has brought.
    fn last(&self) -> Vec<u64> {
        let state = self.state();
        let last = |numbers: &Vec<u64>| numbers.iter().copied().max().unwrap_or(0);
        state.taken.values().map(last).collect()
    }

    /// Waits until each sensor has brought so many readings more.
    fn goes_on(&self, more: u64) {
        let before = self.last();
        let slowest = |last: &[u64]| match last.len() {
            3 => last.iter().copied().min().unwrap_or(0),
            _ => 0,
        };
        let enough = slowest(&before) + more;
        eventually("readings come", || {
            (slowest(&self.last()) >= enough).then_some(())
        });
    }

    /// Every reading was taken, first in its sensor's order; how many came a second time.
    fn check(&self) -> usize {
        let state = self.state();
        assert_eq!(state.taken.len(), 3, "{:?}", state.taken.keys());
        let mut again = 0;
        for (sensor, numbers) in &state.taken {
            let mut next = 1;
            for number in numbers {
                match *number {
                    number if number == next => next += 1,
                    // Delivered again: nothing new, and nothing that is out of its order.
                    number if number < next => again += 1,
                    number => panic!("{sensor}: {number} came, and {next} did not"),
                }
            }
        }
        again
    }
}

/// Requests of one connection, one after the other.
fn serve(stream: TcpStream, state: &Mutex<Received>) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut reader = BufReader::new(stream);
    while let Some(body) = request(&mut reader) {
        let answer = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            match state.mood {
                Mood::Taking => {
                    let (sensor, number) = reading(&body);
                    state.taken.entry(sensor).or_default().push(number);
                    "204 No Content\r\n\r\n"
                }
                Mood::Refusing => {
                    state.turned_away += 1;
                    "503 Not Now\r\ncontent-length: 0\r\n\r\n"
                }
                Mood::Silent => {
                    state.turned_away += 1;
                    drop(state);
                    // Until the other side gives up.
                    let _left = reader.read(&mut [0]);
                    return;
                }
            }
        };
        if write!(reader.get_mut(), "HTTP/1.1 {answer}").is_err() {
            return;
        }
    }
}

/// The body of the next request.
fn request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    let mut chunked = false;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let field = line.trim_end().to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        }
        chunked |= field == "transfer-encoding: chunked";
        if field.is_empty() {
            break;
        }
    }
    let mut body = String::new();
    if !chunked {
        let mut whole = reader.by_ref().take(length);
        whole.read_to_string(&mut body).ok()?;
        return Some(body);
    }
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let size = u64::from_str_radix(line.trim_end(), 16).expect("a size");
        reader.by_ref().take(size).read_to_string(&mut body).ok()?;
        line.clear();
        reader.read_line(&mut line).ok()?;
        if size == 0 {
            return Some(body);
        }
    }
}

/// The sensor and the number of an event.
fn reading(body: &str) -> (String, u64) {
    let event: serde_json::Value = serde_json::from_str(body).expect(body);
    let number = event["number"].as_u64().expect(body);
    assert!(event["temperature"].is_f64() && event["pressure"].is_f64());
    (event["sensor"].as_str().expect(body).to_owned(), number)
}

/// The example in a folder of its own, because it writes there, with a data folder.
struct Scenario {
    app: TempDir,
    data: TempDir,
    manifest: &'static str,
    broker: SocketAddr,
    sink: Sink,
}

impl Scenario {
    fn new(manifest: &'static str) -> Self {
        let app = tempfile::tempdir().expect("a folder");
        for component in COMPONENTS {
            let file = format!("{component}.wasm");
            let from = built(&format!("{EXAMPLE}/{file}"));
            fs::copy(from, app.path().join(file)).expect("a copy");
        }
        for name in ["hostel.toml", "messaging.toml"] {
            let text = fs::read_to_string(root().join(EXAMPLE).join(name)).expect("a manifest");
            fs::write(app.path().join(name), text).expect("a copy");
        }
        fs::create_dir(app.path().join("events")).expect("a folder");
        fs::create_dir(app.path().join("config")).expect("a folder");
        let broker = root().join(EXAMPLE).join("config/broker.toml");
        let mut text = fs::read_to_string(broker).expect("the broker's configuration");
        text.push_str("drill = true\n");
        fs::write(app.path().join("config/broker.toml"), text).expect("a copy");
        Self {
            app,
            data: tempfile::tempdir().expect("a folder"),
            manifest,
            broker: free_address(),
            sink: Sink::open(),
        }
    }

    fn up(&self) -> Server {
        let url = format!("gateway-url={}", self.sink.url());
        let address = format!("server-address={}", self.broker);
        // The gateway's time for an event is shorter than the test's patience.
        let mut flags = vec!["--var", &url, "--limit", "deadline=1s"];
        if self.manifest == "hostel.toml" {
            flags.extend(["--var", &address]);
        }
        Server::launch(&self.path(), self.data.path(), &flags)
    }

    fn path(&self) -> std::path::PathBuf {
        let folder: &Path = self.app.path();
        folder.join(self.manifest)
    }

    /// Has the broker guest end at once, with whatever it has not written.
    fn crash_broker(&self) {
        let mut stream =
            TcpStream::connect_timeout(&self.broker, PATIENCE).expect("the host listens");
        stream.write_all(b"crash\n").expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        // The connection ends with the guest.
        let mut rest = Vec::new();
        let _reset = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }

    /// Has the gateway wait for an answer until its time is over and the host ends it.
    fn kill_gateway(&self) {
        let before = self.sink.state().turned_away;
        self.sink.is(Mood::Silent);
        eventually("the gateway waits", || {
            (self.sink.state().turned_away > before).then_some(())
        });
        std::thread::park_timeout(Duration::from_millis(20));
        self.sink.is(Mood::Taking);
    }
}

/// An address whose port was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

#[test]
fn every_reading_reaches_the_endpoint_in_its_sensor_s_order() {
    for manifest in ["hostel.toml", "messaging.toml"] {
        let scenario = Scenario::new(manifest);
        let mut server = scenario.up();
        scenario.sink.goes_on(100);
        server.signal(Signal::TERM);
        assert!(server.end().success(), "{manifest}: a drain");
        let again = scenario.sink.check();
        assert_eq!(again, 0, "{manifest}: nothing was killed");
    }
}

#[test]
fn an_endpoint_that_refuses_gets_everything_later() {
    let scenario = Scenario::new("messaging.toml");
    let _server = scenario.up();
    scenario.sink.goes_on(5);
    scenario.sink.is(Mood::Refusing);
    eventually("readings are refused", || {
        (scenario.sink.state().turned_away > 5).then_some(())
    });
    scenario.sink.is(Mood::Taking);
    scenario.sink.goes_on(20);
    scenario.sink.check();
}

#[test]
fn killing_the_broker_the_gateway_or_the_host_loses_no_acknowledged_event() {
    let scenario = Scenario::new("hostel.toml");
    let mut server = scenario.up();
    for round in 0..ROUNDS {
        scenario.sink.goes_on(5);
        match round % 3 {
            0 => scenario.crash_broker(),
            1 => scenario.kill_gateway(),
            _ => {
                server.signal(Signal::KILL);
                server.end();
                server = scenario.up();
            }
        }
    }
    scenario.sink.goes_on(20);
    server.signal(Signal::TERM);
    assert!(server.end().success());
    let again = scenario.sink.check();
    println!(
        "{ROUNDS} rounds: {:?} readings, {again} came again",
        scenario.sink.last()
    );
}
