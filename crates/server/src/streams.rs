//! Runs the streams of one HTTP/2 connection, each on a clock of its own: one whose client does not take its answer is
//! reset, and its guest's place is free again. The watchdog of the connection cannot do that: other streams may go on
//! all the while, and a client that pauses one download must not lose the rest.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::Executor;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::http::Callee;
use crate::wire::Wire;

/// What hyper gives the streams of a connection to.
#[derive(Debug)]
pub(crate) struct Streams<C>(pub(crate) Arc<Wire<C>>);

impl<C> Clone for Streams<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C, F> Executor<F> for Streams<C>
where
    C: Callee,
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let wire = self.0.clone();
        tokio::spawn(async move {
            let mut stream = pin!(stream);
            let mut stall = Stall::default();
            poll_fn(|cx| {
                let before = wire.answers();
                if stream.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                // Dropping what hyper has of a stream makes h2 reset it.
                stall.poll(cx, &wire, before)
            })
            .await;
        });
    }
}

/// How long one stream has been waiting for its client to take a piece of the answer.
#[derive(Debug, Default)]
struct Stall {
    /// Pieces offered and not taken: 0 or 1.
    offered: u32,
    since: Option<Instant>,
    alarm: Alarm,
}

impl Stall {
    /// Ready once it took too long. `before` is what the wire said before the stream was polled: what has changed since
    /// is this stream's doing, because a connection and its streams share one thread.
    fn poll<C>(&mut self, cx: &mut Context<'_>, wire: &Wire<C>, before: Answers) -> Poll<()> {
        let after = wire.answers();
        self.offered = self
            .offered
            .wrapping_add(after.offered)
            .wrapping_sub(before.offered);
        if self.offered == 0 || after.moves != before.moves {
            self.since = None;
        }
        if self.offered == 0 {
            return Poll::Pending;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.alarm.poll(cx, since + wire.worker.bounds.write_stall)
    }
}

/// How far the answers of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answers {
    /// Pieces that hyper was given and has not asked beyond.
    pub(crate) offered: u32,
    /// Counts every piece given and taken.
    pub(crate) moves: u32,
}
