//! Which key-value driver a place means.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::{Stores, no_data};
use crate::embedded::Durability;
use crate::kv::Kv;
use crate::kv::embedded::Table;
use crate::kv::memory::MemoryKv;
use crate::kv::nats::NatsKv;
use crate::kv::redis::RedisKv;
use crate::place::{Backend, Place, PlaceError};
use crate::server::nats::Settings;
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
        let (servers, handle) = (&self.0.servers, &self.0.handle);
        match &place.backend {
            Backend::Embedded { durable } => {
                let table = self.kv_table(scope.app()).map_err(no_data)?;
                let durability = Durability::of(*durable);
                Ok(Arc::new(table.label(scope.label(), durability)))
            }
            Backend::Memory => Ok(Arc::new(self.kv_memory(scope))),
            Backend::Server(url) if url.scheme() == "nats" => {
                let settings = Settings::of(url)?;
                let nats = servers.nats(url, place.timeout, handle)?;
                let kv = NatsKv::new(nats, settings, scope);
                Ok(Arc::new(kv.ok_or_else(|| bad_bucket(place))?))
            }
            Backend::Server(url) if matches!(url.scheme(), "redis" | "rediss") => {
                let redis = servers.redis(url, place.timeout, handle)?;
                Ok(Arc::new(RedisKv::new(redis, scope)))
            }
            Backend::Server(_) => Err(self.unknown(place, scope)),
        }
    }

    fn kv_table(&self, app: &str) -> Result<Arc<Table>, Failure> {
        let engine = self.engine(app)?;
        let options = &self.0.options;
        let table = || {
            let (clock, handle) = (options.clock.clone(), self.0.handle.clone());
            Table::new(engine, options.kv_cache_bytes, clock, handle)
        };
        let mut opened = self.0.kv.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = opened.embedded.entry(app.to_owned());
        Ok(tables.or_insert_with(|| Arc::new(table())).clone())
    }

    fn kv_memory(&self, scope: &Scope) -> MemoryKv {
        let options = &self.0.options;
        let mut opened = self.0.kv.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = opened.memory.entry(scope.clone());
        let new = || MemoryKv::new(options.kv_memory_bytes, options.clock.clone());
        memory.or_insert_with(new).clone()
    }
}

fn bad_bucket(place: &Place) -> PlaceError {
    PlaceError {
        what: format!("the path of `{place}` is no name of a bucket"),
        help: "write nats://HOST:4222/BUCKET, with letters, digits, `-` and `_` only".to_owned(),
    }
}
