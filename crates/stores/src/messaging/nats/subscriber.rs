//! A subscription on NATS: what it asks the server for, and how a delivery is settled.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::{RequestErrorKind, Subject};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::wire::{heard, heard_request};
use crate::Failure;
use crate::messaging::remote::{Ending, Once, Permits, TRY_AGAIN, dead_letter, plain};
use crate::messaging::{Delivery, Error, Message, Result, Settle, Subscription};
use crate::server::nats::{Connected, lost_connection, round_trip};

/// How long a request for messages stays with the server.
const PULL: Duration = Duration::from_secs(5);
/// Requests for messages may be for so many at once.
pub(super) const PULL_MAX: usize = 256;

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) shared: Arc<Shared>,
    pub(super) terms: Arc<Subscription>,
    pub(super) permits: Permits,
    pub(super) sender: mpsc::Sender<Delivery>,
}

impl Subscriber {
    /// Takes what is not stored: requests, and with NATS core everything. The library subscribes again by itself after a
    /// reconnection.
    pub(super) async fn listen(&self) -> Result<async_nats::Subscriber> {
        let shared = &self.shared;
        shared
            .nats
            .run(|connected| async move {
                let subject = format!("{}{}", shared.requested(), self.terms.pattern);
                let group = format!(
                    "{}+{}",
                    plain(&self.terms.group),
                    plain(&self.terms.pattern)
                );
                let client = &connected.client;
                let heard = client.queue_subscribe(subject, group).await;
                let heard = heard.map_err(|error| shared.nats.unavailable(error))?;
                // What is published after this function is heard.
                round_trip(client).await?;
                Ok(heard)
            })
            .await
    }

    pub(super) async fn hear_for_ever(
        self: Arc<Self>,
        mut heard: async_nats::Subscriber,
        _ending: Ending,
    ) {
        let prefix = self.shared.requested();
        loop {
            let message = tokio::select! {
                message = heard.next() => message,
                () = self.sender.closed() => return,
            };
            let Some(message) = message else {
                // The connection's task is gone.
                match self.listen().await {
                    Ok(again) => heard = again,
                    Err(_) => sleep(TRY_AGAIN.1).await,
                }
                continue;
            };
            let Some(topic) = message.subject.strip_prefix(&prefix).map(str::to_owned) else {
                continue;
            };
            let Some(permit) = self.permits.one(&self.sender).await else {
                return;
            };
            let delivery = Delivery {
                message: heard_request(&self.shared, &message, topic),
                attempt: 1,
                settle: Box::new(Once { _permit: permit }),
            };
            if self.sender.send(delivery).await.is_err() {
                return;
            }
        }
    }

    /// The group's durable consumer, and the stream below it, made or changed as the subscription says.
    pub(super) async fn consumer(&self) -> Result<PullConsumer> {
        let shared = &self.shared;
        let name = &format!(
            "{}+{}",
            plain(&self.terms.group),
            plain(&self.terms.pattern)
        );
        shared
            .nats
            .run(|connected| async move {
                let stream = shared
                    .nats
                    .stream(&connected, shared.stream_config())
                    .await?;
                let made = stream.create_consumer(pull::Config {
                    durable_name: Some(name.clone()),
                    description: Some(format!("{} of {}", self.terms.pattern, self.terms.group)),
                    deliver_policy: DeliverPolicy::New,
                    ack_policy: AckPolicy::Explicit,
                    ack_wait: self.terms.ack_wait,
                    // The driver counts: the server would forget a message without a dead letter.
                    max_deliver: -1,
                    max_ack_pending: -1,
                    filter_subject: format!("{}{}", shared.published(), self.terms.pattern),
                    ..pull::Config::default()
                });
                made.await.map_err(|error| match error.kind() {
                    async_nats::jetstream::stream::ConsumerErrorKind::JetStream(error) => {
                        shared.nats.jetstream(error.error_code(), error).into()
                    }
                    _ => Error::from(shared.nats.unavailable(error)),
                })
            })
            .await
    }

    pub(super) async fn pull_for_ever(self: Arc<Self>, _ending: Ending) {
        let mut wait = TRY_AGAIN.0;
        while !self.sender.is_closed() {
            let began = Instant::now();
            // Ends when the connection was lost, the consumer is gone, or nobody listens any more.
            let _why = self.pull().await;
            wait = match began.elapsed() > TRY_AGAIN.1 {
                true => TRY_AGAIN.0,
                false => (wait * 2).min(TRY_AGAIN.1),
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.sender.closed() => return,
            }
        }
    }

