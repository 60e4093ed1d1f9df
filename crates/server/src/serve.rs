//! The life of a server: bind or inherit, start one thread per core, say that it is ready, wait for the signal, drain, end.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hostel_app::{ListenOn, limits};
use hostel_host::LogSink;
use http::HeaderValue;
use rustix::process::Signal as Told;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::activation::Inherited;
use crate::bounds::Bounds;
use crate::cron::Crontab;
use crate::descriptors::Descriptors;
use crate::handover::LifeLine;
use crate::http::Callee;
use crate::listen::{self, Bound, ListenError, Listener};
use crate::live::Live;
use crate::messages::Consumer;
use crate::metrics::{Exporter, MetricsOptions, Traffic};
use crate::notify::Manager;
use crate::seats::Seats;
use crate::service::{Open, Service, ServiceListenError};
use crate::worker::{self, Phase, Shared, Worker};

/// How often a drain reports how far it is.
const REPORT: Duration = Duration::from_secs(1);

/// Told of a service's name and of one address where it listens.
pub type ToldService = dyn Fn(&str, SocketAddr);

/// How a server is run.
pub struct ServeOptions {
    /// The supervisor that has the listening sockets; with it, `listen`, `inherited` and `threads` are not used.
    pub supervisor: Option<LifeLine>,
    /// Where to listen; port 0 picks a free one. See [`listen::parse`].
    pub listen: Vec<ListenOn>,
    /// Sockets that `listen` and services may name.
    pub inherited: Inherited,
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
    /// Told, once the server is ready, of each service where it listens.
    pub services: Option<Box<ToldService>>,
    /// Where the metrics are served, if they are.
    pub metrics: Option<MetricsOptions>,
}

