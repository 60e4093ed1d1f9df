//! Name look-ups of guests, counted like everything else that a call starts on the network.
//!
//! They stand in the place of the library's, which would answer with every address. Who resolves, and which addresses a
//! guest is told, is decided in `net`: what its sockets could not reach anyway it does not learn, so that no guest maps a
//! private network by its names.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::vec;

use url::Host as UrlHost;
use wasmtime::component::{Accessor, HasData, Linker, LinkerInstance, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup as p3;
use wasmtime_wasi::p3::bindings::sockets::types;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

use crate::engine::Flavor;
use crate::imports::WASI_0_2;
use crate::net::Outgoing;
use crate::state::Host;

/// Puts these look-ups in the place of the library's.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>, flavor: Flavor) -> Result<()> {
    linker.allow_shadowing(true);
    let interface = format!("wasi:sockets/ip-name-lookup@{}", WASI_0_2.version);
    p2(&mut linker.instance(&interface)?)?;
    if flavor == Flavor::Async {
        p3::add_to_linker::<Host, Asked>(linker, |host| Names(host.outgoing().clone()))?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// No socket is granted that could use one.
    NotGranted,
    /// The call has started as much as it may.
    Refused,
    /// That is no name.
    NoName,
    /// It has no address that a guest may know.
    Unresolvable,
    /// The resolver did not answer in time.
    TooSlow,
}

/// The addresses of a name, or of an address that is written as one.
async fn addresses(outgoing: Outgoing, name: String) -> std::result::Result<Vec<IpAddr>, Failure> {
    if !outgoing.may_look_up() {
        return Err(Failure::NotGranted);
    }
    if !outgoing.start() {
        return Err(Failure::Refused);
    }
    let found = match UrlHost::parse(&name) {
        Ok(UrlHost::Domain(domain)) => match outgoing.look_up(&domain).await {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                return Err(Failure::TooSlow);
            }
            Err(_) => return Err(Failure::Unresolvable),
        },
        Ok(UrlHost::Ipv4(address)) => outgoing.known(address.into()),
        Ok(UrlHost::Ipv6(address)) => outgoing.known(address.into()),
        // A URL has brackets around it.
        Err(_) => match name.parse::<Ipv6Addr>() {
            Ok(address) => outgoing.known(address.into()),
            Err(_) => return Err(Failure::NoName),
        },
    };
    match found.is_empty() {
        true => Err(Failure::Unresolvable),
        false => Ok(found),
    }
}

/// The answers of one look-up of WASI 0.2, which a guest takes one by one.
struct Answers {
    task: Option<AbortOnDropJoinHandle<Found>>,
    found: std::result::Result<vec::IntoIter<IpAddr>, Failure>,
}

type Found = std::result::Result<Vec<IpAddr>, Failure>;

impl Answers {
    fn of(found: Found) -> Self {
        Self {
            task: None,
            found: found.map(Vec::into_iter),
        }
    }

    /// What is known at once is there at once; the rest is found by a task.
    fn begin(look_up: impl Future<Output = Found> + Send + 'static) -> Self {
        let mut look_up = Box::pin(look_up);
        let noop = &mut Context::from_waker(Waker::noop());
        match look_up.as_mut().poll(noop) {
            Poll::Ready(found) => Self::of(found),
            Poll::Pending => Self {
                task: Some(spawn(look_up)),
                ..Self::of(Ok(Vec::new()))
            },
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(task) = &mut self.task else {
            return Poll::Ready(());
        };
        match Pin::new(task).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(found) => {
                *self = Self::of(found);
                Poll::Ready(())
            }
        }
    }

    fn next(&mut self) -> std::result::Result<Option<IpAddress>, ErrorCode> {
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Err(ErrorCode::WouldBlock),
            Poll::Ready(()) => match &mut self.found {
                Ok(found) => Ok(found.next().map(IpAddress::from)),
                Err(failure) => Err(code(*failure)),
            },
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Answers {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

fn code(failure: Failure) -> ErrorCode {
    match failure {
        Failure::NotGranted => ErrorCode::PermanentResolverFailure,
        Failure::Refused => ErrorCode::AccessDenied,
        Failure::NoName => ErrorCode::InvalidArgument,
        Failure::Unresolvable => ErrorCode::NameUnresolvable,
        Failure::TooSlow => ErrorCode::TemporaryResolverFailure,
    }
}

type Store<'a> = StoreContextMut<'a, Host>;
type Stream = Resource<Answers>;

fn p2(lookup: &mut LinkerInstance<'_, Host>) -> Result<()> {
    lookup.resource(
        "resolve-address-stream",
        ResourceType::host::<Answers>(),
        |mut store, rep| {
            let table = store.data_mut().table();
            table.delete(Stream::new_own(rep))?;
            Ok(())
        },
    )?;
    lookup.func_wrap(
        "resolve-addresses",
        |mut store: Store<'_>, (network, name): (Resource<Network>, String)| {
            let host = store.data_mut();
            // Whoever has one may ask.
            host.table().get(&network)?;
            let answers = Answers::begin(addresses(host.outgoing().clone(), name));
            Ok((match &answers.found {
                Err(failure) => Err(code(*failure)),
                Ok(_) => Ok(host.table().push(answers)?),
            },))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: Store<'_>, (stream,): (Stream,)| {
            let answers = store.data_mut().table().get_mut(&stream)?;
            Ok((answers.next(),))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: Store<'_>, (stream,): (Stream,)| {
            let pollable: Resource<DynPollable> = subscribe(store.data_mut().table(), stream)?;
            Ok((pollable,))
        },
    )
}

/// Tells the linker what the functions of WASI 0.3 work on.
struct Asked;

impl HasData for Asked {
    type Data<'a> = Names;
}

struct Names(Outgoing);

impl p3::Host for Names {}

impl p3::HostWithStore<Host> for Asked {
    async fn resolve_addresses(
        store: &Accessor<Host, Self>,
        name: String,
    ) -> Result<std::result::Result<Vec<types::IpAddress>, p3::ErrorCode>> {
        let outgoing = store.with(|mut store| store.get().0);
        let found = addresses(outgoing, name).await;
        Ok(match found {
            Ok(found) => Ok(found.into_iter().map(types::IpAddress::from).collect()),
            Err(failure) => Err(match failure {
                Failure::NotGranted => p3::ErrorCode::PermanentResolverFailure,
                Failure::Refused => p3::ErrorCode::AccessDenied,
                Failure::NoName => p3::ErrorCode::InvalidArgument,
                Failure::Unresolvable => p3::ErrorCode::NameUnresolvable,
                Failure::TooSlow => p3::ErrorCode::TemporaryResolverFailure,
            }),
        })
    }
}
