//! `wasi:keyvalue`, both drafts: one resource and one capability behind two packages that differ in a few types.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTableError};

use hostel_stores::kv::{Cursor, Entry, SetOptions, When};

use crate::capability::denied::Absent;
use crate::capability::kv::{self, Bucket, Swap, owned};
use crate::state::Host;

/// Puts the packages' interfaces into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    let host: fn(&mut Host) -> &mut Host = |host| host;
    draft::store::add_to_linker::<Host, HasSelf<Host>>(linker, host)?;
    draft::atomics::add_to_linker::<Host, HasSelf<Host>>(linker, host)?;
    draft::batch::add_to_linker::<Host, HasSelf<Host>>(linker, host)?;
    draft2::store::add_to_linker::<Host, HasSelf<Host>>(linker, host)?;
    draft2::atomics::add_to_linker::<Host, HasSelf<Host>>(linker, host)?;
    draft2::batch::add_to_linker::<Host, HasSelf<Host>>(linker, host)
}

mod bindings {
    pub(super) mod draft {
        wasmtime::component::bindgen!({
            path: "../../wit/keyvalue",
            world: "wasi:keyvalue/imports",
            imports: { default: async | trappable },
            require_store_data_send: true,
            with: { "wasi:keyvalue/store.bucket": crate::capability::kv::Bucket },
            trappable_error_type: { "wasi:keyvalue/store.error" => crate::interface::wasi_keyvalue::Failed },
        });
    }
    pub(super) mod draft2 {
        wasmtime::component::bindgen!({
            path: "../../wit/keyvalue-draft2",
            world: "wasi:keyvalue/imports",
            imports: { default: async | trappable },
            require_store_data_send: true,
            with: {
                "wasi:keyvalue/store.bucket": crate::capability::kv::Bucket,
                "wasi:keyvalue/atomics.cas": crate::capability::kv::Swap,
            },
            trappable_error_type: { "wasi:keyvalue/store.error" => crate::interface::wasi_keyvalue::Failed },
        });
    }
}

use bindings::draft::wasi::keyvalue as draft;
use bindings::draft2::wasi::keyvalue as draft2;

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

/// What both drafts have in common: the error's cases and the operations on one key.
macro_rules! common {
    ($draft:ident, $cursor:ty, $list:ident) => {
        impl From<kv::Error> for $draft::store::Error {
            fn from(error: kv::Error) -> Self {
                match error {
                    kv::Error::Absent(Absent::Denied) => Self::AccessDenied,
                    kv::Error::Absent(Absent::Unknown) => Self::NoSuchStore,
                    error => Self::Other(error.to_string()),
                }
            }
        }

        impl $draft::store::Host for Host {
            async fn open(&mut self, label: String) -> Answer<Resource<Bucket>> {
                Ok(self.open_bucket(&label)?)
            }

            fn convert_error(&mut self, failed: Failed) -> Result<$draft::store::Error> {
                match failed {
                    Failed::Trap(error) => Err(error),
                    Failed::Kv(error) => Ok(error.into()),
                }
            }
        }

        impl $draft::store::HostBucket for Host {
            async fn get(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> Answer<Option<Vec<u8>>> {
                let found = self.table().get(&bucket)?.get(&key).await?;
                Ok(found.map(|entry| owned(entry.value)))
            }

            async fn set(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
                value: Vec<u8>,
            ) -> Answer<()> {
                let bucket = self.table().get(&bucket)?;
                let _always = bucket.set(&key, value, SetOptions::default()).await?;
                Ok(())
            }

            async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
                let bucket = self.table().get(&bucket)?;
                let _was_there = bucket.delete(&key, When::Always).await?;
                Ok(())
            }

            async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
                Ok(self.table().get(&bucket)?.exists(&key).await?)
            }

            async fn list_keys(
                &mut self,
                bucket: Resource<Bucket>,
                cursor: Option<$cursor>,
            ) -> Answer<$draft::store::KeyResponse> {
                let bucket = self.table().get_mut(&bucket)?;
                let (keys, cursor) = $list(bucket, cursor).await?;
                Ok($draft::store::KeyResponse { keys, cursor })
            }

            async fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
                self.table().delete(bucket)?;
                Ok(())
            }
        }
    };
}

common!(draft, u64, by_number);
common!(draft2, String, by_text);

async fn by_number(
    bucket: &mut Bucket,
    from: Option<u64>,
) -> kv::Result<(Vec<String>, Option<u64>)> {
    bucket.list_numbered(from).await
}

async fn by_text(
    bucket: &mut Bucket,
    from: Option<String>,
) -> kv::Result<(Vec<String>, Option<String>)> {
    let page = bucket
        .list("", from.map(Cursor).as_ref(), usize::MAX)
        .await?;
    Ok((page.keys, page.next.map(|next| next.0)))
}

impl draft::atomics::Host for Host {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> Answer<u64> {
        // Numbers have a sign behind this draft's back: what it cannot say is an error.
        let delta = i64::try_from(delta).map_err(|_| kv::Error::NotANumber)?;
        let sum = self.table().get(&bucket)?.increment(&key, delta).await?;
        Ok(u64::try_from(sum).map_err(|_| kv::Error::NotANumber)?)
    }
}

impl draft2::atomics::Host for Host {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> Answer<i64> {
        Ok(self.table().get(&bucket)?.increment(&key, delta).await?)
    }

    async fn swap(
        &mut self,
        cas: Resource<Swap>,
        value: Vec<u8>,
    ) -> Result<std::result::Result<(), draft2::atomics::CasError>> {
        use draft2::atomics::CasError;
        let swap = self.table().delete(cas)?;
        Ok(match swap.write(value).await {
            Ok(Ok(())) => Ok(()),
            // There is room: the handle that was used up has just left it.
            Ok(Err(fresh)) => Err(CasError::CasFailed(self.table().push(fresh)?)),
            Err(error) => Err(CasError::StoreError(error.into())),
        })
    }
}

impl draft2::atomics::HostCas for Host {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Resource<Swap>> {
        let swap = self.table().get(&bucket)?.swap(key).await?;
        Ok(self.table().push(swap).map_err(|_| kv::Error::Crowded)?)
    }

    async fn current(&mut self, cas: Resource<Swap>) -> Answer<Option<Vec<u8>>> {
        let seen = self.table().get(&cas)?.current()?;
        Ok(seen.map(owned))
    }

    async fn drop(&mut self, cas: Resource<Swap>) -> Result<()> {
        self.table().delete(cas)?;
        Ok(())
    }
}

impl draft::batch::Host for Host {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let found = self.table().get(&bucket)?.get_many(&keys).await?;
        let pair = |(key, entry): (String, Option<Entry>)| Some((key, owned(entry?.value)));
        Ok(keys.into_iter().zip(found).map(pair).collect())
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
}

impl draft2::batch::Host for Host {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<(String, Option<Vec<u8>>)>> {
        let found = self.table().get(&bucket)?.get_many(&keys).await?;
        let pair =
            |(key, entry): (String, Option<Entry>)| (key, entry.map(|entry| owned(entry.value)));
        Ok(keys.into_iter().zip(found).map(pair).collect())
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
}
