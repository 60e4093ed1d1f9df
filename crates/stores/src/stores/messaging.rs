//! Which messaging driver a place means.

use std::sync::Arc;

use super::Stores;
use crate::Scope;
use crate::messaging::Messaging;
use crate::messaging::nats::NatsMessaging;
use crate::place::{Backend, Place, PlaceError};
use crate::server::nats::Settings;

impl Stores {
    pub(super) fn open_messaging(
        &self,
        place: &Place,
        scope: &Scope,
    ) -> Result<Arc<dyn Messaging>, PlaceError> {
        let (servers, handle) = (&self.0.servers, &self.0.handle);
        match &place.backend {
            Backend::Memory => Ok(self.0.brokers.memory(self, scope)),
            Backend::Embedded { durable } => Ok(self.0.brokers.embedded(self, scope, *durable)),
            Backend::Server(url) if matches!(url.scheme(), "nats" | "nats+core") => {
                let settings = Settings::of(url)?;
                let nats = servers.nats(url, place.timeout, handle)?;
                let durable = url.scheme() == "nats";
                Ok(Arc::new(NatsMessaging::new(
                    nats, durable, &settings, scope,
                )))
            }
            Backend::Server(_) => Err(self.unknown(place, scope)),
        }
    }
}
