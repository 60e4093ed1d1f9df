//! One request of a guest: from the address that it asks for to the last byte of its answer.
//!
//! Redirects are not followed: each hop is the guest's own request, checked like any other.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::budget::{AppNetwork, Lease};
use super::dial::{Link, Unanswered};
use super::message::{self, Outward};
use super::pool::Server;
use super::resolve::Host;
use super::{Outgoing, Times};

/// How long the parts of one request may take.
struct Patience {
    connect: Duration,
    /// Until when the head of the answer has to be there.
    head: Instant,
    between: Option<Duration>,
    end: Instant,
}

impl Patience {
    /// The operator's times; a guest's can only be shorter.
    fn new(options: Option<RequestOptions>, times: &Times) -> Self {
        let options = options.unwrap_or_default();
        let end = Instant::now() + times.total;
        let head = |time: Duration| end.min(Instant::now() + time.min(times.total));
        Self {
            connect: options
                .connect_timeout
                .unwrap_or(times.connect)
                .min(times.connect),
            head: options.first_byte_timeout.map_or(end, head),
            between: options.between_bytes_timeout,
            end,
        }
    }

    /// What a wait was too long for.
    fn over(&self, until: Instant) -> Error {
        match until < self.end {
            true => Error::ConnectionReadTimeout,
            false => Error::HttpResponseTimeout,
        }
    }
}

/// A request that may leave, and what it needs on its way.
pub(super) struct Sending {
    pub(super) outgoing: Outgoing,
    pub(super) server: Server,
    pub(super) _lease: Lease,
}

impl Sending {
    /// Sends the request on a connection that is idle, or on a new one.
    pub(super) async fn send(
        self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Response<WasiBody>, Error> {
        let app = self.outgoing.app().clone();
        let patience = Patience::new(options, &app.network.times);
        let (mut parts, body) = request.into_parts();
        let declared = message::clean_request(&mut parts)?;
        let mut request = Request::from_parts(parts, Outward::new(body, declared));
        let permitted = |address: SocketAddr| {
            let judged = self.outgoing.judge_http(&self.server, address.ip());
            judged.is_ok()
        };
        if let Some(mut link) = app.pool.take(&self.server, permitted) {
            match self.exchange(&mut link, request, &patience).await {
                Ok(response) => return self.answer(response, link, &patience),
                // The server had closed it meanwhile, and nothing was sent.
                Err(Unanswered {
                    unsent: Some(back), ..
                }) => request = back,
                Err(Unanswered { error, .. }) => return Err(error),
            }
        }
        let mut link = self.connect(&app, &patience).await?;
        if let Some(shared) = link.share() {
            app.pool.put(&self.server, shared);
        }
        let answered = self.exchange(&mut link, request, &patience).await;
        let response = answered.map_err(|unanswered| unanswered.error)?;
        self.answer(response, link, &patience)
    }

    /// A new connection: the name is resolved once, every answer is checked, and what was checked is dialled.
    async fn connect(&self, app: &AppNetwork, patience: &Patience) -> Result<Link, Error> {
        let connected = timeout(patience.connect.min(remaining(patience.end)), async {
            let addresses = self.addresses(app).await?;
            let (server, within) = (&self.server, patience.connect);
            let network = &app.network;
            network
                .connect(server, &addresses, within, &self.outgoing)
                .await
        });
        connected.await.unwrap_or(Err(Error::ConnectionTimeout))
    }

    /// Where the server is, as far as it may be reached.
    async fn addresses(&self, app: &AppNetwork) -> Result<Vec<SocketAddr>, Error> {
        let all: Vec<IpAddr> = match &self.server.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let found = app.names.addresses(name).await;
                found.map_err(|_| Error::DnsError {
                    rcode: None,
                    info_code: None,
                })?
            }
        };
        let mut forbidden = None;
        let mut permitted = Vec::new();
        for address in all {
            match self.outgoing.judge_http(&self.server, address) {
                Ok(()) => permitted.push(SocketAddr::new(address, self.server.port)),
                Err(reason) => forbidden = Some(reason),
            }
        }
        match forbidden {
            Some(reason) if permitted.is_empty() => {
                self.outgoing.tell_http(&self.server, &reason);
                Err(Error::DestinationIpProhibited)
            }
            _ => Ok(permitted),
        }
    }

    async fn exchange(
        &self,
        link: &mut Link,
        request: Request<Outward>,
        patience: &Patience,
    ) -> Result<Response<Incoming>, Unanswered> {
        let failed = |error| Unanswered {
            error,
            unsent: None,
        };
        let (mut parts, body) = request.into_parts();
        message::address(&mut parts, &self.server, link.is_shared()).map_err(failed)?;
        let answer = link.send(Request::from_parts(parts, body));
        match timeout_at(patience.head, answer).await {
            Ok(answered) => answered,
            Err(_) => Err(failed(patience.over(patience.head))),
        }
    }

    fn answer(
        self,
        response: Response<Incoming>,
        link: Link,
        patience: &Patience,
    ) -> Result<Response<WasiBody>, Error> {
        let (mut parts, body) = response.into_parts();
        let closes = parts.headers.get(header::CONNECTION).is_some_and(|value| {
            let value = value.to_str().unwrap_or("close");
            value
                .split(',')
                .any(|option| option.trim().eq_ignore_ascii_case("close"))
        });
        message::clean_response(&mut parts)?;
        let mut inward = Inward {
            body,
            open: Some(Open {
                link,
                reusable: !closes,
                sending: self,
            }),
            between: patience.between,
            end: patience.end,
            until: patience.end,
            alarm: None,
        };
        if inward.body.is_end_stream() {
            inward.finish();
        } else {
            inward.wait_anew();
        }
        Ok(Response::from_parts(parts, inward.boxed_unsync()))
    }
}

