//! Objects on their way to a bucket: parts, and the upload that they belong to.

use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, PutPayload, UploadPart};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::super::{Error, Result};
use super::PART_BYTES;
use crate::place::TIMEOUT;

/// Parts of one upload; S3 takes no more.
const PARTS: usize = 10_000;
/// How a part is held: in blocks, however small the pieces are that it came in.
const BLOCK: usize = 256 << 10;

/// An upload in parts. Given up, unless it is completed.
pub(super) struct Upload {
    upload: Option<Box<dyn MultipartUpload>>,
    parts: usize,
    handle: Handle,
}

impl Upload {
    pub(super) fn new(upload: Box<dyn MultipartUpload>, handle: &Handle) -> Self {
        Self {
            upload: Some(upload),
            parts: 0,
            handle: handle.clone(),
        }
    }

    /// Sends the next part.
    pub(super) fn send(&mut self, part: PutPayload) -> Result<UploadPart> {
        self.parts += 1;
        match self.upload.as_mut() {
            Some(upload) if self.parts <= PARTS => Ok(upload.put_part(part)),
            _ => Err(Error::TooLarge {
                what: "an object",
                bytes: (self.parts * PART_BYTES) as u64,
                most: (PARTS * PART_BYTES) as u64,
            }),
        }
    }

    /// Makes the parts an object.
    pub(super) async fn complete(mut self) -> object_store::Result<()> {
        if let Some(upload) = self.upload.as_mut() {
            upload.complete().await?;
        }
        self.upload = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            // Its parts cost room until somebody removes them. A server that is down keeps them.
            self.handle.spawn(async move {
                let aborted = timeout(10 * TIMEOUT, upload.abort()).await;
                aborted.is_ok_and(|aborted| aborted.is_ok())
            });
        }
    }
}

/// A part that is being filled.
#[derive(Default)]
pub(super) struct Part {
    blocks: Vec<Bytes>,
    block: BytesMut,
    pub(super) bytes: usize,
}

impl Part {
    pub(super) fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        for piece in piece.chunks(BLOCK) {
            self.block.extend_from_slice(piece);
            if self.block.len() >= BLOCK {
                self.blocks.push(self.block.split().freeze());
            }
        }
    }

    pub(super) fn take(&mut self) -> PutPayload {
        let mut part = std::mem::take(self);
        part.blocks.push(part.block.freeze());
        part.blocks
            .into_iter()
            .filter(|block| !block.is_empty())
            .collect()
    }
}
