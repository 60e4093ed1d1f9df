//! The clock tick that interrupts running guests: one thread advances the epoch of an engine.
//!
//! It sleeps while no guest runs, so that an idle server uses no CPU.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use hostel_app::limits;
use wasmtime::Engine;

/// Counts the running guests; the thread ends when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: OnceLock<Thread>,
}

/// What the thread sees. It does not own the ticker, else it would never end.
#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    /// Set by the thread; cleared by the guest that wakes it.
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// A running guest; the tick goes on while one exists.
#[derive(Debug)]
pub(crate) struct Running(Arc<Ticker>);

/// Quiet ticks before the thread goes to sleep, so that steady light load does not wake it per request.
const QUIET_TICKS: u32 = 20;

impl Ticker {
    /// Starts the thread for these engines.
    pub(crate) fn start(engines: Vec<Engine>) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self::default());
        let shared = ticker.shared.clone();
        let handle = std::thread::Builder::new()
            .name("epoch".into())
            .spawn(move || shared.tick(&engines))?;
        // Set before anybody can ask: the ticker is only handed out below.
        ticker.thread.get_or_init(|| handle.thread().clone());
        Ok(ticker)
    }

    /// Marks a guest as running until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Running {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.shared.asleep.store(false, Ordering::SeqCst);
            self.wake();
        }
        Running(self.clone())
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }
}

impl Shared {
    /// The thread's life.
    fn tick(&self, engines: &[Engine]) {
        let mut quiet = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            engines.iter().for_each(Engine::increment_epoch);
            if self.running.load(Ordering::Relaxed) > 0 {
                quiet = 0;
            }
            if quiet < QUIET_TICKS {
                quiet += 1;
                std::thread::park_timeout(limits::EPOCH_TICK_MS.duration());
            } else if self.sleep() {
                quiet = 0;
            }
        }
    }

    /// Sleeps until a guest runs, and says whether one woke it. The order (announce, then look) pairs with `enter`
    /// (count, then look), and a wake-up that comes before the sleep is not lost: no time-out is needed.
    fn sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        if self.running.load(Ordering::SeqCst) == 0 {
            std::thread::park();
        }
        !self.asleep.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{self, Flavor};
    use std::time::{Duration, Instant};

    /// An endless loop that traps at the first epoch after its start.
    fn interrupted_after(engine: &Engine) -> Duration {
        let text = r#"(module (func (export "spin") (loop br 0)))"#;
        let module = wasmtime::Module::new(engine, wat::parse_str(text).unwrap()).unwrap();
        let mut store = wasmtime::Store::new(engine, ());
        store.set_epoch_deadline(1);
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let spin = instance
            .get_typed_func::<(), ()>(&mut store, "spin")
            .unwrap();
        let begin = Instant::now();
        spin.call(&mut store, ()).unwrap_err();
        begin.elapsed()
    }

    #[test]
    fn a_running_guest_is_interrupted_also_after_the_thread_slept() {
        let (engine, _) = engine::new(Flavor::Sync, true).unwrap();
        let ticker = Ticker::start(vec![engine.clone()]).unwrap();
        for _ in 0..2 {
            let begin = Instant::now();
            while !ticker.shared.asleep.load(Ordering::SeqCst) {
                assert!(
                    begin.elapsed() < Duration::from_secs(20),
                    "an idle ticker never slept"
                );
                std::thread::yield_now();
            }
            let running = ticker.enter();
            assert!(interrupted_after(&engine) < Duration::from_secs(20));
            drop(running);
        }
    }

    #[test]
    fn a_sleeping_thread_ends_with_its_ticker() {
        let (engine, _) = engine::new(Flavor::Sync, true).unwrap();
        let ticker = Ticker::start(vec![engine]).unwrap();
        let shared = ticker.shared.clone();
        let begin = Instant::now();
        while !shared.asleep.load(Ordering::SeqCst) {
            assert!(begin.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        drop(ticker);
        while Arc::strong_count(&shared) > 1 {
            assert!(begin.elapsed() < Duration::from_secs(20), "it sleeps on");
            std::thread::yield_now();
        }
    }
}
