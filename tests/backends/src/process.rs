//! [`Server`]: a process that listens on a port of this machine, with a folder of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to accept connections. Generous: the machine may be busy with other tests.
const START: Duration = Duration::from_secs(60);
/// How often one is tried whose port was taken in the moment before it started.
const TRIES: usize = 5;

/// A process that listens on a port of this machine.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    folder: Folder,
    port: u16,
    child: Option<Child>,
}

/// What differs between the servers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Gets the folder that it may use and the port.
    pub(crate) command: fn(&Folder, u16) -> Command,
    /// Whether it serves, asked over a connection that it accepted.
    pub(crate) serves: fn(TcpStream) -> bool,
}

impl Server {
    /// Starts it on a free port.
    pub(crate) fn start(kind: Kind) -> Self {
        let folder = Folder::new(kind.name);
        for _ in 0..TRIES {
            let port = free_port();
            let mut server = Self {
                kind,
                folder: folder.clone_path(),
                port,
                child: None,
            };
            if server.run() {
                server.folder = folder;
                return server;
            }
        }
        panic!(
            "{} does not start; it says:\n{}",
            kind.name,
            folder.output()
        );
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Kills it at once, as a crash would. Its data stays.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A stopped process is not killed by every kernel before it goes on.
            let _ = kill_process(pid(&child), Signal::CONT);
            signal_children(pid(&child), Signal::CONT);
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Starts it again on the same port with the same data.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let begin = Instant::now();
        // Processes of the killed one may hold its memory for a moment longer.
        while !self.run() {
            assert!(
                begin.elapsed() < START,
                "it does not start again; it says:\n{}",
                self.folder.output()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// It stays there and does nothing (`SIGSTOP`).
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        // Threads that run stop a moment after the signal, and may answer somebody until then.
        let process = self.child.as_ref().expect("the server runs").id();
        let begin = Instant::now();
        while !is_stopped(process) {
            assert!(begin.elapsed() < START, "it does not stop");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// It goes on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server runs");
        kill_process(pid(child), signal).expect("a child can be signalled");
        signal_children(pid(child), signal);
    }

    /// Whether it serves in time; `false` if it ended instead.
    fn run(&mut self) -> bool {
        let log = fs::File::create(self.folder.path().join("output")).expect("a log file");
        let mut command = (self.kind.command)(&self.folder, self.port);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let mut child = spawn(command);
        let begin = Instant::now();
        let address = (Ipv4Addr::LOCALHOST, self.port);
        while !TcpStream::connect(address).is_ok_and(self.kind.serves) {
            if child.try_wait().expect("a child's state").is_some() {
                return false;
            }
            assert!(
                begin.elapsed() < START,
                "it does not serve; it says:\n{}",
                self.folder.output()
            );
            thread::sleep(Duration::from_millis(10));
        }
        self.child = Some(child);
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether all threads of a process are stopped.
fn is_stopped(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process's threads");
    threads.flatten().all(|thread| {
        let state = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // After the name, which is in parentheses.
        state
            .rsplit_once(')')
            .is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// A server may answer in processes of its own, one for each connection: they stand still and go on with it.
fn signal_children(parent: Pid, signal: Signal) {
    let parent = parent.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    // None, where it has ended.
    for child in children.unwrap_or_default().split_whitespace() {
        let child = Pid::from_raw(child.parse().expect("a process id")).expect("not 0");
        // One that has ended meanwhile stands still anyway.
        let _ = kill_process(child, signal);
    }
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A command that ends with this process, whatever happens to it, and runs as `user` if this process may choose.
pub(crate) fn command(program: impl AsRef<OsStr>, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user.filter(|_| is_root()) {
        command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Starts a process on a thread that never ends: with the thread that started it a process would die, and the threads of
/// tests are many and short.
fn spawn(command: Command) -> Child {
    type Job = (Command, SyncSender<std::io::Result<Child>>);
    static KEEPER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (jobs, queue) = sync_channel::<Job>(16);
        thread::spawn(move || {
            for (mut command, answer) in queue {
                answer
                    .send(command.spawn())
                    .expect("somebody waits for the process");
            }
        });
        jobs
    });
    let name = format!("{command:?}");
    let (answer, child) = sync_channel(1);
    keeper.send((command, answer)).expect("the keeper lives");
    let child = child.recv().expect("the keeper answers");
    child.unwrap_or_else(|cause| {
        panic!("cannot start {name}: {cause}; `cargo xtask test` installs what it needs")
    })
}

/// A folder for one server.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    owned: bool,
}

impl Folder {
    /// A new one. Those that processes left behind which were killed are removed.
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_orphans();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let own = format!("{PREFIX}{}-{number}-{name}", std::process::id());
        let path = std::env::temp_dir().join(own);
        fs::create_dir(&path).expect("a folder among the temporary ones");
        // A server may run as another user.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its permissions");
        Self { path, owned: true }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn clone_path(&self) -> Self {
        Self {
            path: self.path.clone(),
            owned: false,
        }
    }

    /// What the server wrote so far.
    fn output(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(self.path.join("output")) {
            let _partly = file.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.owned {
            let _gone = fs::remove_dir_all(&self.path);
        }
    }
}

const PREFIX: &str = "hostel-backends-";

fn remove_orphans() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            let _gone = fs::remove_dir_all(entry.path());
        }
    }
}

/// A program of this name on the path, or in one of these folders.
pub(crate) fn find(program: &str, folders: &[PathBuf]) -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = folders
        .iter()
        .cloned()
        .chain(std::env::split_paths(&on_path));
    let found = all.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()));
    found.unwrap_or_else(|| {
        panic!("there is no {program}; `cargo xtask test` installs what it needs")
    })
}

/// Where `cargo xtask test` puts what it does not install for the whole machine.
pub(crate) fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools")
}

/// What every server can do.
macro_rules! controls {
    ($server:ident) => {
        impl $server {
            /// Its port on 127.0.0.1.
            pub fn port(&self) -> u16 {
                self.0.port()
            }

            /// Where it is.
            pub fn url(&self) -> String {
                self.url_at(self.port())
            }

            /// The process's folder.
            pub fn folder(&self) -> &std::path::Path {
                self.0.folder().path()
            }

            /// Kills it at once, as a crash would. Its data stays.
            pub fn kill(&mut self) {
                self.0.kill();
            }

            /// Starts it again on the same port with the same data, killing it first if it still runs.
            pub fn restart(&mut self) {
                self.0.restart();
            }

            /// It stays there and does nothing.
            pub fn pause(&self) {
                self.0.pause();
            }

            /// It goes on after [`pause`](Self::pause).
            pub fn resume(&self) {
                self.0.resume();
            }
        }
    };
}
pub(crate) use controls;
