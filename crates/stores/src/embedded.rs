//! [`Engine`]: one app's durable file. SQLite with a writer of its own thread.
//!
//! Writes that arrive while the disk is busy share the next transaction and its one fsync (group commit); each is
//! acknowledged when that is over. Reads go to threads of their own and see what was acknowledged. The calling thread never
//! waits for the disk.
//!
//! The file is opened with the first call and again after trouble, so a full disk, a folder that may not be written or a file
//! in another process's hands are failures of calls, and over when their cause is. What the tables are is said in `schema`;
//! `files` knows the folder, `group` what one commit is, `queue` how work reaches the threads.
//!
//! It leaves to the drivers what is stored, and to `crate::sql` the files that guests write statements for.

mod files;
mod group;
mod queue;
mod schema;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::Failure;
use files::Files;
use group::Writer;
use queue::{Queue, Taken};

/// What the process decides about an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Writes that may wait; further callers wait before they hand theirs over.
    pub writes_waiting: usize,
    /// Reads that may wait.
    pub reads_waiting: usize,
    /// Writes that share one commit at the most.
    pub group: usize,
    /// Threads that read.
    pub readers: usize,
    /// The largest size of the file; beyond it writes fail as on a full disk.
    pub file_bytes: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            writes_waiting: 1024,
            reads_waiting: 1024,
            group: 256,
            readers: 2,
            file_bytes: 64 << 30,
        }
    }
}

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It is on disk.
    Synced,
    /// It is in the file and survives the end of this process; a power failure may take the last second.
    Buffered,
}

impl Durability {
    /// As a place says it.
    pub const fn of(durable: bool) -> Self {
        if durable {
            Self::Synced
        } else {
            Self::Buffered
        }
    }
}

/// How long a buffered write may stay away from the disk.
const BUFFERED: Duration = Duration::from_secs(1);

/// One app's durable file.
pub struct Engine(Arc<Shared>);

struct Shared {
    options: EngineOptions,
    files: Files,
    writes: Queue<Queued>,
    reads: Queue<Queued>,
    threads: Threads,
    commits: AtomicU64,
}

/// Which threads run; they start with the first job.
#[derive(Default)]
struct Threads {
    writing: AtomicBool,
    reading: AtomicBool,
    starting: Mutex<()>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine")
            .field(&self.0.files.folder())
            .finish()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.0.writes.close();
        self.0.reads.close();
    }
}

impl Engine {
    /// The file in this folder; it is opened or made, and its lock taken, with the first call.
    pub fn new(folder: &Path, options: EngineOptions) -> Self {
        Self(Arc::new(Shared {
            options,
            files: Files::new(folder.to_owned(), options),
            writes: Queue::new(options.writes_waiting),
            reads: Queue::new(options.reads_waiting),
            threads: Threads::default(),
            commits: AtomicU64::new(0),
        }))
    }

    /// As [`Self::new`], and opens the file on this thread.
    ///
    /// # Errors
    /// The folder cannot be used, another process has it, or the file is damaged.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let engine = Self::new(folder, EngineOptions::default());
        engine.0.files.ready()?;
        Ok(engine)
    }

    /// How many commits there were, each of any number of writes.
    pub fn commits(&self) -> u64 {
        self.0.commits.load(Ordering::Relaxed)
    }

    /// Runs `work` inside the next group's transaction; ready when the group is on disk. Work that fails is undone alone. A
    /// caller that is dropped after its first poll leaves the work to be done.
    ///
    /// # Errors
    /// What the work returned, or the disk's.
    pub async fn write<T, W>(&self, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.write_as(Durability::Synced, work, |_| ()).await
    }

    /// As [`Self::write`], with a durability, and with `then`: it is called on the writer's thread in the order of the commits,
    /// before the acknowledgement, with what the work returned, or with `None` where it is not certain that it was committed. It
    /// is not called where the work itself failed.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_as<T, W, H>(
        &self,
        durability: Durability,
        work: W,
        then: H,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        H: FnOnce(Option<&T>) + Send + 'static,
    {
        self.0.start_writer()?;
        let (task, reply) = Task::with_answer(durability, work, then);
        if !self.0.writes.push(task).await {
            return Err(closed());
        }
        reply.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Runs `work` on a connection that only reads, off the calling thread. Several statements see one moment only inside a
    /// transaction of their own. Not done where the caller is dropped before.
    ///
    /// # Errors
    /// What the work returned, or the disk's.
    pub async fn read<T, W>(&self, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.0.start_readers()?;
        let (task, reply) = Task::with_answer(Durability::Synced, work, |_: Option<&T>| ());
        if !self.0.reads.push(task).await {
            return Err(closed());
        }
        reply.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> Failure {
    Failure::Unavailable("the embedded store was closed".to_owned())
}

impl Shared {
    fn start_writer(self: &Arc<Self>) -> Result<(), Failure> {
        self.start(&self.threads.writing, |shared| {
            spawn("store-write", shared, |shared| write_loop(&shared))
        })
    }

    fn start_readers(self: &Arc<Self>) -> Result<(), Failure> {
        self.start(&self.threads.reading, |shared| {
            for _ in 0..self.options.readers.max(1) {
                spawn("store-read", shared, |shared| read_loop(&shared))?;
            }
            Ok(())
        })
    }

    fn start(
        self: &Arc<Self>,
        started: &AtomicBool,
        spawn: impl FnOnce(&Arc<Self>) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        if started.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self
            .threads
            .starting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !started.load(Ordering::Acquire) {
            let no_thread =
                |cause| Failure::Unavailable(format!("no thread could be started: {cause}"));
            spawn(self).map_err(no_thread)?;
            started.store(true, Ordering::Release);
        }
        Ok(())
    }
}

fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    run: impl FnOnce(Arc<Shared>) + Send + 'static,
) -> std::io::Result<()> {
    let shared = shared.clone();
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || run(shared)).map(drop)
}

