//! Messaging on NATS, in two ways: JetStream (`nats:`), which keeps messages, and NATS core (`nats+core:`), which does not.
//!
//! JetStream has one stream `hostel=APP=LABEL` for each scope, with the subjects `hostel.APP.LABEL.TOPIC`. It keeps a message
//! until all groups that want it have acknowledged it, and none that nobody wants (retention by interest). A group is a
//! durable consumer. A delivery that was tried too often is recognised by its number when it comes once more: so a dead letter
//! is written before the message is given up, whatever breaks in between.
//!
//! NATS core has the subjects `hostel-core.APP.LABEL.TOPIC`; requests, which are never stored, go to
//! `hostel-request.APP.LABEL.TOPIC` with JetStream, and answers to `hostel-reply.APP.LABEL.NONCE` with both. The name of a
//! guest's topic is checked, and then follows one of these: no guest reaches another subject.

mod subscriber;
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use self::subscriber::{PULL_MAX, Subscriber};
use self::wire::{TOPIC, fits, headers, heard, topic_of};
use super::remote::{
    Endings, MESSAGES_MAX, Permits, REPLIES_MAX, TRY_AGAIN, check_message, check_subscription,
    deliveries, line, nonce,
};
use super::{Delivery, Error, Message, Messaging, Result, Subscription};
use crate::server::nats::{Connected, Nats, Settings, lost_connection, round_trip};
use crate::server::{patience, stopped};
use crate::{Failure, Scope};

/// One scope on NATS.
#[derive(Debug)]
pub(crate) struct NatsMessaging {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nats: Arc<Nats>,
    durable: bool,
    replicas: usize,
    /// `hostel=APP=LABEL`
    stream: String,
    /// `APP.LABEL.`
    scope: String,
    endings: Arc<Endings>,
}

impl NatsMessaging {
    pub(crate) fn new(nats: Arc<Nats>, durable: bool, settings: &Settings, scope: &Scope) -> Self {
        Self {
            shared: Arc::new(Shared {
                nats,
                durable,
                replicas: settings.replicas,
                stream: format!("hostel={}={}", scope.app(), scope.label()),
                scope: format!("{}.{}.", scope.app(), scope.label()),
                endings: Endings::new(),
            }),
        }
    }
}

#[async_trait]
impl Messaging for NatsMessaging {
    async fn check(&self) -> Result<()> {
        let nats = &self.shared.nats;
        nats.run(|connected| async move {
            match self.shared.durable {
                true => {
                    let known = nats.known_stream(&connected, &self.shared.stream).await?;
                    if known.is_none() {
                        let account = connected.jetstream.query_account().await;
                        let _account = account.map_err(|error| nats.unavailable(error))?;
                    }
                    Ok(())
                }
                false => Ok(round_trip(&connected.client).await?),
            }
        })
        .await
    }

    async fn publish(&self, message: Message) -> Result<()> {
        check_message(&message)?;
        self.shared.endings.wait().await;
        match self.shared.durable {
            true => self.shared.store(&message, &nonce()).await,
            false => self.shared.send(&message).await,
        }
    }

    async fn request(
        &self,
        message: Message,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Message>> {
        check_message(&message)?;
        self.shared.endings.wait().await;
        let shared = self.shared.clone();
        self.shared
            .on_its_thread(async move { shared.request(&message, replies, timeout).await })
            .await
    }

    async fn reply(&self, to: &str, message: Message) -> Result<()> {
        let (shared, to) = (self.shared.clone(), to.to_owned());
        self.shared
            .on_its_thread(async move { shared.reply(&to, &message).await })
            .await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<BoxStream<'static, Delivery>> {
        check_subscription(&subscription)?;
        self.shared.endings.wait().await;
        let in_flight = subscription.in_flight.max(1);
        let (sender, receiver) = mpsc::channel(in_flight.min(PULL_MAX));
        let subscriber = Arc::new(Subscriber {
            shared: self.shared.clone(),
            permits: Permits::new(in_flight),
            terms: Arc::new(subscription),
            sender,
        });
        let listening = subscriber.clone();
        let heard = self
            .shared
            .on_its_thread(async move { listening.listen().await });
        let heard = heard.await?;
        let (handle, endings) = (self.shared.nats.handle(), &self.shared.endings);
        let mut tasks = 1;
        if self.shared.durable {
            subscriber.consumer().await?;
            handle.spawn(subscriber.clone().pull_for_ever(endings.task()));
            tasks += 1;
        }
        handle.spawn(subscriber.hear_for_ever(heard, endings.task()));
        Ok(deliveries(receiver, endings.clone(), tasks))
    }

    fn is_durable(&self) -> bool {
        self.shared.durable
    }
}

impl Shared {
    /// Runs what has subscriptions of the library, which may be dropped on an event loop only.
    async fn on_its_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let done = self.nats.handle().spawn(work).await;
        done.unwrap_or_else(|_| Err(stopped().into()))
    }

    /// Where published messages go.
    fn published(&self) -> String {
        let root = if self.durable {
            "hostel"
        } else {
            "hostel-core"
        };
        format!("{root}.{}", self.scope)
    }

    /// Where requests go: nobody stores them.
    fn requested(&self) -> String {
        let root = match self.durable {
            true => "hostel-request",
            false => "hostel-core",
        };
        format!("{root}.{}", self.scope)
    }

    fn stream_config(&self) -> Config {
        Config {
            name: self.stream.clone(),
            description: Some("Messages of one of Hostel's apps".to_owned()),
            subjects: vec![format!("{}>", self.published())],
            retention: RetentionPolicy::Interest,
            // What was acknowledged is not thrown away for what comes later.
            discard: DiscardPolicy::New,
            max_messages: MESSAGES_MAX.into(),
            num_replicas: self.replicas,
            ..Config::default()
        }
    }

