//! A program's standard input: the body of its request, read as it comes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body;
use tokio::io::{AsyncRead, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use crate::guest::{BodyError, RequestBody};
use crate::lock::lock;

/// The stream that the program reads from. Clones are the same stream.
#[derive(Clone)]
pub(super) struct Input(Arc<Mutex<State>>);

struct State {
    /// `None` behind its end.
    body: Option<RequestBody>,
    /// Bytes that have come and were not read.
    come: Bytes,
    /// The body broke off: it has too many bytes, it came too slowly, or its client went away.
    failed: Option<BodyError>,
}

impl Input {
    pub(super) fn new(body: RequestBody) -> Self {
        let body = Some(body).filter(|body| !body.is_end_stream());
        Self(Arc::new(Mutex::new(State {
            body,
            come: Bytes::new(),
            failed: None,
        })))
    }

    /// Nobody reads any more.
    pub(super) fn close(&self) {
        let body = lock(&self.0).body.take();
        drop(body);
    }
}

impl State {
    /// Ready once there are bytes, or there never will be.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.come.is_empty() && self.failed.is_none() {
            let Some(body) = &mut self.body else { break };
            match ready!(Pin::new(body).poll_frame(cx)) {
                // Trailers are not for programs.
                Some(Ok(frame)) => self.come = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    self.failed = Some(error);
                    self.body = None;
                }
                None => self.body = None,
            }
        }
        Poll::Ready(())
    }

    /// Some of what has come.
    fn take(&mut self, most: usize) -> Bytes {
        let most = most.min(self.come.len());
        self.come.split_to(most)
    }

    fn failure(&self) -> Option<io::Error> {
        let failed = self.failed.as_ref()?;
        let told = format!("the request's body broke off: {failed:?}");
        Some(io::Error::new(io::ErrorKind::ConnectionReset, told))
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Input {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        poll_fn(|cx| lock(&self.0).poll_more(cx)).await;
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut state = lock(&self.0);
        if !state.come.is_empty() {
            return Ok(state.take(size));
        }
        match state.failure() {
            Some(error) => Err(StreamError::LastOperationFailed(error.into())),
            None if state.body.is_none() => Err(StreamError::Closed),
            None => Ok(Bytes::new()),
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        ready!(state.poll_more(cx));
        if state.come.is_empty() {
            return Poll::Ready(state.failure().map_or(Ok(()), Err));
        }
        let taken = state.take(buffer.remaining());
        buffer.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}
