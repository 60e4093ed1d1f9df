//! The PostgreSQL driver: one pool of connections for each database, which belongs to one app.
//!
//! Statements are prepared, so that there is exactly one and the server knows its parameters' types, and run under the
//! server's own `statement_timeout`; the driver waits a little longer than that and then leaves. Read next: `address` (the
//! operator's URL), `lease` (connections), `values` and `text`, `faults`.

mod address;
mod faults;
mod lease;
mod text;
mod transaction;
mod values;
mod words;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, Stream as _, StreamExt as _};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::{Row, RowStream};

pub(super) use self::address::Address;
use self::lease::{Connections, Lease};
use self::values::{Parameter, Received};
use super::{Column, Error, Result, Rows, Sql, SqlOptions, Statement, Transaction, Value};
use crate::Failure;
use crate::place::PlaceError;

/// How much later than the driver the server ends a transaction that is left open: only where the driver cannot.
const ABANDONED: Duration = Duration::from_secs(1);

/// One database of a server.
#[derive(Debug)]
pub(super) struct Postgres {
    connections: Connections,
    /// How long a transaction may be open.
    transaction: Duration,
}

impl Postgres {
    /// The database at an address. Nothing is reached yet.
    pub(super) fn new(
        address: Address,
        timeout: Duration,
        options: &SqlOptions,
        handle: Handle,
    ) -> std::result::Result<Self, PlaceError> {
        let connections = Connections::new(address, timeout, options.connections, handle)?;
        connections.close_idle(options.idle);
        Ok(Self {
            connections,
            transaction: options.transaction,
        })
    }

    /// A connection on which the statement is prepared. One from the pool may have died since it was used: nothing of the
    /// statement has run then, so the next one is tried.
    async fn prepared(&self, statement: &Statement) -> Result<(Lease, Run)> {
        loop {
            let (lease, is_new) = self.connections.lease().await?;
            match prepare(&lease, statement, self.connections.timeout()).await {
                Err(error) if faults::is_dead(&error) && !is_new => {}
                prepared => return Ok((lease, prepared?)),
            }
        }
    }

    /// A change that may have rows. The server makes all of it before the first row, so it takes a transaction to undo what is
    /// not read to its end.
    async fn change(&self, statement: Statement) -> Result<Rows> {
        let mut open = self.begin().await?;
        let Rows { columns, rows } = open.query(statement).await?;
        let rows = stream::unfold(Some((open, rows)), async |held| {
            let (open, mut rows) = held?;
            match rows.next().await {
                Some(Ok(row)) => Some((Ok(row), Some((open, rows)))),
                Some(Err(error)) => Some((Err(error), None)),
                None => open.commit().await.err().map(|error| (Err(error), None)),
            }
        });
        let rows = rows.boxed();
        Ok(Rows { columns, rows })
    }
}

#[async_trait]
impl Sql for Postgres {
    async fn check(&self) -> Result<()> {
        loop {
            let (lease, is_new) = self.connections.lease().await?;
            match plain(&lease, "", self.connections.timeout()).await {
                Err(error) if faults::is_dead(&error) && !is_new => {}
                checked => return checked,
            }
        }
    }

    async fn query(&self, statement: Statement) -> Result<Rows> {
        words::allowed(&statement.text)?;
        if words::changes_and_reads(&statement.text) {
            return self.change(statement).await;
        }
        let (lease, run) = self.prepared(&statement).await?;
        start(Arc::new(lease), run).await.map(|(rows, _)| rows)
    }

    async fn execute(&self, statement: Statement) -> Result<u64> {
        words::allowed(&statement.text)?;
        let (lease, run) = self.prepared(&statement).await?;
        execute(&lease, run).await
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let timeout = self.connections.timeout();
        let begin = format!(
            "SET idle_in_transaction_session_timeout = {}; BEGIN",
            (self.transaction + ABANDONED).as_millis()
        );
        loop {
            let (lease, is_new) = self.connections.lease().await?;
            match plain(&lease, &begin, timeout).await {
                Err(error) if faults::is_dead(&error) && !is_new => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    let handle = self.connections.handle();
                    let open = transaction::Open::new(lease, timeout, self.transaction, handle);
                    return Ok(Box::new(open));
                }
            }
        }
    }
}

