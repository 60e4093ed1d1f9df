//! Which messaging driver a place means.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::Stores;
use crate::Scope;
use crate::messaging::Messaging;
use crate::messaging::embedded::{self, EmbeddedMessaging};
use crate::messaging::memory::MemoryMessaging;
use crate::messaging::nats::NatsMessaging;
use crate::place::{Backend, Place, PlaceError};
use crate::server::nats::Settings;

/// What handles share.
#[derive(Debug, Default)]
pub(super) struct Opened {
    embedded: HashMap<Scope, embedded::Opened>,
    memory: HashMap<Scope, Arc<MemoryMessaging>>,
}

impl Stores {
    pub(super) fn open_messaging(
        &self,
        place: &Place,
        scope: &Scope,
    ) -> Result<Arc<dyn Messaging>, PlaceError> {
        let bounds = self.0.options.messaging;
        let (servers, handle) = (&self.0.servers, &self.0.handle);
        match &place.backend {
            Backend::Memory => {
                let opened = self.0.messaging.lock();
                let mut opened = opened.unwrap_or_else(PoisonError::into_inner);
                let broker = opened.memory.entry(scope.clone());
                let broker = broker.or_insert_with(|| Arc::new(MemoryMessaging::new(bounds)));
                Ok(broker.clone())
            }
            Backend::Embedded { durable } => {
                let opened = self.0.messaging.lock();
                let mut opened = opened.unwrap_or_else(PoisonError::into_inner);
                let opened = opened.embedded.entry(scope.clone()).or_default().clone();
                Ok(Arc::new(EmbeddedMessaging {
                    stores: self.clone(),
                    scope: scope.clone(),
                    durable: *durable,
                    bounds,
                    opened,
                }))
            }
            Backend::Server(url) if matches!(url.scheme(), "nats" | "nats+core") => {
                let settings = Settings::of(url)?;
                let nats = servers.nats(url, place.timeout, handle)?;
                let durable = url.scheme() == "nats";
                Ok(Arc::new(NatsMessaging::new(nats, durable, &settings, scope)))
            }
            Backend::Server(_) => Err(self.unknown(place, scope)),
        }
    }
}
