//! A message for a plain export that the manifest names: called with what its type asks for.

use hostel_app::{App, MessageTrigger};
use hostel_host::messaging::Message;
use hostel_host::{Argument, Fault, Guest, Handled, LoadError, Refusal, RequestId, Role};

/// The types that an export may have: each of these takes, with each of these gives.
const TYPES: [&str; 12] = [
    "(string, list<u8>) -> result<_, string>",
    "(string, string) -> result<_, string>",
    "(list<u8>) -> result<_, string>",
    "(string) -> result<_, string>",
    "(string, list<u8>) -> result",
    "(string, string) -> result",
    "(list<u8>) -> result",
    "(string) -> result",
    "(string, list<u8>)",
    "(string, string)",
    "(list<u8>)",
    "(string)",
];

/// An export that messages are handed to.
#[derive(Debug, Clone)]
pub(super) struct Export {
    name: String,
    /// It wants the topic before the body.
    topic: bool,
    /// It wants the body as text.
    text: bool,
}

impl Export {
    /// Finds the export in a guest that was loaded to be called by its exports.
    pub(super) fn of(guest: &Guest, name: &str) -> Result<Self, LoadError> {
        let ty = guest.check_export(name, &TYPES)?;
        // The takes come in the same order for each of the gives.
        let takes = ty % 4;
        Ok(Self {
            name: name.to_owned(),
            topic: takes < 2,
            text: takes % 2 == 1,
        })
    }

    /// Hands over one message.
    pub(super) async fn call(
        &self,
        guest: &Guest,
        message: Message,
        id: RequestId,
    ) -> Result<Handled, Fault> {
        let body = match self.text {
            false => Argument::Bytes(message.body),
            true => match String::from_utf8(message.body.into()) {
                Ok(text) => Argument::Text(text),
                Err(_) => {
                    let why = format!("its body is not the text that `{}` wants", self.name);
                    return Ok(Err(Refusal::Never(why)));
                }
            },
        };
        let topic = self.topic.then_some(Argument::Text(message.topic));
        let arguments: Vec<Argument> = topic.into_iter().chain([body]).collect();
        let returned = guest.call_export(&self.name, &arguments, id).await?;
        Ok(match returned.error() {
            None => Ok(()),
            Some(why) => Err(Refusal::Later(why)),
        })
    }
}

/// Checks a guest of this component, loaded for `role`: that it has the exports which `[[message]]` sections name.
///
/// # Errors
/// The first one that it lacks, or that has another type.
pub fn check(app: &App, component: usize, role: Role, guest: &Guest) -> Result<(), LoadError> {
    if role != Role::Call {
        return Ok(());
    }
    let own = |trigger: &&MessageTrigger| trigger.component == component;
    let triggers = app.messages.iter().filter(own);
    let mut exports = triggers.filter_map(|trigger| trigger.export.as_deref());
    exports.try_for_each(|name| Export::of(guest, name).map(drop))
}
