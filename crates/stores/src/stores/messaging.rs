//! Which messaging driver a place means.

use std::sync::Arc;

use super::Stores;
use crate::Scope;
use crate::messaging::Messaging;
use crate::place::{Backend, Place, PlaceError};

impl Stores {
    pub(super) fn open_messaging(
        &self,
        place: &Place,
        scope: &Scope,
    ) -> Result<Arc<dyn Messaging>, PlaceError> {
        match &place.backend {
            Backend::Memory => Ok(self.0.brokers.memory(self, scope)),
            Backend::Embedded { durable } => Ok(self.0.brokers.embedded(self, scope, *durable)),
            Backend::Server(url) => {
                let (servers, handle) = (&self.0.servers, &self.0.handle);
                let made = servers.messaging(url, place.timeout, handle, scope)?;
                made.ok_or_else(|| self.unknown(place, scope))
            }
        }
    }
}
