//! [`Lease`]: one connection for one caller, clean when it comes and cleaned when it goes.
//!
//! A connection whose statement was given up is told so (a cancel request on a connection of its own) and not used again: a
//! cancel request has no answer, and one that comes late must not hit the next caller. All others are reset at once, not when
//! they are next needed: an open transaction or a lock that nobody holds any more would hinder others.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use deadpool_postgres::{
    Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::faults;
use crate::Failure;
use crate::place::PlaceError;
use crate::sql::{Error, Result};

/// How long a server may go on with a statement before it is told again to stop.
const CANCEL_AGAIN: Duration = Duration::from_millis(100);

/// What a session has of its own, back to how it began. What the driver itself prepared stays.
const RESET: &str = "ROLLBACK;
SET SESSION AUTHORIZATION DEFAULT;
RESET ALL;
CLOSE ALL;
UNLISTEN *;
SELECT pg_catalog.pg_advisory_unlock_all();
DISCARD TEMP;
DISCARD SEQUENCES;
DO $$ DECLARE own pg_catalog.text; BEGIN
FOR own IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql LOOP
EXECUTE pg_catalog.format('DEALLOCATE %I', own);
END LOOP; END $$";

/// The connections to one database.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool,
    way: Arc<Way>,
}

/// How connections are made and ended.
struct Way {
    name: String,
    tls: MakeRustlsConnect,
    handle: Handle,
    /// For connecting, resetting and all else that is no statement.
    timeout: Duration,
    max: usize,
}

/// See the module's documentation.
pub(super) struct Lease {
    client: Option<Object>,
    way: Arc<Way>,
    /// Something was sent and its answer is not complete.
    pub(super) busy: AtomicBool,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.way.name)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.way.name)
    }
}

impl Connections {
    pub(super) fn new(
        address: Address,
        timeout: Duration,
        max: usize,
        handle: Handle,
    ) -> std::result::Result<Self, PlaceError> {
        let Address {
            database: name,
            mut config,
            tls,
            ..
        } = address;
        config.connect_timeout(timeout);
        let dialer = Dialer {
            tls: tls.clone(),
            handle: handle.clone(),
        };
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_connect(config, dialer, ManagerConfig { recycling_method });
        let pool = Pool::builder(manager)
            .max_size(max)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(timeout))
            .create_timeout(Some(timeout))
            .recycle_timeout(Some(timeout))
            .build()
            .map_err(|cause| PlaceError {
                what: format!("connections to {name} cannot be kept: {cause}"),
                help: "use another timeout".to_owned(),
            })?;
        let way = Way {
            name,
            tls,
            handle,
            timeout,
            max,
        };
        Ok(Self {
            pool,
            way: Arc::new(way),
        })
    }

    pub(super) fn timeout(&self) -> Duration {
        self.way.timeout
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.way.handle
    }

    /// Closes, from now on, what nobody has used for so long.
    pub(super) fn close_idle(&self, idle: Duration) {
        let pool = self.pool.weak();
        self.way.handle.spawn(async move {
            loop {
                tokio::time::sleep(idle).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.retain(|_, metrics| metrics.last_used() < idle);
            }
        });
    }

    /// A connection, and whether it is new.
    pub(super) async fn lease(&self) -> Result<(Lease, bool)> {
        let client = self.pool.get().await.map_err(|cause| self.failed(cause))?;
        let is_new = Object::metrics(&client).recycle_count == 0;
        let lease = Lease {
            client: Some(client),
            way: self.way.clone(),
            busy: AtomicBool::new(false),
        };
        Ok((lease, is_new))
    }

    fn failed(&self, cause: PoolError) -> Error {
        match cause {
            PoolError::Timeout(TimeoutType::Wait) => Error::Conflict(format!(
                "all {} connections to the database are in use",
                self.way.max
            )),
            PoolError::Timeout(_) => Failure::TimedOut(self.way.timeout).into(),
            PoolError::Backend(cause) => faults::connecting(&cause, self.way.timeout),
            other => Failure::Unavailable(other.to_string()).into(),
        }
    }
}

