//! A transaction on a connection of its own, with the isolation that the server gives by default; its first statement may ask
//! for another (`SET TRANSACTION ISOLATION LEVEL SERIALIZABLE`).
//!
//! An error of a statement breaks the transaction up to its last savepoint: that is PostgreSQL's way. Rows that were not read
//! when the next statement comes are read to their end and thrown away: stopping them would break the transaction too.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream as _;
use std::future::poll_fn;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::lease::Lease;
use super::{Reading, execute, plain, prepare, start, words};
use crate::Failure;
use crate::sql::{Error, Result, Rows, Statement, Transaction};

/// An open transaction.
#[derive(Debug)]
pub(super) struct Open {
    held: Arc<Mutex<Held>>,
    timeout: Duration,
    deadline: Instant,
    /// Ends it when it has been open for too long.
    watch: JoinHandle<()>,
}

/// What it holds; nothing once it is over.
#[derive(Debug, Default)]
struct Held {
    lease: Option<Arc<Lease>>,
    reading: Option<Arc<Reading>>,
    over: Option<&'static str>,
}

impl Held {
    fn end(held: &Mutex<Self>, why: &'static str) {
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = held.reading.take() {
            drop(reading.take());
        }
        held.lease = None;
        held.over.get_or_insert(why);
    }
}

/// Ends the transaction when a call is given up before its answer is complete.
struct Call {
    held: Arc<Mutex<Held>>,
    lease: Arc<Lease>,
    /// Its rows are still to come.
    answering: bool,
}

impl Call {
    fn answering(mut self) {
        self.answering = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answering && self.lease.busy.load(SeqCst) {
            Held::end(&self.held, "an earlier call broke off");
        }
    }
}

impl Open {
    pub(super) fn new(lease: Lease, timeout: Duration, length: Duration, handle: &Handle) -> Self {
        let held = Arc::new(Mutex::new(Held {
            lease: Some(Arc::new(lease)),
            ..Held::default()
        }));
        let watched = Arc::downgrade(&held);
        let watch = handle.spawn(async move {
            tokio::time::sleep(length).await;
            if let Some(held) = watched.upgrade() {
                let why = "the transaction was open for too long and has been rolled back";
                Held::end(&held, why);
            }
        });
        Self {
            held,
            timeout,
            deadline: Instant::now() + length,
            watch,
        }
    }

    /// The connection for the next call, with no answer of an earlier one on its way.
    async fn next(&self) -> Result<Call> {
        let (lease, reading) = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(lease) = held.lease.clone() else {
                let why = held.over.unwrap_or("the transaction is over");
                return Err(Error::NoTransaction(why.to_owned()));
            };
            (lease, held.reading.take())
        };
        let call = Call {
            held: self.held.clone(),
            lease,
            answering: false,
        };
        if let Some(reading) = reading {
            read_out(&reading).await;
        }
        if call.lease.busy.load(SeqCst) {
            let why = "an earlier statement broke off";
            return Err(Error::NoTransaction(why.to_owned()));
        }
        Ok(call)
    }

    /// No statement lasts longer than its transaction.
    fn bounded(&self, mut statement: Statement) -> Result<Statement> {
        words::allowed(&statement.text)?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        statement.timeout = statement.timeout.min(left);
        Ok(statement)
    }
}

/// Throws rows away until their end, which leaves the connection in order.
async fn read_out(reading: &Reading) {
    let Some((mut rows, lease)) = reading.take() else {
        return;
    };
    let end = async {
        while let Some(row) = poll_fn(|cx| rows.as_mut().poll_next(cx)).await {
            if let Err(cause) = row {
                return cause.as_db_error().is_some();
            }
        }
        true
    };
    let in_order = timeout_at(reading.deadline, end).await.unwrap_or(false);
    lease.busy.store(!in_order, SeqCst);
}

impl Drop for Open {
    fn drop(&mut self) {
        self.watch.abort();
        Held::end(&self.held, "the transaction is over");
    }
}

#[async_trait]
impl Transaction for Open {
    async fn query(&mut self, statement: Statement) -> Result<Rows> {
        let statement = self.bounded(statement)?;
        let call = self.next().await?;
        let run = prepare(&call.lease, &statement, self.timeout).await?;
        let (rows, reading) = start(call.lease.clone(), run).await?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.lease.is_some() {
            held.reading = Some(reading);
        }
        drop(held);
        call.answering();
        Ok(rows)
    }

    async fn execute(&mut self, statement: Statement) -> Result<u64> {
        let statement = self.bounded(statement)?;
        let call = self.next().await?;
        let run = prepare(&call.lease, &statement, self.timeout).await?;
        execute(&call.lease, run).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let call = self.next().await?;
        let client = call.lease.client()?;
        // COMMIT of a broken transaction is no error, it only does something else; so a statement asks first.
        let both = async {
            let asked = client.batch_execute("SELECT 1");
            let (asked, done) = tokio::join!(asked, client.batch_execute("COMMIT"));
            asked.and(done)
        };
        let late = || Failure::TimedOut(self.timeout).into();
        call.lease.wait(self.timeout, both, late).await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        let call = self.next().await?;
        plain(&call.lease, "ROLLBACK", self.timeout).await
    }
}
