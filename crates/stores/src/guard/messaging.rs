//! Messaging behind the guard: each operation has the place's time, a request that and its own. A subscription waits for
//! messages as long as it takes.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{Guard, Guarded};
use crate::messaging::{Delivery, Message, Messaging, Result, Settle, Subscription};

#[async_trait]
impl<T: Messaging + ?Sized> Messaging for Guarded<T> {
    async fn check(&self) -> Result<()> {
        self.once(self.inner.check()).await
    }

    async fn publish(&self, message: Message) -> Result<()> {
        self.once(self.inner.publish(message)).await
    }

    async fn request(
        &self,
        message: Message,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Message>> {
        let limit = timeout.saturating_add(self.guard.timeout);
        let request = self.inner.request(message, replies, timeout);
        self.guard.call(limit, request).await
    }

    async fn reply(&self, to: &str, message: Message) -> Result<()> {
        self.once(self.inner.reply(to, message)).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<BoxStream<'static, Delivery>> {
        let deliveries = self.once(self.inner.subscribe(subscription)).await?;
        let guard = self.guard.clone();
        let guarded = move |delivery: Delivery| Delivery {
            settle: Box::new(GuardedSettle {
                inner: delivery.settle,
                guard: guard.clone(),
            }),
            ..delivery
        };
        Ok(deliveries.map(guarded).boxed())
    }

    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }
}

#[derive(Debug)]
struct GuardedSettle {
    inner: Box<dyn Settle>,
    guard: Guard,
}

#[async_trait]
impl Settle for GuardedSettle {
    async fn ack(self: Box<Self>) -> Result<()> {
        self.guard.step(self.guard.timeout, self.inner.ack()).await
    }

    async fn nack(self: Box<Self>) -> Result<()> {
        self.guard.step(self.guard.timeout, self.inner.nack()).await
    }

    async fn reject(self: Box<Self>, tries: u32) -> Result<()> {
        let rejected = self.inner.reject(tries);
        self.guard.step(self.guard.timeout, rejected).await
    }

    async fn release(self: Box<Self>) -> Result<()> {
        let released = self.inner.release();
        self.guard.step(self.guard.timeout, released).await
    }

    async fn extend(&mut self) -> Result<()> {
        let extended = self.inner.extend();
        self.guard.step(self.guard.timeout, extended).await
    }
}
