//! `wasi:blobstore`.

use hostel_stores::blob::ObjectInfo;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use self::bindings::wasi::blobstore::{blobstore, container, types};
use crate::capability::blob::incoming::Incoming;
use crate::capability::blob::outgoing::Outgoing;
use crate::capability::blob::{self, Container, Names};
use crate::state::Host;

/// What the host keeps for a value while its bytes pass.
const VALUE_BYTES: usize = 64 << 10;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/blobstore",
        world: "wasi:blobstore/imports",
        imports: { default: async | trappable },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:blobstore/types.outgoing-value": crate::capability::blob::outgoing::Outgoing,
            "wasi:blobstore/types.incoming-value": crate::capability::blob::incoming::Incoming,
            "wasi:blobstore/container.container": crate::capability::blob::Container,
            "wasi:blobstore/container.stream-object-names": crate::capability::blob::Names,
        },
    });
}

/// What a function returns: the outer error ends the guest, the inner one is the guest's.
type Answer<T> = Result<std::result::Result<T, String>>;

/// Puts the package's interfaces into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    types::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    container::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    blobstore::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)
}

/// Returns an error of the guest's to it.
macro_rules! or_tell {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(text) => return Ok(Err(text)),
        }
    };
}

impl Host {
    /// The container of this name, if it was granted.
    fn granted_container(&self, name: &str) -> blob::Result<Container> {
        blob::granted(self.template(), self.charge(), name)
    }

    fn container(&mut self, this: &Resource<Container>) -> Result<Container> {
        Ok(self.table().get(this)?.clone())
    }

    fn give(&mut self, opened: blob::Result<Container>) -> Answer<Resource<Container>> {
        let opened = or_tell!(opened);
        Ok(Ok(self.table().push(opened)?))
    }
}

impl blobstore::Host for Host {
    async fn create_container(&mut self, name: String) -> Answer<Resource<Container>> {
        let granted = or_tell!(self.granted_container(&name));
        let provided = granted.provided().await;
        self.give(provided)
    }

    async fn get_container(&mut self, name: String) -> Answer<Resource<Container>> {
        let granted = or_tell!(self.granted_container(&name));
        let provided = granted.provided().await;
        self.give(provided)
    }

    async fn delete_container(&mut self, name: String) -> Answer<()> {
        let granted = or_tell!(self.granted_container(&name));
        Ok(granted.remove().await)
    }

    async fn container_exists(&mut self, name: String) -> Answer<bool> {
        let granted = or_tell!(self.granted_container(&name));
        Ok(granted.created().await.map(|created| created.is_some()))
    }

    async fn copy_object(&mut self, src: types::ObjectId, dest: types::ObjectId) -> Answer<()> {
        let from = or_tell!(self.granted_container(&src.container));
        let to = or_tell!(self.granted_container(&dest.container));
        Ok(from.copy(&src.object, &to, &dest.object).await)
    }

    async fn move_object(&mut self, src: types::ObjectId, dest: types::ObjectId) -> Answer<()> {
        let from = or_tell!(self.granted_container(&src.container));
        let to = or_tell!(self.granted_container(&dest.container));
        Ok(from.move_to(&src.object, &to, &dest.object).await)
    }
}

impl container::Host for Host {}

impl container::HostContainer for Host {
    async fn name(&mut self, this: Resource<Container>) -> Answer<String> {
        Ok(Ok(self.container(&this)?.name().to_owned()))
    }

    async fn info(&mut self, this: Resource<Container>) -> Answer<types::ContainerMetadata> {
        let container = self.container(&this)?;
        let created_at = or_tell!(container.info().await);
        let name = container.name().to_owned();
        Ok(Ok(types::ContainerMetadata { name, created_at }))
    }

    async fn get_data(
        &mut self,
        this: Resource<Container>,
        name: String,
        start: u64,
        end: u64,
    ) -> Answer<Resource<Incoming>> {
        self.meter.keep(VALUE_BYTES)?;
        let (container, held) = (self.container(&this)?, self.blobs_held().clone());
        let value = or_tell!(container.read(&name, start, end, &held).await);
        Ok(Ok(self.table().push(value)?))
    }

