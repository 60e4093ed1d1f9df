//! A server on a free port of the loopback address, stopped when it is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use hostel_host::LogSink;
use tokio::sync::{Semaphore, mpsc};

use super::client::Client;
use super::fake::{Fake, app};
use crate::bounds::Bounds;
use crate::listen;
use crate::live::Live;
use crate::serve::{Outcome, ServeError, ServeOptions, supervise};

/// See the module's documentation.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) gate: Arc<Semaphore>,
    pub(super) cancelled: Arc<AtomicUsize>,
    pub(super) called: Arc<AtomicUsize>,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<Result<Outcome, ServeError>>>,
}

impl Server {
    /// With every bound at its default.
    pub(super) fn start() -> Self {
        Self::with(Bounds::default(), Duration::from_secs(10), 1)
    }

    pub(super) fn bounded(bounds: Bounds) -> Self {
        Self::with(bounds, Duration::from_secs(10), 1)
    }

    pub(super) fn with(bounds: Bounds, drain: Duration, threads: usize) -> Self {
        let fake = Fake::new();
        let (gate, cancelled, called) = (
            fake.gate.clone(),
            fake.cancelled.clone(),
            fake.called.clone(),
        );
        let routes: &[(&str, &[&str])] = &[("/", &[]), ("/:test", &[]), ("/only/put", &["PUT"])];
        let live = Arc::new(Live::answering(app(routes), vec![Some(fake)]));
        let (stop, mut stops) = mpsc::channel(4);
        let (ready, address) = std_mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let any_port = listen::parse_address("127.0.0.1:0").unwrap();
            let mut options = ServeOptions::on(any_port, LogSink::null());
            options.bounds = bounds;
            options.drain = drain;
            options.threads = Some(threads);
            let runtime = crate::worker::runtime().unwrap();
            runtime.block_on(supervise(
                live,
                options,
                |addresses| ready.send(addresses[0]).unwrap(),
                async || {
                    stops.recv().await;
                },
            ))
        });
        let address = address.recv().expect("the server starts");
        Self {
            address,
            gate,
            cancelled,
            called,
            stop,
            thread: Some(thread),
        }
    }

    pub(super) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One signal to stop.
    pub(super) fn signal(&self) {
        self.stop.blocking_send(()).unwrap();
    }

    /// Waits for the end.
    pub(super) fn outcome(mut self) -> Outcome {
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that has ended already hears nothing.
        let _drain = self.stop.try_send(());
        let _now = self.stop.try_send(());
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join();
            if !std::thread::panicking() {
                outcome.unwrap().unwrap();
            }
        }
    }
}
