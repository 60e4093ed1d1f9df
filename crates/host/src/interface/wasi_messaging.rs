//! `wasi:messaging`: producers, requesters, and the handler that a component exports. The host objects that a guest holds
//! are the capability's own.

use std::time::Duration;

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};

use crate::capability::messaging::{Asking, Client, Error, Letter};
use crate::state::Host;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/messaging",
        world: "wasi:messaging/messaging-request-reply",
        imports: {
            "wasi:messaging/producer.send": async | trappable,
            "wasi:messaging/request-reply.request": async | trappable,
            "wasi:messaging/request-reply.reply": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "wasi:messaging/types.client": crate::capability::messaging::Client,
            "wasi:messaging/types.message": crate::capability::messaging::Letter,
            "wasi:messaging/request-reply.request-options": crate::capability::messaging::Asking,
        },
    });
}

pub(crate) use bindings::{
    MessagingRequestReply as Handler, MessagingRequestReplyPre as HandlerPre,
};

use bindings::wasi::messaging::{producer, request_reply, types};

/// What an operation returns to the guest.
type Outcome<T> = std::result::Result<T, types::Error>;

/// Puts the package's interfaces into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    types::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    producer::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    request_reply::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

/// What a handler says when it does not take a message.
pub(crate) fn handler_error(error: types::Error) -> String {
    match error {
        types::Error::Timeout => "timeout".to_owned(),
        types::Error::Connection(text) => format!("connection: {text}"),
        types::Error::PermissionDenied(text) => format!("permission denied: {text}"),
        types::Error::Other(text) => text,
    }
}

fn told(error: Error) -> types::Error {
    match error {
        Error::Timeout => types::Error::Timeout,
        Error::Connection(text) => types::Error::Connection(text),
        Error::Denied(text) => types::Error::PermissionDenied(text),
        other => types::Error::Other(other.into_text()),
    }
}

impl Host {
    /// A message becomes the guest's: it counts among what the host keeps for it.
    pub(crate) fn give_letter(&mut self, letter: Letter) -> Result<Resource<Letter>> {
        self.meter.keep(letter.kept_bytes())?;
        Ok(self.table().push(letter)?)
    }

    fn change_letter(
        &mut self,
        message: &Resource<Letter>,
        change: impl FnOnce(&mut Letter),
    ) -> Result<()> {
        let letter = self.table().get_mut(message)?;
        let before = letter.kept_bytes();
        change(letter);
        let grown = letter.kept_bytes().saturating_sub(before);
        self.meter.keep(grown)
    }
}

impl types::Host for Host {}

impl types::HostClient for Host {
    fn connect(&mut self, name: String) -> Result<Outcome<Resource<Client>>> {
        match Host::connect(self, &name) {
            Ok(client) => Ok(Ok(self.table().push(client)?)),
            Err(error) => Ok(Err(told(error))),
        }
    }

    fn disconnect(&mut self, client: Resource<Client>) -> Result<Outcome<()>> {
        self.table().get(&client)?;
        Ok(Ok(()))
    }

    fn drop(&mut self, client: Resource<Client>) -> Result<()> {
        self.table().delete(client)?;
        Ok(())
    }
}

impl types::HostMessage for Host {
    fn new(&mut self, data: Vec<u8>) -> Result<Resource<Letter>> {
        self.give_letter(Letter {
            data: data.into(),
            ..Letter::default()
        })
    }

    fn topic(&mut self, message: Resource<Letter>) -> Result<Option<String>> {
        Ok(self.table().get(&message)?.topic.clone())
    }

    fn content_type(&mut self, message: Resource<Letter>) -> Result<Option<String>> {
        Ok(self.table().get(&message)?.content_type.clone())
    }

    fn set_content_type(&mut self, message: Resource<Letter>, kind: String) -> Result<()> {
        self.meter.keep(kind.len())?;
        self.change_letter(&message, |letter| letter.content_type = Some(kind))
    }

    fn data(&mut self, message: Resource<Letter>) -> Result<Vec<u8>> {
        Ok(self.table().get(&message)?.data.to_vec())
    }

    fn set_data(&mut self, message: Resource<Letter>, data: Vec<u8>) -> Result<()> {
        self.change_letter(&message, |letter| letter.data = data.into())
    }

    fn metadata(&mut self, message: Resource<Letter>) -> Result<Option<Vec<(String, String)>>> {
        let metadata = &self.table().get(&message)?.metadata;
        Ok((!metadata.is_empty()).then(|| metadata.clone()))
    }

    fn add_metadata(
        &mut self,
        message: Resource<Letter>,
        key: String,
        value: String,
    ) -> Result<()> {
        self.change_letter(&message, |letter| letter.metadata.push((key, value)))
    }

    fn set_metadata(
        &mut self,
        message: Resource<Letter>,
        metadata: Vec<(String, String)>,
    ) -> Result<()> {
        self.change_letter(&message, |letter| letter.metadata = metadata)
    }

    fn remove_metadata(&mut self, message: Resource<Letter>, key: String) -> Result<()> {
        self.change_letter(&message, |letter| {
            letter.metadata.retain(|(name, _)| *name != key);
        })
    }

    fn drop(&mut self, message: Resource<Letter>) -> Result<()> {
        self.table().delete(message)?;
        Ok(())
    }
}

impl producer::Host for Host {
    async fn send(
        &mut self,
        client: Resource<Client>,
        topic: String,
        message: Resource<Letter>,
    ) -> Result<Outcome<()>> {
        let letter = self.table().delete(message)?;
        let client = self.table().get(&client)?.clone();
        let sent = self.publish_message(&client, &topic, &letter).await;
        Ok(sent.map_err(told))
    }
}

impl request_reply::Host for Host {
    async fn request(
        &mut self,
        client: Resource<Client>,
        topic: String,
        message: Resource<Letter>,
        options: Option<Resource<Asking>>,
    ) -> Result<Outcome<Vec<Resource<Letter>>>> {
        let asking = match options {
            Some(options) => self.table().delete(options)?,
            None => Asking::default(),
        };
        let letter = self.table().get(&message)?.clone();
        let client = self.table().get(&client)?.clone();
        let answers = match self.ask(&client, &topic, &letter, asking).await {
            Ok(answers) => answers.into_iter(),
            Err(error) => return Ok(Err(told(error))),
        };
        let answers = answers.map(|answer| self.give_letter(answer));
        Ok(Ok(answers.collect::<Result<_>>()?))
    }

    async fn reply(
        &mut self,
        to: Resource<Letter>,
        message: Resource<Letter>,
    ) -> Result<Outcome<()>> {
        let letter = self.table().delete(message)?;
        let to = self.table().get(&to)?.answer.clone();
        let answered = self.answer_message(to, &letter).await;
        Ok(answered.map_err(told))
    }
}

impl request_reply::HostRequestOptions for Host {
    fn new(&mut self) -> Result<Resource<Asking>> {
        Ok(self.table().push(Asking::default())?)
    }

    fn set_timeout_ms(&mut self, options: Resource<Asking>, timeout_ms: u32) -> Result<()> {
        self.table().get_mut(&options)?.timeout = Duration::from_millis(timeout_ms.into());
        Ok(())
    }

    fn set_expected_replies(&mut self, options: Resource<Asking>, replies: u32) -> Result<()> {
        self.table().get_mut(&options)?.replies = replies;
        Ok(())
    }

    fn drop(&mut self, options: Resource<Asking>) -> Result<()> {
        self.table().delete(options)?;
        Ok(())
    }
}
