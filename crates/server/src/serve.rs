//! The life of a server: bind, start one thread per core, say that it is ready, wait for the signal, drain, end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hostel_app::limits;
use hostel_host::LogSink;
use http::HeaderValue;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::bounds::Bounds;
use crate::descriptors::Descriptors;
use crate::http::Callee;
use crate::listen::{self, ListenError, Listener};
use crate::live::Live;
use crate::seats::Seats;
use crate::worker::{self, Phase, Shared, Worker};

/// How often a drain reports how far it is.
const REPORT: Duration = Duration::from_secs(1);

/// How a server is run.
pub struct ServeOptions {
    /// Where to listen; port 0 picks a free one. See [`listen::parse`].
    pub listen: Vec<SocketAddr>,
    /// Threads; `None` = one per core that this process may use.
    pub threads: Option<usize>,
    /// How long calls in flight may take to finish after the signal to stop.
    pub drain: Duration,
    /// What is granted to clients; fewer connections where the system allows too few open files for them.
    pub bounds: Bounds,
    /// Where faults are reported.
    pub log: LogSink,
    /// Told at the begin of a drain and then every second what is still open.
    pub draining: Option<Box<dyn Fn(Draining)>>,
}

impl ServeOptions {
    /// One address, everything else at its default.
    pub fn on(address: SocketAddr, log: LogSink) -> Self {
        Self {
            listen: vec![address],
            threads: None,
            drain: limits::DRAIN_MS.duration(),
            bounds: Bounds::default(),
            log,
            draining: None,
        }
    }
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draining {
    /// Requests whose answer is not complete.
    pub calls: usize,
    /// Open connections.
    pub connections: usize,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every call was answered.
    Drained,
    /// The time for draining was over; so many calls were cut off.
    DrainTimedOut {
        /// At least 1.
        calls: usize,
    },
    /// A second signal came; so many calls were cut off.
    Interrupted {
        /// Calls that were cut off; may be 0.
        calls: usize,
    },
}

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No address was given.
    #[error("there is no address to listen on\n  help: give one with `--listen 127.0.0.1:3000`")]
    NoAddress,
    /// The system refused a thread, a runtime or a signal handler.
    #[error("cannot start the server: {0}")]
    Start(#[source] io::Error),
    /// A thread of the server ended on its own.
    #[error("a server thread ended unexpectedly; this is a bug of the host")]
    ThreadEnded,
}

/// Serves `live` until SIGTERM or SIGINT, then drains. Blocks the calling thread, which only waits for signals.
///
/// `ready` is called once, with the real addresses, as soon as every listener accepts.
///
/// # Errors
///
/// What keeps the server from starting; once `ready` was called only [`ServeError::ThreadEnded`].
pub fn serve(
    live: Arc<Live>,
    options: ServeOptions,
    ready: impl FnOnce(&[SocketAddr]),
) -> Result<Outcome, ServeError> {
    let runtime = worker::runtime().map_err(ServeError::Start)?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(ServeError::Start)?;
        supervise(live, options, ready, async || signals.next().await).await
    })
}

/// SIGTERM and SIGINT, as one.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self {
            terminate,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _any = self.terminate.recv() => {}
            _any = self.interrupt.recv() => {}
        }
    }
}

/// [`serve`] with any callee, stopped by whatever `stop` waits for: the first time it drains, the second time it ends.
pub(crate) async fn supervise<C: Callee>(
    live: Arc<Live<C>>,
    options: ServeOptions,
    ready: impl FnOnce(&[SocketAddr]),
    mut stop: impl AsyncFnMut(),
) -> Result<Outcome, ServeError> {
    let mut team = Team::start(live, &options)?;
    team.accepting().await?;
    ready(&team.addresses);
    if let Some(notice) = team.notice.take() {
        options.log.host_fault(notice);
    }
    tokio::select! {
        () = stop() => {}
        () = team.one_ended() => return Err(ServeError::ThreadEnded),
    }
    let end = Instant::now() + options.drain;
    team.phase.send_replace(Phase::Draining);
    let interrupted = tokio::select! {
        () = team.all_ended(options.draining.as_deref()) => return team.join(Outcome::Drained),
        () = stop() => true,
        () = sleep_until(end) => false,
    };
    let calls = team.draining().calls;
    team.phase.send_replace(Phase::Over);
    team.join(match (interrupted, calls) {
        (true, calls) => Outcome::Interrupted { calls },
        // Only idle connections were left.
        (false, 0) => Outcome::Drained,
        (false, calls) => Outcome::DrainTimedOut { calls },
    })
}

