//! The memory driver: everything is gone with the process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::broker::Broker;
use super::{Bounds, Delivery, Message, Messaging, Result, Subscription};

/// One scope of this process's memory.
#[derive(Debug)]
pub(crate) struct MemoryMessaging(Arc<Broker>);

impl MemoryMessaging {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Broker::new(bounds, None)))
    }
}

#[async_trait]
impl Messaging for MemoryMessaging {
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn publish(&self, message: Message) -> Result<()> {
        self.0.publish(message).await
    }

    async fn request(
        &self,
        message: Message,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Message>> {
        self.0.request(message, replies, timeout).await
    }

    async fn reply(&self, to: &str, message: Message) -> Result<()> {
        self.0.reply(to, message)
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<BoxStream<'static, Delivery>> {
        self.0.subscribe(subscription).await
    }

    fn is_durable(&self) -> bool {
        false
    }
}
