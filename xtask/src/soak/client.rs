//! A plain HTTP/1.1 client that chooses its source address, and the thread that attackers run on.
//!
//! B is probed from [`super::probe::SOURCE`]; attackers come from the addresses of [`attacker`], because a server may bound
//! the connections of one address. Nothing here waits for ever by itself: callers put a time around it.

use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// The longest body that is kept; a longer one is an error.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest head that is read.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How long one exchange may take before it counts as cut off.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How much nicer attackers are than B's probe, which shares the machine with them.
const NICENESS: i32 = 10;

/// How often an attack looks how late it is.
const LAG_INTERVAL: Duration = Duration::from_millis(20);

/// Over how many addresses attackers are spread.
const ATTACKERS: usize = 16;

/// The source address of the attacker with this number.
pub(super) fn attacker(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, 1 + (number % ATTACKERS) as u8)
}

/// Runs an attack on a thread of its own that gives way to the probe and the server.
///
/// # Errors
/// Where the thread or its event loop cannot be had, or the attack fails.
pub(super) fn assault<T: Send>(
    work: impl Future<Output = anyhow::Result<T>> + Send,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Linux keeps niceness for each thread. Where it is refused the attack is only less polite.
            rustix::process::nice(NICENESS).ok();
            event_loop()?.block_on(work)
        });
        let joined = thread.join();
        joined.map_err(|_| anyhow::anyhow!("the attack panicked"))?
    })
}

/// How late the attack's own thread is: what it measures is no better than that.
pub(super) struct Lag(Arc<AtomicU64>);

impl Lag {
    /// Watches from now on, for as long as the event loop runs.
    pub(super) fn watch() -> Lag {
        let worst = Arc::new(AtomicU64::new(0));
        let seen = worst.clone();
        tokio::spawn(async move {
            loop {
                let due = tokio::time::Instant::now() + LAG_INTERVAL;
                tokio::time::sleep_until(due).await;
                seen.fetch_max(due.elapsed().as_micros() as u64, Ordering::Relaxed);
            }
        });
        Lag(worst)
    }

    /// The worst lateness so far.
    pub(super) fn worst(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// An event loop for one thread.
pub(super) fn event_loop() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// A connected socket. `receive_buffer` makes the kernel take in little more than that many bytes unread.
pub(super) async fn connect(
    from: Ipv4Addr,
    to: SocketAddr,
    receive_buffer: Option<u32>,
) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // Ports of connections that are long closed may be taken again.
    socket.set_reuseaddr(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(SocketAddr::from((from, 0)))?;
    #[expect(
        clippy::disallowed_methods,
        reason = "no guest dials here: this is the load generator"
    )]
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The head in small letters.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The first value of a field; `name` in small letters.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found == name).then_some(value.trim())
    })
}

/// One connection.
pub(super) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub(super) async fn open(from: Ipv4Addr, to: SocketAddr) -> Result<Client> {
        Ok(Client {
            stream: connect(from, to, None).await?,
            unread: Vec::new(),
        })
    }

    /// `GET path`, and the whole answer.
    pub(super) async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(get(path).as_bytes()).await?;
        self.answer().await
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next whole answer.
    pub(super) async fn answer(&mut self) -> Result<Answer> {
        let head = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                let head = self.take(at)?;
                self.take(4)?;
                break String::from_utf8_lossy(&head).to_ascii_lowercase();
            }
            if self.unread.len() > HEAD_BYTES_MAX {
                return Err(broken("a head without end"));
            }
            self.receive().await?;
        };
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        let status = status.parse().map_err(|_| broken("no status"))?;
        let body = self.body(&head, status).await?;
        Ok(Answer { status, head, body })
    }

    async fn body(&mut self, head: &str, status: u16) -> Result<Vec<u8>> {
        if matches!(status, 204 | 304) {
            return Ok(Vec::new());
        }
        if let Some(length) = field(head, "content-length") {
            let length = length.parse().map_err(|_| broken("no length"))?;
            return self.exactly(length).await;
        }
        if field(head, "transfer-encoding").is_some() {
            return self.chunks().await;
        }
        self.collect(BODY_BYTES_MAX).await;
        Ok(std::mem::take(&mut self.unread))
    }

    async fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.line().await?;
            let size =
                usize::from_str_radix(size.trim(), 16).map_err(|_| broken("no chunk size"))?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size).await?);
            if body.len() > BODY_BYTES_MAX {
                return Err(broken("a body without end"));
            }
            self.line().await?;
        }
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n") {
                let line = self.take(at)?;
                self.take(2)?;
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.unread.len() > HEAD_BYTES_MAX {
                return Err(broken("a line without end"));
            }
            self.receive().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        if length > BODY_BYTES_MAX {
            return Err(broken("a body without end"));
        }
        while self.unread.len() < length {
            self.receive().await?;
        }
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        if length > self.unread.len() {
            return Err(broken("too short"));
        }
        let rest = self.unread.split_off(length);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    async fn receive(&mut self) -> Result<()> {
        // Read into the unread bytes themselves: a buffer of its own would be held by every waiting connection.
        self.unread.reserve(1024);
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Collects what comes until the connection ends, however it ends, or so many bytes are there.
    pub(super) async fn collect(&mut self, bytes_max: usize) {
        while self.unread.len() < bytes_max && self.receive().await.is_ok() {}
    }

    /// What has come and belongs to no answer that was taken.
    pub(super) fn unread(&self) -> &[u8] {
        &self.unread
    }
}

/// A request without a body, on a connection that stays open.
pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|found| found == part)
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Answers one connection with `answer` and closes it; says who asked.
    fn asked(answer: &'static str) -> (Result<Answer>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
            peer
        });
        let answer = event_loop().unwrap().block_on(async {
            let mut client = Client::open(attacker(3), to).await.unwrap();
            client.get("/").await
        });
        (answer, server.join().unwrap())
    }

    #[test]
    fn answers_are_read_in_every_framing() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhimore",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\nX: y\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhi",
        ] {
            let (found, peer) = asked(answer);
            let found = found.unwrap();
            assert_eq!((found.status, found.body.as_slice()), (200, &b"hi"[..]));
            assert_eq!(peer.ip(), attacker(3));
        }
    }

    #[test]
    fn fields_are_found_whatever_their_case() {
        let answer = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
        let answer = asked(answer).0.unwrap();
        assert_eq!(answer.field("retry-after"), Some("1"));
        assert_eq!(answer.field("server"), None);
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nhi",
            "nonsense\r\n\r\n",
        ] {
            assert!(asked(answer).0.is_err(), "{answer}");
        }
    }

    #[test]
    fn a_thread_that_was_held_up_is_late() {
        let late = assault(async {
            let lag = Lag::watch();
            tokio::task::yield_now().await;
            crate::bench::server::pause(LAG_INTERVAL * 2);
            while lag.worst() == Duration::ZERO {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(lag.worst())
        });
        assert!(late.unwrap() >= LAG_INTERVAL / 2);
    }

    #[test]
    fn an_attack_runs_on_its_own_thread_and_hands_back_what_it_found() {
        let here = std::thread::current().id();
        let there = assault(async { Ok(std::thread::current().id()) }).unwrap();
        assert_ne!(here, there);
        assert!(assault::<()>(async { anyhow::bail!("no") }).is_err());
    }
}
