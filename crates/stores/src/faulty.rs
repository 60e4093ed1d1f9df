//! [`Faulty`]: a driver that fails as planned, for tests. Any of the four kinds, by the same plan: fail, delay or never answer
//! the n-th call. Pieces of streams count as calls, so that an object or a result may break in its middle.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use crate::Failure;
use crate::{blob, kv, messaging, sql};

/// What happens to a call instead of, or before, what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and the driver never hears of it.
    Fail(Failure),
    /// It is made so much later.
    Delay(Duration),
    /// It is not made, and there is never an answer.
    Drop,
}

/// Which calls go wrong, and how. Clones are the same plan.
#[derive(Clone, Default)]
pub struct Plan(Arc<Planned>);

#[derive(Default)]
struct Planned {
    calls: AtomicU64,
    faults: Mutex<Vec<(Calls, Fault)>>,
}

type Calls = Box<dyn Fn(u64) -> bool + Send + Sync>;

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("calls", &self.calls())
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// Adds a fault for these calls; the first is number 1. What was planned first counts.
    pub fn plan(&self, calls: impl RangeBounds<u64> + Send + Sync + 'static, fault: Fault) {
        let calls = Box::new(move |number: u64| calls.contains(&number));
        self.faults().push((calls, fault));
    }

    /// From now on all is well.
    pub fn heal(&self) {
        self.faults().clear();
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    async fn call(&self) -> Result<(), Failure> {
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let fault = {
            let faults = self.faults();
            let found = faults.iter().find(|(calls, _)| calls(number));
            found.map(|(_, fault)| fault.clone())
        };
        match fault {
            None => Ok(()),
            Some(Fault::Fail(failure)) => Err(failure),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Some(Fault::Drop) => std::future::pending().await,
        }
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, Vec<(Calls, Fault)>> {
        self.0.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pieces<T, E>(
        &self,
        pieces: BoxStream<'static, Result<T, E>>,
    ) -> BoxStream<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<Failure> + Send + 'static,
    {
        let plan = self.clone();
        let piece = move |piece: Result<T, E>| {
            let plan = plan.clone();
            async move {
                plan.call().await?;
                piece
            }
        };
        pieces.then(piece).boxed()
    }
}

/// A driver that fails as planned.
#[derive(Debug, Clone)]
pub struct Faulty<T: ?Sized> {
    plan: Plan,
    inner: Arc<T>,
}

impl<T: ?Sized> Faulty<T> {
    /// Wraps a driver.
    pub fn new(inner: Arc<T>, plan: Plan) -> Self {
        Self { plan, inner }
    }
}

#[async_trait]
impl<T: kv::Kv + ?Sized> kv::Kv for Faulty<T> {
    async fn check(&self) -> kv::Result<()> {
        self.plan.call().await?;
        self.inner.check().await
    }

    async fn get(&self, key: &str) -> kv::Result<Option<kv::Entry>> {
        self.plan.call().await?;
        self.inner.get(key).await
    }

    async fn set(&self, key: &str, value: Bytes, options: kv::SetOptions) -> kv::Result<bool> {
        self.plan.call().await?;
        self.inner.set(key, value, options).await
    }

    async fn delete(&self, key: &str, when: kv::When) -> kv::Result<bool> {
        self.plan.call().await?;
        self.inner.delete(key, when).await
    }

    async fn list(
        &self,
        prefix: &str,
        from: Option<&kv::Cursor>,
        limit: usize,
    ) -> kv::Result<kv::Page> {
        self.plan.call().await?;
        self.inner.list(prefix, from, limit).await
    }

    async fn increment(&self, key: &str, delta: i64) -> kv::Result<i64> {
        self.plan.call().await?;
        self.inner.increment(key, delta).await
    }

    async fn get_many(&self, keys: &[String]) -> kv::Result<Vec<Option<kv::Entry>>> {
        self.plan.call().await?;
        self.inner.get_many(keys).await
    }

    async fn set_many(&self, entries: Vec<(String, Bytes)>) -> kv::Result<()> {
        self.plan.call().await?;
        self.inner.set_many(entries).await
    }

    async fn delete_many(&self, keys: &[String]) -> kv::Result<()> {
        self.plan.call().await?;
        self.inner.delete_many(keys).await
    }
}

#[async_trait]
impl<T: blob::Blob + ?Sized> blob::Blob for Faulty<T> {
    async fn check(&self) -> blob::Result<()> {
        self.plan.call().await?;
        self.inner.check().await
    }

    async fn create(&self) -> blob::Result<bool> {
        self.plan.call().await?;
        self.inner.create().await
    }

    async fn remove(&self) -> blob::Result<bool> {
        self.plan.call().await?;
        self.inner.remove().await
    }

    async fn created_ms(&self) -> blob::Result<Option<u64>> {
        self.plan.call().await?;
        self.inner.created_ms().await
    }

    async fn put(&self, name: &str, body: blob::Incoming) -> blob::Result<blob::ObjectInfo> {
        self.plan.call().await?;
        let plan = self.plan.clone();
        // A piece on its way in that fails is a writer that gives up.
        let piece = move |piece: Result<Bytes, blob::GaveUp>| {
            let plan = plan.clone();
            async move {
                let called = plan.call().await;
                called.map_err(|failure| blob::GaveUp(failure.to_string()))?;
                piece
            }
        };
        self.inner.put(name, body.then(piece).boxed()).await
    }

    async fn get(&self, name: &str, span: blob::Span) -> blob::Result<blob::Object> {
        self.plan.call().await?;
        let object = self.inner.get(name, span).await?;
        let body = self.plan.pieces(object.body);
        Ok(blob::Object { body, ..object })
    }

    async fn info(&self, name: &str) -> blob::Result<Option<blob::ObjectInfo>> {
        self.plan.call().await?;
        self.inner.info(name).await
    }

    async fn list(&self, from: Option<&blob::Cursor>, limit: usize) -> blob::Result<blob::Page> {
        self.plan.call().await?;
        self.inner.list(from, limit).await
    }

    async fn delete(&self, names: &[String]) -> blob::Result<()> {
        self.plan.call().await?;
        self.inner.delete(names).await
    }

    async fn copy(&self, from: &str, to: &str) -> blob::Result<()> {
        self.plan.call().await?;
        self.inner.copy(from, to).await
    }

    async fn clear(&self) -> blob::Result<()> {
        self.plan.call().await?;
        self.inner.clear().await
    }
}

#[async_trait]
impl<T: sql::Sql + ?Sized> sql::Sql for Faulty<T> {
    async fn check(&self) -> sql::Result<()> {
        self.plan.call().await?;
        self.inner.check().await
    }

    async fn query(&self, statement: sql::Statement) -> sql::Result<sql::Rows> {
        self.plan.call().await?;
        let rows = self.inner.query(statement).await?;
        let pieces = self.plan.pieces(rows.rows);
        Ok(sql::Rows {
            rows: pieces,
            ..rows
        })
    }

    async fn execute(&self, statement: sql::Statement) -> sql::Result<u64> {
        self.plan.call().await?;
        self.inner.execute(statement).await
    }

    async fn begin(&self) -> sql::Result<Box<dyn sql::Transaction>> {
        self.plan.call().await?;
        let inner = self.inner.begin().await?;
        let plan = self.plan.clone();
        Ok(Box::new(FaultyTransaction { plan, inner }))
    }
}

#[derive(Debug)]
struct FaultyTransaction {
    plan: Plan,
    inner: Box<dyn sql::Transaction>,
}

#[async_trait]
impl sql::Transaction for FaultyTransaction {
    async fn query(&mut self, statement: sql::Statement) -> sql::Result<sql::Rows> {
        self.plan.call().await?;
        let rows = self.inner.query(statement).await?;
        let pieces = self.plan.pieces(rows.rows);
        Ok(sql::Rows {
            rows: pieces,
            ..rows
        })
    }

    async fn execute(&mut self, statement: sql::Statement) -> sql::Result<u64> {
        self.plan.call().await?;
        self.inner.execute(statement).await
    }

    async fn commit(self: Box<Self>) -> sql::Result<()> {
        self.plan.call().await?;
        self.inner.commit().await
    }

    async fn rollback(self: Box<Self>) -> sql::Result<()> {
        self.plan.call().await?;
        self.inner.rollback().await
    }
}

#[async_trait]
impl<T: messaging::Messaging + ?Sized> messaging::Messaging for Faulty<T> {
    async fn check(&self) -> messaging::Result<()> {
        self.plan.call().await?;
        self.inner.check().await
    }

    async fn publish(&self, message: messaging::Message) -> messaging::Result<()> {
        self.plan.call().await?;
        self.inner.publish(message).await
    }

    async fn request(
        &self,
        message: messaging::Message,
        replies: usize,
        timeout: Duration,
    ) -> messaging::Result<Vec<messaging::Message>> {
        self.plan.call().await?;
        self.inner.request(message, replies, timeout).await
    }

    async fn reply(&self, to: &str, message: messaging::Message) -> messaging::Result<()> {
        self.plan.call().await?;
        self.inner.reply(to, message).await
    }

    async fn subscribe(
        &self,
        subscription: messaging::Subscription,
    ) -> messaging::Result<BoxStream<'static, messaging::Delivery>> {
        self.plan.call().await?;
        let deliveries = self.inner.subscribe(subscription).await?;
        let plan = self.plan.clone();
        let settled = move |delivery: messaging::Delivery| messaging::Delivery {
            settle: Box::new(FaultySettle {
                plan: plan.clone(),
                inner: delivery.settle,
            }),
            ..delivery
        };
        Ok(deliveries.map(settled).boxed())
    }

    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }
}

#[derive(Debug)]
struct FaultySettle {
    plan: Plan,
    inner: Box<dyn messaging::Settle>,
}

#[async_trait]
impl messaging::Settle for FaultySettle {
    async fn ack(self: Box<Self>) -> messaging::Result<()> {
        self.plan.call().await?;
        self.inner.ack().await
    }

    async fn nack(self: Box<Self>) -> messaging::Result<()> {
        self.plan.call().await?;
        self.inner.nack().await
    }

    async fn reject(self: Box<Self>, tries: u32) -> messaging::Result<()> {
        self.plan.call().await?;
        self.inner.reject(tries).await
    }

    async fn release(self: Box<Self>) -> messaging::Result<()> {
        self.plan.call().await?;
        self.inner.release().await
    }

    async fn extend(&mut self) -> messaging::Result<()> {
        self.plan.call().await?;
        self.inner.extend().await
    }
}
