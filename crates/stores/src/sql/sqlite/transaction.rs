//! A transaction on the writer's connection.
//!
//! It begins as SQLite's `IMMEDIATE`: the right to write is taken at once, so a transaction that reads first cannot find later
//! that another one has written in between, and two can never block each other. The price is that the transactions of one
//! database follow one another; reading outside of them goes on.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::run::{self, Answer, Head};
use super::session::Session;
use super::stop::{Caller, Stop};
use super::{ended, rows};
use crate::sql::{Error, Result, Rows, Statement, Transaction};

/// What a transaction's holder asks its thread for.
pub(super) enum Command {
    Query(Statement, Answer),
    Execute(Statement, Arc<Stop>, oneshot::Sender<Result<u64>>),
    Commit(oneshot::Sender<Result<()>>),
    Rollback(oneshot::Sender<Result<()>>),
}

/// Why it is over, for the calls that come later.
pub(super) type Over = Arc<OnceLock<String>>;

/// The thread's side: holds the connection until the transaction is over.
pub(super) struct Held {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) handle: Handle,
    pub(super) deadline: Instant,
    pub(super) over: Over,
}

impl Held {
    pub(super) fn serve(mut self, session: &Session) {
        while let Some(command) = self.next() {
            match command {
                Command::Query(statement, answer) => {
                    run::inside(session, &statement, answer, || Ok(()));
                }
                Command::Execute(statement, stop, done) => {
                    let outcome = match stop.is_due() {
                        true => Err(Error::TooSlow(stop.timeout)),
                        false => run::execute(session, &statement, &stop),
                    };
                    if session.conn.is_autocommit() {
                        self.tell(
                            "an earlier statement failed in a way that ended the transaction",
                        );
                    }
                    let _answered = done.send(outcome);
                }
                Command::Commit(done) => return drop(done.send(end(session, "COMMIT"))),
                Command::Rollback(done) => return drop(done.send(end(session, "ROLLBACK"))),
            }
            if session.conn.is_autocommit() {
                return self
                    .tell("an earlier statement failed in a way that ended the transaction");
            }
        }
        let _undone = end(session, "ROLLBACK");
    }

    /// The next command; none when the holder is gone or the time is over.
    fn next(&mut self) -> Option<Command> {
        let (commands, deadline) = (&mut self.commands, self.deadline);
        let next = self.handle.block_on(async move {
            tokio::time::timeout_at(deadline.into(), commands.recv()).await
        });
        if next.is_err() {
            self.tell("the transaction was open for too long and has been rolled back");
        }
        next.ok().flatten()
    }

    fn tell(&self, why: &str) {
        // The first reason counts.
        let _known = self.over.set(why.to_owned());
    }
}

/// Ends the transaction; what cannot be committed is rolled back.
fn end(session: &Session, how: &str) -> Result<()> {
    let stop = Stop::after(std::time::Duration::ZERO);
    let ended = session.own(how).map_err(|cause| run::error(&cause, &stop));
    if !session.conn.is_autocommit() {
        // Should this fail as well, the connection is given up.
        let _undone = session.own("ROLLBACK");
    }
    ended
}

/// The holder's side.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) handle: Handle,
    pub(super) over: Over,
    /// The rows that are being read.
    pub(super) reading: Option<Arc<Stop>>,
}

impl Open {
    async fn ask<T>(&self, command: Command, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        if self.commands.send(command).await.is_err() {
            return Err(self.is_over());
        }
        answer.await.unwrap_or_else(|_gone| Err(self.is_over()))
    }

    fn is_over(&self) -> Error {
        let why = self.over.get().map(String::as_str);
        Error::NoTransaction(why.unwrap_or("the transaction is over").to_owned())
    }

    fn give_up_rows(&mut self) {
        if let Some(reading) = self.reading.take() {
            reading.abandon();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.give_up_rows();
    }
}

#[async_trait]
impl Transaction for Open {
    async fn query(&mut self, statement: Statement) -> Result<Rows> {
        self.give_up_rows();
        let stop = Stop::after(statement.timeout);
        let caller = Caller(stop.clone());
        let (head, heard) = oneshot::channel();
        let (batches, incoming) = mpsc::channel(super::BATCHES);
        let answer = Answer {
            head,
            batches,
            handle: self.handle.clone(),
            stop: stop.clone(),
        };
        let head = self.ask(Command::Query(statement, answer), heard).await?;
        let Head::Columns(columns) = head else {
            return Err(ended());
        };
        self.reading = Some(stop);
        Ok(rows(columns, incoming, caller))
    }

    async fn execute(&mut self, statement: Statement) -> Result<u64> {
        self.give_up_rows();
        let stop = Stop::after(statement.timeout);
        let _caller = Caller(stop.clone());
        let (done, heard) = oneshot::channel();
        self.ask(Command::Execute(statement, stop, done), heard)
            .await
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        self.give_up_rows();
        let (done, heard) = oneshot::channel();
        self.ask(Command::Commit(done), heard).await
    }

    async fn rollback(mut self: Box<Self>) -> Result<()> {
        self.give_up_rows();
        let (done, heard) = oneshot::channel();
        self.ask(Command::Rollback(done), heard).await
    }
}
