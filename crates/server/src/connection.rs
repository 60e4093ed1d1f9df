//! One client connection from accept to close: which protocol it speaks, how long it may keep us waiting, and how it
//! ends. What its requests mean is `http`'s business.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::bounds::Bounds;
use crate::http::{self, Callee};
use crate::seats::{Full, Seats};
use crate::stream::{self, GuardedStream};
use crate::wire::{Wait, Wire};
use crate::worker::{self, Seat, Worker};

const TOO_MANY_CONNECTIONS: LastWord = LastWord {
    head: "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n",
    text: "too many connections\n",
};
const TOO_MANY_FROM_THIS_ADDRESS: LastWord = LastWord {
    head: "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n",
    text: "too many connections from this address\n",
};
const HEAD_TOO_SLOW: LastWord = LastWord {
    head: "HTTP/1.1 408 Request Timeout\r\n",
    text: "the request head came too slowly\n",
};
const HEAD_INCOMPLETE: LastWord = LastWord {
    head: "HTTP/1.1 400 Bad Request\r\n",
    text: "the request head is incomplete\n",
};

/// An answer where hyper has no request to answer; the connection ends with it.
struct LastWord {
    /// Status line and fields, each with its line end, without those that every such answer has.
    head: &'static str,
    text: &'static str,
}

impl LastWord {
    fn message(&self) -> String {
        let Self { head, text } = self;
        format!(
            "{head}connection: close\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )
    }
}

/// How the part of a connection that hyper drives ended.
#[derive(Debug)]
enum End {
    /// hyper is done with it, well or badly.
    Hyper(hyper::Result<()>),
    /// The client let us wait too long.
    Expired(Wait),
}

/// Serves one connection to its end.
pub(crate) async fn serve<C: Callee>(seat: Seat<C>, mut tcp: TcpStream) {
    let worker = &seat.worker;
    let opening = tokio::select! {
        biased;
        opening = tokio::time::timeout(worker.bounds.head_timeout, stream::open(&mut tcp)) => opening,
        () = worker.drained() => return,
    };
    // Nobody there: too slow to say a word, or gone.
    let Ok(Some(opening)) = opening else { return };
    let wire = Arc::new(Wire::new(worker.clone(), seat.client, opening.is_http2()));
    let io = TokioIo::new(GuardedStream::new(tcp, opening, wire.clone()));
    let service = service_fn({
        let wire = wire.clone();
        move |request| http::answer(wire.clone(), request)
    });
    if wire.h2 {
        let mut connection = worker::h2(&wire).serve_connection(io, service);
        let end = drive(&wire, &mut connection, |connection| {
            connection.graceful_shutdown()
        })
        .await;
        if let End::Expired(Wait::Request | Wait::Head) = end {
            Pin::new(&mut connection).graceful_shutdown();
            // Whether the client acknowledged or not, it is over.
            let _acknowledged = tokio::time::timeout(worker.bounds.h2_goodbye, connection).await;
        }
    } else {
        let mut connection = worker.h1.serve_connection(io, service);
        let end = drive(&wire, &mut connection, |connection| {
            connection.graceful_shutdown()
        })
        .await;
        close(&wire, &end, connection.into_parts().io.inner());
    }
}

/// Polls hyper, the drain and the watchdog. hyper comes first, so that a client which has sent something in time is
/// served even if its time ran out while this thread was busy.
async fn drive<C, F>(wire: &Wire<C>, connection: &mut F, shut_down: impl Fn(Pin<&mut F>)) -> End
where
    F: Future<Output = hyper::Result<()>> + Unpin,
{
    let mut watchdog = Watchdog::new(wire);
    let mut alarm = pin!(tokio::time::sleep(Duration::MAX));
    let mut drain = pin!(wire.worker.drained());
    let mut drain_is_awaited = false;
    let mut shutting_down = false;
    std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(end) = Pin::new(&mut *connection).poll(cx) {
                return Poll::Ready(End::Hyper(end));
            }
            // One poll leaves this task's waker there for good; after it the flag is cheaper to ask.
            if !drain_is_awaited {
                drain_is_awaited = true;
                let _not_yet = drain.as_mut().poll(cx);
            }
            if shutting_down || !wire.worker.is_draining() {
                return watchdog.poll(cx, wire, alarm.as_mut()).map(End::Expired);
            }
            shutting_down = true;
            shut_down(Pin::new(&mut *connection));
        }
    })
    .await
}