/// A statement that is ready to run.
struct Run {
    prepared: tokio_postgres::Statement,
    parameters: Vec<Parameter>,
    deadline: Instant,
    /// What the deadline was made of.
    timeout: Duration,
    /// What the server may need beyond that to tell that it stopped the statement.
    grace: Duration,
    /// Whether what the server counts is rows that were changed, not rows that were read.
    counts: bool,
}

impl Run {
    /// How long the driver waits from now on.
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()) + self.grace
    }
}

/// Whether it is a `ROLLBACK`, to a savepoint if not to the beginning.
fn leads_back(text: &str) -> bool {
    let word = text.trim_start().get(..8);
    word.is_some_and(|word| word.eq_ignore_ascii_case("rollback"))
}

/// Prepares a statement; nothing of it runs.
async fn prepare(lease: &Lease, statement: &Statement, longest: Duration) -> Result<Run> {
    let Statement {
        text,
        parameters,
        timeout,
    } = statement;
    let client = lease.client()?;
    // Zero would be no time-out at all.
    let millis = timeout.as_millis().clamp(1, 86_400_000);
    let set = format!("SET statement_timeout = {millis}");
    let both = async { tokio::join!(client.batch_execute(&set), client.prepare(text)) };
    let late = || Failure::TimedOut(longest).into();
    let both = async {
        let (set, prepared) = both.await;
        // After an error the server takes nothing but the way back.
        if leads_back(text) {
            prepared
        } else {
            set.and(prepared)
        }
    };
    let prepared = lease.wait(longest, both, late).await?;
    let wanted = prepared.params().len();
    if wanted != parameters.len() {
        return Err(Error::BadStatement(format!(
            "the statement has {wanted} parameters, {} were given",
            parameters.len()
        )));
    }
    let unreadable = prepared
        .columns()
        .iter()
        .find(|column| !values::is_readable(column.type_()));
    if let Some(column) = unreadable {
        return Err(Error::BadStatement(format!(
            "the column `{}` is a {}, which cannot be read; let the statement cast it with `::text`",
            column.name(),
            column.type_().name()
        )));
    }
    Ok(Run {
        parameters: parameters.iter().cloned().map(Parameter).collect(),
        deadline: Instant::now() + Duration::from_millis(u64::try_from(millis).unwrap_or(1)),
        timeout: *timeout,
        grace: longest.min(Duration::from_secs(1)),
        counts: prepared.columns().is_empty() || words::changes(text),
        prepared,
    })
}

/// Runs a prepared statement to its end.
async fn execute(lease: &Lease, run: Run) -> Result<u64> {
    let (left, timeout) = (run.left(), run.timeout);
    let done = lease
        .client()?
        .execute_raw(&run.prepared, run.parameters.iter());
    let late = || Failure::TimedOut(timeout).into();
    let count = lease.wait(left, done, late).await;
    let count = count.map_err(|error| timed(error, timeout))?;
    Ok(if run.counts { count } else { 0 })
}

/// Starts a query and waits until it has its first row, its end or its error.
async fn start(lease: Arc<Lease>, run: Run) -> Result<(Rows, Arc<Reading>)> {
    let watch = lease.handle().clone();
    let (left, timeout) = (run.left(), run.timeout);
    let client = lease.client()?;
    let first = async {
        let rows = client.query_raw(&run.prepared, run.parameters.iter());
        let mut rows = Box::pin(rows.await?);
        let first = poll_fn(|cx| rows.as_mut().poll_next(cx)).await;
        Ok((rows, first.transpose()?))
    };
    let late = || Failure::TimedOut(timeout).into();
    let (rows, first) = lease
        .wait(left, first, late)
        .await
        .map_err(|error| timed(error, timeout))?;
    // A stream without a first row is at its end.
    lease.busy.store(first.is_some(), SeqCst);
    let reading = Arc::new(Reading {
        incoming: Mutex::new(first.is_some().then_some((rows, lease))),
        deadline: run.deadline + run.grace,
        timeout,
        is_late: AtomicBool::new(false),
    });
    reading.watch(watch);
    let columns = run.prepared.columns().iter().map(column).collect();
    let rows = first.map(|first| (Some(first), reading.clone()));
    let rows = stream::unfold(rows, next);
    let rows = Box::pin(rows);
    Ok((Rows { columns, rows }, reading))
}

