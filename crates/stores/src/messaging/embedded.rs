//! The embedded driver: a broker whose journal is in the app's durable file.
//!
//! `embedded:` has a message on disk before `publish` returns and before anybody sees it. `embedded:?durable=false` hands
//! it over at once and writes it a moment later.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::OnceCell;

use super::broker::Broker;
use super::{Bounds, Delivery, Message, Messaging, Result, Subscription, journal};
use crate::{Failure, Scope, Stores};

/// The broker of a scope, once it was opened. All handles of the scope share it.
pub(crate) type Opened = Arc<OnceCell<Arc<Broker>>>;

/// One scope in the app's durable file.
#[derive(Debug)]
pub(crate) struct EmbeddedMessaging {
    pub(crate) stores: Stores,
    pub(crate) scope: Scope,
    pub(crate) durable: bool,
    pub(crate) bounds: Bounds,
    pub(crate) opened: Opened,
}

impl EmbeddedMessaging {
    async fn broker(&self) -> Result<&Arc<Broker>> {
        self.opened.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<Arc<Broker>> {
        let (stores, app) = (self.stores.clone(), self.scope.app().to_owned());
        let handle = self.stores.handle();
        // Opening a file takes the time that the disk takes.
        let engine = handle
            .spawn_blocking(move || stores.engine(&app))
            .await
            .map_err(|_| Failure::Unavailable("the stores of this process ended".to_owned()))??;
        journal::open(
            engine,
            self.scope.label(),
            self.durable,
            self.bounds,
            handle,
        )
        .await
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
        self.durable
    }
}
