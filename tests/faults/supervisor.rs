//! `hostel up --supervise`: a worker process that dies costs the requests that it was answering, and no client is
//! refused.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgid, kill_process};

use crate::functional::shutdown::ends_at_a_second_signal;
use crate::harness::app::App;
use crate::harness::command::{hostel, hostel_in};
use crate::harness::http::Connection;
use crate::harness::message::{chunk, chunked_head, get, last_chunk};
use crate::harness::server::Server;
use crate::harness::{data, eventually, guest};

/// What a worker says when it took the place of one that died.
const AGAIN: &str = "listening again on http://";

/// How long a client rests between two requests.
const CLIENT_REST: Duration = Duration::from_millis(2);

/// A server with a supervisor and two listening sockets, so that no thread's socket is forgotten.
fn supervised(guest: &str) -> Server {
    Server::with(guest, &["--supervise", "--threads", "2"])
}

/// The worker process, once there is one that is not `old`.
fn worker(server: &Server, old: Option<Pid>) -> Pid {
    let supervisor = server.pid();
    let path = format!("/proc/{supervisor}/task/{supervisor}/children");
    eventually("a worker process", || {
        let children = fs::read_to_string(&path).expect("the supervisor is there");
        let child = children.split_whitespace().next()?;
        let pid = Pid::from_raw(child.parse().expect("a number"));
        pid.filter(|_| pid != old)
    })
}

/// How often a worker was ready again.
fn restarts(server: &Server) -> usize {
    server.stderr().text().matches(AGAIN).count()
}

/// Ends the worker process and waits until another one serves.
pub(super) fn end_worker(server: &Server, signal: Signal) {
    let (before, old) = (restarts(server), worker(server, None));
    kill_process(old, signal).expect("a worker");
    eventually("a worker that serves again", || {
        (restarts(server) > before).then_some(())
    });
}

/// Stops a process and waits until no thread of it runs any more.
fn stop(pid: Pid) {
    kill_process(pid, Signal::STOP).expect("a worker");
    eventually("a process that stands still", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        let stands = |thread: std::io::Result<fs::DirEntry>| {
            let stat = thread.expect("a thread").path().join("stat");
            let stat = fs::read_to_string(stat).expect("its state");
            stat.contains(") T ")
        };
        threads.into_iter().all(stands).then_some(())
    });
}

/// Waits for the end of a process that is nobody's child any more; where nobody collects it, it stays as a zombie.
fn is_gone(pid: Pid) {
    eventually("the end of the worker process", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
        matches!(state, None | Some(Some('Z' | 'X'))).then_some(())
    });
}

/// A client that asks on a new connection each time, until it is told to stop.
struct Client {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Client {
    fn of(address: SocketAddr) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (told, counted): (_, Arc<AtomicUsize>) = (stop.clone(), Arc::clone(&answered));
        let thread = std::thread::spawn(move || {
            while !told.load(SeqCst) {
                ask_until_answered(address);
                counted.fetch_add(1, SeqCst);
                // Other tests run beside this one.
                std::thread::park_timeout(CLIENT_REST);
            }
        });
        Self {
            stop,
            answered,
            thread,
        }
    }

    /// Ends after the answer to come; returns how many there were.
    fn end(self) -> usize {
        self.stop.store(true, SeqCst);
        self.thread
            .join()
            .expect("every connection was made and every request answered in the end");
        self.answered.load(SeqCst)
    }
}

/// A connection that the dying worker had accepted may be cut; then the client asks again. It must never be refused.
fn ask_until_answered(address: SocketAddr) {
    eventually("an answer", || {
        let mut connection = Connection::open(address).expect("never refused");
        connection.try_send(get("/"));
        let answer = connection.try_answer().ok()?;
        assert_eq!(answer.status, 200);
        Some(())
    });
}

#[test]
fn a_worker_that_dies_is_replaced_and_no_client_is_refused() {
    let mut server = supervised("hello-p2");
    let clients = [
        Client::of(server.address()),
        Client::of(server.address()),
        Client::of(server.address()),
    ];
    for signal in [
        Signal::ABORT,
        Signal::KILL,
        Signal::ABORT,
        Signal::KILL,
        Signal::ABORT,
    ] {
        end_worker(&server, signal);
    }
    for client in clients {
        assert!(client.end() > 0);
    }
    server.is_alive("/");
    let text = server.stderr().text();
    let told = |end: &str| text.matches(end).count();
    assert_eq!(
        (
            told("ended with signal 6 (SIGABRT"),
            told("ended with signal 9 (SIGKILL")
        ),
        (3, 2),
        "{text}"
    );
    // The first restart is at once, and the pause doubles.
    let pauses: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once("it is started again "))
        .map(|(_, pause)| pause)
        .collect();
    assert_eq!(
        pauses,
        ["now", "in 100 ms", "in 200 ms", "in 400 ms", "in 800 ms"],
        "{text}"
    );
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn connections_that_a_dead_worker_never_accepted_are_answered() {
    let server = supervised("hello-p2");
    let stopped = worker(&server, None);
    stop(stopped);
    let waiting: Vec<_> = (0..16)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(get("/"));
            connection
        })
        .collect();
    kill_process(stopped, Signal::KILL).expect("a worker");
    for mut connection in waiting {
        assert_eq!(connection.answer().status, 200);
    }
    assert_ne!(worker(&server, None), stopped);
}

