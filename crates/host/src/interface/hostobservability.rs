//! `hostobservability`: the log and the messages of the system `server-side-wasm`, for core modules.
//!
//! `publish` and `read` go to the app's own broker, or, where the component's configuration has a value `broker`, to a guest
//! that speaks the original's protocol at that address: one connection for each call, on which a command is what one write
//! brings. `read` takes the oldest message that nobody of the component has read yet, and answers `TOPIC empty` where there is
//! none. `subscribe` begins with what is published from then on; `read` does so too if it comes first.

use wasmtime::{Linker, Result};

use super::core_abi::Guest;
use crate::state::Host;

/// The module's name.
pub(crate) const MODULE: &str = "hostobservability";
/// Its functions.
pub(crate) const FUNCTIONS: &[&str] = &["loginfo", "publish", "subscribe", "read"];

type Text = (i32, i32);

/// Puts the functions into the linker of core modules.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        MODULE,
        "loginfo",
        |caller: wasmtime::Caller<'_, Host>, a: i32, b: i32, c: i32, d: i32| {
            let mut guest = Guest(caller);
            let (module, message) = (guest.text(a, b)?, guest.text(c, d)?);
            guest.host().log_message("info", &module, &message);
            Ok(())
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "publish",
        |caller, (a, b, c, d): (i32, i32, i32, i32)| {
            Box::new(publish(Guest(caller), (a, b), (c, d)))
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "subscribe",
        |caller, (a, b, out): (i32, i32, i32)| Box::new(subscribe(Guest(caller), (a, b), out)),
    )?;
    linker.func_wrap_async(MODULE, "read", |caller, (a, b, out): (i32, i32, i32)| {
        Box::new(read(Guest(caller), (a, b), out))
    })?;
    Ok(())
}

/// The original can say nothing of a message that was not published; here the guest ends, and the log says why.
async fn publish(mut guest: Guest<'_>, topic: Text, message: Text) -> Result<()> {
    let topic = guest.text(topic.0, topic.1)?;
    let message = guest.text(message.0, message.1)?;
    match broker(&mut guest)? {
        Some(address) => {
            let command = format!("{topic} {message}");
            let sent = guest.host().tell_broker(&address, &command, false).await;
            drop(sent.map_err(|why| wasmtime::format_err!("publish to {topic}: {why}"))?);
        }
        None => {
            let sent = guest.host().publish_text(&topic, message).await;
            sent.map_err(|why| wasmtime::format_err!("publish to {topic}: {why:?}"))?;
        }
    }
    Ok(())
}

async fn subscribe(mut guest: Guest<'_>, topic: Text, out: i32) -> Result<()> {
    let topic = guest.text(topic.0, topic.1)?;
    if broker(&mut guest)?.is_none() {
        let begun = guest.host().subscribe_to(&topic).await;
        begun.map_err(|why| wasmtime::format_err!("subscribe to {topic}: {why:?}"))?;
    }
    guest.return_text(out, &topic).await
}

async fn read(mut guest: Guest<'_>, topic: Text, out: i32) -> Result<()> {
    let topic = guest.text(topic.0, topic.1)?;
    let answer = match broker(&mut guest)? {
        Some(address) => {
            let command = format!("read {topic}");
            let answer = guest.host().tell_broker(&address, &command, true).await;
            answer.map_err(|why| wasmtime::format_err!("read {topic}: {why}"))?
        }
        None => {
            let message = guest.host().next_message(&topic).await;
            match message.map_err(|why| wasmtime::format_err!("read {topic}: {why:?}"))? {
                Some(message) => format!("{topic} {}", String::from_utf8_lossy(&message.body)),
                None => format!("{topic} empty"),
            }
        }
    };
    guest.return_text(out, &answer).await
}

/// Where the component is configured to find a guest that keeps the messages.
fn broker(guest: &mut Guest<'_>) -> Result<Option<String>> {
    match guest.host().template().settings.get("broker") {
        Ok(address) => Ok(address.map(|address| address.expose().to_owned())),
        Err(why) => wasmtime::bail!("the value `broker` of its `config`: {why}"),
    }
}