/// The threads of a server.
struct Team<C> {
    addresses: Vec<SocketAddr>,
    /// What the operator should know, to be said after the addresses.
    notice: Option<String>,
    workers: Vec<Arc<Worker<C>>>,
    threads: Vec<JoinHandle<()>>,
    phase: watch::Sender<Phase>,
    reports: mpsc::Receiver<Report>,
    ended: usize,
}

/// What a thread tells the one that supervises it.
enum Report {
    Accepts,
    CannotStart(io::Error),
    Ended,
}

impl<C: Callee> Team<C> {
    fn start(live: Arc<Live<C>>, options: &ServeOptions) -> Result<Self, ServeError> {
        let count = options.threads.unwrap_or_else(cores).max(1);
        let mut addresses = Vec::with_capacity(options.listen.len());
        let mut sockets: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for address in &options.listen {
            let (address, bound) = listen::bind(*address, count, options.bounds.backlog)?;
            addresses.push(address);
            for (thread, socket) in sockets.iter_mut().zip(bound) {
                thread.push(socket);
            }
        }
        let mut bounds = options.bounds.clone();
        let notice = Descriptors::raise(count).fit(&mut bounds);
        let first = addresses.first().ok_or(ServeError::NoAddress)?.to_string();
        let shared = Shared {
            live,
            log: options.log.clone(),
            authority: HeaderValue::try_from(first).map_err(|_| ServeError::NoAddress)?,
            seats: Arc::new(Seats::new(&bounds)),
            bounds,
        };
        let (phase, told) = watch::channel(Phase::Serving);
        let (report, reports) = mpsc::channel(2 * count);
        let mut team = Self {
            addresses,
            notice,
            workers: Vec::new(),
            threads: Vec::new(),
            phase,
            reports,
            ended: 0,
        };
        for sockets in sockets {
            let worker = Arc::new(Worker::new(&shared));
            team.workers.push(worker.clone());
            let (told, report) = (told.clone(), report.clone());
            let thread = std::thread::Builder::new()
                .name("serve".into())
                .spawn(move || work(worker, sockets, told, &report));
            team.threads.push(thread.map_err(ServeError::Start)?);
        }
        Ok(team)
    }

    /// Waits until every thread has a runtime and its listeners in it.
    async fn accepting(&mut self) -> Result<(), ServeError> {
        for _ in 0..self.workers.len() {
            match self.reports.recv().await {
                Some(Report::Accepts) => {}
                Some(Report::CannotStart(error)) => return Err(ServeError::Start(error)),
                Some(Report::Ended) | None => return Err(ServeError::ThreadEnded),
            }
        }
        Ok(())
    }

    async fn one_ended(&mut self) {
        while let Some(Report::Accepts) = self.reports.recv().await {}
        self.ended += 1;
    }

    /// Waits for the last thread, with a progress report every second.
    async fn all_ended(&mut self, report: Option<&dyn Fn(Draining)>) {
        while self.ended < self.workers.len() {
            if let Some(report) = report {
                report(self.draining());
            }
            // A pause that is over is the time for the next report.
            let _ended = timeout(REPORT, self.one_ended()).await;
        }
    }

    fn draining(&self) -> Draining {
        Draining {
            calls: self.workers.iter().map(|worker| worker.calls()).sum(),
            connections: self.workers.iter().map(|worker| worker.open()).sum(),
        }
    }

    fn join(self, outcome: Outcome) -> Result<Outcome, ServeError> {
        let ended_well = self.threads.into_iter().all(|thread| thread.join().is_ok());
        if ended_well {
            Ok(outcome)
        } else {
            Err(ServeError::ThreadEnded)
        }
    }
}

/// The main function of a thread.
fn work<C: Callee>(
    worker: Arc<Worker<C>>,
    sockets: Vec<std::net::TcpListener>,
    phase: watch::Receiver<Phase>,
    report: &mpsc::Sender<Report>,
) {
    let _last = Farewell(report);
    let runtime = match worker::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return tell(report, Report::CannotStart(error)),
    };
    runtime.block_on(async {
        let listeners: io::Result<Vec<_>> = sockets.into_iter().map(Listener::new).collect();
        match listeners {
            Ok(listeners) => {
                tell(report, Report::Accepts);
                worker.run(listeners, phase).await;
            }
            Err(error) => tell(report, Report::CannotStart(error)),
        }
    });
}

/// Tells the supervisor that a thread ends, also when it panics.
struct Farewell<'a>(&'a mpsc::Sender<Report>);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        tell(self.0, Report::Ended);
    }
}

fn tell(to: &mpsc::Sender<Report>, report: Report) {
    // There is room for two reports of every thread; a supervisor that has left needs none.
    let _sent = to.try_send(report);
}

/// Cores that this process may use; affinity and cgroup quotas are respected.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
