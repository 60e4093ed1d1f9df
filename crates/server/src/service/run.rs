//! The life of a service: one guest after the other, each started, watched, and told to stop.
//!
//! A guest is stopped by the end of its standard input; one that goes on for longer than it may is cut off. It is stopped
//! when the drain begins, and when a new build takes its place: then the next one begins at once.

use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, Instant};

use hostel_app::Ready;
use hostel_host::{Fault, Guest, LogSink, RequestId, ServiceStart};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::Open;
use super::policy::{Next, Policy, Run};
use crate::worker::Phase;

/// Dropped once the server need not wait for the service any more.
pub(crate) type Waits = oneshot::Sender<Infallible>;

/// One guest of a service, and those that follow it.
pub(crate) struct Life {
    open: Open,
    /// Which of the guests that run at once, from 1.
    number: u32,
    log: LogSink,
    phase: watch::Receiver<Phase>,
    /// Tells of new builds.
    builds: watch::Receiver<Guest>,
    waits: Option<Waits>,
}

/// Why a guest runs no more.
enum End {
    /// It ended by itself.
    Itself(Result<u8, Fault>),
    /// The server stops.
    Drain,
    /// There is a new build of it.
    Replaced,
}

/// Why a guest that runs is told to stop, or one that does not is not started again.
enum Told {
    Drain,
    Replaced,
}

impl Life {
    pub(crate) fn new(
        open: Open,
        number: u32,
        log: LogSink,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let builds = open.service.slot.watch();
        Self {
            open,
            number,
            log,
            phase,
            builds,
            waits: None,
        }
    }

    /// Lasts until the drain begins and the guest has ended. `running` is called when a guest begins, and what it returned is
    /// dropped when that has ended.
    pub(crate) async fn run<T>(mut self, waits: Waits, running: impl Fn() -> T) {
        self.waits = Some(waits);
        let begin = Instant::now();
        let mut policy = Policy::new(self.open.service.trigger.restart);
        // A new build may come while the drain begins.
        while *self.phase.borrow() <= Phase::Serving {
            let started = begin.elapsed();
            let now = running();
            let end = self.one_guest().await;
            drop(now);
            // Whoever waits for a guest that has ended already waits in vain.
            self.waits = None;
            let outcome = match end {
                End::Itself(outcome) => outcome,
                End::Drain => return,
                End::Replaced => {
                    policy = Policy::new(self.open.service.trigger.restart);
                    continue;
                }
            };
            let ended_at = begin.elapsed();
            let run = Run {
                ended_at,
                lasted: ended_at.saturating_sub(started),
                failed: !matches!(outcome, Ok(0)),
            };
            let next = policy.after(run);
            self.tell_end(&outcome, run.lasted, next);
            let after = match next {
                Next::Restart { after } | Next::CrashLoop { after } => Some(after),
                Next::Ended => None,
            };
            match self.rest(after).await {
                Some(Told::Drain) => return,
                Some(Told::Replaced) => {
                    policy = Policy::new(self.open.service.trigger.restart);
                }
                None => {}
            }
        }
    }

    /// From its start to its end.
    async fn one_guest(&mut self) -> End {
        let guest = self.builds.borrow_and_update().clone();
        let (stop, stops) = watch::channel(false);
        let (ready, is_ready) = oneshot::channel();
        let (id, begin) = (RequestId::next(), Instant::now());
        let start = self.start(stops, ready);
        let mut serving = Box::pin(guest.serve(start, id));
        let mut is_ready = Some(is_ready);
        let told = loop {
            tokio::select! {
                biased;
                outcome = &mut serving => {
                    if let Err(fault) = &outcome {
                        guest.report(id, fault);
                    }
                    return End::Itself(outcome);
                }
                told = told(&mut self.phase, &mut self.builds) => break told,
                Ok(()) = heard(&mut is_ready), if is_ready.is_some() => {
                    is_ready = None;
                    self.waits = None;
                    self.say(format_args!("ready after {}", Shown(begin.elapsed())));
                }
            }
        };
        let _gone = stop.send(true);
        let most = self.open.service.trigger.stop_timeout;
        match timeout(most, &mut serving).await {
            Ok(Ok(code)) => self.say(format_args!("stopped, with exit code {code}")),
            Ok(Err(fault)) => {
                guest.report(id, &fault);
                self.say(format_args!(
                    "failed when it was stopped ({})",
                    fault.row().name
                ));
            }
            Err(_) => self.say(format_args!(
                "did not stop within {}; it was cut off",
                Shown(most)
            )),
        }
        match told {
            Told::Drain => End::Drain,
            Told::Replaced => End::Replaced,
        }
    }

