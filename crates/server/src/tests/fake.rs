//! The callee of these tests: it does what the request's path says.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use bytes::Bytes;
use hostel_app::limits::Limits;
use hostel_app::route::{Route, Routes};
use hostel_app::{App, Component, Digest, Source};
use hostel_host::{BodyError, Call, Fault, RequestBody, RequestId};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use crate::http::Callee;

/// An app whose only component is `web`, with these routes to it (pattern and methods).
pub(crate) fn app(routes: &[(&str, &[&str])]) -> App {
    let route = |(pattern, methods): &(&str, &[&str])| Route {
        pattern: (*pattern).to_owned(),
        host: None,
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        component: 0,
        entrypoint: None,
        line: 0,
    };
    App {
        name: "test".into(),
        version: None,
        digest: Digest([0; 32]),
        components: vec![Component::new("web", Source::InlineWat, &[])],
        routes: Routes::new(routes.iter().map(route).collect()).unwrap(),
        messages: Vec::new(),
        crons: Vec::new(),
        services: Vec::new(),
        listen: None,
        health: None,
        notes: Vec::new(),
    }
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    limits: Limits,
    /// `/gate` waits for a permit.
    pub(crate) gate: Arc<Semaphore>,
    /// Calls that were dropped before they had answered.
    pub(crate) cancelled: Arc<AtomicUsize>,
    /// Calls that have begun.
    pub(crate) called: Arc<AtomicUsize>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            limits: Limits {
                request_body_bytes: 1000,
                ..Limits::default()
            },
            gate: Arc::new(Semaphore::new(0)),
            cancelled: Arc::default(),
            called: Arc::default(),
        }
    }

    async fn respond(&self, request: Request<RequestBody>) -> Result<Response<Script>, Fault> {
        let path = request.uri().path().to_owned();
        let answer = |steps: Vec<Step>| Ok(Response::new(Script::unsized_of(steps)));
        match path.as_str() {
            "/" => Ok(Response::new(Script::text("hello\n".into()))),
            "/seen" => Ok(Response::new(Script::text(seen(&request)))),
            "/echo" => match request.into_body().collect().await {
                Ok(body) => Ok(Response::new(Script::echo(body))),
                Err(error) => Err(Fault::Trap(error.to_string())),
            },
            "/gate" => {
                self.gate.acquire().await.unwrap().forget();
                Ok(Response::new(Script::text("through\n".into())))
            }
            "/trap" => Err(Fault::Trap("at\nsecret place".into())),
            "/busy" => Err(Fault::Busy(7)),
            "/deadline" => Err(Fault::Deadline(1234)),
            "/cpu" => Err(Fault::Cpu(1234)),
            "/memory" => Err(Fault::Memory(1234)),
            "/bad-guest" => Err(Fault::BadGuest("secret place".into())),
            "/host" => Err(Fault::Host("secret place".into())),
            "/cancelled" => Err(Fault::Cancelled),
            "/panic" => panic!("told to"),
            "/broken" => answer(vec![Step::data("begun"), Step::Fail]),
            "/trailers" => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", HeaderValue::from_static("42"));
                trailers.insert("content-length", HeaderValue::from_static("9"));
                let steps = vec![Step::data("body"), Step::Trailers(trailers)];
                let mut response = Response::new(Script::unsized_of(steps));
                response
                    .headers_mut()
                    .insert("trailer", HeaderValue::from_static("x-sum"));
                Ok(response)
            }
            "/endless" => answer(vec![Step::Forever(Bytes::from(vec![b'x'; 16 * 1024]))]),
            "/panic-later" => answer(vec![Step::data("begun"), Step::Panic]),
            "/hang" => answer(vec![Step::data("begun"), Step::Hang]),
            "/short" | "/long" => {
                let bytes = if path == "/short" { "ab" } else { "abcdef" };
                let mut response = Response::new(Script::unsized_of(vec![Step::data(bytes)]));
                response
                    .headers_mut()
                    .insert("content-length", HeaderValue::from_static("4"));
                Ok(response)
            }
            "/continue" => Ok(Response::builder()
                .status(100)
                .body(Script::text(String::new()))
                .unwrap()),
            "/no-content" => Ok(Response::builder()
                .status(204)
                .body(Script::text("x".into()))
                .unwrap()),
            _ => Ok(Response::builder()
                .status(404)
                .body(Script::text("no such test\n".into()))
                .unwrap()),
        }
    }
}

/// The request's head as a guest sees it.
fn seen(request: &Request<RequestBody>) -> String {
    let mut fields: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
        .collect();
    fields.sort();
    format!(
        "{} {}\n{}",
        request.method(),
        request.uri(),
        fields.concat()
    )
}

impl Callee for Fake {
    type Body = Script;

    fn report(&self, _: RequestId, _: &Fault) {}

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn call(
        &self,
        request: Request<RequestBody>,
        _call: Call,
    ) -> impl Future<Output = Result<Response<Script>, Fault>> + Send {
        self.called.fetch_add(1, SeqCst);
        let mut unfinished = Unfinished(Some(self.cancelled.clone()));
        async move {
            let outcome = self.respond(request).await;
            unfinished.finish();
            outcome
        }
    }
}

/// Counts a call that is dropped early.
struct Unfinished(Option<Arc<AtomicUsize>>);

impl Unfinished {
    fn finish(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(cancelled) = &self.0 {
            cancelled.fetch_add(1, SeqCst);
        }
    }
}

/// What a body does when it is polled.
pub(crate) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    /// The guest dies.
    Fail,
    /// This piece again and again.
    Forever(Bytes),
    /// Nothing ever again.
    Hang,
    /// The host has a bug.
    Panic,
}

impl Step {
    fn data(text: &'static str) -> Self {
        Self::Data(Bytes::from_static(text.as_bytes()))
    }
}

/// A body made of steps.
pub(crate) struct Script {
    steps: VecDeque<Step>,
    size: Option<u64>,
}

impl Script {
    fn text(text: String) -> Self {
        let size = Some(text.len() as u64);
        let steps = if text.is_empty() {
            VecDeque::new()
        } else {
            [Step::Data(Bytes::from(text))].into()
        };
        Self { steps, size }
    }

    fn unsized_of(steps: Vec<Step>) -> Self {
        Self {
            steps: steps.into(),
            size: None,
        }
    }

    fn echo(body: http_body_util::Collected<Bytes>) -> Self {
        let trailers = body.trailers().cloned();
        let mut steps = vec![Step::Data(body.to_bytes())];
        steps.extend(trailers.map(Step::Trailers));
        Self::unsized_of(steps)
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.steps.pop_front() {
            None => return Poll::Ready(None),
            Some(Step::Data(data)) => Ok(Frame::data(data)),
            Some(Step::Trailers(trailers)) => Ok(Frame::trailers(trailers)),
            Some(Step::Fail) => Err(BodyError::InternalError(Some("the guest died".into()))),
            Some(Step::Forever(data)) => {
                self.steps.push_front(Step::Forever(data.clone()));
                Ok(Frame::data(data))
            }
            Some(Step::Panic) => panic!("told to"),
            Some(Step::Hang) => {
                self.steps.push_front(Step::Hang);
                return Poll::Pending;
            }
        };
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.size
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
