//! Services on pre-opened sockets: real sockets, real guests, and calls that make no sense.

mod calls;
pub(crate) mod guests;
mod random;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hostel_app::Component;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::testing;
use crate::{Fault, Guest, RequestId, Role, Runtime, ServiceStart};

/// A client.
#[expect(clippy::disallowed_methods, reason = "it is no guest that dials")]
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address)
}

/// The same for a client that waits without a thread.
pub(crate) fn connect_async(address: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    let client = connect(address)?;
    client.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(client)
}

/// Waits a little, on a thread of the test's own.
#[expect(clippy::disallowed_methods, reason = "nobody else is on this thread")]
pub(crate) fn rest() {
    std::thread::sleep(Duration::from_millis(10));
}

/// A service at work.
pub(crate) struct Service {
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) ready: Arc<AtomicUsize>,
    pub(crate) end: JoinHandle<Result<u8, Fault>>,
}

/// Binds a port that is free.
pub(crate) fn listener() -> (Arc<TcpListener>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (Arc::new(listener), address)
}

pub(crate) fn start(guest: &Guest, listeners: Vec<Arc<TcpListener>>) -> Service {
    start_at(guest, listeners, None)
}

/// The same with an export.
pub(crate) fn start_at(
    guest: &Guest,
    listeners: Vec<Arc<TcpListener>>,
    export: Option<&str>,
) -> Service {
    let (stop, stopped) = watch::channel(false);
    let ready = Arc::new(AtomicUsize::new(0));
    let (count, guest) = (ready.clone(), guest.clone());
    let start = ServiceStart {
        listeners,
        export: export.map(str::to_owned),
        stop: stopped,
        ready: Box::new(move || {
            count.fetch_add(1, Relaxed);
        }),
        ready_line: None,
        cpu_percent: None,
    };
    let end = tokio::spawn(async move { guest.serve(start, RequestId::next()).await });
    Service { stop, ready, end }
}

impl Service {
    /// Waits for its end, but not for ever.
    pub(crate) async fn ended(self) -> Result<u8, Fault> {
        let end = tokio::time::timeout(Duration::from_secs(60), self.end).await;
        end.expect("it ends").unwrap()
    }
}

/// A guest of `guests/out` with these arguments, loaded as a service.
pub(crate) fn service(runtime: &Runtime, name: &str, args: &[&str]) -> Guest {
    service_with(runtime, name, args, |_| {})
}

pub(crate) fn service_with(
    runtime: &Runtime,
    name: &str,
    args: &[&str],
    change: impl FnOnce(&mut Component),
) -> Guest {
    let code = testing::code(name);
    let mut component = testing::component(&code);
    component.args = args.iter().map(|text| (*text).to_owned().into()).collect();
    change(&mut component);
    testing::load(runtime, &component, &code, Role::Service).unwrap()
}

/// Grants a directory.
pub(crate) fn with_folder(component: &mut Component, folder: &Path) {
    component.grants.files = vec![hostel_app::grant::FileGrant {
        guest: "/data".into(),
        host: folder.into(),
        write: true,
    }];
}
