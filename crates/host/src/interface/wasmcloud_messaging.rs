//! `wasmcloud:messaging@0.2.0`: messages as wasmCloud's components for WASI 0.2 have them. There is one broker, `default`, and
//! a message has no metadata. How answers travel is the capability's business.

use std::time::Duration;

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use crate::capability::messaging::{Error, Letter};
use crate::state::Host;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/wasmcloud-messaging",
        world: "wasmcloud:messaging/messages",
        imports: { default: async | trappable },
        exports: { default: async },
        require_store_data_send: true,
    });
}

pub(crate) use bindings::wasmcloud::messaging::types::BrokerMessage;
pub(crate) use bindings::{Messages as WasmcloudHandler, MessagesPre as WasmcloudHandlerPre};

use bindings::wasmcloud::messaging::{consumer, types};

/// What an operation returns to the guest.
type Outcome<T> = std::result::Result<T, String>;

/// Puts the package's interfaces into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    types::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    consumer::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

impl Host {
    /// A message becomes the guest's.
    pub(crate) fn give_broker_message(&mut self, letter: Letter) -> BrokerMessage {
        let reply_to = self.reply_subject(&letter);
        BrokerMessage {
            subject: letter.topic.unwrap_or_default(),
            body: letter.data.into(),
            reply_to,
        }
    }
}

impl types::Host for Host {}

impl consumer::Host for Host {
    async fn request(
        &mut self,
        subject: String,
        body: Vec<u8>,
        timeout_ms: u32,
    ) -> Result<Outcome<BrokerMessage>> {
        let timeout = Duration::from_millis(timeout_ms.into());
        let answer = self.ask_subject(&subject, body.into(), timeout).await;
        let told = |body: bytes::Bytes| BrokerMessage {
            subject,
            body: body.into(),
            reply_to: None,
        };
        Ok(answer.map(told).map_err(Error::into_text))
    }

    async fn publish(&mut self, message: BrokerMessage) -> Result<Outcome<()>> {
        let BrokerMessage {
            subject,
            body,
            reply_to,
        } = message;
        let published = self.publish_to_subject(&subject, body.into(), reply_to);
        Ok(published.await.map_err(Error::into_text))
    }
}
