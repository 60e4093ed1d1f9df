//! A parent process that keeps the listening sockets while its worker process, which serves, may die and be started
//! again. Clients that connect in between wait in the kernel's queue of those sockets.
//!
//! It knows no app and starts whatever command it is given. When it starts another is decided in `restarts`; how the
//! sockets pass is `handover`. It has one thread and never loads the engine.

use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use hostel_app::ListenOn;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::time::Instant;

use crate::activation::Inherited;
use crate::handover::{Said, WorkerLine};
use crate::listen::{self, Bound, ListenError};
use crate::notify::Manager;
use crate::restarts::{End, Next, Restarts, Run};
use crate::serve::{Signals, cores};
use crate::worker;

/// What is supervised.
pub struct SuperviseOptions<'a> {
    /// Where to listen, as in [`crate::ServeOptions`].
    pub listen: Vec<ListenOn>,
    /// Sockets that `listen` and the services of the app may name.
    pub inherited: Inherited,
    /// Threads of the worker; `None` = one per core.
    pub threads: Option<usize>,
    /// Connections that the kernel keeps for each listening socket until they are accepted.
    pub backlog: i32,
    /// The worker process; it has to serve with a [`crate::LifeLine`]. Its standard input is replaced.
    pub command: &'a dyn Fn(Start) -> Command,
    /// Told of what the operator should know.
    pub told: &'a dyn Fn(Event),
}

/// Which start of the worker process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The server's own.
    First,
    /// After a death.
    Again,
}

/// What happened to the worker process.
#[derive(Debug)]
pub enum Event {
    /// A signal ended it, before it ever served or during the drain; the supervisor ends, too.
    Ended {
        /// How it ended, in words.
        end: String,
    },
    /// It died and will be started again.
    Restart {
        /// How it ended, in words.
        end: String,
        /// How long it served; `None` if it was never ready.
        served: Option<Duration>,
        /// The pause before the start; may be zero.
        after: Duration,
    },
}

/// Why there is nothing to supervise.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system refused a runtime, a signal handler, a socket or a process.
    #[error("cannot start the worker process: {0}")]
    Start(#[from] io::Error),
}

/// Starts the worker process, again and again while it dies after it was ready, until it ends by itself or by the
/// signal that the supervisor passes on to it. Returns the code to exit with.
///
/// # Errors
///
/// What keeps the first worker from being started.
pub fn supervise(options: SuperviseOptions<'_>) -> Result<u8, SuperviseError> {
    worker::runtime()?.block_on(async {
        let supervisor = Supervisor {
            signals: Signals::new()?,
            deaths: signal(SignalKind::child())?,
            bound: Vec::new(),
            services: Vec::new(),
            restarts: Restarts::default(),
            manager: Manager::of_environment(),
            options,
        };
        supervisor.run().await
    })
}

struct Supervisor<'a> {
    options: SuperviseOptions<'a>,
    /// Empty until the first worker has loaded its app, and after the signal to stop.
    bound: Vec<Bound>,
    /// The same for the places that the last worker's services had.
    services: Vec<(ListenOn, Vec<TcpListener>)>,
    signals: Signals,
    deaths: SignalStream,
    restarts: Restarts,
    manager: Manager,
}

impl Supervisor<'_> {
    async fn run(mut self) -> Result<u8, SuperviseError> {
        let mut start = Start::First;
        loop {
            let run = self.one_run(start).await?;
            let end = run.end.to_string();
            let after = match self.restarts.after(&run) {
                Next::End { exit_code } => {
                    // A worker with an exit code has said itself what was wrong.
                    if exit_code != 0 && run.end.by_signal() {
                        (self.options.told)(Event::Ended { end });
                    }
                    return Ok(exit_code);
                }
                Next::Restart { after } => after,
            };
            (self.options.told)(Event::Restart {
                end,
                served: run.served,
                after,
            });
            tokio::select! {
                biased;
                // Nothing is in flight.
                _signal = self.signals.next() => return Ok(0),
                () = self.manager.watchdog() => {}
                () = tokio::time::sleep(after) => {}
            }
            start = Start::Again;
        }
    }

    /// The life of one worker process.
    async fn one_run(&mut self, start: Start) -> Result<Run, SuperviseError> {
        let (mut process, line) = match self.spawn(start) {
            Ok(started) => started,
            Err(error) if start == Start::First => return Err(error.into()),
            Err(error) => {
                return Ok(Run {
                    end: End::NotStarted(error),
                    served: None,
                    stopping: false,
                });
            }
        };
        let (mut ready, mut stopping, mut talks) = (None, false, true);
        let mut wants = Vec::new();
        loop {
            tokio::select! {
                said = line.next(), if talks => match said {
                    Some(Said::Wants(place)) => wants.push(place),
                    Some(Said::Loaded) => self.give_sockets(&line, &wants).await?,
                    Some(Said::Ready) => {
                        ready = Some(Instant::now());
                        self.manager.ready();
                    }
                    None => talks = false,
                },
                signal = self.signals.next() => {
                    stopping = true;
                    self.manager.stopping();
                    process.tell(signal);
                }
                // What it says of itself: that it would start another worker.
                () = self.manager.watchdog() => {}
                _dead = self.deaths.recv() => if let Some(status) = process.ended()? {
                    if line.rest() == Some(Said::Ready) {
                        ready = Some(Instant::now());
                    }
                    return Ok(Run {
                        end: End::Status(status),
                        served: ready.map(|ready| ready.elapsed()),
                        stopping,
                    });
                }
            }
            if stopping && ready.is_some() {
                // New clients are refused while the worker drains, as without a supervisor.
                self.bound.clear();
                self.services.clear();
            }
        }
    }

    fn spawn(&self, start: Start) -> io::Result<(Process, WorkerLine)> {
        let mut command = (self.options.command)(start);
        let line = WorkerLine::to(&mut command)?;
        // A terminal sends its signals to a whole group; the worker shall get each once, from here.
        let child = command.process_group(0).spawn()?;
        Ok((Process(child), line))
    }

    /// Sockets are bound when the first worker has loaded its app: a port that listens during a compilation would look
    /// ready. From then on they stay, those of services as long as the next worker's app has them.
    async fn give_sockets(
        &mut self,
        line: &WorkerLine,
        wants: &[ListenOn],
    ) -> Result<(), SuperviseError> {
        let (inherited, backlog) = (&self.options.inherited, self.options.backlog);
        if self.bound.is_empty() {
            let threads = self.options.threads.unwrap_or_else(cores);
            self.bound = listen::bind_all(&self.options.listen, inherited, threads, backlog)?;
        }
        let mut kept = std::mem::take(&mut self.services);
        for place in wants {
            let kept = match kept.iter().position(|(other, _)| other == place) {
                Some(at) => kept.remove(at),
                None => {
                    let one = std::slice::from_ref(place);
                    (place.clone(), listen::bind_each(one, inherited, backlog)?)
                }
            };
            self.services.push(kept);
        }
        let services: io::Result<Vec<Vec<_>>> = self
            .services
            .iter()
            .map(|(_, sockets)| sockets.iter().map(TcpListener::try_clone).collect())
            .collect();
        // A worker that died meanwhile is seen by its end.
        let _gone = line.hand_over(&self.bound, &services?).await;
        Ok(())
    }
}

