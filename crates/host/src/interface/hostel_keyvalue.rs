//! `hostel:keyvalue`: time to live, conditions, prefixes and typed errors.

use std::time::Duration;

use hostel_stores::Failure;
use hostel_stores::kv::{Cursor, Entry, SetOptions, When};
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTableError};

use crate::capability::denied::Absent;
use crate::capability::kv::{self, Bucket, owned};
use crate::state::Host;

/// Puts the package's interfaces into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    store::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/hostel-keyvalue",
        world: "hostel:keyvalue/imports",
        imports: { default: async | trappable },
        require_store_data_send: true,
        with: { "hostel:keyvalue/store.bucket": crate::capability::kv::Bucket },
        trappable_error_type: { "hostel:keyvalue/store.error" => crate::interface::hostel_keyvalue::Failed },
    });
}

use bindings::hostel::keyvalue::store;

/// An operation that failed, or a guest that misused a handle.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings export it again")]
pub enum Failed {
    /// For the guest.
    Kv(kv::Error),
    /// A trap.
    Trap(wasmtime::Error),
}

impl From<kv::Error> for Failed {
    fn from(error: kv::Error) -> Self {
        Self::Kv(error)
    }
}

impl From<ResourceTableError> for Failed {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

type Answer<T> = std::result::Result<T, Failed>;

impl From<kv::Error> for store::Error {
    fn from(error: kv::Error) -> Self {
        let text = error.to_string();
        match error {
            kv::Error::Absent(Absent::Denied) => Self::AccessDenied,
            kv::Error::Absent(Absent::Unknown) => Self::NoSuchStore,
            kv::Error::NotANumber => Self::NotANumber,
            kv::Error::BadCursor => Self::BadCursor,
            kv::Error::TooLarge { .. } => Self::TooLarge(text),
            kv::Error::Refused(_) | kv::Error::Crowded => Self::LimitReached(text),
            kv::Error::Failed(
                Failure::Unavailable(_) | Failure::TimedOut(_) | Failure::Resting(_),
            ) => Self::Unavailable(text),
            kv::Error::Failed(Failure::Refused(_) | Failure::Broken(_) | Failure::Full(_)) => {
                Self::Failed(text)
            }
        }
    }
}

impl From<store::Condition> for When {
    fn from(condition: store::Condition) -> Self {
        match condition {
            store::Condition::Always => Self::Always,
            store::Condition::Absent => Self::Absent,
            store::Condition::Unchanged(entry) => Self::Unchanged(Entry {
                value: entry.value.into(),
                version: entry.version,
            }),
        }
    }
}

impl store::Host for Host {
    fn convert_error(&mut self, failed: Failed) -> Result<store::Error> {
        match failed {
            Failed::Trap(error) => Err(error),
            Failed::Kv(error) => Ok(error.into()),
        }
    }
}

impl store::HostBucket for Host {
    async fn open(&mut self, label: String) -> Answer<Resource<Bucket>> {
        Ok(self.open_bucket(&label)?)
    }

    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let found = self.table().get(&bucket)?.get(&key).await?;
        Ok(found.map(|entry| owned(entry.value)))
    }

    async fn read(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> Answer<Option<store::Entry>> {
        let found = self.table().get(&bucket)?.get(&key).await?;
        Ok(found.map(|entry| store::Entry {
            value: owned(entry.value),
            version: entry.version,
        }))
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
        when: store::Condition,
        ttl_ms: Option<u64>,
    ) -> Answer<bool> {
        let options = SetOptions {
            when: when.into(),
            ttl: ttl_ms.map(Duration::from_millis),
        };
        let bucket = self.table().get(&bucket)?;
        Ok(bucket.set(&key, value, options).await?)
    }

    async fn delete(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        when: store::Condition,
    ) -> Answer<bool> {
        let bucket = self.table().get(&bucket)?;
        Ok(bucket.delete(&key, when.into()).await?)
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        Ok(self.table().get(&bucket)?.exists(&key).await?)
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        prefix: String,
        cursor: Option<String>,
        limit: u32,
    ) -> Answer<store::Page> {
        let cursor = cursor.map(Cursor);
        let bucket = self.table().get(&bucket)?;
        let page = bucket
            .list(&prefix, cursor.as_ref(), limit as usize)
            .await?;
        Ok(store::Page {
            keys: page.keys,
            cursor: page.next.map(|next| next.0),
        })
    }

    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> Answer<i64> {
        Ok(self.table().get(&bucket)?.increment(&key, delta).await?)
    }

    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<Vec<u8>>>> {
        let found = self.table().get(&bucket)?.get_many(&keys).await?;
        let values = found
            .into_iter()
            .map(|entry| entry.map(|entry| owned(entry.value)));
        Ok(values.collect())
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Answer<()> {
        Ok(self.table().get(&bucket)?.set_many(entries).await?)
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        Ok(self.table().get(&bucket)?.delete_many(&keys).await?)
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
        self.table().delete(bucket)?;
        Ok(())
    }
}
