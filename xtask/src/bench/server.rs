//! One server under measurement: started on its core, asked once whether it answers rightly, and ended in every case.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long a server may take until it listens: compiling the guest is part of it.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a server may take to end after SIGTERM before it is killed. Nothing is connected any more by then.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the first answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes; the right one has about 150.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// How many lines of a server's standard error are kept for the report of its failure.
const STDERR_LINES_KEPT: usize = 20;

/// A running server process. Dropping it ends the process, so no error path leaves one behind.
pub(crate) struct Server {
    name: String,
    child: Child,
    address: SocketAddr,
    stderr: Arc<Mutex<Said>>,
    /// Held by whoever wants the rest of the output to be left unread until it is dropped.
    unread: Option<SyncSender<()>>,
    stop_timeout: Duration,
    ended: bool,
}

impl Server {
    /// Starts `command` and waits until it has said on standard error which address it listens on.
    pub(crate) fn start(name: &str, command: Command) -> Result<Server> {
        Server::start_within(START_TIMEOUT, name, command)
    }

    /// The same, but nobody reads its standard error behind the ready line until [`Server::read_on`].
    pub(crate) fn start_unread(name: &str, command: Command) -> Result<Server> {
        let (hold, held) = sync_channel(0);
        let mut server = Server::launch(START_TIMEOUT, name, command, Some(held))?;
        server.unread = Some(hold);
        Ok(server)
    }

    fn start_within(timeout: Duration, name: &str, command: Command) -> Result<Server> {
        Server::launch(timeout, name, command, None)
    }

    fn launch(
        timeout: Duration,
        name: &str,
        mut command: Command,
        held: Option<Receiver<()>>,
    ) -> Result<Server> {
        // RUST_LOG of the caller's shell would make one contender write a line per request.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env_remove("RUST_LOG");
        let mut child = command.spawn().with_context(|| {
            format!(
                "{name} could not be started through `setpriv` and `taskset` (package util-linux)"
            )
        })?;
        let pipe = child.stderr.take();
        let stderr = Arc::new(Mutex::new(Said::default()));
        let mut server = Server {
            name: name.to_owned(),
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            stderr: stderr.clone(),
            unread: None,
            stop_timeout: STOP_TIMEOUT,
            ended: false,
        };
        let pipe = pipe.context("the server's standard error is not a pipe")?;
        let (send, ready) = sync_channel(1);
        thread::spawn(move || follow(pipe, &stderr, &send, held));
        server.address = server.wait_ready(&ready, timeout)?;
        Ok(server)
    }

    /// The process id: `setpriv` and `taskset` each replace themselves by what they start.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where to send requests.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the output of a server from [`Server::start_unread`] be read from now on.
    pub(crate) fn read_on(&mut self) {
        self.unread = None;
    }

    /// Lines on its standard error so far, and how many more it said there were lost.
    pub(crate) fn lines(&self) -> (u64, u64) {
        let said = self.output();
        (said.lines, said.lost)
    }

    /// Whether a line of its standard error told of a panic.
    pub(crate) fn panicked(&self) -> bool {
        self.output().panicked
    }

    fn output(&self) -> MutexGuard<'_, Said> {
        match self.stderr.lock() {
            Ok(said) => said,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Asks once and fails unless the answer is 200 with exactly the body `wanted`: an error page is never measured.
    pub(crate) fn check_answer(&self, wanted: &str) -> Result<()> {
        let answer = ask(self.address)
            .with_context(|| format!("{}: no answer{}", self.name, self.said()))?;
        let (status, body) = parse_answer(&answer)
            .with_context(|| format!("{}: not an HTTP answer{}", self.name, self.said()))?;
        ensure!(
            status == 200 && body == wanted.as_bytes(),
            "{}: answered {status} with {:?}, not 200 with {wanted:?}{}",
            self.name,
            String::from_utf8_lossy(&body),
            self.said()
        );
        Ok(())
    }

    /// Fails when the process has ended although nobody asked it to.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            self.ended = true;
            bail!("{}: ended under load ({status}){}", self.name, self.said());
        }
        Ok(())
    }

    fn wait_ready(&self, ready: &Receiver<SocketAddr>, timeout: Duration) -> Result<SocketAddr> {
        match ready.recv_timeout(timeout) {
            Ok(address) => Ok(address),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("{}: ended before it listened{}", self.name, self.said())
            }
            Err(RecvTimeoutError::Timeout) => bail!(
                "{}: does not listen after {timeout:?}{}",
                self.name,
                self.said()
            ),
        }
    }

    /// The last lines of its standard error, as the end of an error message.
    fn said(&self) -> String {
        let said = self.output();
        if said.last.is_empty() {
            return String::new();
        }
        let lines: Vec<&str> = said.last.iter().map(String::as_str).collect();
        format!("\n  it said:\n    {}", lines.join("\n    "))
    }

    /// SIGTERM, a bounded wait, SIGKILL.
    fn end(&mut self) -> Result<()> {
        // The standard library sends SIGKILL only. The shell has `kill` built in, so no package is needed.
        Command::new("sh")
            .args(["-c", "kill -TERM \"$1\"", "sh"])
            .arg(self.child.id().to_string())
            .stderr(Stdio::null())
            .status()
            .context("`sh` could not be started")?;
        let until = Instant::now() + self.stop_timeout;
        while Instant::now() < until {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            pause(Duration::from_millis(5));
        }
        eprintln!(
            "{}: still there {:?} after SIGTERM; killed",
            self.name, self.stop_timeout
        );
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Err(error) = self.end() {
            eprintln!(
                "{}: process {} could not be ended: {error}",
                self.name,
                self.child.id()
            );
        }
    }
}

