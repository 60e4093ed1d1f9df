//! Blobs in a bucket of S3, or of a server that speaks the same.
//!
//! ```text
//! PREFIX/APP/LABEL/container    empty; its time is the container's; while it exists, the container does
//! PREFIX/APP/LABEL/o/NAME       the objects; `names` says how names are written
//! ```
//!
//! An object that is larger than a part is sent in parts, one after the other: a part, five MiB, is all that is ever
//! kept of it. Parts of an upload that is given up are removed. Names are listed in the order of their keys. A bucket has no
//! transactions over two keys: an object that is written while its container is being removed may be left over.
//!
//! All requests are made on the stores' event loop, whoever waits for them. One that nothing moves for ends with the place's
//! timeout; a server that puts parts together or copies an object has fifteen times as long.

mod client;
mod place;
mod said;
mod upload;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    BackoffConfig, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload,
    RetryConfig,
};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

use self::said::classify;
use self::upload::{Part, Upload};
use super::names::{check_length, from_key, to_key};
use super::{
    Blob, Cursor, Error, Incoming, Object, ObjectInfo, Outgoing, PATIENCE, Page, Result, Span,
    now_ms,
};
use crate::place::PlaceError;
use crate::{Failure, Scope};

/// What is kept of an object on its way to the server: one part of an upload. The smallest that S3 takes.
const PART_BYTES: usize = 5 << 20;
/// Bytes of a key; S3 takes no more.
const KEY_BYTES_MAX: usize = 1024;
/// Pieces of an object on their way from the server.
const PIECES: usize = 4;
/// Names on one page, and in one request to delete them; S3 takes no more.
const NAMES: usize = 1000;
/// Objects that are written to one container at once; more of them wait. Each holds a part.
const WRITERS: usize = 32;
/// Attempts at a request beyond the first, as long as there is time.
const RETRIES: usize = 3;

/// One container in a bucket.
#[derive(Debug)]
pub struct S3 {
    bucket: Arc<Bucket>,
    handle: Handle,
}

#[derive(Debug)]
struct Bucket {
    store: AmazonS3,
    name: String,
    /// What the keys of this container begin with.
    root: String,
    timeout: Duration,
    writers: Semaphore,
}

impl S3 {
    /// The container of this scope below the place that the URL names. Nothing is reached before it is used.
    ///
    /// # Errors
    /// The URL makes no sense, or there are no credentials.
    pub fn new(
        url: &Url,
        scope: &Scope,
        timeout: Duration,
        handle: Handle,
    ) -> std::result::Result<Self, PlaceError> {
        let settings = place::read(url, |name| std::env::var(name).ok())?;
        let unusable = |cause: String| PlaceError {
            what: format!("the s3 url cannot be used: {cause}"),
            help: "look at its bucket, endpoint and region".to_owned(),
        };
        let client = client::Client::new(settings.tls, timeout)
            .map_err(|error| unusable(error.to_string()))?;
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(20),
                max_backoff: Duration::from_millis(200),
                base: 2.0,
            },
            max_retries: RETRIES,
            retry_timeout: timeout / 2,
        };
        let store = settings
            .builder
            .with_http_connector(client)
            .with_retry(retry)
            .build();
        let store = store.map_err(|error| unusable(error.to_string()))?;
        let root = format!("{}{}/{}/", settings.prefix, scope.app(), scope.label());
        let bucket = Arc::new(Bucket {
            store,
            name: settings.bucket,
            root,
            timeout,
            writers: Semaphore::new(WRITERS),
        });
        Ok(Self { bucket, handle })
    }

    /// Does something on the stores' event loop; it ends there when nobody waits any more.
    async fn run<T, F>(&self, work: impl FnOnce(Arc<Bucket>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        Task(self.handle.spawn(work(self.bucket.clone()))).await
    }
}

/// A task that ends with the one who waits for it.
struct Task<T>(JoinHandle<Result<T>>);

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = |_| Err(Failure::Broken("a request ended early".to_owned()).into());
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|done| done.unwrap_or_else(ended))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[async_trait]
impl Blob for S3 {
    async fn check(&self) -> Result<()> {
        self.run(|bucket| async move { bucket.page(None, 1).await.map(|_| ()) })
            .await
    }

    async fn create(&self) -> Result<bool> {
        self.run(|bucket| async move {
            if bucket.marker().await?.is_some() {
                return Ok(false);
            }
            let marker = bucket.path("container")?;
            let empty = bucket.store.put(&marker, PutPayload::new());
            bucket.in_time(empty).await?;
            Ok(true)
        })
        .await
    }

    async fn remove(&self) -> Result<bool> {
        self.run(|bucket| async move {
            if bucket.marker().await?.is_none() {
                return Ok(false);
            }
            bucket.clear().await?;
            bucket.delete(vec![bucket.path("container")?]).await?;
            // What was written in between.
            bucket.clear().await?;
            Ok(true)
        })
        .await
    }

