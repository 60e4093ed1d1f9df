//! The embedded driver: one SQLite file for each scope, `APP/sql/LABEL.db` in the data directory.
//!
//! The file is written ahead (WAL), so reading and writing do not wait for each other, and each commit is on disk before it is
//! acknowledged. One connection writes, a few read; which one a query needs is SQLite's to say. Read next: `session` (what a
//! hostile statement finds closed), `run`, `transaction`, `lane` (the threads), `stop`.

mod lane;
mod run;
mod session;
mod stop;
mod transaction;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use self::lane::{Lane, Work};
use self::run::{Answer, Head};
use self::session::{Mode, Opening, Session};
use self::stop::{Caller, Stop};
use self::transaction::{Held, Open};
use super::{Column, Error, Result, Rows, Sql, SqlOptions, Statement, Transaction, Value};
use crate::Failure;

/// Batches of rows between a connection's thread and who reads them.
const BATCHES: usize = 2;

/// One database.
#[derive(Debug)]
pub(super) struct Sqlite {
    folder: PathBuf,
    path: PathBuf,
    /// How long a transaction waits for its turn.
    timeout: Duration,
    options: SqlOptions,
    handle: Handle,
    writer: Arc<Lane>,
    readers: Arc<Lane>,
    /// Whether the folder is there.
    ready: OnceLock<()>,
}

/// What a database needs to know of its surroundings.
pub(super) struct Settings {
    pub(super) folder: PathBuf,
    pub(super) durable: bool,
    pub(super) timeout: Duration,
    pub(super) options: SqlOptions,
    pub(super) handle: Handle,
}

impl Sqlite {
    /// The database of a label; its file is made when it is first used.
    pub(super) fn new(settings: Settings, label: &str) -> Self {
        let Settings {
            folder,
            durable,
            timeout,
            options,
            handle,
        } = settings;
        let path = folder.join(format!("{label}.db"));
        let opening = Opening {
            path: path.clone(),
            durable,
            options: options.clone(),
        };
        Self {
            writer: Lane::new(opening.clone(), Mode::Write, 1),
            readers: Lane::new(opening, Mode::Read, options.readers),
            ready: OnceLock::new(),
            folder,
            path,
            timeout,
            options,
            handle,
        }
    }

    /// Gives work to a thread of a lane.
    async fn run(&self, lane: &Arc<Lane>, deadline: Instant, work: Work) -> Result<()> {
        if self.ready.get().is_none() {
            make_folder(&self.folder).await?;
            let _ready = self.ready.set(());
        }
        lane.run(deadline, work).await
    }

    /// Gives a query to a thread, and what it begins with.
    async fn ask(
        &self,
        lane: &Arc<Lane>,
        statement: Statement,
        stop: &Arc<Stop>,
        query: fn(&Session, Statement, Answer),
    ) -> Result<(Head, mpsc::Receiver<Result<Vec<Vec<Value>>>>)> {
        let (head, heard) = oneshot::channel();
        let (batches, incoming) = mpsc::channel(BATCHES);
        let answer = Answer {
            head,
            batches,
            handle: self.handle.clone(),
            stop: stop.clone(),
        };
        let work: Work = Box::new(move |session| match session {
            Ok(_) if answer.stop.is_due() => {
                let late = Error::TooSlow(answer.stop.timeout);
                drop(answer.head.send(Err(late)));
            }
            Ok(session) => query(session, statement, answer),
            Err(error) => drop(answer.head.send(Err(error))),
        });
        self.run(lane, stop.deadline, work).await?;
        let head = heard.await.unwrap_or_else(|_gone| Err(ended()))?;
        Ok((head, incoming))
    }
}

#[async_trait]
impl Sql for Sqlite {
    /// A file that is there must be readable as a database; otherwise its folder must be writable.
    async fn check(&self) -> Result<()> {
        if !self.path.exists() {
            return can_be_made(&self.folder);
        }
        let text = "SELECT count(*) FROM sqlite_schema".to_owned();
        let statement = Statement {
            text,
            parameters: Vec::new(),
            timeout: self.timeout,
        };
        self.query(statement).await.map(drop)
    }

    async fn query(&self, statement: Statement) -> Result<Rows> {
        let stop = Stop::after(statement.timeout);
        let caller = Caller(stop.clone());
        let read = self.ask(&self.readers, statement, &stop, run::read);
        let (head, incoming) = read.await?;
        let statement = match head {
            Head::Columns(columns) => return Ok(rows(columns, incoming, caller)),
            Head::Writes(statement) => statement,
        };
        let written = self.ask(
            &self.writer,
            statement,
            &stop,
            |session, statement, answer| {
                run::write(session, &statement, answer);
            },
        );
        match written.await? {
            (Head::Columns(columns), incoming) => Ok(rows(columns, incoming, caller)),
            (Head::Writes(_), _) => Err(ended()),
        }
    }

