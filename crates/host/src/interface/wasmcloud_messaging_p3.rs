//! `wasmcloud:messaging@0.3.0`: the same for WASI 0.3. A body is a stream, which the host reads to its end before anything is
//! sent, and no further than a message may be long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hostel_app::limits;
use tokio::sync::oneshot;
use wasmtime::component::{
    Accessor, HasSelf, Linker, Source, StreamConsumer, StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, Result, StoreContextMut};

use crate::capability::messaging::{Error, Letter, too_large};
use crate::state::Host;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/wasmcloud-messaging-0.3",
        world: "wasmcloud:messaging/handler-service",
        imports: { default: async | store | trappable },
        exports: { default: async | store },
        require_store_data_send: true,
    });
}

pub(crate) use bindings::wasmcloud::messaging::types::{BrokerMessage, HandleMessageError};
pub(crate) use bindings::{
    HandlerService as WasmcloudHandlerP3, HandlerServicePre as WasmcloudHandlerP3Pre,
};

use bindings::wasmcloud::messaging::{consumer, types};

/// What an operation returns to the guest.
type Outcome<T> = std::result::Result<T, types::Error>;

/// Puts the package's interfaces into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    types::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    consumer::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

/// A message becomes the guest's.
pub(crate) fn give_broker_message(
    mut store: impl AsContextMut<Data = Host>,
    letter: Letter,
) -> Result<BrokerMessage> {
    let mut store = store.as_context_mut();
    store.data_mut().meter.keep(letter.data.len())?;
    let reply_to = store.data_mut().reply_subject(&letter);
    Ok(BrokerMessage {
        subject: letter.topic.unwrap_or_default(),
        body: StreamReader::new(store, letter.data)?,
        reply_to,
    })
}

fn told(error: Error) -> types::Error {
    match error {
        Error::Timeout => types::Error::Timeout,
        Error::Connection(_) => types::Error::BrokerUnavailable,
        Error::Denied(_) => types::Error::AccessDenied,
        Error::BadTopic(_) => types::Error::SubjectInvalid,
        Error::TooLarge(_) => types::Error::MessageTooLarge,
        Error::Spent(_) => types::Error::QuotaExceeded,
        Error::Other(text) => types::Error::Other(text),
    }
}

impl types::Host for Host {}

impl consumer::Host for Host {}

impl consumer::HostWithStore<Host> for HasSelf<Host> {
    async fn request(
        accessor: &Accessor<Host, Self>,
        subject: String,
        body: StreamReader<u8>,
        timeout_ms: Option<u32>,
    ) -> Result<Outcome<BrokerMessage>> {
        let body = match read(accessor, body).await? {
            Ok(body) => body,
            Err(error) => return Ok(Err(told(error))),
        };
        let timeout = timeout_ms.map_or(limits::REQUEST_TIMEOUT_MS.duration(), |millis| {
            Duration::from_millis(millis.into())
        });
        let asked = accessor.with(|mut store| store.get().ask_subject(&subject, body, timeout));
        match asked.await {
            Ok(body) => accessor.with(|mut store| {
                store.get().meter.keep(body.len())?;
                let body = StreamReader::new(&mut store, body)?;
                Ok(Ok(BrokerMessage {
                    subject,
                    body,
                    reply_to: None,
                }))
            }),
            Err(error) => Ok(Err(told(error))),
        }
    }

    async fn publish(
        accessor: &Accessor<Host, Self>,
        message: BrokerMessage,
    ) -> Result<Outcome<()>> {
        let body = match read(accessor, message.body).await? {
            Ok(body) => body,
            Err(error) => return Ok(Err(told(error))),
        };
        let (subject, reply_to) = (message.subject, message.reply_to);
        let published =
            accessor.with(|mut store| store.get().publish_to_subject(&subject, body, reply_to));
        Ok(published.await.map_err(told))
    }
}

/// The whole of a body.
async fn read(
    accessor: &Accessor<Host, HasSelf<Host>>,
    body: StreamReader<u8>,
) -> Result<std::result::Result<Bytes, Error>> {
    let (sender, whole) = oneshot::channel();
    let collect = Collect {
        bytes: Vec::new(),
        whole: Some(sender),
    };
    accessor.with(|store| body.pipe(store, collect))?;
    let whole = whole.await;
    Ok(whole.unwrap_or_else(|_| Err(Error::Other("the body has no end".to_owned()))))
}

/// Takes a stream's bytes until it ends, which is when this is dropped.
struct Collect {
    bytes: Vec<u8>,
    whole: Option<oneshot::Sender<std::result::Result<Bytes, Error>>>,
}

impl Collect {
    fn tell(&mut self, outcome: std::result::Result<Bytes, Error>) {
        if let Some(whole) = self.whole.take() {
            // Nobody waits any more if the call was cancelled.
            let _heard = whole.send(outcome);
        }
    }
}

impl StreamConsumer<Host> for Collect {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'_, Host>,
        source: Source<'_, u8>,
        _: bool,
    ) -> Poll<Result<StreamResult>> {
        let mut source = source.as_direct(store.as_context_mut());
        let more = source.remaining();
        let length = more.len();
        if self.bytes.len() + length > limits::MESSAGE_BYTES_MAX.size() {
            self.tell(Err(too_large("a body that goes on")));
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        self.bytes.extend_from_slice(more);
        source.mark_read(length);
        store.data_mut().meter.keep(length)?;
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

impl Drop for Collect {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.tell(Ok(bytes.into()));
    }
}
