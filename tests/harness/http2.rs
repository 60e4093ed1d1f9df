//! An HTTP/2 client with prior knowledge, for requests as honest clients send them. For the others see `frames`.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::PATIENCE;
use super::message::{Answer, Fields};

/// The body of every request.
pub(crate) type Outgoing = UnsyncBoxBody<Bytes, Infallible>;

/// One connection; clones share it.
#[derive(Clone)]
pub(crate) struct Client {
    sender: SendRequest<Outgoing>,
    address: SocketAddr,
}

/// Runs a test's conversation within the patience.
pub(crate) fn converse<T>(conversation: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, conversation)
            .await
            .expect("it ends in time")
    })
}

/// Connects.
pub(crate) async fn connect(address: SocketAddr) -> Client {
    let stream =
        std::net::TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts");
    stream.set_nonblocking(true).expect("a socket");
    let io = TokioIo::new(TcpStream::from_std(stream).expect("a socket"));
    let (sender, connection) = handshake(TokioExecutor::new(), io)
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    Client { sender, address }
}

impl Client {
    /// A request for a path, to be completed by `body`.
    pub(crate) fn request(&self, method: &str, path: &str) -> hyper::http::request::Builder {
        let uri = format!("http://{}{path}", self.address);
        Request::builder().method(method).uri(uri)
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        request: Request<Outgoing>,
    ) -> hyper::Result<Response<Incoming>> {
        let mut sender = self.sender.clone();
        sender.ready().await?;
        sender.send_request(request).await
    }

    /// Sends a request and waits for its whole answer.
    pub(crate) async fn ask(&self, request: Request<Outgoing>) -> Answer {
        whole(self.send(request).await.expect("an answer")).await
    }

    /// `GET PATH`.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(
            self.request("GET", path)
                .body(nothing())
                .expect("a request"),
        )
        .await
    }
}

/// Reads an answer to its end.
pub(crate) async fn whole(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body");
    let trailers = body.trailers().map(fields).unwrap_or_default();
    Answer {
        status: head.status.as_u16(),
        fields: fields(&head.headers),
        body: body.to_bytes().to_vec(),
        chunks: Vec::new(),
        trailers,
    }
}

fn fields(headers: &HeaderMap) -> Fields {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// No body.
pub(crate) fn nothing() -> Outgoing {
    http_body_util::Empty::new().boxed_unsync()
}

/// A body that is all here.
pub(crate) fn content(bytes: impl Into<Bytes>) -> Outgoing {
    http_body_util::Full::new(bytes.into()).boxed_unsync()
}

/// A body that goes on for as long as its [`Pen`] is held.
pub(crate) fn open_body() -> (Pen, Outgoing) {
    let (sender, receiver) = mpsc::channel(16);
    (Pen(sender), OpenBody(receiver).boxed_unsync())
}

/// Writes an open body; dropping it ends the body.
pub(crate) struct Pen(mpsc::Sender<Frame<Bytes>>);

impl Pen {
    /// Sends a piece.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) {
        self.0
            .send(Frame::data(bytes.into()))
            .await
            .expect("somebody reads");
    }

    /// Ends the body with a trailer.
    pub(crate) async fn end(self, name: &'static str, value: &'static str) {
        let pair = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        let trailers = HeaderMap::from_iter([pair]);
        self.0
            .send(Frame::trailers(trailers))
            .await
            .expect("somebody reads");
    }
}

struct OpenBody(mpsc::Receiver<Frame<Bytes>>);

impl Body for OpenBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}
