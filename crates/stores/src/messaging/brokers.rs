//! [`Brokers`]: the brokers of this process that need no server. All handles of a scope share one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Messaging;
use super::embedded::{EmbeddedMessaging, Opened};
use super::memory::MemoryMessaging;
use crate::embedded::Durability;
use crate::{Scope, Stores};

/// The brokers of this process that need no server.
#[derive(Debug, Default)]
pub(crate) struct Brokers {
    memory: Mutex<HashMap<Scope, Arc<MemoryMessaging>>>,
    embedded: Mutex<HashMap<Scope, Opened>>,
}

impl Brokers {
    /// The broker of a scope in memory.
    pub(crate) fn memory(&self, stores: &Stores, scope: &Scope) -> Arc<dyn Messaging> {
        let mut brokers = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let broker = brokers.entry(scope.clone());
        let bounds = stores.options().messaging;
        let broker = broker.or_insert_with(|| Arc::new(MemoryMessaging::new(bounds)));
        broker.clone()
    }

    /// The broker of a scope in its app's durable file.
    pub(crate) fn embedded(
        &self,
        stores: &Stores,
        scope: &Scope,
        durable: bool,
    ) -> Arc<dyn Messaging> {
        let mut brokers = self.embedded.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(EmbeddedMessaging {
            stores: stores.clone(),
            scope: scope.clone(),
            durability: Durability::of(durable),
            opened: brokers.entry(scope.clone()).or_default().clone(),
        })
    }
}