    async fn write_data(
        &mut self,
        this: Resource<Container>,
        name: String,
        data: Resource<Outgoing>,
    ) -> Answer<()> {
        let container = self.container(&this)?;
        Ok(self.table().get_mut(&data)?.write_to(&container, name))
    }

    async fn list_objects(&mut self, this: Resource<Container>) -> Answer<Resource<Names>> {
        let names = or_tell!(self.container(&this)?.names().await);
        Ok(Ok(self.table().push(names)?))
    }

    async fn delete_object(&mut self, this: Resource<Container>, name: String) -> Answer<()> {
        Ok(self.container(&this)?.delete(&[name]).await)
    }

    async fn delete_objects(
        &mut self,
        this: Resource<Container>,
        names: Vec<String>,
    ) -> Answer<()> {
        Ok(self.container(&this)?.delete(&names).await)
    }

    async fn has_object(&mut self, this: Resource<Container>, name: String) -> Answer<bool> {
        let found = self.container(&this)?.find(&name).await;
        Ok(found.map(|found| found.is_some()))
    }

    async fn object_info(
        &mut self,
        this: Resource<Container>,
        name: String,
    ) -> Answer<types::ObjectMetadata> {
        let container = self.container(&this)?;
        let ObjectInfo { size, written_ms } = or_tell!(container.object(&name).await);
        Ok(Ok(types::ObjectMetadata {
            name,
            container: container.name().to_owned(),
            created_at: written_ms / 1000,
            size,
        }))
    }

    async fn clear(&mut self, this: Resource<Container>) -> Answer<()> {
        Ok(self.container(&this)?.clear().await)
    }

    async fn drop(&mut self, this: Resource<Container>) -> Result<()> {
        self.table().delete(this)?;
        Ok(())
    }
}

impl container::HostStreamObjectNames for Host {
    async fn read_stream_object_names(
        &mut self,
        this: Resource<Names>,
        len: u64,
    ) -> Answer<(Vec<String>, bool)> {
        Ok(self.table().get_mut(&this)?.read(len).await)
    }

    async fn skip_stream_object_names(
        &mut self,
        this: Resource<Names>,
        num: u64,
    ) -> Answer<(u64, bool)> {
        Ok(self.table().get_mut(&this)?.skip(num).await)
    }

    async fn drop(&mut self, this: Resource<Names>) -> Result<()> {
        self.table().delete(this)?;
        Ok(())
    }
}

impl types::Host for Host {}

impl types::HostOutgoingValue for Host {
    async fn new_outgoing_value(&mut self) -> Result<Resource<Outgoing>> {
        self.meter.keep(VALUE_BYTES)?;
        let value = Outgoing::new(self.blobs_held(), self.charge());
        Ok(self.table().push(value)?)
    }

    async fn outgoing_value_write_body(
        &mut self,
        this: Resource<Outgoing>,
    ) -> Result<std::result::Result<Resource<DynOutputStream>, ()>> {
        let Some(stream) = self.table().get_mut(&this)?.stream() else {
            return Ok(Err(()));
        };
        let stream: DynOutputStream = Box::new(stream);
        Ok(Ok(self.table().push(stream)?))
    }

    async fn finish(&mut self, this: Resource<Outgoing>) -> Answer<()> {
        Ok(self.table().delete(this)?.finish().await)
    }

    async fn drop(&mut self, this: Resource<Outgoing>) -> Result<()> {
        self.table().delete(this)?;
        Ok(())
    }
}

impl types::HostIncomingValue for Host {
    async fn incoming_value_consume_sync(&mut self, this: Resource<Incoming>) -> Answer<Vec<u8>> {
        Ok(self.table().delete(this)?.all().await)
    }

    async fn incoming_value_consume_async(
        &mut self,
        this: Resource<Incoming>,
    ) -> Answer<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(self.table().delete(this)?.stream());
        Ok(Ok(self.table().push(stream)?))
    }

    async fn size(&mut self, this: Resource<Incoming>) -> Result<u64> {
        Ok(self.table().get(&this)?.size())
    }

    async fn drop(&mut self, this: Resource<Incoming>) -> Result<()> {
        self.table().delete(this)?;
        Ok(())
    }
}