/// A worker process that does not outlive an error of its supervisor.
struct Process(Child);

impl Process {
    fn tell(&self, signal: Signal) {
        // It may have ended; it has not been waited for, so the number is its own.
        let _ended = kill_process(Pid::from_child(&self.0), signal);
    }

    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both do nothing to a process that has ended and been waited for.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::net::{Ipv4Addr, SocketAddr};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn missing() -> Command {
        Command::new("/dev/null/no-such-program")
    }

    /// Supervises these workers, one after the other, and returns how it ended and what the operator was told.
    fn supervised(
        listen: SocketAddr,
        workers: impl IntoIterator<Item = Command>,
    ) -> (Result<u8, SuperviseError>, Vec<Event>) {
        let workers = RefCell::new(workers.into_iter().collect::<Vec<_>>().into_iter());
        let starts = RefCell::new(Vec::new());
        let events = RefCell::new(Vec::new());
        let outcome = supervise(SuperviseOptions {
            listen: vec![ListenOn::Address(listen)],
            inherited: Inherited::default(),
            threads: Some(1),
            backlog: 16,
            command: &|start| {
                starts.borrow_mut().push(start);
                workers.borrow_mut().next().expect("no further start")
            },
            told: &|event| events.borrow_mut().push(event),
        });
        let starts = starts.into_inner();
        assert_eq!(starts[0], Start::First);
        assert!(starts[1..].iter().all(|start| *start == Start::Again));
        (outcome, events.into_inner())
    }

    fn any_port() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    #[test]
    fn a_worker_that_was_ready_is_replaced_also_when_the_next_cannot_be_started() {
        let workers = [shell("printf lr >&0; exit 3"), missing(), shell("exit 0")];
        let (outcome, events) = supervised(any_port(), workers);
        assert_eq!(outcome.unwrap(), 0);
        let told: Vec<_> = events
            .iter()
            .map(|event| match event {
                Event::Restart { end, served, after } => {
                    (end.as_str(), served.is_some(), after.as_millis())
                }
                Event::Ended { .. } => panic!("{event:?}"),
            })
            .collect();
        assert_eq!(
            told[0],
            ("the worker process ended with exit status 3", true, 0)
        );
        assert!(told[1].0.contains("cannot be started"), "{told:?}");
        assert_eq!((told[1].1, told[1].2, told.len()), (false, 100, 2));
    }

    #[test]
    fn a_first_worker_that_cannot_be_started_is_an_error() {
        let (outcome, events) = supervised(any_port(), [missing()]);
        assert!(
            matches!(outcome, Err(SuperviseError::Start(_))),
            "{outcome:?}"
        );
        assert!(events.is_empty(), "{events:?}");
    }

    #[test]
    fn a_worker_that_is_killed_before_it_serves_ends_it_and_that_is_told() {
        let (outcome, events) = supervised(any_port(), [shell("printf l >&0; kill -9 $$")]);
        assert_eq!(outcome.unwrap(), 137);
        let [Event::Ended { end }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(end, "the worker process ended with signal 9 (SIGKILL)");
    }

    #[test]
    fn a_port_that_was_taken_meanwhile_is_an_error_and_ends_the_worker() {
        let (address, _holder) = listen::bind(any_port(), 1, 1).unwrap();
        // It would wait for its sockets for ever.
        let (outcome, events) = supervised(address, [shell("printf l >&0; exec cat >&2")]);
        assert!(
            matches!(
                outcome,
                Err(SuperviseError::Listen(ListenError::InUse { .. }))
            ),
            "{outcome:?}"
        );
        assert!(events.is_empty(), "{events:?}");
    }
}