impl Outgoing {
    /// What the app shares.
    fn app(&self) -> &Arc<AppNetwork> {
        &self.template.network
    }

    /// Waits until the app may make one more connection.
    pub(super) async fn turn(&self) -> Result<(), Error> {
        let Some(wait) = self.app().turn(&self.template.limits) else {
            self.template.metrics.outbound_refused.add(1);
            return Err(Error::ConnectionLimitReached);
        };
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Ok(())
    }
}

fn remaining(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

/// What an answer holds until it has been read.
struct Open {
    link: Link,
    /// The server does not close it after this.
    reusable: bool,
    sending: Sending,
}

/// The body of an answer on its way to the guest. Dropped before its end it takes its connection with it.
struct Inward {
    body: Incoming,
    open: Option<Open>,
    between: Option<Duration>,
    end: Instant,
    /// When the next frame has to be there.
    until: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Inward {
    /// It is complete: the connection is free for the next request.
    fn finish(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        let Open { link, sending, .. } = open;
        if open.reusable && !link.is_shared() {
            let pool = &sending.outgoing.app().pool;
            pool.put(&sending.server, link);
        }
    }

    fn wait_anew(&mut self) {
        if let Some(between) = self.between {
            self.until = self.end.min(Instant::now() + between);
        }
    }

    /// Whether the guest has waited long enough.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let until = self.until;
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if alarm.deadline() != until {
            alarm.as_mut().reset(until);
        }
        alarm.as_mut().poll(cx).is_ready()
    }
}

impl Body for Inward {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending if this.is_late(cx) => {
                this.open = None;
                let late = match this.until < this.end {
                    true => Error::ConnectionReadTimeout,
                    false => Error::HttpResponseTimeout,
                };
                return Poll::Ready(Some(Err(late)));
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => {
                this.open = None;
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Ready(None) => {
                this.finish();
                return Poll::Ready(None);
            }
        };
        if this.body.is_end_stream() {
            this.finish();
        } else {
            this.wait_anew();
        }
        Poll::Ready(Some(Ok(message::clean_trailers(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