    async fn created_ms(&self) -> Result<Option<u64>> {
        self.run(|bucket| async move { bucket.marker().await })
            .await
    }

    async fn put(&self, name: &str, body: Incoming) -> Result<ObjectInfo> {
        let path = self.bucket.object(name)?;
        let handle = self.handle.clone();
        self.run(|bucket| async move {
            bucket.require().await?;
            // An error would mean that it was closed, which nobody does.
            let _turn = bucket.writers.acquire().await;
            bucket.put(path, body, handle).await
        })
        .await
    }

    async fn get(&self, name: &str, span: Span) -> Result<Object> {
        let path = self.bucket.object(name)?;
        let handle = self.handle.clone();
        self.run(|bucket| async move { bucket.get(path, span, handle).await })
            .await
    }

    async fn info(&self, name: &str) -> Result<Option<ObjectInfo>> {
        let path = self.bucket.object(name)?;
        self.run(|bucket| async move {
            let found = bucket.head(&path).await?;
            if found.is_none() {
                bucket.require().await?;
            }
            Ok(found.map(|meta| info(&meta)))
        })
        .await
    }

    async fn list(&self, from: Option<&Cursor>, limit: usize) -> Result<Page> {
        let (mut from, limit) = (from.cloned(), limit.clamp(1, NAMES));
        self.run(|bucket| async move {
            loop {
                let page = bucket.page(from.take(), limit).await?;
                if !page.names.is_empty() {
                    return Ok(page);
                }
                // Nothing of ours among the keys.
                let Some(next) = page.next else { break };
                from = Some(next);
            }
            bucket.require().await?;
            Ok(Page::default())
        })
        .await
    }

    async fn delete(&self, names: &[String]) -> Result<()> {
        let paths: Vec<_> = names
            .iter()
            .filter_map(|name| self.bucket.object(name).ok())
            .collect();
        self.run(|bucket| async move {
            bucket.require().await?;
            bucket.delete(paths).await
        })
        .await
    }

    async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.bucket.object(from)?, self.bucket.object(to)?);
        self.run(|bucket| async move {
            let patience = bucket.timeout * PATIENCE;
            match within(patience, bucket.store.copy(&from, &to)).await {
                Err(Error::NoObject) => {
                    bucket.require().await?;
                    Err(Error::NoObject)
                }
                other => other,
            }
        })
        .await
    }

    async fn clear(&self) -> Result<()> {
        self.run(|bucket| async move {
            bucket.require().await?;
            bucket.clear().await
        })
        .await
    }
}

impl Bucket {
    fn path(&self, end: &str) -> Result<Path> {
        let key = format!("{}{end}", self.root);
        Path::parse(key).map_err(|error| Failure::Broken(error.to_string()).into())
    }

    /// The key of this name's object.
    fn object(&self, name: &str) -> Result<Path> {
        check_length(name)?;
        let end = to_key(name);
        let most = KEY_BYTES_MAX.saturating_sub(self.root.len() + 2);
        if end.len() > most {
            return Err(Error::TooLarge {
                what: "a name, as a key,",
                bytes: end.len() as u64,
                most: most as u64,
            });
        }
        self.path(&format!("o/{end}"))
    }

    /// One exchange with the server, retries included.
    async fn in_time<T>(&self, work: impl Future<Output = object_store::Result<T>>) -> Result<T> {
        within(self.timeout, work).await
    }