/// Rows of a query, for whoever reads them and for the transaction that they belong to.
struct Reading {
    /// Gone at the end, and when the rows are given up.
    incoming: Mutex<Option<Incoming>>,
    deadline: Instant,
    timeout: Duration,
    /// Its time was over before its end was read.
    is_late: AtomicBool,
}

type Incoming = (Pin<Box<RowStream>>, Arc<Lease>);

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl Reading {
    /// Has the connection back in time, whether anybody reads or not.
    fn watch(self: &Arc<Self>, handle: Handle) {
        let (reading, deadline) = (Arc::downgrade(self), self.deadline);
        if self.lock().is_none() {
            return;
        }
        handle.spawn(async move {
            tokio::time::sleep_until(deadline).await;
            if let Some(reading) = reading.upgrade()
                && let Some(incoming) = reading.take()
            {
                reading.is_late.store(true, SeqCst);
                drop(incoming);
            }
        });
    }

    /// Why there are no more rows though there was no end.
    fn cut_off(&self) -> Error {
        match self.is_late.load(SeqCst) {
            true => Error::TooSlow(self.timeout),
            false => Error::NoTransaction(super::GIVEN_UP.to_owned()),
        }
    }

    fn take(&self) -> Option<Incoming> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Row>>> {
        let mut incoming = self.lock();
        let Some((rows, lease)) = incoming.as_mut() else {
            return Poll::Ready(Some(Err(self.cut_off())));
        };
        let polled = ready!(rows.as_mut().poll_next(cx));
        match polled {
            Some(Ok(row)) => Poll::Ready(Some(Ok(row))),
            None => {
                lease.busy.store(false, SeqCst);
                *incoming = None;
                Poll::Ready(None)
            }
            Some(Err(cause)) => {
                lease.busy.store(cause.as_db_error().is_none(), SeqCst);
                *incoming = None;
                Poll::Ready(Some(Err(faults::running(&cause, self.timeout))))
            }
        }
    }
}

type Unread = Option<(Option<Row>, Arc<Reading>)>;

/// The next row; after an error there is none.
async fn next(unread: Unread) -> Option<(Result<Vec<Value>>, Unread)> {
    let (first, reading) = unread?;
    let row = match first {
        Some(row) => Ok(Some(row)),
        None => match timeout_at(reading.deadline, poll_fn(|cx| reading.poll(cx))).await {
            Ok(row) => row.transpose(),
            Err(_late) => {
                drop(reading.take());
                Err(Failure::TimedOut(reading.timeout).into())
            }
        },
    };
    match row.and_then(|row| row.map(|row| values(&row)).transpose()) {
        Ok(row) => Some((Ok(row?), Some((None, reading)))),
        Err(error) => Some((Err(error), None)),
    }
}

fn values(row: &Row) -> Result<Vec<Value>> {
    let value = |column| match row.try_get::<_, Received>(column) {
        Ok(Received(value)) => Ok(value),
        Err(cause) => Err(Failure::Broken(cause.to_string()).into()),
    };
    (0..row.len()).map(value).collect()
}

fn column(column: &tokio_postgres::Column) -> Column {
    Column {
        name: column.name().to_owned(),
        kind: column.type_().name().to_lowercase(),
    }
}

/// Runs a statement of the driver's own.
async fn plain(lease: &Lease, text: &str, longest: Duration) -> Result<()> {
    let done = lease.client()?.batch_execute(text);
    let late = || Failure::TimedOut(longest).into();
    lease.wait(longest, done, late).await
}

/// Says which time a statement had.
fn timed(error: Error, timeout: Duration) -> Error {
    match error {
        Error::TooSlow(_) => Error::TooSlow(timeout),
        other => other,
    }
}
