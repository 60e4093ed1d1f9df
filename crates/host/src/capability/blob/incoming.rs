//! Objects on their way to a guest: a piece is fetched when the guest has taken the one before.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use hostel_stores::blob::{Object, Outgoing};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use super::{Charge, Held, Result};

/// A value that the guest has not begun to read.
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub struct Incoming {
    size: u64,
    body: Outgoing,
    held: Held,
    charge: Charge,
}

impl Incoming {
    pub(super) fn new(size: u64, object: Object, held: Held, charge: Charge) -> Self {
        Self {
            size,
            body: object.body,
            held,
            charge,
        }
    }

    /// Bytes that it has.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// All of them at once, within the limit.
    pub(crate) async fn all(self) -> Result<Vec<u8>> {
        let share = usize::try_from(self.size)
            .ok()
            .and_then(|size| self.held.take(size));
        let Some(_share) = share else {
            let most = self.held.most();
            return Err(format!(
                "a value of {} bytes cannot be read at once: blobs that the host holds for an instance have {most} bytes, \
                 its limit `blob_bytes`; read it as a stream",
                self.size
            ));
        };
        let size = self.size as usize;
        let paid = self.charge.bytes(size);
        paid.map_err(|refused| refused.to_string())?;
        let (mut all, mut body) = (Vec::with_capacity(size), self.body);
        while let Some(piece) = body.try_next().await.map_err(|error| error.to_string())? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// The bytes as the guest takes them.
    pub(crate) fn stream(self) -> BodyReader {
        BodyReader {
            body: self.body,
            charge: self.charge,
            piece: Bytes::new(),
            end: None,
        }
    }
}

/// A body that the guest reads.
pub(crate) struct BodyReader {
    body: Outgoing,
    charge: Charge,
    piece: Bytes,
    /// How it ended: well, or with an error that is told once.
    end: Option<Option<String>>,
}

#[async_trait]
impl Pollable for BodyReader {
    async fn ready(&mut self) {
        while self.piece.is_empty() && self.end.is_none() {
            match self.body.next().await {
                Some(Ok(piece)) => match self.charge.bytes(piece.len()) {
                    Ok(()) => self.piece = piece,
                    Err(refused) => self.end = Some(Some(refused.to_string())),
                },
                Some(Err(error)) => self.end = Some(Some(error.to_string())),
                None => self.end = Some(None),
            }
        }
    }
}

#[async_trait]
impl InputStream for BodyReader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if !self.piece.is_empty() {
            let size = size.min(self.piece.len());
            return Ok(self.piece.split_to(size));
        }
        match &mut self.end {
            None => Ok(Bytes::new()),
            Some(end) => Err(match end.take() {
                Some(cause) => StreamError::LastOperationFailed(wasmtime::Error::msg(cause)),
                None => StreamError::Closed,
            }),
        }
    }
}