    async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>> {
        match self.in_time(self.store.head(path)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(Error::NoObject) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// When the container was made.
    async fn marker(&self) -> Result<Option<u64>> {
        let marker = self.head(&self.path("container")?).await?;
        Ok(marker.map(|meta| info(&meta).written_ms))
    }

    async fn require(&self) -> Result<()> {
        self.marker().await?.map(|_| ()).ok_or(Error::NoContainer)
    }

    /// What moves is not bounded in time here; the client bounds its silence.
    async fn put(&self, path: Path, mut body: Incoming, handle: Handle) -> Result<ObjectInfo> {
        let mut upload: Option<Upload> = None;
        let (mut part, mut size) = (Part::default(), 0_u64);
        while let Some(piece) = body.next().await {
            let mut piece = piece?;
            size += piece.len() as u64;
            while part.bytes + piece.len() > PART_BYTES {
                part.push(piece.split_to(PART_BYTES - part.bytes));
                let upload = match &mut upload {
                    Some(upload) => upload,
                    none => {
                        let begun = self.in_time(self.store.put_multipart(&path)).await?;
                        none.insert(Upload::new(begun, &handle))
                    }
                };
                self.written(upload.send(part.take())?.await)?;
            }
            part.push(piece);
        }
        match upload {
            None => self.written(self.store.put(&path, part.take()).await.map(|_| ()))?,
            Some(mut upload) => {
                self.written(upload.send(part.take())?.await)?;
                self.written(upload.complete().await)?;
            }
        }
        Ok(ObjectInfo {
            size,
            written_ms: now_ms(),
        })
    }

    async fn get(&self, path: Path, span: Span, handle: Handle) -> Result<Object> {
        let mut options = GetOptions::default();
        if span != Span::ALL {
            // Servers refuse a range that begins beyond the end, so the end has to be known.
            let Some(meta) = self.head(&path).await? else {
                return Err(self.absent().await);
            };
            let length = span.length_in(meta.size);
            if length == 0 {
                let body = stream::empty().boxed();
                return Ok(Object {
                    info: info(&meta),
                    body,
                });
            }
            options.range = Some(GetRange::Bounded(span.start..span.start + length));
        }
        let got = match self.in_time(self.store.get_opts(&path, options)).await {
            Err(Error::NoObject) => return Err(self.absent().await),
            other => other?,
        };
        let info = info(&got.meta);
        let silence = self.timeout;
        let pieces = got
            .into_stream()
            .map_err(move |error| classify(error, silence));
        Ok(Object {
            info,
            body: elsewhere(pieces.boxed(), &handle),
        })
    }

    /// Why there is no object.
    async fn absent(&self) -> Error {
        self.require().await.err().unwrap_or(Error::NoObject)
    }

    /// Names of one page of keys; a page of foreign keys has none and goes on all the same.
    async fn page(&self, from: Option<Cursor>, limit: usize) -> Result<Page> {
        let prefix = format!("{}o/", self.root);
        let options = PaginatedListOptions {
            offset: from.map(|Cursor(key)| format!("{prefix}{key}")),
            max_keys: Some(limit),
            ..PaginatedListOptions::default()
        };
        let listed = self
            .in_time(self.store.list_paginated(Some(&prefix), options))
            .await;
        let listed = listed.map_err(|error| match error {
            Error::NoObject => self.no_bucket(),
            error => error,
        })?;
        let keys = listed
            .result
            .objects
            .iter()
            .map(|meta| meta.location.as_ref());
        let ends: Vec<_> = keys.filter_map(|key| key.strip_prefix(&prefix)).collect();
        let more = listed.page_token.is_some();
        Ok(Page {
            names: ends.iter().filter_map(|end| from_key(end)).collect(),
            next: ends
                .last()
                .filter(|_| more)
                .map(|end| Cursor((*end).to_owned())),
        })
    }

    async fn clear(&self) -> Result<()> {
        loop {
            let page = self.page(None, NAMES).await?;
            if page.names.is_empty() {
                return Ok(());
            }
            let paths = page.names.iter().map(|name| self.object(name));
            self.delete(paths.collect::<Result<_>>()?).await?;
        }
    }

    async fn delete(&self, paths: Vec<Path>) -> Result<()> {
        for some in paths.chunks(NAMES) {
            let some: Vec<_> = some.iter().cloned().map(Ok).collect();
            let gone = self.store.delete_stream(stream::iter(some).boxed());
            let gone = gone.try_for_each(|_| async { Ok(()) });
            match self.in_time(gone).await {
                Ok(()) | Err(Error::NoObject) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Nothing is looked for where something is written, except the bucket.
    fn written(&self, done: object_store::Result<()>) -> Result<()> {
        done.map_err(|error| match classify(error, self.timeout) {
            Error::NoObject => self.no_bucket(),
            error => error,
        })
    }

    fn no_bucket(&self) -> Error {
        Failure::Broken(format!("there is no bucket `{}`", self.name)).into()
    }
}

async fn within<T>(
    time: Duration,
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T> {
    match timeout(time, work).await {
        Ok(done) => done.map_err(|error| classify(error, time)),
        Err(_) => Err(Failure::TimedOut(time).into()),
    }
}

/// The same bytes, fetched on the stores' event loop as far as there is somebody to take them.
fn elsewhere(mut pieces: Outgoing, handle: &Handle) -> Outgoing {
    let (out, fetched) = mpsc::channel(PIECES);
    let task = Task(handle.spawn(async move {
        while let Some(piece) = pieces.next().await {
            if out.send(piece).await.is_err() {
                break;
            }
        }
        Ok(())
    }));
    let fetched = stream::unfold((fetched, task), |(mut fetched, task)| async move {
        let piece = fetched.recv().await?;
        Some((piece, (fetched, task)))
    });
    fetched.boxed()
}

fn info(meta: &ObjectMeta) -> ObjectInfo {
    ObjectInfo {
        size: meta.size,
        written_ms: u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0),
    }
}
