//! Objects on their way from a guest: a pipe between the stream that the guest writes and the body that the driver takes.
//!
//! Until the guest has said where its value goes, what it writes is held within the instance's limit; from then on the pipe
//! has room for two pieces, and the guest waits for the driver. An object is stored when the guest says that it is
//! finished, and never because it went away.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use hostel_app::limits;
use hostel_stores::blob::{Error, GaveUp, Incoming as Body, ObjectInfo};
use tokio::sync::Notify;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

use super::held::Share;
use super::{Charge, Container, Held, Result};
use crate::capability::charge::Refused;

/// One piece.
const PIECE: usize = limits::STREAM_CHUNK_BYTES.size();
/// What the pipe holds while a driver takes from it.
const ROOM: usize = 2 * PIECE;

/// A value that the guest writes.
#[derive(Debug)]
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub struct Outgoing {
    pipe: Arc<Pipe>,
    stream_is_out: bool,
    /// The driver at work; ends with this.
    writing: Option<Writing>,
}

#[derive(Debug)]
struct Writing {
    task: AbortOnDropJoinHandle<std::result::Result<ObjectInfo, Error>>,
    container: Container,
    name: String,
}

impl Outgoing {
    pub(crate) fn new(held: &Held, charge: &Charge) -> Self {
        Self {
            pipe: Arc::new(Pipe {
                charge: charge.clone(),
                state: Mutex::new(State {
                    pieces: VecDeque::new(),
                    last: BytesMut::new(),
                    bytes: 0,
                    share: Some(held.none()),
                    taker: Taker::Expected,
                    end: None,
                }),
                moved: Notify::new(),
            }),
            stream_is_out: false,
            writing: None,
        }
    }

    /// The stream that its body is written to; once.
    pub(crate) fn stream(&mut self) -> Option<BodyWriter> {
        let first = !std::mem::replace(&mut self.stream_is_out, true);
        first.then(|| BodyWriter(self.pipe.clone()))
    }

    /// Begins to store it.
    pub(crate) fn write_to(&mut self, container: &Container, name: String) -> Result<()> {
        if self.writing.is_some() {
            return Err("this value is being written already; make another".to_owned());
        }
        container.operation(name.len())?;
        self.pipe.change(|state| {
            state.taker = Taker::There;
            state.share = None;
        });
        let (driver, body, object) = (container.driver.clone(), self.pipe.body(), name.clone());
        self.writing = Some(Writing {
            task: spawn(async move { driver.put(&object, body).await }),
            container: container.clone(),
            name,
        });
        Ok(())
    }

    /// Ends the body, and waits until it is stored.
    pub(crate) async fn finish(mut self) -> Result<()> {
        let Some(writing) = self.writing.take() else {
            return Err("nothing was stored: this value was never given to write-data".to_owned());
        };
        self.pipe.change(|state| {
            state.end.get_or_insert(End::Finished);
        });
        let Writing {
            task,
            container,
            name,
        } = writing;
        task.await
            .map(|_| ())
            .map_err(|error| container.told(error, &name))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // Its stream may outlive it.
        self.pipe.change(|state| {
            state.end.get_or_insert(End::LeftAlone);
            if state.taker == Taker::Expected {
                state.taker = Taker::Gone;
                state.drop_all();
            }
        });
    }
}

/// Between the guest's stream and the driver's body.
#[derive(Debug)]
struct Pipe {
    charge: Charge,
    state: Mutex<State>,
    /// Wakes both sides; there is one of each.
    moved: Notify,
}

#[derive(Debug)]
struct State {
    pieces: VecDeque<Bytes>,
    /// What comes after them. Small writes are put together: alone, each would take many times its bytes.
    last: BytesMut,
    /// Of all of these.
    bytes: usize,
    /// What is held until somebody takes it.
    share: Option<Share>,
    taker: Taker,
    end: Option<End>,
}

/// Who takes what the guest writes.
#[derive(Debug, PartialEq, Eq)]
enum Taker {
    /// `write-data` was not called yet.
    Expected,
    There,
    /// Whatever went wrong, `finish` tells.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Finished,
    /// The guest dropped the value.
    LeftAlone,
    /// It has written more than it may.
    Refused(Refused),
}

