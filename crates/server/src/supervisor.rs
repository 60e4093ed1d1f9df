//! A parent process that keeps the listening sockets while its worker process, which serves, may die and be started
//! again. Clients that connect in between wait in the kernel's queue of those sockets.
//!
//! It knows no app and starts whatever command it is given. When it starts another is decided in `restarts`; how the
//! sockets pass is `handover`. It has one thread and never loads the engine.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::time::Instant;

use crate::handover::{Said, WorkerLine};
use crate::listen::{self, Bound, ListenError};
use crate::restarts::{End, Next, Restarts, Run};
use crate::serve::{Signals, cores};
use crate::worker;

/// What is supervised.
pub struct SuperviseOptions<'a> {
    /// Where to listen, as in [`crate::ServeOptions`].
    pub listen: Vec<SocketAddr>,
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
            restarts: Restarts::default(),
            options,
        };
        supervisor.run().await
    })
}

struct Supervisor<'a> {
    options: SuperviseOptions<'a>,
    /// Empty until the first worker has loaded its app, and after the signal to stop.
    bound: Vec<Bound>,
    signals: Signals,
    deaths: SignalStream,
    restarts: Restarts,
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
        loop {
            tokio::select! {
                said = line.next(), if talks => match said {
                    Some(Said::Loaded) => self.give_sockets(&line).await?,
                    Some(Said::Ready) => ready = Some(Instant::now()),
                    None => talks = false,
                },
                signal = self.signals.next() => {
                    stopping = true;
                    process.tell(signal);
                }
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
    /// ready. From then on they stay.
    async fn give_sockets(&mut self, line: &WorkerLine) -> Result<(), SuperviseError> {
        if self.bound.is_empty() {
            let threads = self.options.threads.unwrap_or_else(cores);
            self.bound = listen::bind_all(&self.options.listen, threads, self.options.backlog)?;
        }
        // A worker that died meanwhile is seen by its end.
        let _gone = line.hand_over(&self.bound).await;
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