    /// Takes messages over one connection.
    async fn pull(&self) -> Result<()> {
        let nats = &self.shared.nats;
        let connected = nats.connected().await?;
        let mut lost = connected.lost();
        let consumer = self.consumer().await?;
        let source = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{}",
            self.shared.stream,
            consumer.cached_info().name
        );
        let client = &connected.client;
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await;
        let mut messages = messages.map_err(|error| nats.unavailable(error))?;
        loop {
            let mut left = tokio::select! {
                biased;
                () = self.sender.closed() => break,
                free = self.permits.free(PULL_MAX) => free,
                _ = lost.changed() => return Err(lost_connection().into()),
            };
            let expires = PULL.as_nanos();
            let ask = format!("{{\"batch\":{left},\"expires\":{expires}}}");
            let asked = client.publish_with_reply(source.clone(), inbox.clone(), ask.into());
            asked.await.map_err(|error| nats.unavailable(error))?;
            while left > 0 {
                let message = tokio::select! {
                    message = timeout(PULL * 2, messages.next()) => message,
                    () = self.sender.closed() => break,
                    _ = lost.changed() => return Err(lost_connection().into()),
                };
                let Ok(Some(message)) = message else {
                    return Err(lost_connection().into());
                };
                match message.status.map(|status| status.as_u16()) {
                    None | Some(200) => {}
                    Some(100) => continue,
                    Some(404 | 408) => break,
                    // The consumer is gone, or the server goes down.
                    Some(_) => return Err(lost_connection().into()),
                }
                left -= 1;
                if let Some(stored) = self.taken(&connected, message).await {
                    self.hand_over(stored).await;
                }
            }
        }
        self.give_back(&connected, messages).await
    }

    /// What the server has sent meanwhile goes to others at once.
    async fn give_back(
        &self,
        connected: &Connected,
        mut messages: async_nats::Subscriber,
    ) -> Result<()> {
        let unavailable = |error| Error::from(self.shared.nats.unavailable(error));
        messages.drain().await.map_err(unavailable)?;
        round_trip(&connected.client).await?;
        while let Ok(Some(message)) = timeout(TRY_AGAIN.1, messages.next()).await {
            if let Some(to) = message.reply.filter(|_| message.status.is_none()) {
                let _unsure = connected.client.publish(to, "-NAK".into()).await;
            }
        }
        Ok(round_trip(&connected.client).await?)
    }

    /// What is delivered, unless the message was tried often enough: then it is given up.
    async fn taken(&self, connected: &Connected, message: async_nats::Message) -> Option<Stored> {
        let message = async_nats::jetstream::Message {
            message,
            context: connected.jetstream.clone(),
        };
        let info = message.info().ok()?;
        let topic = message.subject.strip_prefix(&self.shared.published())?;
        let mut stored = Stored {
            shared: self.shared.clone(),
            terms: self.terms.clone(),
            acknowledge: message.reply.clone()?,
            id: format!("{}+{}+dead", info.stream_sequence, info.consumer),
            attempt: u32::try_from(info.delivered).unwrap_or(u32::MAX),
            message: heard(&message, topic.to_owned()),
            settled: false,
            permit: None,
        };
        if stored.attempt > self.terms.deliveries.max(1) {
            // If that fails the server brings it again.
            let _later = stored.give_up(stored.attempt - 1).await;
            stored.settled = true;
            return None;
        }
        Some(stored)
    }

    /// What nobody takes any more is refused where it is dropped.
    async fn hand_over(&self, mut stored: Stored) {
        stored.permit = self.permits.one(&self.sender).await;
        if stored.permit.is_some() {
            let delivery = Delivery {
                message: stored.message.clone(),
                attempt: stored.attempt,
                settle: Box::new(stored),
            };
            let _nobody = self.sender.send(delivery).await;
        }
    }
}

/// A delivery of JetStream.
struct Stored {
    shared: Arc<Shared>,
    terms: Arc<Subscription>,
    /// Where the server is told what became of it.
    acknowledge: Subject,
    /// Under which the dead letter is stored once.
    id: String,
    attempt: u32,
    message: Message,
    settled: bool,
    permit: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Stored({}, attempt {})",
            self.message.topic, self.attempt
        )
    }
}

impl Stored {
    /// Tells the server, and waits until it knows.
    async fn tell(&self, what: Bytes) -> Result<()> {
        let (nats, what) = (&self.shared.nats, &what);
        nats.run(|connected| async move {
            let told = connected
                .client
                .request(self.acknowledge.clone(), what.clone())
                .await;
            match told.map_err(|error| error.kind()) {
                Ok(_) => Ok(()),
                Err(RequestErrorKind::TimedOut) => Err(Failure::TimedOut(nats.timeout()).into()),
                Err(kind) => Err(nats.unavailable(kind).into()),
            }
        })
        .await
    }

    async fn give_up(&self, attempts: u32) -> Result<()> {
        if let Some(letter) = dead_letter(&self.terms, &self.message, attempts) {
            self.shared.store(&letter, &self.id).await?;
        }
        self.tell(Bytes::from_static(b"+TERM")).await
    }

    fn later(&self) -> Bytes {
        let pause = self.terms.pause(self.attempt);
        format!("-NAK {{\"delay\": {}}}", pause.as_nanos()).into()
    }
}

#[async_trait]
impl Settle for Stored {
    async fn ack(mut self: Box<Self>) -> Result<()> {
        self.settled = true;
        self.tell(Bytes::from_static(b"+ACK")).await
    }

    async fn nack(mut self: Box<Self>) -> Result<()> {
        self.settled = true;
        match self.attempt >= self.terms.deliveries.max(1) {
            true => self.give_up(self.attempt).await,
            false => self.tell(self.later()).await,
        }
    }

    async fn reject(mut self: Box<Self>, tries: u32) -> Result<()> {
        self.settled = true;
        self.give_up(tries).await
    }

    /// The server counts what it delivered, whatever became of it.
    async fn release(mut self: Box<Self>) -> Result<()> {
        self.settled = true;
        self.tell(Bytes::from_static(b"-NAK")).await
    }

    async fn extend(&mut self) -> Result<()> {
        self.tell(Bytes::from_static(b"+WPI")).await
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        // Nobody settled it: the server is told, if it can be, and else waits for the acknowledgement in vain.
        if self.settled {
            return;
        }
        let permit = self.permit.take();
        let (nats, to, later) = (
            self.shared.nats.clone(),
            self.acknowledge.clone(),
            self.later(),
        );
        self.shared.nats.handle().spawn(async move {
            if let Ok(connected) = nats.connected().await {
                let _unsure = connected.client.publish(to, later).await;
            }
            drop(permit);
        });
    }
}
