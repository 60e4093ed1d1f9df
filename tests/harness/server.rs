//! A running `hostel up`, ended with its test.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};

use super::capture::{Capture, last_lines};
use super::command::Guarded;
use super::http::Connection;
use super::message::{Answer, get};
use super::{PATIENCE, data, eventually, executable, guest};

/// What stands in front of the address in the ready line.
const READY: &str = "listening on http://";

/// A server on a port of its own. Dropping it ends the process and fails the test if the process ever panicked.
pub(crate) struct Server {
    child: Guarded,
    addresses: Vec<SocketAddr>,
    stdout: Capture,
    stderr: Capture,
    may_panic: bool,
}

impl Server {
    /// Serves one guest from its bare file.
    pub(crate) fn of(name: &str) -> Self {
        Self::with(name, &[])
    }

    /// The same with further flags.
    pub(crate) fn with(name: &str, flags: &[&str]) -> Self {
        Self::start(&guest(name), flags)
    }

    /// Serves a file or an app's folder.
    pub(crate) fn start(path: &Path, flags: &[&str]) -> Self {
        Self::launch(path, &data(), flags)
    }

    /// The same, with a folder of its own for compiled code.
    pub(crate) fn start_in(data: &Path, path: &Path) -> Self {
        Self::launch(path, data, &[])
    }

    /// Serves one guest with a limit on open files, set as a shell's `ulimit FLAGS` does.
    pub(crate) fn with_ulimit(name: &str, ulimit: &str) -> Self {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit {ulimit} && exec \"$0\" \"$@\""))
            .arg(executable().get_program());
        Self::command(command, &guest(name), &data(), &[])
    }

    /// The same with further flags.
    pub(crate) fn launch(path: &Path, data: &Path, flags: &[&str]) -> Self {
        Self::command(executable(), path, data, flags)
    }

    /// The same with further variables in its environment.
    pub(crate) fn launch_with_env(
        path: &Path,
        data: &Path,
        flags: &[&str],
        variables: &[(&str, String)],
    ) -> Self {
        let mut command = executable();
        for (name, value) in variables {
            command.env(name, value);
        }
        Self::command(command, path, data, flags)
    }

    /// A server that is told no address, because the manifest says one.
    pub(crate) fn as_declared(path: &Path, flags: &[&str]) -> Self {
        let mut command = executable();
        command.arg("up").arg(path).arg("--data").arg(data());
        Self::spawn(command.args(flags).stdin(Stdio::null()), flags)
    }

    /// A server with a host function that panics: `INTERFACE#FUNCTION`.
    pub(crate) fn panicking_in(function: &str, path: &Path) -> Self {
        let mut command = executable();
        command.env("HOSTEL_PANIC_IN", function);
        let mut server = Self::command(command, path, &data(), &[]);
        server.may_panic = true;
        server
    }

    /// A server that a service manager handed this socket to, under these names.
    pub(crate) fn activated(path: &Path, flags: &[&str], socket: TcpListener, names: &str) -> Self {
        let mut command = Command::new("sh");
        // A shell can put a descriptor into its place, and keeps its number when it becomes another program.
        command
            .arg("-c")
            .arg("export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null")
            .arg(executable().get_program())
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", names)
            .stdin(OwnedFd::from(socket));
        command.arg("up").arg(path).arg("--data").arg(data());
        Self::spawn(command.args(flags), flags)
    }

    fn command(mut command: Command, path: &Path, data: &Path, flags: &[&str]) -> Self {
        command
            .arg("up")
            .arg(path)
            .arg("--data")
            .arg(data)
            .args(flags);
        if !flags.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::spawn(command.stdin(Stdio::null()), flags)
    }

    fn spawn(command: &mut Command, flags: &[&str]) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Guarded(command.spawn().expect("the executable starts"));
        let stdout = Capture::of(child.0.stdout.take().expect("a pipe"));
        let stderr = Capture::of(child.0.stderr.take().expect("a pipe"));
        let listeners = flags
            .iter()
            .filter(|flag| **flag == "--listen")
            .count()
            .max(1);
        let addresses = stderr.find("the ready line", |text| ready(text, listeners));
        Self {
            child,
            addresses,
            stdout,
            stderr,
            may_panic: false,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All addresses where it listens.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Connection {
        self.try_connect().expect("the server accepts")
    }

    /// A new connection, unless it is refused.
    pub(crate) fn try_connect(&self) -> std::io::Result<Connection> {
        Connection::open(self.address())
    }

    /// `GET PATH` on a new connection.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.connect().ask(&get(path))
    }

    /// The body of the answer to `GET PATH`, which must be 200.
    pub(crate) fn page(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    }

    /// Fails unless the process is there and answers a request for `path` with 200.
    pub(crate) fn is_alive(&self, path: &str) {
        let _page = self.page(path);
    }

    /// Standard output so far.
    pub(crate) fn stdout(&self) -> &Capture {
        &self.stdout
    }

    /// Standard error so far, the ready line included.
    pub(crate) fn stderr(&self) -> &Capture {
        &self.stderr
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is there");
    }

    /// Lets the process have no more open files than it has now and so many more.
    pub(crate) fn allow_more_files(&self, more: u64) {
        let limit = self.open_files() as u64 + more;
        let old = getrlimit(Resource::Nofile);
        let new = Rlimit {
            current: Some(limit),
            maximum: old.maximum,
        };
        prlimit(Some(self.pid()), Resource::Nofile, new).expect("a lower limit");
    }

    /// Soft and hard limit of its open files.
    pub(crate) fn files_allowed(&self) -> (Option<u64>, Option<u64>) {
        let unchanged = self.proc("limits");
        let line = unchanged
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .expect("a limit of open files");
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        (numbers.next().flatten(), numbers.next().flatten())
    }

    /// The number of the process that was started.
    pub(crate) fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// The process that was started.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.id()).expect("a process id")).expect("not 0")
    }

    /// Files and sockets that the process has open.
    pub(crate) fn open_files(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.child.0.id()));
        files.expect("its files").count()
    }

    /// Waits until no new connection is accepted any more.
    pub(crate) fn refuses(&self) {
        eventually("new connections are refused", || {
            TcpStream::connect_timeout(&self.address(), PATIENCE).err()
        });
    }

    /// Waits for the end of the process.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.child.end()
    }

    /// The most memory that the process ever had resident, in bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that the process has resident now, in bytes.
    pub(crate) fn memory_now(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, what: &str) -> u64 {
        let status = self.proc("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(what))
            .expect("a size");
        let kib: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number");
        kib << 10
    }

    /// CPU time that the process has used, in ticks of the kernel (usually 10 ms).
    pub(crate) fn cpu_ticks(&self) -> u64 {
        ticks(&self.proc("stat"))
    }

    /// The same for the threads of this name.
    pub(crate) fn cpu_ticks_of(&self, name: &str) -> u64 {
        let tasks = format!("/proc/{}/task", self.id());
        let stats = fs::read_dir(tasks)
            .expect("its threads")
            .filter_map(|task| {
                // A thread that ended meanwhile is of no interest.
                fs::read_to_string(task.ok()?.path().join("stat")).ok()
            });
        let named = format!("({name})");
        stats
            .filter(|stat| stat.contains(&named))
            .map(|stat| ticks(&stat))
            .sum()
    }

    /// Waits until the process has used no CPU for a while: everything that can be done has been done.
    pub(crate) fn comes_to_rest(&self) {
        const QUIET: Duration = Duration::from_millis(100);
        let mut last = (self.cpu_ticks(), std::time::Instant::now());
        eventually("the process is at rest", || {
            let ticks = self.cpu_ticks();
            if ticks != last.0 {
                last = (ticks, std::time::Instant::now());
            }
            (last.1.elapsed() >= QUIET).then_some(())
        });
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.0.id()))
            .expect("the process is there")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = last_lines(&self.stderr.text());
            eprintln!("the last lines of the server's standard error:\n{text}");
            return;
        }
        let text = self.stderr.text();
        // A guest's own panic is a tagged line.
        let panicked = text
            .lines()
            .find(|line| !line.starts_with('[') && line.contains("panicked"))
            .filter(|_| !self.may_panic);
        assert_eq!(panicked, None, "the host panicked:\n{text}");
    }
}

