//! The embedded driver: a broker whose journal is in the app's durable file.
//!
//! `embedded:` has a message on disk before anybody sees it. `embedded:?durable=false` hands it over at once, while
//! `publish` waits until it is in the file: it survives the end of the process, but a power failure may take the last second.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::OnceCell;

use super::broker::Broker;
use super::{Delivery, Message, Messaging, Result, Subscription, journal};
use crate::embedded::Durability;
use crate::{Scope, Stores};

/// The broker of a scope, once it was opened. All handles of the scope share it.
pub(super) type Opened = Arc<OnceCell<Arc<Broker>>>;

/// One scope in the app's durable file.
#[derive(Debug)]
pub(crate) struct EmbeddedMessaging {
    pub(super) stores: Stores,
    pub(super) scope: Scope,
    pub(super) durability: Durability,
    pub(super) opened: Opened,
}

impl EmbeddedMessaging {
    async fn broker(&self) -> Result<&Arc<Broker>> {
        self.opened.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<Arc<Broker>> {
        let engine = self.stores.engine(self.scope.app())?;
        let terms = journal::Terms {
            label: self.scope.label().into(),
            durability: self.durability,
            bounds: self.stores.options().messaging,
        };
        journal::open(engine, terms, self.stores.handle()).await
    }
}

#[async_trait]
impl Messaging for EmbeddedMessaging {
    async fn check(&self) -> Result<()> {
        self.broker().await?;
        Ok(())
    }

    async fn publish(&self, message: Message) -> Result<()> {
        self.broker().await?.publish(message).await
    }

    async fn request(
        &self,
        message: Message,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Message>> {
        let broker = self.broker().await?;
        broker.request(message, replies, timeout).await
    }

    async fn reply(&self, to: &str, message: Message) -> Result<()> {
        self.broker().await?.reply(to, message)
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<BoxStream<'static, Delivery>> {
        self.broker().await?.subscribe(subscription).await
    }

    fn is_durable(&self) -> bool {
        self.durability == Durability::Synced
    }
}
