//! [`Redis`]: the connection to one Redis, over which the commands of all its users go at once.
//!
//! Commands that block, and subscriptions to channels, have connections of their own ([`Redis::alone`], `redis_channels`).

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult,
    ScriptInvocation, ServerErrorKind,
};
use tokio::runtime::Handle;
use tokio::time::timeout;
use url::Url;

use super::{Link, attempt, bad_option, patience, said, secrets};
use crate::Failure;
use crate::place::PlaceError;

/// The largest string that a Redis takes (`proto-max-bulk-len`).
pub(crate) const STRING_BYTES_MAX: usize = 512 << 20;
/// Commands that wait for room in the connection's buffer.
const QUEUE: usize = 1024;

/// One Redis.
pub(crate) struct Redis {
    client: Client,
    link: Arc<Link<MultiplexedConnection>>,
    handle: Handle,
    timeout: Duration,
    secrets: Arc<[String]>,
    probing: AtomicBool,
}

impl Redis {
    pub(super) fn new(
        url: &Url,
        timeout: Duration,
        handle: &Handle,
    ) -> Result<Arc<Self>, PlaceError> {
        const HELP: &str =
            "write redis://USER:PASSWORD@HOST:6379/0, or rediss:// for a connection with TLS";
        if let Some((name, _)) = url.query_pairs().next() {
            let what = format!("a Redis URL has no option `{name}`");
            return Err(bad_option(what, HELP));
        }
        let secrets: Arc<[String]> = secrets(url).into();
        let client = Client::open(url.clone()).map_err(|cause| {
            let cause = said(&cause.to_string(), &secrets);
            bad_option(
                format!("this URL of a Redis is not understood: {cause}"),
                HELP,
            )
        })?;
        let link = {
            let (client, secrets) = (client.clone(), secrets.clone());
            Link::new(handle, attempt(timeout), move || {
                let (client, secrets) = (client.clone(), secrets.clone());
                async move { connect(&client).await.map_err(|e| failure(&e, &secrets)) }
            })
        };
        Ok(Arc::new(Self {
            client,
            link,
            handle: handle.clone(),
            timeout,
            secrets,
            probing: AtomicBool::new(false),
        }))
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs one command.
    pub(crate) async fn query<T: FromRedisValue>(
        self: &Arc<Self>,
        command: &Cmd,
    ) -> Result<T, Failure> {
        self.run(|mut connection| async move { command.query_async(&mut connection).await })
            .await
    }

    /// Runs a script by its hash, and sends it whole where the server does not have it.
    pub(crate) async fn script<T: FromRedisValue>(
        self: &Arc<Self>,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Failure> {
        self.run(|mut connection| async move { script.invoke_async(&mut connection).await })
            .await
    }

    async fn run<T, W>(
        self: &Arc<Self>,
        work: impl FnOnce(MultiplexedConnection) -> W,
    ) -> Result<T, Failure>
    where
        W: Future<Output = RedisResult<T>>,
    {
        let mut owed = Owed {
            redis: self,
            id: None,
        };
        let answered = timeout(patience(self.timeout), async {
            let linked = self.link.get().await?;
            owed.id = Some(linked.id);
            let result = work(linked.connection).await;
            owed.id = None;
            result.map_err(|error| {
                if is_broken(&error) {
                    self.link.discard(linked.id);
                }
                failure(&error, &self.secrets)
            })
        })
        .await;
        let Ok(result) = answered else {
            // What owes an answer that long is not asked again.
            if let Some(id) = owed.id.take() {
                self.link.discard(id);
            }
            return Err(Failure::TimedOut(self.timeout));
        };
        result
    }

    /// A connection for somebody who blocks it.
    pub(crate) async fn alone(&self) -> Result<MultiplexedConnection, Failure> {
        let client = self.client.clone();
        let result = self.attempt(async move { connect(&client).await });
        result.await
    }

    /// A connection for channels.
    pub(crate) async fn channels(&self) -> Result<redis::aio::PubSub, Failure> {
        let client = self.client.clone();
        let result = self.attempt(async move { client.get_async_pubsub().await });
        result.await
    }

    async fn attempt<T: Send + 'static>(
        &self,
        connect: impl Future<Output = RedisResult<T>> + Send + 'static,
    ) -> Result<T, Failure> {
        let bound = attempt(self.timeout);
        let task = self.handle.spawn(timeout(bound, connect));
        match task.await {
            Ok(Ok(Ok(connection))) => Ok(connection),
            Ok(Ok(Err(error))) => Err(failure(&error, &self.secrets)),
            Ok(Err(_)) => Err(Failure::TimedOut(bound)),
            Err(_) => Err(super::stopped()),
        }
    }

    pub(crate) fn failure(&self, error: &RedisError) -> Failure {
        failure(error, &self.secrets)
    }

    /// Somebody stopped waiting for an answer, before it was late: is the connection still good?
    fn probe(self: &Arc<Self>, id: u64) {
        if self.probing.swap(true, Ordering::SeqCst) {
            return;
        }
        let redis = self.clone();
        self.handle.spawn(async move {
            let ping = async {
                let linked = redis.link.get().await?;
                let mut connection = linked.connection;
                let pong: RedisResult<String> =
                    redis::cmd("PING").query_async(&mut connection).await;
                pong.map_err(|error| failure(&error, &redis.secrets))
            };
            if !matches!(timeout(attempt(redis.timeout), ping).await, Ok(Ok(_))) {
                redis.link.discard(id);
            }
            redis.probing.store(false, Ordering::SeqCst);
        });
    }
}

/// Notices that a caller went away while an answer was owed.
struct Owed<'a> {
    redis: &'a Arc<Redis>,
    id: Option<u64>,
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.redis.probe(id);
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.client.get_connection_info();
        write!(f, "Redis({})", info.addr())
    }
}

async fn connect(client: &Client) -> RedisResult<MultiplexedConnection> {
    // Every wait is bounded where it happens.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE);
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// Whether the connection is of no more use.
fn is_broken(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse) || error.is_unrecoverable_error()
}

fn failure(error: &RedisError, secrets: &[String]) -> Failure {
    let text = said(&error.to_string(), secrets);
    match error.kind() {
        ErrorKind::Io => Failure::Unavailable(text),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            Failure::Broken(format!("this is not what a Redis answers: {text}"))
        }
        ErrorKind::AuthenticationFailed => Failure::Refused(text),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain,
        ) => Failure::Unavailable(text),
        ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ReadOnly) => {
            Failure::Refused(text)
        }
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => Failure::Refused(
            "this Redis is a part of a cluster, which this driver does not speak to".to_owned(),
        ),
        _ => match error.code() {
            Some("OOM" | "MISCONF") => Failure::Full(text),
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => Failure::Refused(text),
            _ => Failure::Broken(text),
        },
    }
}