fn write_loop(shared: &Shared) {
    let mut writer = Writer::new(shared);
    loop {
        match shared.writes.take(shared.options.group, writer.patience()) {
            Taken::Jobs(jobs) => writer.commit(jobs, &shared.writes),
            Taken::Nothing => writer.sync(),
            Taken::Closed => break,
        }
    }
    writer.sync();
}

fn read_loop(shared: &Shared) {
    let mut connection = None;
    loop {
        match shared.reads.take(1, None) {
            Taken::Jobs(jobs) => jobs
                .into_iter()
                .for_each(|job| read_one(shared, &mut connection, job)),
            Taken::Nothing => {}
            Taken::Closed => return,
        }
    }
}

fn read_one(shared: &Shared, connection: &mut Option<Connection>, mut job: Queued) {
    if job.is_given_up() {
        return;
    }
    let opened = match connection.take() {
        Some(opened) => Ok(opened),
        None => shared.files.reader(),
    };
    match opened {
        Ok(opened) => {
            let ran = job.run(&opened);
            // A transaction that the work left open would show the same moment for ever.
            let fresh = opened.is_autocommit();
            let broken = matches!(&ran, Ran::Failed(error) if files::is_broken(error));
            job.finish(&verdict(ran, &shared.files));
            *connection = (fresh && !broken).then_some(opened);
        }
        Err(failure) => job.finish(&Err(failure)),
    }
}

fn verdict(ran: Ran, files: &Files) -> Result<(), Failure> {
    match ran {
        Ran::Done => Ok(()),
        Ran::Failed(error) => Err(files.failure(&error)),
        Ran::Panicked => Err(panicked()),
    }
}

fn panicked() -> Failure {
    Failure::Broken("the operation panicked".to_owned())
}

/// How work ended.
enum Ran {
    Done,
    Failed(rusqlite::Error),
    Panicked,
}

/// Work on its way, whatever it returns.
trait Work: Send {
    fn durability(&self) -> Durability;

    /// Whether nobody waits for it any more.
    fn is_given_up(&self) -> bool;

    /// Runs it; what it returned is kept until [`Self::finish`].
    fn run(&mut self, connection: &Connection) -> Ran;

    /// Tells the caller: what the work returned, or why it did not happen.
    fn finish(self: Box<Self>, outcome: &Result<(), Failure>);
}

/// As it waits in a queue.
type Queued = Box<dyn Work>;

struct Task<T, W, H> {
    durability: Durability,
    work: Option<W>,
    then: H,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<T, W, H> Task<T, W, H>
where
    T: Send + 'static,
    W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    H: FnOnce(Option<&T>) + Send + 'static,
{
    /// It, and where its answer comes.
    fn with_answer(
        durability: Durability,
        work: W,
        then: H,
    ) -> (Queued, oneshot::Receiver<Result<T, Failure>>) {
        let (reply, answer) = oneshot::channel();
        let task = Box::new(Self {
            durability,
            work: Some(work),
            then,
            done: None,
            reply,
        });
        (task, answer)
    }
}

impl<T, W, H> Work for Task<T, W, H>
where
    T: Send + 'static,
    W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    H: FnOnce(Option<&T>) + Send + 'static,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(&mut self, connection: &Connection) -> Ran {
        let Some(work) = self.work.take() else {
            return Ran::Panicked;
        };
        match guarded(|| work(connection)) {
            Some(Ok(done)) => {
                self.done = Some(done);
                Ran::Done
            }
            Some(Err(error)) => Ran::Failed(error),
            None => Ran::Panicked,
        }
    }

    fn finish(self: Box<Self>, outcome: &Result<(), Failure>) {
        let Self {
            then, done, reply, ..
        } = *self;
        let answer = match (done, outcome) {
            (Some(done), Ok(())) => {
                guarded(|| then(Some(&done)));
                Ok(done)
            }
            (Some(_), Err(failure)) => {
                guarded(|| then(None));
                Err(failure.clone())
            }
            (None, Err(failure)) => Err(failure.clone()),
            (None, Ok(())) => Err(panicked()),
        };
        // The caller may have gone.
        let _ = reply.send(answer);
    }
}

/// `None` where it panicked: a panic costs the operation, not the thread.
fn guarded<T>(run: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).ok()
}

#[cfg(test)]
#[path = "embedded/tests.rs"]
mod tests;
