//! A request's body on its way to the guest: bounded in size, in the size of its pieces, and in how long it makes the
//! guest wait. Only time in which the guest wants bytes and the client sends none counts against the client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hostel_host::BodyError;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::bounds::Bounds;
use crate::fields;
use crate::request::Refusal;

/// Why a body was cut off; shared with the trigger, which answers for it if the guest has not.
#[derive(Debug, Default)]
pub(crate) struct Trouble(AtomicU8);

impl Trouble {
    const TOO_LARGE: u8 = 1;
    const TOO_SLOW: u8 = 2;

    /// The answer for a client whose body was cut off, if it was.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self.0.load(Relaxed) {
            Self::TOO_LARGE => Some(too_large()),
            Self::TOO_SLOW => Some(Refusal::closing(
                StatusCode::REQUEST_TIMEOUT,
                "the request body came too slowly",
            )),
            _ => None,
        }
    }
}

/// The refusal of a body that is or says that it is above the limit.
pub(crate) fn too_large() -> Refusal {
    Refusal::closing(
        StatusCode::PAYLOAD_TOO_LARGE,
        "the request body is too large",
    )
}

/// See the module's documentation.
pub(crate) struct Upload {
    incoming: Incoming,
    /// What was cut off from a piece that was too large.
    rest: Bytes,
    limit: u64,
    left: u64,
    chunk_bytes: usize,
    clock: Patience,
    trouble: Arc<Trouble>,
    failed: bool,
}

impl Upload {
    pub(crate) fn new(incoming: Incoming, limit: u64, bounds: &Bounds) -> Self {
        Self {
            incoming,
            rest: Bytes::new(),
            limit,
            left: limit,
            chunk_bytes: bounds.chunk_bytes,
            clock: Patience::new(bounds),
            trouble: Arc::default(),
            failed: false,
        }
    }

    /// Tells, after the call, whether the body was cut off.
    pub(crate) fn trouble(&self) -> Arc<Trouble> {
        self.trouble.clone()
    }

    fn fail(
        &mut self,
        trouble: u8,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.trouble.0.store(trouble, Relaxed);
        self.failed = true;
        Poll::Ready(Some(Err(error)))
    }