    /// Stores a message. If the connection breaks before it is acknowledged it is sent again under the same name, which the
    /// server recognises.
    async fn store(&self, message: &Message, id: &str) -> Result<()> {
        let timeout = self.nats.timeout();
        let until = Instant::now() + patience(timeout);
        loop {
            let tried = self
                .nats
                .run(|connected| async move { self.put(&connected, message, id).await });
            match timeout_at(until, tried).await {
                Err(_) => return Err(Failure::TimedOut(timeout).into()),
                Ok(Err(Error::Failed(failure))) if failure == lost_connection() => {
                    sleep(TRY_AGAIN.0).await;
                }
                Ok(result) => return result,
            }
        }
    }

    async fn put(&self, connected: &Connected, message: &Message, id: &str) -> Result<()> {
        let headers = headers(message);
        fits(connected, &headers, message)?;
        let subject = format!("{}{}", self.published(), message.topic);
        let mut tries = 0;
        loop {
            let stored = PublishMessage::build()
                .payload(message.body.clone())
                .headers(headers.clone())
                .message_id(id);
            let sent = connected.jetstream.send_publish(subject.clone(), stored);
            let acknowledged = match sent.await {
                Ok(sent) => sent.await,
                Err(error) => Err(error),
            };
            match acknowledged {
                Ok(_) => return Ok(()),
                // There is no such stream: the first message, or somebody removed it.
                Err(error) if error.kind() == PublishErrorKind::StreamNotFound && tries == 0 => {
                    self.nats.stream(connected, self.stream_config()).await?;
                    tries += 1;
                }
                Err(error) => return Err(self.nats.publication(&error).into()),
            }
        }
    }

    /// Sends a message to whoever listens at this moment.
    async fn send(&self, message: &Message) -> Result<()> {
        self.nats
            .run(|connected| async move {
                let headers = headers(message);
                fits(&connected, &headers, message)?;
                let subject = format!("{}{}", self.published(), message.topic);
                let body = message.body.clone();
                let client = &connected.client;
                let sent = client.publish_with_headers(subject, headers, body).await;
                sent.map_err(|error| self.nats.unavailable(error))?;
                let flushed = client.flush().await;
                Ok(flushed.map_err(|error| self.nats.unavailable(error))?)
            })
            .await
    }

    fn reply_subject(&self, nonce: &str) -> String {
        format!("hostel-reply.{}{nonce}", self.scope)
    }

    async fn request(
        &self,
        message: &Message,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Message>> {
        let until = Instant::now() + timeout;
        let wanted = replies.clamp(1, REPLIES_MAX);
        let reply = &self.reply_subject(&nonce());
        let (mut answers, mut lost) = self
            .nats
            .run(|connected| async move {
                let lost = connected.lost();
                let headers = headers(message);
                fits(&connected, &headers, message)?;
                let client = &connected.client;
                let answers = client.subscribe(reply.clone()).await;
                let answers = answers.map_err(|error| self.nats.unavailable(error))?;
                let subject = format!("{}{}", self.requested(), message.topic);
                let body = message.body.clone();
                let sent = client
                    .publish_with_reply_and_headers(subject, reply.clone(), headers, body)
                    .await;
                sent.map_err(|error| self.nats.unavailable(error))?;
                Ok::<_, Error>((answers, lost))
            })
            .await?;
        let mut received = Vec::new();
        while received.len() < wanted {
            let answer = tokio::select! {
                answer = timeout_at(until, answers.next()) => answer,
                _ = lost.changed(), if received.is_empty() => return Err(lost_connection().into()),
            };
            match answer {
                Ok(Some(answer)) if answer.status.is_some() => break,
                Ok(Some(answer)) => received.push(heard(&answer, topic_of(&answer))),
                Ok(None) | Err(_) => break,
            }
        }
        match received.is_empty() {
            true => Err(Error::NoReply(timeout)),
            false => Ok(received),
        }
    }

    /// Answers, if somebody waits. A server says at once where nobody does, and before it answers the next request.
    async fn reply(&self, to: &str, message: &Message) -> Result<()> {
        let nonce = |byte: u8| byte.is_ascii_hexdigit();
        if to.len() != 32 || !to.bytes().all(nonce) {
            return Err(Error::NoRequester);
        }
        self.nats
            .run(|connected| async move {
                let mut headers = headers(message);
                if !message.topic.is_empty() {
                    headers.insert(TOPIC, line(&[(String::new(), message.topic.clone())]));
                }
                fits(&connected, &headers, message)?;
                let client = &connected.client;
                let inbox = client.new_inbox();
                let told = client.subscribe(format!("{inbox}.*")).await;
                let mut told = told.map_err(|error| self.nats.unavailable(error))?;
                let (nobody, end) = (format!("{inbox}.nobody"), format!("{inbox}.end"));
                let body = message.body.clone();
                let sent = client
                    .publish_with_reply_and_headers(self.reply_subject(to), nobody, headers, body)
                    .await;
                sent.map_err(|error| self.nats.unavailable(error))?;
                let asked = client
                    .publish_with_reply(client.new_inbox(), end.clone(), Bytes::new())
                    .await;
                asked.map_err(|error| self.nats.unavailable(error))?;
                match told.next().await {
                    Some(told) if told.subject.as_str() == end => Ok(()),
                    Some(_) => Err(Error::NoRequester),
                    None => Err(lost_connection().into()),
                }
            })
            .await
    }
}
