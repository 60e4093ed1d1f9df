//! Which key-value driver a place means.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::{Stores, no_data};
use crate::embedded::Durability;
use crate::kv::Kv;
use crate::kv::embedded::Table;
use crate::kv::memory::MemoryKv;
use crate::place::{Backend, Place, PlaceError};
use crate::{Failure, Scope};

/// What handles share.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// By app.
    embedded: HashMap<String, Arc<Table>>,
    memory: HashMap<Scope, MemoryKv>,
}

impl Stores {
    pub(super) fn open_kv(&self, place: &Place, scope: &Scope) -> Result<Arc<dyn Kv>, PlaceError> {
        match &place.backend {
            Backend::Embedded { durable } => {
                let table = self.kv_table(scope.app()).map_err(no_data)?;
                let durability = Durability::of(*durable);
                Ok(Arc::new(table.label(scope.label(), durability)))
            }
            Backend::Memory => Ok(Arc::new(self.kv_memory(scope))),
            Backend::Server(url) => {
                let (servers, handle) = (&self.0.servers, &self.0.handle);
                let made = servers.kv(url, place.timeout, handle, scope)?;
                made.ok_or_else(|| self.unknown(place, scope))
            }
        }
    }

    fn kv_table(&self, app: &str) -> Result<Arc<Table>, Failure> {
        let engine = self.engine(app)?;
        let options = &self.0.options;
        let table = || {
            let (clock, handle) = (options.clock.clone(), self.0.handle.clone());
            Table::new(engine, options.kv, clock, handle)
        };
        let mut opened = self.0.kv.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = opened.embedded.entry(app.to_owned());
        Ok(tables.or_insert_with(|| Arc::new(table())).clone())
    }

    fn kv_memory(&self, scope: &Scope) -> MemoryKv {
        let options = &self.0.options;
        let mut opened = self.0.kv.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = opened.memory.entry(scope.clone());
        let new = || MemoryKv::new(options.kv, options.clock.clone());
        memory.or_insert_with(new).clone()
    }
}