    /// Hands out no more than a chunk of `data` and keeps the rest.
    fn chunk(&mut self, mut data: Bytes) -> Frame<Bytes> {
        if data.len() > self.chunk_bytes {
            self.rest = data.split_off(self.chunk_bytes);
        }
        Frame::data(data)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.failed {
            return Poll::Ready(None);
        }
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(this.chunk(rest))));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            ready!(this.clock.poll_waiting(cx));
            return this.fail(Trouble::TOO_SLOW, BodyError::ConnectionReadTimeout);
        };
        let Some(frame) = frame.transpose()? else {
            return Poll::Ready(None);
        };
        match frame.into_data() {
            Ok(data) => {
                let length = data.len() as u64;
                this.clock.arrived(length);
                let Some(left) = this.left.checked_sub(length) else {
                    let limit = Some(this.limit);
                    return this.fail(Trouble::TOO_LARGE, BodyError::HttpRequestBodySize(limit));
                };
                this.left = left;
                Poll::Ready(Some(Ok(this.chunk(data))))
            }
            Err(frame) => Poll::Ready(frame.into_trailers().ok().map(|mut trailers| {
                fields::strip_trailers(&mut trailers);
                Ok(Frame::trailers(trailers))
            })),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || (self.rest.is_empty() && self.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let incoming = self.incoming.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(incoming.lower().saturating_add(rest));
        if let Some(upper) = incoming.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

/// How long a client may still make the guest wait. Two rules: no single silence beyond `stall`, and, once the guest
/// has waited for `grace` in all, no fewer than `rate` bytes per second of waiting. A client that sent less than that
/// while its request stood in line has let us wait already; little of that counts, because it may have waited for the
/// word to go on.
struct Patience {
    /// Until the first wait.
    begin: Option<Instant>,
    stall: Duration,
    grace: Duration,
    rate: u64,
    bytes: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    alarm: Alarm,
}

impl Patience {
    fn new(bounds: &Bounds) -> Self {
        Self {
            begin: Some(Instant::now()),
            stall: bounds.body_stall,
            grace: bounds.head_timeout,
            rate: bounds.body_rate,
            bytes: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            alarm: Alarm::default(),
        }
    }

    /// Ready once the present wait is too long; else wakes the task when it will be.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(begin) = self.begin.take() {
            self.stood_in_line(begin.elapsed());
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let end = since + self.wait_max();
        self.alarm.poll(cx, end)
    }

    /// The first wait begins so long after the head came.
    fn stood_in_line(&mut self, time: Duration) {
        let expected = self.rate.saturating_mul(time.as_millis() as u64) / 1000;
        if self.bytes < expected {
            self.waited += time.min(self.grace / 10);
        }
    }

    fn arrived(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// How long one more wait may last.
    fn wait_max(&self) -> Duration {
        let Some(earned) = self.bytes.checked_div(self.rate) else {
            return self.stall;
        };
        let all_waits_max = self.grace.max(Duration::from_secs(earned));
        self.stall.min(all_waits_max.saturating_sub(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        Patience::new(&Bounds {
            body_stall: Duration::from_secs(30),
            head_timeout: Duration::from_secs(10),
            body_rate: 1024,
            ..Bounds::default()
        })
    }

    #[test]
    fn the_first_wait_may_last_as_long_as_a_head() {
        assert_eq!(patience().wait_max(), Duration::from_secs(10));
    }

    #[test]
    fn bytes_earn_time_up_to_one_stall() {
        let mut patience = patience();
        patience.arrived(20 * 1024);
        assert_eq!(patience.wait_max(), Duration::from_secs(20));
        patience.arrived(1024 * 1024);
        assert_eq!(patience.wait_max(), Duration::from_secs(30));
    }

    #[test]
    fn a_trickle_uses_its_time_up() {
        let mut patience = patience();
        patience.arrived(100);
        patience.waited = Duration::from_secs(10);
        assert_eq!(patience.wait_max(), Duration::ZERO);
    }

    #[test]
    fn whoever_sent_nothing_while_it_stood_in_line_has_a_little_less_time() {
        let mut silent = patience();
        silent.stood_in_line(Duration::from_millis(900));
        assert_eq!(silent.wait_max(), Duration::from_millis(9100));
        let mut patient = patience();
        patient.stood_in_line(Duration::from_secs(60));
        assert_eq!(patient.wait_max(), Duration::from_secs(9));
        let mut busy = patience();
        busy.arrived(1024);
        busy.stood_in_line(Duration::from_millis(900));
        assert_eq!(busy.wait_max(), Duration::from_secs(10));
    }

    #[test]
    fn without_a_rate_only_silence_counts() {
        let mut patience = Patience {
            rate: 0,
            ..patience()
        };
        patience.waited = Duration::from_secs(1000);
        assert_eq!(patience.wait_max(), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_silent_client_is_noticed_without_being_polled() {
        let mut patience = Patience {
            stall: Duration::from_millis(20),
            ..patience()
        };
        let begin = Instant::now();
        std::future::poll_fn(|cx| patience.poll_waiting(cx)).await;
        assert!(begin.elapsed() >= Duration::from_millis(20));
    }

    #[tokio::test]
    async fn a_new_wait_has_its_own_time_although_the_alarm_is_old() {
        let mut patience = Patience {
            stall: Duration::from_millis(30),
            ..patience()
        };
        let early =
            std::future::poll_fn(|cx| Poll::Ready(patience.poll_waiting(cx).is_ready())).await;
        assert!(!early);
        tokio::time::sleep(Duration::from_millis(20)).await;
        patience.arrived(1);
        let begin = Instant::now();
        std::future::poll_fn(|cx| patience.poll_waiting(cx)).await;
        assert!(begin.elapsed() >= Duration::from_millis(30));
    }
}
