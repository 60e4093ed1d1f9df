//! A service's standard input: nothing to read, and its end is how the service is asked to stop.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

/// An empty stream that ends once the value is true.
#[derive(Clone)]
pub(crate) struct UntilStop(watch::Receiver<bool>);

impl UntilStop {
    pub(crate) fn new(stop: watch::Receiver<bool>) -> Self {
        Self(stop)
    }

    /// Ready at its end.
    async fn end(mut stop: watch::Receiver<bool>) {
        if stop.wait_for(|stop| *stop).await.is_err() {
            // Nobody is left who could ask it to stop.
            std::future::pending().await
        }
    }
}

impl IsTerminal for UntilStop {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for UntilStop {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(End(Some(Box::pin(Self::end(self.0.clone())))))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for UntilStop {
    async fn ready(&mut self) {
        Self::end(self.0.clone()).await;
    }
}

impl InputStream for UntilStop {
    fn read(&mut self, _: usize) -> StreamResult<Bytes> {
        match *self.0.borrow() {
            true => Err(StreamError::Closed),
            false => Ok(Bytes::new()),
        }
    }
}

/// The same as a reader; `None` behind the end, which may be read again and again.
struct End(Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>);

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.0 {
            ready!(end.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn the_end_is_read_again_and_again() {
        let (tell, stop) = watch::channel(false);
        let mut input = Box::into_pin(UntilStop::new(stop).async_stream());
        let mut read = || input.read(&mut [0; 4]).now_or_never().map(Result::unwrap);
        assert_eq!(read(), None);
        tell.send(true).unwrap();
        for _ in 0..3 {
            assert_eq!(read(), Some(0));
        }
    }
}