impl Lease {
    /// Where tasks of the connection run.
    pub(super) fn handle(&self) -> &Handle {
        &self.way.handle
    }

    /// The connection; none once the lease is being given back.
    pub(super) fn client(&self) -> Result<&Client> {
        let client = self.client.as_ref();
        client
            .map(|client| &***client)
            .ok_or_else(|| Error::NoTransaction("the connection was given back".to_owned()))
    }

    /// Waits for an answer; until it is complete the connection is of no use to anybody else.
    pub(super) async fn wait<T>(
        &self,
        longest: Duration,
        answer: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
        late: impl FnOnce() -> Error,
    ) -> Result<T> {
        self.busy.store(true, SeqCst);
        let answer = tokio::time::timeout(longest, answer).await;
        let answer = answer.map_err(|_late| late())?;
        // After an error of the server's own the connection is in order; after any other nobody knows.
        let in_order = answer
            .as_ref()
            .map_or_else(|cause| cause.as_db_error().is_some(), |_| true);
        self.busy.store(!in_order, SeqCst);
        answer.map_err(|cause| faults::running(&cause, longest))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        let way = self.way.clone();
        let busy = self.busy.load(SeqCst);
        // The permit of the pool goes with the connection until it is clean.
        self.way
            .handle
            .spawn(async move { way.clean(client, busy).await });
    }
}

impl Way {
    async fn clean(&self, client: Object, busy: bool) {
        if client.is_closed() {
            return drop(Object::take(client));
        }
        if busy {
            // Should it not be possible, the server's own time-out for the statement holds.
            let _stopped = tokio::time::timeout(self.timeout, self.stop(&client)).await;
            return drop(Object::take(client));
        }
        let reset = tokio::time::timeout(self.timeout, client.batch_execute(RESET)).await;
        if !matches!(reset, Ok(Ok(()))) {
            drop(Object::take(client));
        }
    }
}

impl Way {
    /// Has the server stop what it runs. A request that comes before the server has begun with the statement stops nothing,
    /// so there is another as long as the connection has no answer to what was sent after it.
    async fn stop(&self, client: &Client) {
        let cancel = client.cancel_token();
        let mut ended = std::pin::pin!(client.batch_execute(""));
        loop {
            let _arrived = cancel.cancel_query(self.tls.clone()).await;
            if tokio::time::timeout(CANCEL_AGAIN, ended.as_mut())
                .await
                .is_ok()
            {
                return;
            }
        }
    }
}

/// Connects on the thread that drives connections, which outlives the caller's.
struct Dialer {
    tls: MakeRustlsConnect,
    handle: Handle,
}

type Connecting<'a> = Pin<
    Box<
        dyn Future<Output = std::result::Result<(Client, JoinHandle<()>), tokio_postgres::Error>>
            + Send
            + 'a,
    >,
>;

/// Ends the attempt when nobody waits for it any more.
struct Attempt<T>(JoinHandle<T>);

impl<T> Drop for Attempt<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connect for Dialer {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let (config, tls) = (config.clone(), self.tls.clone());
        Box::pin(async move {
            let attempt = dial(config.clone(), tls.clone());
            let mut attempt = Attempt(self.handle.spawn(attempt));
            match (&mut attempt.0).await {
                Ok(connected) => connected,
                // The process is stopping; its last caller may still try.
                Err(_ended) => dial(config, tls).await,
            }
        })
    }
}

async fn dial(
    config: Config,
    tls: MakeRustlsConnect,
) -> std::result::Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
    let (client, connection) = config.connect(tls).await?;
    // What it fails of is told to whoever waits for an answer.
    let driven = tokio::spawn(async move { drop(connection.await) });
    Ok((client, driven))
}