    fn start(&self, stop: watch::Receiver<bool>, ready: oneshot::Sender<()>) -> ServiceStart {
        let trigger = &self.open.service.trigger;
        let mut ready = Some(ready);
        let line = match &trigger.ready {
            Ready::Line(text) => Some(text.clone()),
            Ready::Accept => None,
            Ready::Start => {
                // It may have ended by now, which is told by itself.
                let _sent = ready.take().map(|ready| ready.send(()));
                None
            }
        };
        ServiceStart {
            listeners: self.open.listeners.clone(),
            export: trigger.export.clone(),
            stop,
            ready: Box::new(move || {
                let _sent = ready.map(|ready| ready.send(()));
            }),
            ready_line: line,
            cpu_percent: trigger.cpu_percent,
        }
    }

    /// Waits for the next start: `None` when it is time.
    async fn rest(&mut self, pause: Option<Duration>) -> Option<Told> {
        let over = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            told = told(&mut self.phase, &mut self.builds) => Some(told),
            () = over => None,
        }
    }

    fn tell_end(&self, outcome: &Result<u8, Fault>, lasted: Duration, next: Next) {
        let how = match outcome {
            Ok(code) => format!("ended with exit code {code}"),
            Err(fault) => format!("failed ({})", fault.row().name),
        };
        let lasted = Shown(lasted);
        match next {
            Next::Restart { after } => self.say(format_args!(
                "{how} after {lasted}; it is started again in {}",
                Shown(after)
            )),
            Next::CrashLoop { after } => self.say(format_args!(
                "crash loop: {how} after {lasted}, as it did before; it is started again in {}",
                Shown(after)
            )),
            Next::Ended => self.say(format_args!(
                "{how} after {lasted}; it is not started again: restart = \"{}\"",
                self.open.service.trigger.restart.word()
            )),
        }
    }

    fn say(&self, what: fmt::Arguments<'_>) {
        let trigger = &self.open.service.trigger;
        let name = &trigger.name;
        match trigger.instances {
            1 => self
                .log
                .host_notice(format_args!("service \"{name}\": {what}")),
            all => {
                let number = self.number;
                self.log.host_notice(format_args!(
                    "service \"{name}\" ({number} of {all}): {what}"
                ));
            }
        }
    }
}

/// Waits for the drain or a new build.
async fn told(phase: &mut watch::Receiver<Phase>, builds: &mut watch::Receiver<Guest>) -> Told {
    tokio::select! {
        biased;
        // An error means that whoever tells the phase is gone.
        _draining = phase.wait_for(|phase| *phase > Phase::Serving) => Told::Drain,
        // The slot is there as long as the service is.
        Ok(()) = builds.changed() => Told::Replaced,
    }
}

async fn heard(ready: &mut Option<oneshot::Receiver<()>>) -> Result<(), oneshot::error::RecvError> {
    match ready {
        Some(ready) => ready.await,
        None => std::future::pending().await,
    }
}

/// A length of time for people.
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis @ 0..10_000 => write!(f, "{millis} ms"),
            _ => write!(f, "{} s", self.0.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_people_say_them() {
        let shown = |millis| Shown(Duration::from_millis(millis)).to_string();
        assert_eq!((shown(0), shown(9_999)), ("0 ms".into(), "9999 ms".into()));
        assert_eq!(shown(10_400), "10 s");
    }
}