/// Lets the test's own process have as many open files as it may: for crowds of clients.
pub(crate) fn allow_a_crowd() {
    let old = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: old.maximum,
        maximum: old.maximum,
    };
    // Where that fails, so does the crowd.
    let _raised = setrlimit(Resource::Nofile, most);
}

/// The addresses of the ready lines, which must be the first lines; `None` until all of them are there.
fn ready(text: &str, listeners: usize) -> Option<Vec<SocketAddr>> {
    let complete = text
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'));
    let addresses: Vec<_> = complete
        .take(listeners)
        .map(|line| {
            let address = line
                .strip_prefix(READY)
                .unwrap_or_else(|| panic!("not a ready line: {line}\n{text}"));
            address.parse().expect("an address")
        })
        .collect();
    (addresses.len() == listeners).then_some(addresses)
}

/// For commands that must fail before they listen: `hostel up PATH FLAGS`, with its exit code and standard error.
pub(crate) fn refused_start(path: &Path, flags: &[&str]) -> String {
    let mut words: Vec<&OsStr> = vec![
        "up".as_ref(),
        path.as_os_str(),
        "--listen".as_ref(),
        "127.0.0.1:0".as_ref(),
    ];
    let data = data();
    words.extend(["--data".as_ref(), data.as_os_str()]);
    words.extend(flags.iter().map(OsStr::new));
    super::command::hostel(&words).failure(1)
}

/// User and system time in a line of `/proc`: the 12th and 13th word behind the name, which may hold spaces.
fn ticks(stat: &str) -> u64 {
    let (_, words) = stat.rsplit_once(") ").expect("a name");
    let words: Vec<&str> = words.split(' ').collect();
    [words[11], words[12]]
        .iter()
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum()
}
