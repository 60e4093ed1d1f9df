//! The ABIs of messages: `message-p2`, and `message-wasmcloud-p2` and `-p3`. What each hands over is in `handlers`.
//!
//! The guest gets one message and says whether it is done. What becomes of the message is for whoever subscribed to decide.

pub(crate) mod handlers;

use std::sync::Arc;

use tokio::sync::oneshot;
use wasmtime::Result;

use crate::abi::http::Task;
use crate::abi::{Exports, Warm, drive};
use crate::capability::messaging::Letter;
use crate::fault::Fault;
use crate::guest::{Inner, RequestId};
use crate::pool::Permit;

/// What the guest says of a message: it is done, or why not.
pub type Handled = std::result::Result<(), Refusal>;

/// Why a guest did not take a message, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is to come again.
    Later(String),
    /// It need not come again: it is a dead letter.
    Never(String),
}

impl Refusal {
    /// The words.
    pub fn why(&self) -> &str {
        match self {
            Self::Later(why) | Self::Never(why) => why,
        }
    }
}

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
    let handled = handler.call(&mut warm.store, letter).await?;
    // Nobody listens any more if the call was cancelled.
    let _heard = answer.send(handled);
    Ok(())
}
