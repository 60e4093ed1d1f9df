//! `message-p2`: a component that exports `wasi:messaging/incoming-handler@0.2.0-draft`.
//!
//! The guest gets one message and says whether it is done. What becomes of the message is for whoever subscribed to decide.

use std::sync::Arc;

use tokio::sync::oneshot;
use wasmtime::Result;

use crate::abi::http::Task;
use crate::abi::{Exports, Warm, drive};
use crate::capability::messaging::Letter;
use crate::fault::Fault;
use crate::guest::{Inner, RequestId};
use crate::interface::handler_error;
use crate::pool::Permit;

/// What the guest says of a message: it is done, or why not.
pub type Handled = std::result::Result<(), String>;

/// Runs the guest until it has returned.
pub(crate) async fn handle(
    guest: &Arc<Inner>,
    permit: Permit,
    letter: Letter,
    id: RequestId,
) -> std::result::Result<Handled, Fault> {
    let task = |answer| Task::Message(letter, answer);
    drive::to_the_end(guest, permit, id, task).await
}

/// The guest's part: one message.
pub(super) async fn call(
    warm: &mut Warm,
    letter: Letter,
    answer: oneshot::Sender<Handled>,
) -> Result<()> {
    let Exports::Message(handler) = &warm.exports else {
        wasmtime::bail!("not an instance that handles messages")
    };
    let message = warm.store.data_mut().give_letter(letter)?;
    let handled = handler
        .wasi_messaging_incoming_handler()
        .call_handle(&mut warm.store, message)
        .await?;
    // Nobody listens any more if the call was cancelled.
    let _heard = answer.send(handled.map_err(handler_error));
    Ok(())
}