    async fn execute(&self, statement: Statement) -> Result<u64> {
        let stop = Stop::after(statement.timeout);
        let _caller = Caller(stop.clone());
        let (done, heard) = oneshot::channel();
        let deadline = stop.deadline;
        let work: Work = Box::new(move |session| {
            let outcome = session.and_then(|session| {
                if stop.is_due() {
                    return Err(Error::TooSlow(stop.timeout));
                }
                run::execute(session, &statement, &stop)
            });
            let _answered = done.send(outcome);
        });
        self.run(&self.writer, deadline, work).await?;
        heard.await.unwrap_or_else(|_gone| Err(ended()))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let (begun, heard) = oneshot::channel();
        let (commands, queue) = mpsc::channel(4);
        let (handle, over) = (self.handle.clone(), Arc::default());
        let open = Open {
            commands,
            handle: handle.clone(),
            over: Arc::clone(&over),
            reading: None,
        };
        let length = self.options.transaction;
        let work: Work = Box::new(move |session: std::result::Result<&Session, Error>| {
            let session = match session {
                Ok(session) => session,
                Err(error) => return drop(begun.send(Err(error))),
            };
            let begin = session.own("BEGIN IMMEDIATE");
            let begin = begin.map_err(|cause| run::error(&cause, &Stop::after(length)));
            let failed = begin.is_err();
            // Whoever is gone already drops the commands too.
            if begun.send(begin).is_err() || failed {
                return drop(session.own("ROLLBACK"));
            }
            let held = Held {
                commands: queue,
                handle,
                deadline: Instant::now() + length,
                over,
            };
            session.inside(true);
            held.serve(session);
            session.inside(false);
        });
        let wait = Instant::now() + self.timeout;
        self.run(&self.writer, wait, work).await?;
        heard.await.unwrap_or_else(|_gone| Err(ended()))?;
        Ok(Box::new(open))
    }
}

/// The stream of a query's rows; dropping it stops the statement.
fn rows(
    columns: Vec<Column>,
    incoming: mpsc::Receiver<Result<Vec<Vec<Value>>>>,
    caller: Caller,
) -> Rows {
    struct Reading {
        incoming: Option<mpsc::Receiver<Result<Vec<Vec<Value>>>>>,
        batch: std::vec::IntoIter<Vec<Value>>,
        caller: Caller,
    }
    let reading = Reading {
        incoming: Some(incoming),
        batch: Vec::new().into_iter(),
        caller,
    };
    let rows = stream::unfold(reading, |mut reading| async move {
        loop {
            if let Some(row) = reading.batch.next() {
                return Some((Ok(row), reading));
            }
            match reading.incoming.as_mut()?.recv().await {
                Some(Ok(batch)) if batch.is_empty() => return None,
                Some(Ok(batch)) => reading.batch = batch.into_iter(),
                Some(Err(error)) => {
                    reading.incoming = None;
                    return Some((Err(error), reading));
                }
                None => {
                    reading.incoming = None;
                    return Some((Err(cut_off(&reading.caller.0)), reading));
                }
            }
        }
    });
    Rows {
        columns,
        rows: Box::pin(rows),
    }
}

/// Why rows have no end.
fn cut_off(stop: &Stop) -> Error {
    match stop.is_abandoned() {
        // The caller is still here, so it was the transaction's next statement.
        true => Error::NoTransaction(super::GIVEN_UP.to_owned()),
        false if stop.is_due() => Error::TooSlow(stop.timeout),
        false => ended(),
    }
}

/// The thread of a statement died.
fn ended() -> Error {
    Failure::Broken("the statement ended without an answer".to_owned()).into()
}

/// Makes the folder, for nobody else to read, and has its name on disk before anything in it is acknowledged.
async fn make_folder(folder: &Path) -> Result<()> {
    let owned = folder.to_path_buf();
    let (done, heard) = oneshot::channel();
    let make = move || {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
        builder.create(&owned)?;
        for folder in owned.ancestors().skip(1).take(2) {
            std::fs::File::open(folder)?.sync_all()?;
        }
        Ok::<_, std::io::Error>(())
    };
    let thread = std::thread::Builder::new().name("sqlite".to_owned());
    let made = match thread.spawn(move || drop(done.send(make()))) {
        Ok(_) => heard.await.unwrap_or_else(|_gone| {
            Err(std::io::Error::other("the thread ended without an answer"))
        }),
        Err(cause) => Err(cause),
    };
    made.map_err(|cause| unusable(folder, &cause))
}

fn unusable(folder: &Path, cause: &std::io::Error) -> Error {
    Failure::Unavailable(format!("{} cannot be used: {cause}", folder.display())).into()
}

/// Whether a folder could be made and written to.
fn can_be_made(folder: &Path) -> Result<()> {
    let there = folder.ancestors().find(|folder| folder.exists());
    let Some(there) = there else {
        return Err(unusable(folder, &std::io::ErrorKind::NotFound.into()));
    };
    rustix::fs::access(there, rustix::fs::Access::WRITE_OK)
        .map_err(|cause| unusable(there, &cause.into()))
}
