//! Futures and streams that end in time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use super::{Guard, Trouble, outage};
use crate::Failure;

/// What it gives, or that it took too long.
pub(super) async fn limited<T, E: Trouble>(
    handle: &Handle,
    timeout: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let alarm = {
        let _clock = handle.enter();
        tokio::time::sleep(timeout)
    };
    tokio::select! {
        biased;
        answer = call => answer,
        () = alarm => Err(Failure::TimedOut(timeout).into()),
    }
}

/// A backend's stream of which each piece has the guard's time. After a piece that is late there are no more.
pub(super) struct Timed<T, E> {
    inner: Option<BoxStream<'static, Result<T, E>>>,
    guard: Guard,
    timeout: Duration,
    /// Runs while a piece is waited for.
    alarm: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<T, E: Trouble> Timed<T, E> {
    pub(super) fn new(
        inner: BoxStream<'static, Result<T, E>>,
        guard: Guard,
        timeout: Duration,
    ) -> Self {
        Self {
            inner: Some(inner),
            guard,
            timeout,
            alarm: None,
            waiting: false,
        }
    }

    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let deadline = || Instant::now() + self.timeout;
        let alarm = self.alarm.get_or_insert_with(|| {
            let _clock = self.guard.handle.enter();
            Box::pin(tokio::time::sleep_until(deadline()))
        });
        if !self.waiting {
            self.waiting = true;
            alarm.as_mut().reset(deadline());
        }
        alarm.as_mut().poll(context).is_ready()
    }
}

impl<T, E: Trouble> Stream for Timed<T, E>
where
    Self: Unpin,
{
    type Item = Result<T, E>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let item = match inner.as_mut().poll_next(context) {
            Poll::Ready(item) => item,
            Poll::Pending if this.is_late(context) => {
                Some(Err(Failure::TimedOut(this.timeout).into()))
            }
            Poll::Pending => return Poll::Pending,
        };
        this.waiting = false;
        match &item {
            Some(item) => this.guard.breaker.pass().settle(outage(item)),
            None => this.inner = None,
        }
        if matches!(item, Some(Err(_))) {
            this.inner = None;
        }
        Poll::Ready(item)
    }
}
