//! One thread of the server: its own runtime, its own listeners, its own connections. A connection and all of its
//! requests stay on the thread that accepted them, so nothing here is ever contended except the count of connections.

use std::future::ready;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use hostel_app::limits;
use hostel_host::LogSink;
use http::HeaderValue;
use http::request::Parts;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::bounds::Bounds;
use crate::connection;
use crate::cron::Crontab;
use crate::http::Callee;
use crate::listen::Listener;
use crate::live::Live;
use crate::messages::{AT_START, Consumer};
use crate::metrics::Traffic;
use crate::router::{Reader, Routed};
use crate::seats::{Full, Network, Seats};
use crate::service::Open;
use crate::service::run::Life;
use crate::streams::Streams;
use crate::wire::Wire;

/// hyper's own bound, kept on its stack; any other number costs an allocation per request.
const HYPER_HEADERS_COUNT: usize = 100;

/// What the threads are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Requests are answered; whoever started the server has not been told yet.
    Starting,
    Serving,
    /// Accept nothing new, finish what is in flight.
    Draining,
    /// Leave now.
    Over,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Worker<C> {
    router: Reader<C>,
    pub(crate) bounds: Bounds,
    pub(crate) log: LogSink,
    /// The authority of a request that names none.
    pub(crate) authority: HeaderValue,
    pub(crate) h1: http1::Builder,
    pub(crate) traffic: Arc<Traffic>,
    /// Connections of all threads.
    pub(crate) seats: Arc<Seats>,
    /// Connections of this thread.
    open: AtomicUsize,
    emptied: Notify,
    calls: AtomicUsize,
    /// Guests of services.
    services: Arc<AtomicUsize>,
    draining: AtomicBool,
    over: AtomicBool,
    drain: Notify,
}

/// What all threads of one server have in common.
pub(crate) struct Shared<C> {
    pub(crate) live: Arc<Live<C>>,
    pub(crate) bounds: Bounds,
    pub(crate) log: LogSink,
    pub(crate) authority: HeaderValue,
    pub(crate) seats: Arc<Seats>,
    pub(crate) traffic: Arc<Traffic>,
}

impl<C: Callee> Worker<C> {
    pub(crate) fn new(shared: &Shared<C>) -> Self {
        Self {
            router: shared.live.router.reader(),
            bounds: shared.bounds.clone(),
            log: shared.log.clone(),
            authority: shared.authority.clone(),
            h1: h1(&shared.bounds),
            traffic: shared.traffic.clone(),
            seats: shared.seats.clone(),
            open: AtomicUsize::new(0),
            emptied: Notify::new(),
            calls: AtomicUsize::new(0),
            services: Arc::default(),
            draining: AtomicBool::new(false),
            over: AtomicBool::new(false),
            drain: Notify::new(),
        }
    }

    /// Where a request leads that `request::admit` has let pass.
    pub(crate) fn routed(&self, parts: &Parts) -> Routed<C> {
        self.router.route(parts)
    }