/// Says what hyper did not say, and makes sure that a broken answer does not end like a complete one.
fn close<C>(wire: &Wire<C>, end: &End, stream: &GuardedStream<C>) {
    match end {
        _ if wire.is_reset() => stream.reset_on_close(),
        End::Expired(Wait::Reader) => stream.reset_on_close(),
        End::Expired(Wait::Head) if wire.is_mid_message() => {
            stream.farewell(&HEAD_TOO_SLOW.message())
        }
        End::Hyper(Err(error))
            if error.is_incomplete_message() && wire.is_unanswered() && wire.is_mid_message() =>
        {
            stream.farewell(&HEAD_INCOMPLETE.message());
        }
        End::Expired(_) | End::Hyper(_) => {}
    }
}

/// Answers a client for whom there is no seat, without waiting for its request: half-open clients must not occupy
/// anything. A few of them at a time may go on sending for a moment, because a close would answer that with a reset,
/// which can destroy the answer before it is read.
pub(crate) fn turn_away<C: Callee>(worker: &Arc<Worker<C>>, tcp: TcpStream, full: Full) {
    let word = match full {
        Full::Total { .. } => TOO_MANY_CONNECTIONS,
        Full::Address => TOO_MANY_FROM_THIS_ADDRESS,
    };
    if let Full::Total { first: true } = full {
        let what = "all connections are taken: further clients are told 503";
        worker.log.host_fault(what);
    }
    // Best effort: the client may be gone. A new socket has room for this.
    let _sent = tcp.try_write(word.message().as_bytes());
    if worker.seats.may_stay() {
        let leaving = Leaving(worker.seats.clone());
        let linger = worker.bounds.linger;
        tokio::spawn(async move {
            let _leaving = leaving;
            // Whether it has read the answer or not, it is over.
            let _left = tokio::time::timeout(linger, see_off(tcp)).await;
        });
    } else {
        // What has come already would make the close a reset.
        let _taken = tcp.try_read(&mut [0; 4096]);
    }
}

/// Says that nothing more comes, and throws away what the client sends until it closes.
async fn see_off(mut tcp: TcpStream) {
    if tcp.shutdown().await.is_err() {
        return;
    }
    let mut discarded = [0; 4096];
    while let Ok(1..) = tcp.read(&mut discarded).await {}
}

/// One of those who were turned away; counted until it is dropped.
struct Leaving(Arc<Seats>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.has_left();
    }
}

/// Closes a connection whose client lets us wait. Every event that gives the client new time changes the wire's epoch;
/// the alarm is only ever moved when it fires or would fire too late, so that a request costs one look at the clock.
struct Watchdog {
    waiting: (Wait, u32),
    since: Instant,
}

impl Watchdog {
    fn new<C>(wire: &Wire<C>) -> Self {
        Self {
            waiting: wire.waiting(),
            since: Instant::now(),
        }
    }

    /// Ready with what was waited for too long.
    fn poll<C>(
        &mut self,
        cx: &mut Context<'_>,
        wire: &Wire<C>,
        mut alarm: Pin<&mut Sleep>,
    ) -> Poll<Wait> {
        let waiting = wire.waiting();
        let Some(patience) = patience(waiting.0, &wire.worker.bounds) else {
            self.waiting = waiting;
            return Poll::Pending;
        };
        if waiting != self.waiting {
            self.waiting = waiting;
            self.since = Instant::now();
        }
        let end = self.since + patience;
        if alarm.deadline() > end {
            alarm.as_mut().reset(end);
        } else if !alarm.is_elapsed() {
            // It has been polled by this task before and fires early enough.
            return Poll::Pending;
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= end {
                return Poll::Ready(waiting.0);
            }
            alarm.as_mut().reset(end);
        }
        Poll::Pending
    }
}

/// How long each kind of waiting may last; `None` where something else keeps the time.
fn patience(wait: Wait, bounds: &Bounds) -> Option<Duration> {
    match wait {
        Wait::Guest => None,
        Wait::Head => Some(bounds.head_timeout),
        Wait::Request => Some(bounds.idle_timeout),
        Wait::Reader => Some(bounds.write_stall),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_word_is_one_complete_answer() {
        for word in [
            TOO_MANY_CONNECTIONS,
            TOO_MANY_FROM_THIS_ADDRESS,
            HEAD_TOO_SLOW,
            HEAD_INCOMPLETE,
        ] {
            let message = word.message();
            let (head, text) = message.split_once("\r\n\r\n").unwrap();
            let mut lines = head.split("\r\n");
            let status = lines.next().unwrap();
            assert!(status.starts_with("HTTP/1.1 "), "{message}");
            let fields: Vec<_> = lines.map(|line| line.split_once(": ").unwrap()).collect();
            let value = |name| {
                let mut values = fields.iter().filter(|field| field.0 == name);
                let only = values.next().unwrap().1;
                assert!(values.next().is_none(), "{message}");
                only
            };
            assert_eq!(value("connection"), "close");
            assert_eq!(value("content-length"), text.len().to_string());
        }
    }
}