#[test]
fn the_first_line_is_the_ready_line_and_the_next_worker_says_that_it_listens_again() {
    let server = Server::with(
        "hello-p2",
        &[
            "--supervise",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:0",
        ],
    );
    end_worker(&server, Signal::KILL);
    for address in server.addresses() {
        server.stderr().wait_for(&format!("{AGAIN}{address}\n"));
        ask_until_answered(*address);
    }
    let text = server.stderr().text();
    assert!(text.starts_with("listening on http://"), "{text}");
    assert_eq!(text.matches("listening on http://").count(), 2, "{text}");
}

#[test]
fn a_signal_drains_the_worker_and_new_clients_are_refused() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = supervised("echo-p2");
        let worker = worker(&server, None);
        let mut connection = server.connect();
        connection.send([chunked_head("/", &[]), chunk("begun ")].concat());
        let head = connection.head();
        server.signal(signal);
        server.refuses();
        connection.send([chunk("and finished"), last_chunk(&[])].concat());
        assert_eq!(connection.body_of(head).text(), "begun and finished");
        assert_eq!(server.end().code(), Some(0), "{signal:?}");
        is_gone(worker);
    }
}

#[test]
fn a_second_signal_is_passed_on_and_the_exit_code_is_the_worker_s() {
    ends_at_a_second_signal(supervised("echo-p2"));
}

#[test]
fn a_worker_that_ends_well_ends_the_supervisor() {
    let mut server = supervised("hello-p2");
    kill_process(worker(&server, None), Signal::TERM).expect("a worker");
    assert_eq!(server.end().code(), Some(0));
    assert_eq!(restarts(&server), 0);
}

#[test]
fn a_supervisor_that_dies_leaves_nothing_behind() {
    let mut server = supervised("echo-p2");
    let worker = worker(&server, None);
    let mut connection = server.connect();
    connection.send([chunked_head("/", &[]), chunk("begun ")].concat());
    let head = connection.head();
    server.signal(Signal::KILL);
    assert_eq!(server.end().code(), None);
    server.refuses();
    // The worker drains as if it had been told to.
    connection.send([chunk("and finished"), last_chunk(&[])].concat());
    assert_eq!(connection.body_of(head).text(), "begun and finished");
    is_gone(worker);
}

#[test]
fn a_stop_between_two_workers_ends_it_at_once() {
    let mut server = supervised("hello-p2");
    // Each death makes the next pause longer; the last one is hit by the signal, or the worker after it is.
    for _ in 0..3 {
        end_worker(&server, Signal::KILL);
    }
    kill_process(worker(&server, None), Signal::KILL).expect("a worker");
    server.stderr().wait_for("started again in 400 ms");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn an_app_that_cannot_be_served_fails_as_without_a_supervisor() {
    let app = App::new("[app]\nname = \"a\"\n\n[[http]]\nrout = \"/...\"\ncomponent = web\n");
    let words = ["up", ".", "--listen", "127.0.0.1:0"];
    let plain = hostel_in(app.folder(), &words).failure(1);
    let supervised = hostel_in(app.folder(), &[&words[..], &["--supervise"]].concat()).failure(1);
    assert_eq!(supervised, plain);
}

#[test]
fn a_port_in_use_fails_as_without_a_supervisor() {
    let first = supervised("hello-p2");
    let address = first.address().to_string();
    let path = guest("hello-p2");
    let words = ["up", path.to_str().expect("text"), "--listen", &address];
    let plain = hostel(&words).failure(1);
    assert!(plain.contains("the port is in use"), "{plain}");
    assert_eq!(
        hostel(&[&words[..], &["--supervise"]].concat()).failure(1),
        plain
    );
    first.is_alive("/");
}

#[test]
fn an_app_that_breaks_while_it_is_served_is_tried_again_with_growing_pauses() {
    let app = App::of("hello-p2", "");
    let mut server = Server::start(app.folder(), &["--supervise"]);
    let manifest = app.folder().join("hostel.toml");
    let good = fs::read(&manifest).expect("a manifest");
    fs::write(&manifest, "[app]\nnme = \"a\"\n").expect("a manifest");
    kill_process(worker(&server, None), Signal::KILL).expect("a worker");
    server
        .stderr()
        .wait_for("ended with exit status 1; it is started again in 200 ms");
    fs::write(&manifest, good).expect("a manifest");
    server.stderr().wait_for(AGAIN);
    server.is_alive("/");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn the_supervisor_is_small() {
    let server = supervised("hello-p2");
    let entries = |folder| {
        let path = format!("/proc/{}/{folder}", server.pid());
        fs::read_dir(path).expect("it is there").count()
    };
    let files = entries("fd");
    for _ in 0..3 {
        end_worker(&server, Signal::KILL);
    }
    assert_eq!((entries("task"), entries("fd")), (1, files));
    let peak = server.memory_peak();
    assert!(peak < 32 << 20, "{peak} bytes");
}

#[test]
fn a_terminal_s_signals_reach_the_supervisor_alone() {
    // Ctrl-C goes to a whole group, and a worker that gets it twice would cut its requests off.
    let server = supervised("hello-p2");
    let group = |pid| getpgid(Some(pid)).expect("it is there");
    let worker = worker(&server, None);
    assert_eq!(group(worker), worker);
    assert_ne!(group(server.pid()), worker);
}

#[test]
fn the_flag_between_the_two_processes_is_not_for_people() {
    let data = data();
    let text = hostel(&[
        "up",
        guest("hello-p2").to_str().expect("text"),
        "--data",
        data.to_str().expect("text"),
        "--supervised",
        "first",
    ])
    .failure(1);
    assert!(
        text.contains("no supervisor at standard input") && text.contains("use `--supervise`"),
        "{text}"
    );
    let help = hostel(&["up", "--help"]).success();
    assert!(
        help.contains("--supervise") && !help.contains("--supervised"),
        "{help}"
    );
}