/// Waits without doing anything: between two looks at a process, or while others work.
#[expect(
    clippy::disallowed_methods,
    reason = "blocks a thread of a chore, which serves nobody"
)]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

/// Reads a server's standard error until it closes: finds the address, keeps the last lines, never lets the pipe fill up.
/// Where `held` is given, it stops behind the ready line until the other end of that channel is dropped.
fn follow(
    pipe: impl Read,
    kept: &Mutex<Said>,
    ready: &SyncSender<SocketAddr>,
    held: Option<Receiver<()>>,
) {
    let mut found = false;
    for line in BufReader::new(pipe).split(b'\n') {
        let Ok(line) = line else {
            break;
        };
        let line = String::from_utf8_lossy(&line).into_owned();
        if let (false, Some(address)) = (found, ready_address(&line)) {
            found = true;
            ready.try_send(address).ok();
            if let Some(held) = &held {
                held.recv().ok();
            }
        }
        let Ok(mut said) = kept.lock() else {
            break;
        };
        said.take(line);
    }
}

/// What a server has said on its standard error.
#[derive(Default)]
struct Said {
    /// The last lines, for the report of its failure.
    last: VecDeque<String>,
    lines: u64,
    lost: u64,
    panicked: bool,
}

impl Said {
    fn take(&mut self, line: String) {
        self.lines += 1;
        self.lost += lost_lines(&line);
        self.panicked |= line.contains("panicked at");
        self.last.push_back(line);
        if self.last.len() > STDERR_LINES_KEPT {
            self.last.pop_front();
        }
    }
}

/// The count in `hostel: 17 log lines were lost: ...` or `17 log lines of app a were lost: ...`; 0 for other lines.
fn lost_lines(line: &str) -> u64 {
    let Some((before, behind)) = line.split_once(" log lines ") else {
        return 0;
    };
    if !behind.contains("were lost") {
        return 0;
    }
    let count = before.rsplit(' ').next().unwrap_or_default();
    count.parse().unwrap_or_default()
}

/// The address in a ready line: `listening on http://127.0.0.1:3000` (Hostel, native),
/// `Serving HTTP on http://127.0.0.1:3000/` (`wasmtime serve`).
fn ready_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(" on http://")?;
    rest.trim_end().trim_end_matches('/').parse().ok()
}

/// One GET as the load generator will send it, but with `connection: close`; the whole answer.
fn ask(address: SocketAddr) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Splits an answer into status and body; a chunked body is put together.
fn parse_answer(answer: &[u8]) -> Result<(u16, Vec<u8>)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("no end of the head in {text:?}"))?;
    let head = head.to_ascii_lowercase();
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    let status = status
        .parse()
        .with_context(|| format!("no status in {head:?}"))?;
    let chunked = head
        .lines()
        .any(|line| line.starts_with("transfer-encoding:") && line.ends_with("chunked"));
    let body = if chunked {
        unchunk(body)?
    } else {
        body.to_owned()
    };
    Ok((status, body.into_bytes()))
}

