//! A program's standard output: the head of its answer, then the body, which leaves as it is written.
//!
//! What nobody has read yet is bounded; a program that is ahead of its client waits. What cannot become an answer is a
//! [`Verdict`], which ends the program.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use hostel_app::limits;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi_http::WasiBody;

use crate::abi::cgi::head::{self, Head};
use crate::abi::http::{Answer, Answered};
use crate::abi::start::Refused;
use crate::guest::BodyError;
use crate::lock::lock;

/// The stream that the program writes to. Clones are the same stream.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<State>>);

/// Why a program does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// A sentence for the log.
    pub(super) why: String,
    /// The client has an answer all the same.
    pub(super) answered: bool,
}

/// How far the answer is when the program has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// There is an answer; the sentence is for the log.
    Answered(Option<String>),
    /// The head has not come to its end.
    NoHead,
    /// The body is shorter than it was announced.
    Short(String),
}

struct State {
    answer: Option<oneshot::Sender<Answer>>,
    /// The request is `HEAD`: a body is not missed.
    bodiless: bool,
    /// Bytes of the head, without CR; `None` behind it.
    head: Option<Vec<u8>>,
    /// Lines of the head that were left out.
    left_out: Option<String>,
    /// Bytes of the body that nobody has taken.
    ready: BytesMut,
    written: u64,
    declared: Option<u64>,
    ended: bool,
    verdict: Option<Verdict>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Output {
    /// The stream whose head becomes the answer. `bodiless`: the answer is to have no body.
    pub(super) fn new(answer: oneshot::Sender<Answer>, bodiless: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            answer: Some(answer),
            bodiless,
            head: Some(Vec::new()),
            left_out: None,
            ready: BytesMut::new(),
            written: 0,
            declared: None,
            ended: false,
            verdict: None,
            reader: None,
            writer: None,
        })))
    }

    /// Why the program is not to go on, if it is not.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        lock(&self.0).verdict.clone()
    }

    /// The program has ended, and meant to.
    pub(super) fn end(&self) -> End {
        lock(&self.0).end()
    }

    /// There will be no head: a client that waits for one is told that it is the program's fault.
    pub(super) fn answer_for_it(&self) {
        lock(&self.0).insufficient();
    }

    fn write(&self, bytes: &[u8]) -> StreamResult<()> {
        let mut state = lock(&self.0);
        if state.verdict.is_none() {
            let body = Output(self.0.clone());
            state.write(bytes, body);
        }
        state.check()
    }

    /// Room for so many bytes; waits for some.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if state.verdict.is_some() || state.room() > 0 {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl State {
    fn room(&self) -> usize {
        limits::CGI_AHEAD.size().saturating_sub(self.ready.len())
    }

    fn check(&self) -> StreamResult<()> {
        match &self.verdict {
            Some(verdict) => Err(StreamError::Trap(Refused::new(&verdict.why).into())),
            None => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8], body: Output) {
        let Some(head) = &mut self.head else {
            return self.write_body(bytes);
        };
        let end = head::take(head, bytes);
        let most = limits::CGI_HEAD.size();
        if head.len() > most {
            return self.refuse(format!(
                "the head of its answer is longer than {most} bytes"
            ));
        }
        let Some(end) = end else { return };
        let lines = self.head.take().unwrap_or_default();
        match head::parse(&lines) {
            Ok(head) => {
                self.begin(head, body);
                self.write_body(bytes.get(end..).unwrap_or_default());
            }
            Err(head::Unfit::Insufficient) => {
                self.insufficient();
            }
            Err(head::Unfit::Refused(why)) => self.refuse(why),
        }
    }

    /// The head is complete: it may leave.
    fn begin(&mut self, head: Head, body: Output) {
        self.left_out = head.left_out;
        let status = head.response.status();
        let none = self.bodiless || matches!(status.as_u16(), 204 | 205 | 304);
        self.declared = head.declared.filter(|_| !none);
        self.answer(head.response.map(|()| Written(body).boxed_unsync()));
    }

    fn answer(&mut self, response: Response<WasiBody>) {
        if let Some(answer) = self.answer.take() {
            let answered = Answered {
                response,
                until_read: None,
            };
            // Nobody listens any more if the client is gone.
            let _heard = answer.send(Ok(answered));
        }
    }

    fn write_body(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.written = self.written.saturating_add(bytes.len() as u64);
        if let Some(declared) = self.declared.filter(|declared| self.written > *declared) {
            return self.refuse(format!(
                "it wrote more than the {declared} bytes that its Content-Length announced"
            ));
        }
        self.ready.extend_from_slice(bytes);
        wake(&mut self.reader);
    }

    fn refuse(&mut self, why: String) {
        self.verdict.get_or_insert(Verdict {
            why,
            answered: false,
        });
    }

    /// The answer to a client whose program does not say what it answers.
    fn insufficient(&mut self) {
        self.answer(head::insufficient());
        self.verdict.get_or_insert(Verdict {
            why: "the head of its answer has neither content-type nor status nor location".into(),
            answered: true,
        });
    }

    fn end(&mut self) -> End {
        if self.head.is_some() {
            return End::NoHead;
        }
        match self.declared.filter(|declared| self.written < *declared) {
            Some(declared) => End::Short(format!(
                "it promised a body of {declared} bytes and wrote {}",
                self.written
            )),
            None => {
                self.ended = true;
                wake(&mut self.reader);
                End::Answered(self.left_out.take())
            }
        }
    }
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

/// The text of an answer that is the host's own.
pub(super) fn text(text: &'static str) -> WasiBody {
    let body = Full::new(Bytes::from_static(text.as_bytes()));
    body.map_err(|never| match never {}).boxed_unsync()
}

/// The body as it is written. It ends when the program has ended well, and not before.
struct Written(Output);

impl Body for Written {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = lock(&self.0.0);
        if !state.ready.is_empty() {
            let taken = state.ready.split().freeze();
            wake(&mut state.writer);
            return Poll::Ready(Some(Ok(Frame::data(taken))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.0.0);
        state.ended && state.ready.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let state = lock(&self.0.0);
        match state.ended {
            true => SizeHint::with_exact(state.ready.len() as u64),
            false => SizeHint::default(),
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.poll_room(cx)).await;
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Output::write(self, &bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let state = lock(&self.0);
        state.check().map(|()| state.room())
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_room(cx));
        let room = lock(&self.0).room();
        let bytes = bytes.get(..room).unwrap_or(bytes);
        match Output::write(&self, bytes) {
            Ok(()) => Poll::Ready(Ok(bytes.len())),
            // Whoever polls the program sees why.
            Err(_) => Poll::Pending,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