impl ServeOptions {
    /// One address, everything else at its default.
    pub fn on(address: SocketAddr, log: LogSink) -> Self {
        Self {
            supervisor: None,
            listen: vec![ListenOn::Address(address)],
            inherited: Inherited::default(),
            threads: None,
            drain: limits::DRAIN_MS.duration(),
            bounds: Bounds::default(),
            log,
            draining: None,
            services: None,
            metrics: None,
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
    /// Guests of services that have not ended.
    pub services: usize,
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
    /// A service cannot listen where it wants to.
    #[error(transparent)]
    Service(#[from] ServiceListenError),
    /// The metrics' own address cannot be listened on.
    #[error("{0}")]
    Metrics(String),
    /// No address was given.
    #[error("there is no address to listen on\n  help: give one with `--listen 127.0.0.1:3000`")]
    NoAddress,
    /// The supervisor did not hand its sockets over.
    #[error("no listening socket came from the supervisor: {0}")]
    Inherit(#[source] io::Error),
    /// The system refused a thread, a runtime or a signal handler.
    #[error("cannot start the server: {0}")]
    Start(#[source] io::Error),
    /// A thread of the server ended on its own.
    #[error("a server thread ended unexpectedly; this is a bug of the host")]
    ThreadEnded,
}

/// Serves `live` until SIGTERM, SIGINT or the end of its supervisor, then drains. Blocks the calling thread, which only waits for signals.
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
        let mut stop = Stop::new(options.supervisor.as_ref()).map_err(ServeError::Start)?;
        supervise(live, options, ready, async || stop.next().await).await
    })
}

/// What stops a server.
struct Stop {
    signals: Signals,
    /// Over with the supervisor. That begins a drain and never cuts one off, so it is awaited once.
    orphaned: Pin<Box<dyn Future<Output = ()>>>,
}

impl Stop {
    fn new(supervisor: Option<&LifeLine>) -> io::Result<Self> {
        // First: the supervisor's end is a signal until its line is watched.
        let signals = Signals::new()?;
        Ok(Self {
            signals,
            orphaned: match supervisor {
                Some(line) => Box::pin(line.watch()?),
                None => Box::pin(pending()),
            },
        })
    }

    async fn next(&mut self) {
        let orphaned = std::mem::replace(&mut self.orphaned, Box::pin(pending()));
        tokio::select! {
            _signal = self.signals.next() => {}
            () = orphaned => {}
        }
    }
}

/// SIGTERM and SIGINT, as one.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self {
            terminate,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Told {
        tokio::select! {
            _any = self.terminate.recv() => Told::TERM,
            _any = self.interrupt.recv() => Told::INT,
        }
    }
}

/// [`serve`] with any callee, stopped by whatever `stop` waits for: the first time it drains, the second time it ends.
pub(crate) async fn supervise<C: Callee>(
    live: Arc<Live<C>>,
    mut options: ServeOptions,
    ready: impl FnOnce(&[SocketAddr]),
    mut stop: impl AsyncFnMut(),
) -> Result<Outcome, ServeError> {
    let sockets = Sockets::open(&live.services, &options)?;
    let services: Vec<_> = sockets.services.iter().map(Open::addresses).collect();
    let metrics = options.metrics.take();
    let exporter = metrics.map(|metrics| Exporter::bind(metrics, &options.log));
    let exporter = exporter.transpose()?;
    let mut team = Team::start(live, &options, sockets)?;
    team.accepting().await?;
    if let Some(supervisor) = &options.supervisor {
        // Before anybody else is told: whoever knows that a worker serves may rely on another one if it dies.
        supervisor.ready();
    }
    ready(&team.addresses);
    if let Some(told) = options.services.take() {
        for (name, addresses) in services {
            addresses
                .into_iter()
                .for_each(|address| told(&name, address));
        }
    }
    // A supervised process is not the one that the manager started.
    let manager = match options.supervisor {
        None => Manager::of_environment(),
        Some(_) => Manager::default(),
    };
    manager.ready();
    team.phase.send_replace(Phase::Serving);
    if let Some(exporter) = exporter {
        exporter.start(team.traffic.clone(), team.phase.subscribe());
    }
    if let Some(notice) = team.notice.take() {
        options.log.host_fault(notice);
    }
    tokio::select! {
        () = stop() => {}
        () = team.one_ended() => return Err(ServeError::ThreadEnded),
        () = manager.watchdog() => {}
    }
    manager.stopping();
    let end = Instant::now() + options.drain;
    team.phase.send_replace(Phase::Draining);
    let interrupted = tokio::select! {
        () = team.all_ended(options.draining.as_deref()) => return team.join(Outcome::Drained),
        () = stop() => true,
        () = sleep_until(end) => false,
        // The manager goes on to wait for it.
        () = manager.watchdog() => false,
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

/// The listening sockets of a server and of its services.
struct Sockets {
    bound: Vec<Bound>,
    services: Vec<Open>,
}

impl Sockets {
    fn open(services: &[Service], options: &ServeOptions) -> Result<Self, ServeError> {
        let Some(supervisor) = &options.supervisor else {
            let (inherited, backlog) = (&options.inherited, options.bounds.backlog);
            let threads = options.threads.unwrap_or_else(cores);
            return Ok(Self {
                bound: listen::bind_all(&options.listen, inherited, threads, backlog)?,
                services: Service::open(services, inherited, backlog)?,
            });
        };
        let handed = supervisor.inherit(&Service::places(services));
        let mut groups = handed.map_err(ServeError::Inherit)?.into_iter();
        let bound = listen::adopt(groups.next().unwrap_or_default());
        Ok(Self {
            bound: bound.map_err(ServeError::Inherit)?,
            services: Service::adopt(services, groups.collect()).map_err(ServeError::Inherit)?,
        })
    }
}

/// The threads of a server.
struct Team<C> {
    addresses: Vec<SocketAddr>,
    /// What the operator should know, to be said after the addresses.
    notice: Option<String>,
    workers: Vec<Arc<Worker<C>>>,
    threads: Vec<JoinHandle<()>>,
    traffic: Arc<Traffic>,
    phase: watch::Sender<Phase>,
    reports: mpsc::Receiver<Report>,
    ended: usize,
}

/// What a thread tells the main one.
enum Report {
    Accepts,
    CannotStart(io::Error),
    Ended,
}

impl<C: Callee> Team<C> {
    /// As many threads as there are sockets of each address.
    fn start(
        live: Arc<Live<C>>,
        options: &ServeOptions,
        Sockets { bound, services }: Sockets,
    ) -> Result<Self, ServeError> {
        let count = bound.first().map_or(0, |bound| bound.sockets.len());
        let mut addresses = Vec::with_capacity(bound.len());
        let mut sockets: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for bound in bound {
            addresses.push(bound.address);
            for (thread, socket) in sockets.iter_mut().zip(bound.sockets) {
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
            traffic: Arc::default(),
        };
        let (phase, told) = watch::channel(Phase::Starting);
        let (report, reports) = mpsc::channel(2 * count);
        let mut team = Self {
            addresses,
            notice,
            workers: Vec::new(),
            traffic: shared.traffic.clone(),
            threads: Vec::new(),
            phase,
            reports,
            ended: 0,
        };
        for (number, sockets) in sockets.into_iter().enumerate() {
            let worker = Arc::new(Worker::new(&shared));
            team.workers.push(worker.clone());
            let (told, report) = (told.clone(), report.clone());
            // Each service is driven by one thread; they take turns. Subscriptions are shared where they can be.
            let consumers = shared.live.consumers.iter().enumerate();
            let guests = services.iter().flat_map(Open::guests).skip(number);
            let sources = Sources {
                sockets,
                consumers: consumers
                    .filter_map(|(index, consumer)| consumer.share(index, number, count))
                    .collect(),
                // One timer for all schedules, on the last thread.
                crontab: shared.live.crontab.clone().filter(|_| number + 1 == count),
                services: guests.step_by(count).collect(),
            };
            let thread = std::thread::Builder::new()
                .name("serve".into())
                .spawn(move || work(worker, sources, told, &report));
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
            services: self.workers.iter().map(|worker| worker.services()).sum(),
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

/// Where the calls of one thread come from.
struct Sources {
    sockets: Vec<std::net::TcpListener>,
    consumers: Vec<Consumer>,
    crontab: Option<Crontab>,
    /// Each with the number of the guest among those of its service.
    services: Vec<(Open, u32)>,
}

/// The main function of a thread.
fn work<C: Callee>(
    worker: Arc<Worker<C>>,
    sources: Sources,
    phase: watch::Receiver<Phase>,
    report: &mpsc::Sender<Report>,
) {
    let _last = Farewell(report);
    let runtime = match worker::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return tell(report, Report::CannotStart(error)),
    };
    runtime.block_on(async {
        let sockets = sources.sockets.into_iter();
        let listeners: io::Result<Vec<_>> = sockets.map(Listener::new).collect();
        match listeners {
            Ok(listeners) => {
                let mut lasting = worker.consume(sources.consumers, &phase).await;
                lasting.extend(worker.start_services(sources.services, &phase).await);
                lasting.extend(
                    sources
                        .crontab
                        .map(|crontab| worker.schedule(crontab, &phase)),
                );
                tell(report, Report::Accepts);
                worker.run(listeners, lasting, phase).await;
            }
            Err(error) => tell(report, Report::CannotStart(error)),
        }
    });
    // All calls have ended. A thread that is lost in a file of theirs, such as a pipe that nobody writes to, is not waited for.
    runtime.shutdown_background();
}

/// Tells the main thread that a thread ends, also when it panics.
struct Farewell<'a>(&'a mpsc::Sender<Report>);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        tell(self.0, Report::Ended);
    }
}

fn tell(to: &mpsc::Sender<Report>, report: Report) {
    // There is room for two reports of every thread; a main thread that has left needs none.
    let _sent = to.try_send(report);
}

/// Cores that this process may use; affinity and cgroup quotas are respected.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
