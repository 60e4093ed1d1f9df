//! The HTTP client below the S3 library: pooled HTTP/1 over rustls, and a bound for silence.
//!
//! A request or an answer may take as long as it moves: what ends it is that nothing moved for the place's timeout. Runs on
//! the stores' event loop; the driver sees to that.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::super::PATIENCE;
use async_trait::async_trait;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Connections that are kept for the next request.
const IDLE: usize = 16;
/// How long they are kept; servers close theirs later.
const IDLE_TIME: Duration = Duration::from_secs(15);

/// A client that gives up when nothing moves for so long.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<Tcp>, Watched>,
    silence: Duration,
}

/// Nothing moved for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing moved for {} ms", .0.as_millis())]
struct Silence(Duration);

impl Client {
    /// Loads the platform's certificates, which an endpoint without TLS does not need.
    pub(super) fn new(tls: bool, silence: Duration) -> io::Result<Self> {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(silence));
        let mut roots = rustls::RootCertStore::empty();
        if tls {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE)
            .build(connector);
        Ok(Self { http, silence })
    }
}

impl HttpConnector for Client {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let moved = Moved::now();
        let silence = match moves_an_object(&request) {
            true => self.silence * PATIENCE,
            false => self.silence,
        };
        let (head, body) = request.into_parts();
        let moved_too = moved.clone();
        let body = Watched { body, moved };
        let answer = self.http.request(http::Request::from_parts(head, body));
        let answer = tokio::select! {
            answer = answer => answer.map_err(|error| failed(kind(&error), error))?,
            () = moved_too.silence(silence) => return Err(silent(silence)),
        };
        let (head, body) = answer.into_parts();
        let body = Answer {
            body,
            silence: self.silence,
            alarm: None,
        };
        Ok(http::Response::from_parts(
            head,
            HttpResponseBody::new(body),
        ))
    }
}

/// Whether the server moves a whole object before it answers: it puts parts together, or copies.
fn moves_an_object(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.headers().contains_key("x-amz-copy-source")
        || request.method() == http::Method::POST && query.contains("uploadId=")
}

/// When something last moved.
#[derive(Debug, Clone)]
struct Moved(Arc<Mutex<Instant>>);

impl Moved {
    fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn set(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Ends when nothing has moved for so long.
    async fn silence(&self, silence: Duration) {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let end = last + silence;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// A request's body that tells when the connection takes some of it.
#[derive(Debug)]
struct Watched {
    body: HttpRequestBody,
    moved: Moved,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.moved.set();
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body whose silence has an end.
#[derive(Debug)]
struct Answer {
    body: Incoming,
    silence: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let silence = self.silence;
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.alarm = None;
            return Poll::Ready(
                frame.map(|frame| frame.map_err(|error| failed(kind(&error), error))),
            );
        }
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + silence)));
        alarm.as_mut().poll(cx).map(|()| Some(Err(silent(silence))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn silent(silence: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Silence(silence))
}

fn failed(kind: HttpErrorKind, error: impl StdError + Send + Sync + 'static) -> HttpError {
    HttpError::new(kind, error)
}

/// What an error of the connection means for the library, which tries some again.
fn kind(error: &(dyn StdError + 'static)) -> HttpErrorKind {
    let mut next = Some(error);
    let mut kind = HttpErrorKind::Unknown;
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<legacy::Error>()
            && error.is_connect()
        {
            return HttpErrorKind::Connect;
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_parse() {
                return HttpErrorKind::Decode;
            }
            if error.is_closed() || error.is_incomplete_message() || error.is_canceled() {
                kind = HttpErrorKind::Request;
            }
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::TimedOut => HttpErrorKind::Timeout,
                _ => HttpErrorKind::Interrupted,
            };
        }
        next = error.source();
    }
    kind
}
