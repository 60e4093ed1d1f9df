//! A subscription on Redis: how it reads the stream and hears requests, and how a delivery is settled.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::streams::StreamReadReply;
use redis::{FromRedisValue, Value, cmd, from_redis_value};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::scripts::{ACK, CLAIM, EXTEND, GIVE_UP, REFUSE, RELEASE, TAKE_REQUEST, TRIM};
use super::{Shared, unpacked};
use crate::Failure;
use crate::messaging::remote::{Ending, Once, Permits, TRY_AGAIN, dead_letter, from_line, line};
use crate::messaging::{Delivery, Message, Result, Settle, Subscription, matches};

/// Messages of one read.
pub(super) const READ_MAX: usize = 256;
/// The longest read that waits for messages.
const BLOCK: Duration = Duration::from_millis(200);
/// How often a subscription removes what everybody has settled.
const TRIM_EVERY: Duration = Duration::from_secs(1);
/// How long a connection for requests may be silent before it has to show that it is there.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it is remembered who took a request.
const TAKEN: Duration = Duration::from_secs(60);
/// The one consumer of each group.
const CONSUMER: &str = "hostel";

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) shared: Arc<Shared>,
    pub(super) terms: Arc<Subscription>,
    /// `PATTERN GROUP`
    pub(super) group: String,
    pub(super) permits: Permits,
    pub(super) sender: mpsc::Sender<Delivery>,
}

impl Subscriber {
    fn later(&self) -> String {
        format!("{}:later:{}", self.shared.stream, self.group)
    }

