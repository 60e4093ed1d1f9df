//! Blobs behind the guard: each operation has the place's time, and so has each piece of an object on its way in or out.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::time::Instant;

use super::timed::Timed;
use super::{Guarded, outage};
use crate::Failure;
use crate::blob::{Blob, Cursor, GaveUp, Incoming, Object, ObjectInfo, Page, Result, Span};

#[async_trait]
impl<T: Blob + ?Sized> Blob for Guarded<T> {
    async fn check(&self) -> Result<()> {
        self.once(self.inner.check()).await
    }

    async fn create(&self) -> Result<bool> {
        self.once(self.inner.create()).await
    }

    async fn remove(&self) -> Result<bool> {
        self.once(self.inner.remove()).await
    }

    async fn created_ms(&self) -> Result<Option<u64>> {
        self.once(self.inner.created_ms()).await
    }

    async fn put(&self, name: &str, body: Incoming) -> Result<ObjectInfo> {
        let pass = self.guard.breaker.admit()?;
        let progress = Arc::new(Progress::new());
        let watched = Watched {
            body,
            progress: progress.clone(),
        };
        let answer = self.put_in_time(name, watched.boxed(), &progress).await;
        pass.settle(outage(&answer));
        answer
    }

    async fn get(&self, name: &str, span: Span) -> Result<Object> {
        let Object { info, body } = self.once(self.inner.get(name, span)).await?;
        let body = Timed::new(body, self.guard.clone(), self.guard.timeout).boxed();
        Ok(Object { info, body })
    }

    async fn info(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.once(self.inner.info(name)).await
    }

    async fn list(&self, from: Option<&Cursor>, limit: usize) -> Result<Page> {
        self.once(self.inner.list(from, limit)).await
    }

    async fn delete(&self, names: &[String]) -> Result<()> {
        self.once(self.inner.delete(names)).await
    }

    async fn copy(&self, from: &str, to: &str) -> Result<()> {
        self.once(self.inner.copy(from, to)).await
    }

    async fn clear(&self) -> Result<()> {
        self.once(self.inner.clear()).await
    }
}

impl<T: Blob + ?Sized> Guarded<T> {
    /// The driver has the place's time for each piece. While it waits for the writer nothing counts.
    async fn put_in_time(
        &self,
        name: &str,
        body: Incoming,
        progress: &Progress,
    ) -> Result<ObjectInfo> {
        let timeout = self.guard.timeout;
        let put = self.inner.put(name, body);
        tokio::pin!(put);
        let mut deadline = Instant::now() + timeout;
        loop {
            let alarm = {
                let _clock = self.guard.handle.enter();
                tokio::time::sleep_until(deadline)
            };
            tokio::select! {
                biased;
                answer = &mut put => return answer,
                () = alarm => {
                    deadline = progress.since() + timeout;
                    if deadline <= Instant::now() {
                        return Err(Failure::TimedOut(timeout).into());
                    }
                }
            }
        }
    }
}

/// Whose turn it is.
struct Progress(Mutex<Turn>);

enum Turn {
    /// The writer's: the driver waits for a piece.
    Writer,
    /// The driver's, since then.
    Driver(Instant),
}

impl Progress {
    fn new() -> Self {
        Self(Mutex::new(Turn::Driver(Instant::now())))
    }

    /// Since when the driver has its piece.
    fn since(&self) -> Instant {
        match *self.turn() {
            Turn::Writer => Instant::now(),
            Turn::Driver(since) => since,
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A writer's body that tells whose turn it is.
struct Watched {
    body: Incoming,
    progress: Arc<Progress>,
}

impl Stream for Watched {
    type Item = std::result::Result<Bytes, GaveUp>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = this.body.as_mut().poll_next(context);
        *this.progress.turn() = match polled {
            Poll::Ready(_) => Turn::Driver(Instant::now()),
            Poll::Pending => Turn::Writer,
        };
        polled
    }
}
