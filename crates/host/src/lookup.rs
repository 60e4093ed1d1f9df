//! Name look-ups of guests: WASI's own, counted like everything else that a call starts on the network. Whether a guest
//! may look up names at all is decided in `net`.

use wasmtime::Result;
use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{
    self as p2, Host as P2Host, HostResolveAddressStream, ResolveAddressStream,
};
use wasmtime_wasi::p2::bindings::sockets::network::{self, HostNetwork, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, SocketError};
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup as p3;
use wasmtime_wasi::p3::bindings::sockets::types;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtxView, WasiSocketsView};

use crate::engine::Flavor;
use crate::net::Outgoing;
use crate::state::Host;

/// Puts the counting look-ups in the place of the library's.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>, flavor: Flavor) -> Result<()> {
    linker.allow_shadowing(true);
    p2::add_to_linker::<Host, Counted>(linker, Names::of)?;
    if flavor == Flavor::Async {
        p3::add_to_linker::<Host, Counted>(linker, Names::of)?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// Tells the linker what these functions work on.
struct Counted;

impl HasData for Counted {
    type Data<'a> = Names<'a>;
}

/// The library's view of the sockets, and who counts.
struct Names<'a> {
    outgoing: Outgoing,
    sockets: WasiSocketsCtxView<'a>,
}

impl Names<'_> {
    fn of(host: &mut Host) -> Names<'_> {
        Names {
            outgoing: host.outgoing().clone(),
            sockets: host.sockets(),
        }
    }
}

impl network::Host for Names<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> Result<network::ErrorCode> {
        self.sockets.convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> Result<Option<network::ErrorCode>> {
        self.sockets.network_error_code(error)
    }
}

impl HostNetwork for Names<'_> {
    fn drop(&mut self, network: Resource<Network>) -> Result<()> {
        HostNetwork::drop(&mut self.sockets, network)
    }
}

impl P2Host for Names<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<ResolveAddressStream>, SocketError> {
        if !self.outgoing.start() {
            return Err(network::ErrorCode::AccessDenied.into());
        }
        P2Host::resolve_addresses(&mut self.sockets, network, name)
    }
}

impl HostResolveAddressStream for Names<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        self.sockets.resolve_next_address(stream)
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Resource<DynPollable>> {
        self.sockets.subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> Result<()> {
        HostResolveAddressStream::drop(&mut self.sockets, stream)
    }
}

impl p3::Host for Names<'_> {}

impl p3::HostWithStore<Host> for Counted {
    async fn resolve_addresses(
        store: &Accessor<Host, Self>,
        name: String,
    ) -> Result<Result<Vec<types::IpAddress>, p3::ErrorCode>> {
        if !store.with(|mut store| store.get().outgoing.start()) {
            return Ok(Err(p3::ErrorCode::AccessDenied));
        }
        let store = store.with_getter::<WasiSockets>(Host::sockets);
        <WasiSockets as p3::HostWithStore<Host>>::resolve_addresses(&store, name).await
    }
}