    /// Makes the group if it is not there, so that it gets what comes after `from`.
    pub(super) async fn make_group(&self, from: &str) -> Result<()> {
        let mut make = cmd("XGROUP");
        make.arg("CREATE").arg(&self.shared.stream).arg(&self.group);
        make.arg(from).arg("MKSTREAM");
        match self.shared.redis.query::<Value>(&make).await {
            Err(Failure::Broken(text)) if text.contains("BUSYGROUP") => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    pub(super) async fn read_for_ever(self: Arc<Self>, _ending: Ending) {
        let mut wait = TRY_AGAIN.0;
        while !self.sender.is_closed() {
            let began = Instant::now();
            // Ends when the connection was lost, the group is gone, or nobody listens any more.
            let _why = self.read().await;
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
    async fn read(&self) -> Result<()> {
        // A group that was removed meanwhile gets all that is there.
        self.make_group("0").await?;
        let mut connection = self.shared.redis.alone().await?;
        let mut trimmed = Instant::now();
        loop {
            let free = tokio::select! {
                biased;
                () = self.sender.closed() => return Ok(()),
                free = self.permits.free(READ_MAX) => free,
            };
            let (soon, claimed) = self.claim(free).await?;
            if claimed < free {
                self.read_new(&mut connection, free - claimed, soon).await?;
            }
            if trimmed.elapsed() > TRIM_EVERY {
                let _removed: u64 = self.trim().await?;
                trimmed = Instant::now();
            }
        }
    }

    async fn trim(&self) -> Result<u64> {
        let trim = TRIM.key(&self.shared.stream);
        Ok(self.shared.redis.script(&trim).await?)
    }

    /// What was refused and waited long enough, and what was not settled in time, up to `most`: how long until there is more,
    /// and how many there were.
    async fn claim(&self, most: usize) -> Result<(Duration, usize)> {
        let redis = &self.shared.redis;
        let mut call = CLAIM.key(&self.shared.stream);
        call.key(self.later()).arg(&self.group).arg(CONSUMER);
        call.arg(milliseconds(self.terms.ack_wait)).arg(most);
        let (soon, due): (u64, Vec<Value>) = redis.script(&call).await?;
        let claimed = due.len();
        for due in due {
            let broken = |error| redis.failure(&redis::RedisError::from(error));
            let (id, count, fields): (String, u32, HashMap<String, Vec<u8>>) =
                from_redis_value(due).map_err(broken)?;
            let mut stored = self.stored(id, count, fields);
            if count > self.terms.deliveries.max(1) {
                // If that fails it is claimed again.
                let _later = stored.give_up(count - 1).await;
                stored.settled = true;
            } else {
                self.hand_over(stored).await;
            }
        }
        Ok((Duration::from_millis(soon), claimed))
    }

    /// What nobody in the group has seen, waiting for it for a while.
    async fn read_new(
        &self,
        connection: &mut MultiplexedConnection,
        most: usize,
        soon: Duration,
    ) -> Result<()> {
        let shared = &self.shared;
        let block = soon.clamp(Duration::from_millis(1), BLOCK);
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.group).arg(CONSUMER);
        read.arg("COUNT").arg(most);
        read.arg("BLOCK").arg(milliseconds(block));
        read.arg("STREAMS").arg(&shared.stream).arg(">");
        let answer = read.query_async::<Option<StreamReadReply>>(connection);
        let answer = timeout(block + shared.redis.timeout(), answer).await;
        let answer = answer.map_err(|_| Failure::TimedOut(shared.redis.timeout()))?;
        let answer = answer.map_err(|error| shared.redis.failure(&error))?;
        let entries = answer.into_iter().flat_map(|answer| answer.keys);
        let (mut passed, mut wanted) = (Vec::new(), Vec::new());
        for entry in entries.flat_map(|key| key.ids) {
            let fields = entry.map.into_iter();
            let fields = fields.filter_map(|(name, value)| Some((name, bytes(value)?)));
            let fields: HashMap<_, _> = fields.collect();
            let topic = fields.get("topic").map_or(&[][..], Vec::as_slice);
            let topic = std::str::from_utf8(topic).unwrap_or_default();
            if matches(&self.terms.pattern, topic) {
                wanted.push(self.stored(entry.id, 1, fields));
            } else {
                passed.push(entry.id);
            }
        }
        if !passed.is_empty() {
            let mut call = ACK.key(&shared.stream);
            call.key(self.later()).arg(&self.group).arg(passed);
            let _passed: u64 = shared.redis.script(&call).await?;
        }
        for stored in wanted {
            self.hand_over(stored).await;
        }
        Ok(())
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

    fn stored(&self, id: String, attempt: u32, mut fields: HashMap<String, Vec<u8>>) -> Stored {
        let text = |bytes: Option<Vec<u8>>| {
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        Stored {
            message: Message {
                topic: text(fields.remove("topic")),
                headers: from_line(&text(fields.remove("headers"))),
                body: fields.remove("body").unwrap_or_default().into(),
                reply_to: None,
            },
            shared: self.shared.clone(),
            terms: self.terms.clone(),
            group: self.group.clone(),
            later: self.later(),
            id,
            attempt,
            settled: false,
            permit: None,
        }
    }

    /// A connection over which requests come. A channel's pattern takes more than a topic's: see [`Self::heard`].
    pub(super) async fn listen(&self) -> Result<PubSub> {
        let redis = &self.shared.redis;
        let mut requests = redis.channels().await?;
        let channels = self.shared.requests(&self.terms.pattern.replace('>', "*"));
        let subscribed = timeout(redis.timeout(), requests.psubscribe(channels)).await;
        let subscribed = subscribed.map_err(|_| Failure::TimedOut(redis.timeout()))?;
        subscribed.map_err(|error| redis.failure(&error))?;
        Ok(requests)
    }

    pub(super) async fn hear_for_ever(self: Arc<Self>, mut requests: PubSub, _ending: Ending) {
        loop {
            tokio::select! {
                () = self.hear(requests) => {}
                () = self.sender.closed() => return,
            }
            requests = loop {
                tokio::select! {
                    again = self.listen() => if let Ok(again) = again {
                        break again;
                    },
                    () = self.sender.closed() => return,
                }
                sleep(TRY_AGAIN.1).await;
            };
        }
    }

    /// Takes requests as long as the connection lasts.
    async fn hear(&self, requests: PubSub) {
        let (mut sink, mut requests) = requests.split();
        loop {
            match timeout(SILENCE, requests.next()).await {
                Ok(Some(request)) => {
                    if let Some((request, nonce)) = unpacked(request.get_payload_bytes()) {
                        self.heard(request, nonce).await;
                    }
                }
                Ok(None) => return,
                Err(_) => {
                    let pong = timeout(self.shared.redis.timeout(), sink.ping::<Value>()).await;
                    if !matches!(pong, Ok(Ok(_))) {
                        return;
                    }
                }
            }
        }
    }

    async fn heard(&self, mut request: Message, nonce: String) {
        if !matches(&self.terms.pattern, &request.topic) {
            return;
        }
        let Some(permit) = self.permits.one(&self.sender).await else {
            return;
        };
        let shared = &self.shared;
        let taken = format!("{}:taken:{nonce}:{}", shared.stream, self.group);
        let mut call = TAKE_REQUEST.key(taken);
        call.arg(shared.replies(&nonce)).arg(milliseconds(TAKEN));
        if !matches!(shared.redis.script(&call).await, Ok(true)) {
            return;
        }
        request.reply_to = Some(nonce);
        let delivery = Delivery {
            message: request,
            attempt: 1,
            settle: Box::new(Once { _permit: permit }),
        };
        let _nobody = self.sender.send(delivery).await;
    }
}

/// An entry of the stream that the group has.
struct Stored {
    shared: Arc<Shared>,
    terms: Arc<Subscription>,
    group: String,
    later: String,
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
    async fn give_up(&self, attempts: u32) -> Result<()> {
        let mut call = GIVE_UP.key(&self.shared.stream);
        call.key(&self.later).arg(&self.group).arg(&self.id);
        if let Some(letter) = dead_letter(&self.terms, &self.message, attempts) {
            call.arg(letter.topic).arg(line(&letter.headers));
            call.arg(letter.body.as_ref());
        }
        let _given: u64 = self.shared.redis.script(&call).await?;
        Ok(())
    }

    async fn refuse(&self) -> Result<()> {
        let mut call = REFUSE.key(&self.shared.stream);
        call.key(&self.later).arg(&self.group).arg(&self.id);
        call.arg(self.attempt);
        call.arg(milliseconds(self.terms.pause(self.attempt)));
        let _refused: u64 = self.shared.redis.script(&call).await?;
        Ok(())
    }
}

#[async_trait]
impl Settle for Stored {
    async fn ack(mut self: Box<Self>) -> Result<()> {
        let mut call = ACK.key(&self.shared.stream);
        call.key(&self.later).arg(&self.group).arg(&self.id);
        self.settled = true;
        let _settled: u64 = self.shared.redis.script(&call).await?;
        Ok(())
    }

    async fn nack(mut self: Box<Self>) -> Result<()> {
        self.settled = true;
        match self.attempt >= self.terms.deliveries.max(1) {
            true => self.give_up(self.attempt).await,
            false => self.refuse().await,
        }
    }

    async fn reject(mut self: Box<Self>, tries: u32) -> Result<()> {
        self.settled = true;
        self.give_up(tries).await
    }

    async fn release(mut self: Box<Self>) -> Result<()> {
        self.settled = true;
        let mut call = RELEASE.key(&self.shared.stream);
        call.key(&self.later).arg(&self.group).arg(&self.id);
        call.arg(self.attempt).arg(CONSUMER);
        let _released: u64 = self.shared.redis.script(&call).await?;
        Ok(())
    }

    async fn extend(&mut self) -> Result<()> {
        let mut call = EXTEND.key(&self.shared.stream);
        call.key(&self.later).arg(&self.group).arg(&self.id);
        call.arg(self.attempt).arg(CONSUMER);
        let _extended: u64 = self.shared.redis.script(&call).await?;
        Ok(())
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        // Nobody settled it: the group is told, if the server is there, and else it is claimed when its time is over.
        if self.settled {
            return;
        }
        let permit = self.permit.take();
        let again = Self {
            shared: self.shared.clone(),
            terms: self.terms.clone(),
            group: std::mem::take(&mut self.group),
            later: std::mem::take(&mut self.later),
            id: std::mem::take(&mut self.id),
            attempt: self.attempt,
            message: Message::default(),
            settled: true,
            permit: None,
        };
        let handle = self.shared.redis.handle().clone();
        handle.spawn(async move {
            let _unsure = again.refuse().await;
            drop(permit);
        });
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis())
        .unwrap_or(u64::MAX)
        .min(1 << 50)
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    Vec::<u8>::from_redis_value(value).ok()
}