/// Puts a chunked body together (RFC 9112, section 7.1); extensions and trailers are left out.
fn unchunk(mut rest: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").context("a chunk without a size")?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16)
            .with_context(|| format!("`{size}` is no chunk size"))?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = after
            .get(..size)
            .context("a chunk shorter than it says it is")?;
        body.push_str(chunk);
        rest = after.get(size..).unwrap_or_default();
        rest = rest.strip_prefix("\r\n").unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::path::Path;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// A server that is only a ready line; the requests go to `address`.
    fn fake(address: SocketAddr) -> Server {
        let script = format!("echo 'listening on http://{address}' >&2; exec sleep 60");
        Server::start("fake", shell(&script)).unwrap()
    }

    /// Answers one connection with `answer`.
    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            assert!(read > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn both_ready_lines_are_understood() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 8123)));
        assert_eq!(ready_address("listening on http://127.0.0.1:8123"), address);
        assert_eq!(
            ready_address("Serving HTTP on http://127.0.0.1:8123/"),
            address
        );
        assert_eq!(ready_address("compiling web.wasm"), None);
    }

    #[test]
    fn lines_lost_lines_and_panics_are_counted_once_they_are_read() {
        let script = "echo 'listening on http://127.0.0.1:9' >&2; echo 'hostel: 17 log lines were lost: slow' >&2; \
                      echo 'thread x panicked at y' >&2; exec sleep 60";
        let mut server = Server::start_unread("fake", shell(script)).unwrap();
        assert_eq!(server.lines(), (0, 0));
        server.read_on();
        let until = Instant::now() + Duration::from_secs(10);
        while server.lines().0 < 3 && Instant::now() < until {
            pause(Duration::from_millis(5));
        }
        assert_eq!(server.lines(), (3, 17));
        assert!(server.panicked());
        let line = "hostel: 3 log lines of app shop were lost: 2 beyond 1MiB/s";
        assert_eq!(lost_lines(line), 3);
        assert_eq!(lost_lines("17 log lines were kept"), 0);
    }

    #[test]
    fn dropping_a_server_ends_its_process() {
        let server = fake(SocketAddr::from(([127, 0, 0, 1], 9)));
        let process = format!("/proc/{}", server.pid());
        assert!(Path::new(&process).exists());
        drop(server);
        assert!(!Path::new(&process).exists());
    }

    #[test]
    fn a_server_that_ignores_sigterm_is_killed() {
        let script = "trap '' TERM; echo 'listening on http://127.0.0.1:9' >&2; exec sleep 60";
        let mut server = Server::start("stubborn", shell(script)).unwrap();
        server.stop_timeout = Duration::from_millis(20);
        let process = format!("/proc/{}", server.pid());
        drop(server);
        assert!(!Path::new(&process).exists());
    }

    #[test]
    fn a_server_that_never_listens_is_an_error() {
        let script = "echo still compiling >&2; exec sleep 60";
        let error = Server::start_within(Duration::from_millis(20), "slow", shell(script));
        let error = error.err().unwrap().to_string();
        assert!(
            error.contains("slow: does not listen after 20ms"),
            "{error}"
        );
    }

    #[test]
    fn a_server_that_ends_early_is_an_error_with_its_last_words() {
        let error = Server::start("early", shell("echo 'no such file' >&2; exit 3"))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("ended before it listened"), "{error}");
        assert!(error.contains("no such file"), "{error}");
    }

    #[test]
    fn a_server_that_cannot_be_started_is_an_error() {
        let error = Server::start("absent", Command::new("./no-such-program"));
        let error = error.err().unwrap().to_string();
        assert!(error.contains("absent could not be started"), "{error}");
    }

    #[test]
    fn a_server_that_died_under_load_is_an_error() {
        let script = "echo 'listening on http://127.0.0.1:9' >&2; read line";
        let mut server = Server::start("short", shell(script)).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while server.check_alive().is_ok() && Instant::now() < until {
            pause(Duration::from_millis(5));
        }
        assert!(server.ended);
    }

    #[test]
    fn the_right_answer_passes_whole_and_in_chunks() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;x=y\r\n\n\r\n0\r\n\r\n",
        ] {
            fake(answering(answer)).check_answer("hi\n").unwrap();
        }
    }

    #[test]
    fn a_wrong_answer_is_an_error_that_quotes_it() {
        let cases = [
            ("HTTP/1.1 503 Busy\r\n\r\nhi\n", "answered 503"),
            ("HTTP/1.1 200 OK\r\n\r\noops", "\"oops\""),
            ("garbage", "not an HTTP answer"),
        ];
        for (answer, wanted) in cases {
            let error = fake(answering(answer)).check_answer("hi\n").unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn nobody_listening_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = fake(address).check_answer("hi\n").unwrap_err().to_string();
        assert!(error.contains("no answer"), "{error}");
    }

    #[test]
    fn broken_chunks_are_errors() {
        assert!(unchunk("2").is_err());
        assert!(unchunk("zz\r\n").is_err());
        assert!(unchunk("ff\r\nshort").is_err());
    }
}