    /// Serves until it is told to stop and the last connection has ended, or until it is told to leave.
    pub(crate) async fn run(
        self: Arc<Self>,
        listeners: Vec<Listener>,
        lasting: Vec<JoinHandle<()>>,
        mut phase: watch::Receiver<Phase>,
    ) {
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| tokio::spawn(self.clone().accept(listener)))
            .collect();
        // An error means that whoever tells the phase is gone: leave.
        let _told = phase
            .wait_for(|phase| *phase > Phase::Serving)
            .await
            .is_ok();
        self.draining.store(true, Relaxed);
        self.drain.notify_waiters();
        for task in accepting {
            // A panic there has been reported by the runtime; what is open is drained all the same.
            let _ended = task.await;
        }
        let all = async {
            self.empty().await;
            for task in lasting {
                let _ended = task.await;
            }
        };
        tokio::select! {
            () = all => {}
            _told = phase.wait_for(|phase| *phase == Phase::Over) => self.over.store(true, Relaxed),
        }
    }

    /// Starts to handle messages. Returns when every subscription is there, or has kept the start waiting for long enough.
    pub(crate) async fn consume(
        self: &Arc<Self>,
        consumers: Vec<Consumer>,
        phase: &watch::Receiver<Phase>,
    ) -> Vec<JoinHandle<()>> {
        let mut subscribing = Vec::new();
        let mut consuming = Vec::new();
        for consumer in consumers {
            let (subscribed, waiting) = oneshot::channel();
            let worker = self.clone();
            let call = move || Counted::new(&worker);
            let task = consumer.run(self.log.clone(), phase.clone(), subscribed, call);
            consuming.push(tokio::spawn(task));
            subscribing.push(waiting);
        }
        let all = async {
            for waiting in subscribing {
                // It is only ever dropped.
                let _subscribed = waiting.await;
            }
        };
        let _in_time = timeout(AT_START, all).await;
        consuming
    }

    /// Starts to run what is scheduled, once the server serves.
    pub(crate) fn schedule(
        self: &Arc<Self>,
        crontab: Crontab,
        phase: &watch::Receiver<Phase>,
    ) -> JoinHandle<()> {
        let worker = self.clone();
        let call = move || Counted::new(&worker);
        tokio::spawn(crontab.run(self.log.clone(), phase.clone(), call))
    }

    /// Starts guests of services. Returns when each is ready or has ended, or has kept the start waiting for long enough.
    pub(crate) async fn start_services(
        &self,
        guests: Vec<(Open, u32)>,
        phase: &watch::Receiver<Phase>,
    ) -> Vec<JoinHandle<()>> {
        let mut waiting = Vec::new();
        let mut running = Vec::new();
        for (open, number) in guests {
            let (waits, ready) = oneshot::channel();
            waiting.push((open.service.trigger.name.clone(), ready));
            let life = Life::new(open, number, self.log.clone(), phase.clone());
            let services = self.services.clone();
            running.push(tokio::spawn(
                life.run(waits, move || Running::new(&services)),
            ));
        }
        let most = limits::SERVICE_READY_MS;
        let end = Instant::now() + most.duration();
        for (name, ready) in waiting {
            // It is only ever dropped.
            if timeout_at(end, ready).await.is_err() {
                self.log.host_notice(format_args!(
                    "service \"{name}\": not ready within {}; the server starts without it",
                    most.shown()
                ));
            }
        }
        running
    }

    async fn accept(self: Arc<Self>, mut listener: Listener) {
        let mut drained = pin!(self.drained());
        loop {
            tokio::select! {
                biased;
                client = listener.accept(&self.log) => self.welcome(client),
                () = &mut drained => break,
            }
        }
        // Clients whose connection the kernel has already accepted for us are served, not reset.
        tokio::task::yield_now().await;
        loop {
            tokio::select! {
                biased;
                client = listener.accept(&self.log) => self.welcome(client),
                () = ready(()) => return,
            }
        }
    }

    fn welcome(self: &Arc<Self>, (tcp, address): (TcpStream, IpAddr)) {
        match Seat::take(self, address) {
            Ok(seat) => {
                tokio::spawn(connection::serve(seat, tcp));
            }
            Err(full) => {
                self.traffic.refused();
                connection::turn_away(self, tcp, full);
            }
        }
    }

    async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.open.load(Relaxed) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl<C> Worker<C> {
    /// Requests between their head's arrival and the end of their answer, messages that are being handled, and runs of
    /// schedules.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    /// Guests of services that have not ended.
    pub(crate) fn services(&self) -> usize {
        self.services.load(Relaxed)
    }

    /// Open connections of this thread.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub(crate) fn call_began(&self) {
        self.calls
            .store(self.calls.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub(crate) fn call_ended(&self) {
        self.calls
            .store(self.calls.load(Relaxed).wrapping_sub(1), Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whether it is this server that leaves, not its clients.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Ready once the drain has begun.
    pub(crate) async fn drained(&self) {
        // Nothing can begin between the question and the answer: it begins on this very thread.
        if !self.is_draining() {
            self.drain.notified().await;
        }
    }
}

/// A call that is not a request, as long as it lasts.
struct Counted<C>(Arc<Worker<C>>);

impl<C> Counted<C> {
    fn new(worker: &Arc<Worker<C>>) -> Self {
        worker.call_began();
        Self(worker.clone())
    }
}

impl<C> Drop for Counted<C> {
    fn drop(&mut self) {
        self.0.call_ended();
    }
}

/// A guest of a service, as long as it runs.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(services: &Arc<AtomicUsize>) -> Self {
        services.fetch_add(1, Relaxed);
        Self(services.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The right to be one of the open connections; given back on drop.
pub(crate) struct Seat<C> {
    pub(crate) worker: Arc<Worker<C>>,
    pub(crate) client: IpAddr,
    network: Network,
}

impl<C> Seat<C> {
    fn take(worker: &Arc<Worker<C>>, address: IpAddr) -> Result<Self, Full> {
        let network = worker.seats.take(address)?;
        worker.traffic.accepted();
        worker.open.fetch_add(1, Relaxed);
        Ok(Self {
            worker: worker.clone(),
            client: address,
            network,
        })
    }
}

impl<C> Drop for Seat<C> {
    fn drop(&mut self) {
        let worker = &self.worker;
        worker.traffic.closed();
        worker.seats.give_back(self.network);
        if worker.open.fetch_sub(1, Relaxed) == 1 {
            worker.emptied.notify_waiters();
        }
        if std::thread::panicking() {
            worker.log.host_fault("a panic ended one connection");
        }
    }
}

/// hyper's timer for heads is off: it costs an allocation and two timer operations per request, and cannot tell a
/// silent client from a slow head. The watchdog in `connection` does both.
fn h1(bounds: &Bounds) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .half_close(false)
        .keep_alive(true)
        .header_read_timeout(None)
        .max_header_size(bounds.head_bytes)
        .max_buf_size(bounds.read_buffer_bytes);
    if bounds.headers_count != HYPER_HEADERS_COUNT {
        builder.max_headers(bounds.headers_count);
    }
    builder
}

/// What hyper and h2 bound of a connection; each connection has its own, because its streams run on clocks of its own.
/// Continuations (five, where a header list fits into one frame) and empty DATA (100) have bounds of h2's own.
pub(crate) fn h2<C: Callee>(wire: &Arc<Wire<C>>) -> http2::Builder<Streams<C>> {
    let bounds = &wire.worker.bounds;
    let mut builder = http2::Builder::new(Streams(wire.clone()));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(bounds.h2_stream_window_bytes)
        .initial_connection_window_size(bounds.h2_connection_window_bytes)
        .max_concurrent_streams(bounds.h2_streams)
        .max_header_list_size(bounds.h2_header_list_bytes)
        .max_pending_accept_reset_streams(bounds.h2_resets)
        .max_local_error_reset_streams(bounds.h2_local_resets)
        .max_send_buf_size(bounds.h2_send_buffer_bytes)
        .keep_alive_interval(bounds.h2_keepalive)
        .keep_alive_timeout(bounds.h2_keepalive);
    builder
}

/// A runtime for one thread.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