impl State {
    /// How much may be written now.
    fn room(&self) -> StreamResult<usize> {
        let failed =
            |text: String| Err(StreamError::LastOperationFailed(wasmtime::Error::msg(text)));
        match (&self.end, &self.taker, &self.share) {
            (Some(End::Refused(refused)), ..) => failed(refused.to_string()),
            (Some(_), ..) => Err(StreamError::Closed),
            (None, Taker::Gone, _) => {
                failed("the container takes no more of this value; `finish` says why".to_owned())
            }
            (None, Taker::Expected, Some(share)) => match share.free() {
                0 => failed(format!(
                    "more than {} bytes of blobs wait in the host, the limit `blob_bytes` of an instance: call write-data \
                     before the body is written",
                    share.most()
                )),
                free => Ok(free.min(PIECE)),
            },
            _ => Ok(ROOM.saturating_sub(self.bytes).min(PIECE)),
        }
    }

    fn drop_all(&mut self) {
        self.pieces.clear();
        self.last = BytesMut::new();
        self.bytes = 0;
        self.share = None;
    }
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.moved.notify_waiters();
        changed
    }

    /// Waits until `look` finds something.
    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // Registered before the look, so that no change is missed.
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            moved.await;
        }
    }

    /// What the driver takes.
    fn body(self: &Arc<Self>) -> Body {
        let taker = Taking(self.clone());
        stream::unfold(taker, |taker| async move {
            let next = taker.0.until(State::next).await;
            // What the guest waits for is room.
            taker.0.moved.notify_waiters();
            Some((next?, taker))
        })
        .boxed()
    }
}

impl State {
    /// The next piece; `Some(None)` at the end, `None` where the guest has to go on first.
    fn next(&mut self) -> Option<Option<std::result::Result<Bytes, GaveUp>>> {
        let last = || Some(std::mem::take(&mut self.last).freeze()).filter(|last| !last.is_empty());
        if let Some(piece) = self.pieces.pop_front().or_else(last) {
            self.bytes -= piece.len();
            return Some(Some(Ok(piece)));
        }
        match self.end? {
            End::Finished => Some(None),
            End::LeftAlone => Some(Some(Err(GaveUp("the guest dropped the value".to_owned())))),
            End::Refused(refused) => Some(Some(Err(GaveUp(refused.to_string())))),
        }
    }
}

/// The driver's side; when it is dropped, nobody takes any more.
#[derive(Debug)]
struct Taking(Arc<Pipe>);

impl Drop for Taking {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.taker = Taker::Gone;
            state.drop_all();
        });
    }
}

/// The guest's side.
#[derive(Debug)]
pub(crate) struct BodyWriter(Arc<Pipe>);

#[async_trait]
impl Pollable for BodyWriter {
    async fn ready(&mut self) {
        let has_room = |state: &mut State| (!matches!(state.room(), Ok(0))).then_some(());
        self.0.until(has_room).await;
    }
}

#[async_trait]
impl OutputStream for BodyWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.change(|state| {
            if bytes.len() > state.room()? {
                return Err(StreamError::trap(
                    "more was written than check-write allows",
                ));
            }
            if let Some(share) = &mut state.share
                && !share.add(bytes.len())
            {
                return Err(StreamError::trap(
                    "more was written than check-write allows",
                ));
            }
            if let Err(refused) = self.0.charge.bytes(bytes.len()) {
                state.end = Some(End::Refused(refused));
                return state.room().map(|_| ());
            }
            state.bytes += bytes.len();
            state.last.extend_from_slice(&bytes);
            if state.last.len() >= PIECE {
                let piece = state.last.split().freeze();
                state.pieces.push_back(piece);
            }
            Ok(())
        })
    }

    /// What is written is on its way; `finish` says when it is stored.
    fn flush(&mut self) -> StreamResult<()> {
        self.0.lock().room().map(|_| ())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.0.lock().room()
    }
}
