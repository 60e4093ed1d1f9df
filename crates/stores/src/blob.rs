//! Blobs: the contract.
//!
//! One handle is one container: a [`Scope`](crate::Scope). Objects have any text as their name and stream in and out: no
//! driver ever holds a whole object in memory. An object is seen complete or not at all: until [`Blob::put`] returns `Ok`
//! readers see what was there before, and a reader that began before goes on reading that. When it returns, the object is on
//! disk (or what the server calls that).

mod directory;
pub mod memory;
mod names;
mod s3;

pub use directory::Directory;
pub use memory::Memory;
pub use s3::S3;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::Failure;

/// How many times a place's timeout an operation may take that consists of many requests, or during which the server itself
/// moves an object.
pub const PATIENCE: u32 = 15;

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Bytes.
    pub size: u64,
    /// When it was written, in milliseconds since 1970.
    pub written_ms: u64,
}

/// A part of an object: from `start`, up to and including `last`; what lies beyond the object's end is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub last: u64,
}

impl Span {
    /// The whole object.
    pub const ALL: Span = Span {
        start: 0,
        last: u64::MAX,
    };
}

impl Span {
    /// Bytes of it that an object of this size has.
    pub fn length_in(self, size: u64) -> u64 {
        let end = self.last.saturating_add(1).min(size);
        end.saturating_sub(self.start)
    }
}

/// Why a writer gives up: nothing is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the writer gave up: {0}")]
pub struct GaveUp(pub String);

/// The bytes on their way in.
pub type Incoming = BoxStream<'static, std::result::Result<Bytes, GaveUp>>;
/// The bytes on their way out.
pub type Outgoing = BoxStream<'static, Result<Bytes>>;

/// An object that is being read.
pub struct Object {
    /// What is known of the whole object.
    pub info: ObjectInfo,
    /// The bytes of the span that was asked for, in pieces of any size up to 1 MiB.
    pub body: Outgoing,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// Where a listing goes on: what the driver gave with the page before, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// Some of the objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Their names.
    pub names: Vec<String>,
    /// `None` when there are no more.
    pub next: Option<Cursor>,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no container: it was never created, or it was deleted.
    #[error("there is no such container")]
    NoContainer,
    /// There is no object of this name.
    #[error("there is no such object")]
    NoObject,
    /// The backend cannot hold this name or size.
    #[error("{what} of {bytes} bytes is larger than the {most} that the backend takes")]
    TooLarge {
        /// `a name` or `an object`.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The largest.
        most: u64,
    },
    /// The writer ended its stream with an error; nothing was stored.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    /// The backend is in trouble.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What operations return.
pub type Result<T> = std::result::Result<T, Error>;

/// One container. Methods may be awaited on any thread and runtime, and may be dropped at any point.
#[async_trait]
pub trait Blob: fmt::Debug + Send + Sync {
    /// Reaches the backend as the operator told, and changes nothing: for `hostel check --config` and readiness.
    async fn check(&self) -> Result<()>;

    /// Makes the container; whether it was missing.
    async fn create(&self) -> Result<bool>;

    /// Removes the container with all that is in it; whether it was there.
    async fn remove(&self) -> Result<bool>;

    /// When the container was made, in milliseconds since 1970; `None` if there is none.
    async fn created_ms(&self) -> Result<Option<u64>>;

    /// Writes an object, or replaces it. Returns when all of it is safe; a stream that ends with an error, or a call that is
    /// dropped, leaves what was there before.
    async fn put(&self, name: &str, body: Incoming) -> Result<ObjectInfo>;

    /// Reads an object or a part of it. A failure in the middle is the last item of the body.
    async fn get(&self, name: &str, span: Span) -> Result<Object>;

    /// What is known of an object; `None` if there is none.
    async fn info(&self, name: &str) -> Result<Option<ObjectInfo>>;

    /// Some names, at most `limit`, in the order of their bytes where the backend has one.
    async fn list(&self, from: Option<&Cursor>, limit: usize) -> Result<Page>;

    /// Removes objects, there or not. An error may leave some removed.
    async fn delete(&self, names: &[String]) -> Result<()>;

    /// Copies an object inside the container, without moving its bytes through this process where the backend can.
    async fn copy(&self, from: &str, to: &str) -> Result<()>;

    /// Removes every object and leaves the container.
    async fn clear(&self) -> Result<()>;
}

/// This machine's clock, in milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
