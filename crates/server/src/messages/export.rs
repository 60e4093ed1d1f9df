//! A message for a plain export that the manifest names: called with what its type asks for.

use hostel_app::MessageTrigger;
use hostel_host::messaging::Message;
use hostel_host::{Argument, Fault, Guest, Handled, LoadError, Refusal, RequestId};

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

/// An export that messages are handed to. What it takes is asked for each message: another build may take something else.
#[derive(Debug, Clone)]
pub(super) struct Export(String);

/// What it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Takes {
    /// The topic before the body.
    topic: bool,
    /// The body as text.
    text: bool,
}

impl Takes {
    fn of(guest: &Guest, name: &str) -> Result<Self, LoadError> {
        let ty = guest.check_export(name, &TYPES)?;
        // The takes come in the same order for each of the gives.
        let takes = ty % 4;
        Ok(Self {
            topic: takes < 2,
            text: takes % 2 == 1,
        })
    }
}

impl Export {
    /// Finds the export in a guest that was loaded to be called by its exports.
    pub(super) fn of(guest: &Guest, name: &str) -> Result<Self, LoadError> {
        Takes::of(guest, name).map(|_| Self(name.to_owned()))
    }

    /// Hands over one message.
    pub(super) async fn call(
        &self,
        guest: &Guest,
        message: Message,
        id: RequestId,
    ) -> Result<Handled, Fault> {
        let Self(name) = self;
        let takes = Takes::of(guest, name).map_err(|error| Fault::BadGuest(error.what))?;
        let body = match takes.text {
            false => Argument::Bytes(message.body),
            true => match String::from_utf8(message.body.into()) {
                Ok(text) => Argument::Text(text),
                Err(_) => {
                    let why = format!("its body is not the text that `{name}` wants");
                    return Ok(Err(Refusal::Never(why)));
                }
            },
        };
        let topic = takes.topic.then_some(Argument::Text(message.topic));
        let arguments: Vec<Argument> = topic.into_iter().chain([body]).collect();
        let returned = guest.call_export(name, &arguments, id).await?;
        Ok(match returned.error() {
            None => Ok(()),
            Some(why) => Err(Refusal::Later(why)),
        })
    }
}

/// Checks a guest that was loaded to be called by its exports: that it has those which these triggers name.
///
/// # Errors
/// The first one that it lacks, or that has another type.
pub(crate) fn check<'a>(
    triggers: impl IntoIterator<Item = &'a MessageTrigger>,
    guest: &Guest,
) -> Result<(), LoadError> {
    let triggers = triggers.into_iter();
    let mut exports = triggers.filter_map(|trigger| trigger.export.as_deref());
    exports.try_for_each(|name| Export::of(guest, name).map(drop))
}

#[cfg(test)]
mod tests {
    use hostel_app::{Component, Source};
    use hostel_host::{LogSink, Role, Runtime, RuntimeOptions};

    use super::*;

    /// A component whose `on-order` takes one value of this type.
    fn takes(runtime: &Runtime, ty: &str) -> Guest {
        let text = format!(
            r#"(component
              (core module $m
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
                (func (export "f") (param i32 i32)))
              (core instance $i (instantiate $m))
              (func (export "on-order") (param "body" {ty}) (canon lift (core func $i "f")
                (memory $i "memory") (realloc (func $i "realloc")))))"#
        );
        let component = Component::new("orders", Source::InlineWat, text.as_bytes());
        let scope = runtime.app("test");
        let loaded = scope.load(&component, text.as_bytes(), Role::Call, &|_| {});
        loaded.unwrap()
    }

    #[tokio::test]
    async fn a_newer_build_gets_what_it_takes_and_not_what_the_last_one_took() {
        let runtime = Runtime::new(RuntimeOptions::new(LogSink::null())).unwrap();
        let (text, bytes) = (takes(&runtime, "string"), takes(&runtime, "(list u8)"));
        let export = Export::of(&text, "on-order").unwrap();
        let message = || Message {
            body: vec![0xff].into(),
            ..Message::default()
        };
        let handled = export.call(&text, message(), RequestId::next()).await;
        assert!(matches!(handled, Ok(Err(Refusal::Never(_)))), "{handled:?}");
        let handled = export.call(&bytes, message(), RequestId::next()).await;
        assert!(matches!(handled, Ok(Ok(()))), "{handled:?}");
        let neither = takes(&runtime, "(list u32)");
        let handled = export.call(&neither, message(), RequestId::next()).await;
        assert!(matches!(handled, Err(Fault::BadGuest(_))), "{handled:?}");
    }
}
