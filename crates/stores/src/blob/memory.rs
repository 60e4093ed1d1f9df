//! Blobs in this process's memory, gone with it: for tests and for what need not last.
//!
//! The one driver that keeps objects whole, because it is where they live; what one container may hold is bounded. Objects
//! are immutable once they are there, so a reader goes on with what it began with.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};

use super::names::check_length;
use super::{Blob, Cursor, Error, Incoming, Object, ObjectInfo, Page, Result, Span, now_ms};
use crate::Failure;

/// What one container holds at most, in bytes.
pub const BYTES_MAX: u64 = 256 << 20;
/// The largest piece that a reader is given.
const PIECE: usize = 1 << 20;
/// How small pieces are kept.
const BLOCK: usize = 64 << 10;
/// What an object costs beside its bytes and its name.
const OVERHEAD: u64 = 256;

/// One container.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Option<Container>>);

#[derive(Debug)]
struct Container {
    created_ms: u64,
    bytes: u64,
    objects: BTreeMap<String, Arc<Stored>>,
}

#[derive(Debug)]
struct Stored {
    info: ObjectInfo,
    pieces: Vec<Bytes>,
}

impl Stored {
    fn cost(&self, name: &str) -> u64 {
        self.info.size + name.len() as u64 + OVERHEAD
    }
}

impl Container {
    fn insert(&mut self, name: &str, stored: Arc<Stored>) -> Result<()> {
        let freed = self.objects.get(name).map_or(0, |old| old.cost(name));
        let bytes = self.bytes - freed + stored.cost(name);
        if bytes > BYTES_MAX {
            return Err(full());
        }
        self.bytes = bytes;
        self.objects.insert(name.to_owned(), stored);
        Ok(())
    }
}

fn full() -> Error {
    Failure::Full(format!("a container in memory holds {BYTES_MAX} bytes")).into()
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Option<Container>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the container, if there is one.
    fn with<T>(&self, act: impl FnOnce(&mut Container) -> Result<T>) -> Result<T> {
        self.lock().as_mut().ok_or(Error::NoContainer).and_then(act)
    }

    fn object(&self, name: &str) -> Result<Option<Arc<Stored>>> {
        self.with(|container| Ok(container.objects.get(name).cloned()))
    }
}

#[async_trait]
impl Blob for Memory {
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn create(&self) -> Result<bool> {
        let mut container = self.lock();
        if container.is_some() {
            return Ok(false);
        }
        *container = Some(Container {
            created_ms: now_ms(),
            bytes: 0,
            objects: BTreeMap::new(),
        });
        Ok(true)
    }

    async fn remove(&self) -> Result<bool> {
        Ok(self.lock().take().is_some())
    }

    async fn created_ms(&self) -> Result<Option<u64>> {
        Ok(self.lock().as_ref().map(|container| container.created_ms))
    }

    async fn put(&self, name: &str, mut body: Incoming) -> Result<ObjectInfo> {
        check_length(name)?;
        self.with(|_| Ok(()))?;
        let (mut pieces, mut size) = (Vec::new(), 0_u64);
        let mut tail = BytesMut::new();
        while let Some(piece) = body.next().await {
            let piece = piece?;
            size += piece.len() as u64;
            if size > BYTES_MAX {
                return Err(full());
            }
            // Copied: many small pieces, or a small part of a large buffer, would take more than their bytes.
            tail.extend_from_slice(&piece);
            if tail.len() >= BLOCK {
                pieces.push(tail.split().freeze());
            }
        }
        pieces.push(tail.freeze());
        let info = ObjectInfo {
            size,
            written_ms: now_ms(),
        };
        let stored = Arc::new(Stored {
            info: info.clone(),
            pieces,
        });
        self.with(|container| container.insert(name, stored))?;
        Ok(info)
    }

    async fn get(&self, name: &str, span: Span) -> Result<Object> {
        check_length(name)?;
        let stored = self.object(name)?.ok_or(Error::NoObject)?;
        let info = stored.info.clone();
        let pieces = span.pieces(&stored.pieces).into_iter();
        Ok(Object {
            info,
            body: stream::iter(pieces.map(Ok)).boxed(),
        })
    }

    async fn info(&self, name: &str) -> Result<Option<ObjectInfo>> {
        check_length(name)?;
        Ok(self.object(name)?.map(|stored| stored.info.clone()))
    }

    async fn list(&self, from: Option<&Cursor>, limit: usize) -> Result<Page> {
        let limit = limit.max(1);
        self.with(|container| {
            let after = from.map_or(Bound::Unbounded, |Cursor(name)| {
                Bound::Excluded(name.as_str())
            });
            let mut rest = container.objects.range::<str, _>((after, Bound::Unbounded));
            let names: Vec<_> = rest.by_ref().take(limit).map(|(n, _)| n.clone()).collect();
            let next = rest.next().and(names.last().cloned()).map(Cursor);
            Ok(Page { names, next })
        })
    }

    async fn delete(&self, names: &[String]) -> Result<()> {
        self.with(|container| {
            for name in names {
                if let Some(gone) = container.objects.remove(name) {
                    container.bytes -= gone.cost(name);
                }
            }
            Ok(())
        })
    }

    async fn copy(&self, from: &str, to: &str) -> Result<()> {
        check_length(from)?;
        check_length(to)?;
        self.with(|container| {
            let stored = container.objects.get(from).ok_or(Error::NoObject)?;
            let copy = Stored {
                info: ObjectInfo {
                    size: stored.info.size,
                    written_ms: now_ms(),
                },
                pieces: stored.pieces.clone(),
            };
            container.insert(to, Arc::new(copy))
        })
    }

    async fn clear(&self) -> Result<()> {
        self.with(|container| {
            container.objects.clear();
            container.bytes = 0;
            Ok(())
        })
    }
}

impl Span {
    /// The part of these pieces that it names, without copies.
    fn pieces(self, pieces: &[Bytes]) -> Vec<Bytes> {
        let (mut part, mut begin) = (Vec::new(), 0_u64);
        for piece in pieces {
            let end = begin + piece.len() as u64;
            let from = self.start.clamp(begin, end) - begin;
            let to = self.last.saturating_add(1).clamp(begin, end) - begin;
            begin = end;
            let (from, to) = (from as usize, to as usize);
            for at in (from..to).step_by(PIECE) {
                part.push(piece.slice(at..to.min(at + PIECE)));
            }
        }
        part
    }
}
