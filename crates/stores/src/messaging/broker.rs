//! [`Broker`]: one scope's messages, groups and requests in this process's memory. The memory driver is this and nothing
//! else; the embedded one adds a journal that survives.
//!
//! Everything happens under one lock that is held for microseconds. Subscribers are woken where they wait; nothing polls.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::group::{Failed, Group, Key, Waiting};
use super::journal::{Journal, Op};
use super::subscriber::Subscriber;
use super::{Bounds, Delivery, Error, Message, Result, Subscription};
use super::{is_pattern, is_topic, matches};
use crate::Failure;

/// A message that groups have, counted in the backlog until the last of them lets it go.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: u64,
    pub(super) message: Message,
    size: usize,
    backlog: Arc<Backlog>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.backlog.messages.fetch_sub(1, Relaxed);
        self.backlog.bytes.fetch_sub(self.size, Relaxed);
    }
}

/// What is held.
#[derive(Debug, Default)]
struct Backlog {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

/// One scope's messages, groups and requests.
#[derive(Debug)]
pub(crate) struct Broker {
    state: Mutex<State>,
    bounds: Bounds,
    backlog: Arc<Backlog>,
    pub(super) journal: Option<Journal>,
    /// Part of every answer's address: an address of an earlier process is nobody's.
    nonce: u64,
    since: Instant,
}

#[derive(Debug)]
pub(super) struct State {
    next: u64,
    pub(super) groups: BTreeMap<Key, Group>,
    requests: HashMap<u64, mpsc::Sender<Message>>,
}

/// The answers that a requester takes at the most, whatever it asks for.
const REPLIES_MAX: usize = 1024;
/// A group is not forgotten while the process starts and its subscribers may be on their way.
const SETTLING_IN: Duration = Duration::from_secs(60);

impl Broker {
    pub(super) fn new(bounds: Bounds, journal: Option<Journal>) -> Self {
        let state = State {
            next: 1,
            groups: BTreeMap::new(),
            requests: HashMap::new(),
        };
        Self {
            state: Mutex::new(state),
            bounds,
            backlog: Arc::default(),
            journal,
            nonce: getrandom::u64().unwrap_or_default(),
            since: Instant::now(),
        }
    }

    /// Puts back what a journal had kept: a group, and then the messages that it had not settled, in their order.
    pub(super) fn restore_group(&self, key: Key, seen_ms: u64) {
        self.lock().groups.insert(key, Group::new(seen_ms));
    }

    /// A message and the groups that have not settled it, each with its deliveries so far.
    pub(super) fn restore(&self, id: u64, message: Message, groups: Vec<(Key, u32)>) {
        let mut state = self.lock();
        state.next = state.next.max(id + 1);
        let held = self.hold(id, message);
        for (key, attempts) in groups {
            if let Some(group) = state.groups.get_mut(&key) {
                group.push(Waiting {
                    held: held.clone(),
                    attempts,
                    until: None,
                });
            }
        }
    }

    pub(super) async fn publish(&self, message: Message) -> Result<()> {
        self.check(&message)?;
        let written = {
            let mut state = self.lock();
            let keys = state.matching(&message.topic, |_| true);
            if keys.is_empty() {
                return Ok(());
            }
            self.make_room(&mut state, message.size())?;
            self.store(&mut state, message, keys)
        };
        match written {
            Some(written) => written.await,
            None => Ok(()),
        }
    }

    /// Gives a message to its groups: at once, or when the journal has it on disk. Whoever publishes waits for the journal.
    fn store(
        &self,
        state: &mut State,
        message: Message,
        keys: Vec<Key>,
    ) -> Option<impl Future<Output = Result<()>> + use<>> {
        let id = state.next;
        state.next += 1;
        let held = self.hold(id, message);
        let Some(journal) = &self.journal else {
            state.deliver(&held, &keys);
            return None;
        };
        if !journal.comes_first() {
            state.deliver(&held, &keys);
        }
        Some(journal.push(Op::Insert(held, keys)))
    }

    /// The journal has this message on disk.
    pub(super) fn written(&self, held: &Arc<Held>, keys: &[Key]) {
        self.lock().deliver(held, keys);
    }

    pub(super) async fn request(
        &self,
        message: Message,
        replies: usize,
        timeout: Duration,
    ) -> Result<Vec<Message>> {
        self.check(&message)?;
        let wanted = replies.clamp(1, REPLIES_MAX);
        let until = Instant::now() + timeout;
        let (waiter, mut answers) = self.ask(message, wanted, until)?;
        let mut received = Vec::new();
        while received.len() < wanted {
            match timeout_at(until, answers.recv()).await {
                Ok(Some(answer)) => received.push(answer),
                Ok(None) | Err(_) => break,
            }
        }
        drop(waiter);
        match received.is_empty() {
            true => Err(Error::NoReply(timeout)),
            false => Ok(received),
        }
    }

    fn ask(
        &self,
        mut message: Message,
        wanted: usize,
        until: Instant,
    ) -> Result<(Requester<'_>, mpsc::Receiver<Message>)> {
        let (sender, answers) = mpsc::channel(wanted);
        let mut state = self.lock();
        let keys = state.matching(&message.topic, Group::has_subscribers);
        if keys.is_empty() {
            return Err(Error::NoReply(Duration::ZERO));
        }
        self.make_room(&mut state, message.size())?;
        let id = state.next;
        state.next += 1;
        message.reply_to = Some(format!("{:016x}.{id}", self.nonce));
        state.requests.insert(id, sender);
        let held = self.hold(id, message);
        for key in keys {
            if let Some(group) = state.groups.get_mut(&key) {
                group.push(Waiting {
                    held: held.clone(),
                    attempts: 0,
                    until: Some(until),
                });
            }
        }
        drop(state);
        Ok((Requester { broker: self, id }, answers))
    }

    pub(super) fn reply(&self, to: &str, message: Message) -> Result<()> {
        self.check_size(&message)?;
        let (nonce, id) = to.split_once('.').ok_or(Error::NoRequester)?;
        let id: u64 = id.parse().map_err(|_| Error::NoRequester)?;
        if nonce != format!("{:016x}", self.nonce) {
            return Err(Error::NoRequester);
        }
        let state = self.lock();
        let requester = state.requests.get(&id).ok_or(Error::NoRequester)?;
        requester.try_send(message).map_err(|_| Error::NoRequester)
    }

    pub(super) async fn subscribe(
        self: &Arc<Self>,
        terms: Subscription,
    ) -> Result<BoxStream<'static, Delivery>> {
        check_terms(&terms)?;
        let key = Key {
            name: terms.group.as_str().into(),
            pattern: terms.pattern.as_str().into(),
        };
        let (subscriber, written) = {
            let mut state = self.lock();
            if !state.groups.contains_key(&key) {
                self.make_room_for(&mut state, &key)?;
            }
            let now_ms = now_ms();
            let group = state.groups.entry(key.clone());
            let group = group.or_insert_with(|| Group::new(now_ms));
            group.seen_ms = now_ms;
            let journal = self.journal.as_ref();
            let written = journal.map(|journal| journal.push(Op::Seen(key.clone(), now_ms)));
            let subscriber = state.next;
            state.next += 1;
            let subscriber = Subscriber {
                broker: self.clone(),
                key,
                terms: Arc::new(terms),
                id: subscriber,
            };
            if let Some(group) = state.groups.get_mut(&subscriber.key) {
                group.enter(subscriber.id);
            }
            (subscriber, written)
        };
        if let Some(written) = written {
            written.await?;
        }
        let deliveries = stream::unfold(subscriber, |subscriber| async {
            let delivery = subscriber.next().await?;
            Some((delivery, subscriber))
        });
        Ok(deliveries.boxed())
    }

    pub(super) fn ack(
        &self,
        key: &Key,
        id: u64,
    ) -> Option<impl Future<Output = Result<()>> + use<>> {
        let mut state = self.lock();
        let group = state.groups.get_mut(key)?;
        if !group.settle(id) {
            return None;
        }
        let journal = self.journal.as_ref()?;
        Some(journal.push(Op::Done(key.clone(), id)))
    }

    pub(super) fn nack(&self, key: &Key, id: u64, attempt: u32) {
        self.fail(&mut self.lock(), key, id, attempt);
    }

    pub(super) fn fail(&self, state: &mut State, key: &Key, id: u64, attempt: u32) {
        let Some(group) = state.groups.get_mut(key) else {
            return;
        };
        if let Failed::Dead(letter) = group.fail(id, attempt, Instant::now(), key) {
            self.give_up(state, key, id, letter);
        }
    }

    /// This delivery failed, after so many tries, and another one would too.
    pub(super) fn reject(&self, key: &Key, id: u64, attempt: u32, tries: u32) {
        let mut state = self.lock();
        let Some(group) = state.groups.get_mut(key) else {
            return;
        };
        if let Failed::Dead(letter) = group.reject(id, attempt, key, tries) {
            self.give_up(&mut state, key, id, letter);
        }
    }

    /// This delivery did not take place. Whoever gives it back waits for the journal: the process may be about to end.
    pub(super) fn release(
        &self,
        key: &Key,
        id: u64,
        attempt: u32,
    ) -> Option<impl Future<Output = Result<()>> + use<>> {
        let mut state = self.lock();
        let attempts = state.groups.get_mut(key)?.release(id, attempt)?;
        let journal = self.journal.as_ref()?;
        Some(journal.push(Op::Tried(key.clone(), id, attempts)))
    }

    /// The time of this delivery begins again.
    pub(super) fn extend(&self, key: &Key, id: u64, attempt: u32) {
        if let Some(group) = self.lock().groups.get_mut(key) {
            group.extend(id, attempt, Instant::now());
        }
    }

    fn give_up(&self, state: &mut State, key: &Key, id: u64, letter: Option<Message>) {
        let letter = letter.map(|letter| (state.matching(&letter.topic, |_| true), letter));
        if let Some((keys, letter)) = letter
            && !keys.is_empty()
        {
            // It takes the place of the message that it was. Nobody waits until it is written: until then the old one is on
            // disk, and both change in one transaction or in this order.
            drop(self.store(state, letter, keys));
        }
        if let Some(journal) = &self.journal {
            drop(journal.push(Op::Done(key.clone(), id)));
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, id: u64, message: Message) -> Arc<Held> {
        let size = message.size();
        self.backlog.messages.fetch_add(1, Relaxed);
        self.backlog.bytes.fetch_add(size, Relaxed);
        Arc::new(Held {
            id,
            message,
            size,
            backlog: self.backlog.clone(),
        })
    }

    fn check(&self, message: &Message) -> Result<()> {
        if !is_topic(&message.topic) {
            return Err(bad_topic(&message.topic, "a topic"));
        }
        self.check_size(message)
    }

    fn check_size(&self, message: &Message) -> Result<()> {
        let (bytes, most) = (message.size(), self.bounds.message_bytes);
        match bytes > most {
            true => Err(Error::TooLarge { bytes, most }),
            false => Ok(()),
        }
    }

    /// Only with the lock held, so that what it found is still true when the message is stored.
    fn make_room(&self, state: &mut State, size: usize) -> Result<()> {
        if self.has_room(size) {
            return Ok(());
        }
        self.forget(state);
        match self.has_room(size) {
            true => Ok(()),
            false => Err(Failure::Full(self.why_full(state)).into()),
        }
    }

    /// The same for a group that there is not yet.
    fn make_room_for(&self, state: &mut State, key: &Key) -> Result<()> {
        let most = self.bounds.group_topics;
        let is_full = |state: &State| {
            let mut same = state.groups.keys().filter(|other| other.name == key.name);
            same.nth(most.saturating_sub(1)).is_some()
        };
        if is_full(state) {
            self.forget(state);
        }
        match is_full(state) {
            false => Ok(()),
            true => {
                let why = format!(
                    "the group {} has {most} topics, and no room for more",
                    key.name
                );
                Err(Failure::Full(why).into())
            }
        }
    }

    /// Forgets groups that nobody has subscribed for in a long time.
    fn forget(&self, state: &mut State) {
        let now_ms = now_ms();
        let forget_ms = u64::try_from(self.bounds.forget.as_millis()).unwrap_or(u64::MAX);
        let settled_in = self.since.elapsed() >= SETTLING_IN.min(self.bounds.forget);
        let gone = |group: &Group| {
            !group.has_subscribers() && now_ms.saturating_sub(group.seen_ms) >= forget_ms
        };
        if settled_in {
            state.groups.retain(|key, group| {
                let gone = gone(group);
                if gone && let Some(journal) = &self.journal {
                    drop(journal.push(Op::Forget(key.clone())));
                }
                !gone
            });
        }
    }

    fn has_room(&self, size: usize) -> bool {
        self.backlog.messages.load(Relaxed) < self.bounds.backlog
            && self.backlog.bytes.load(Relaxed).saturating_add(size) <= self.bounds.backlog_bytes
    }

    fn why_full(&self, state: &State) -> String {
        let messages = self.backlog.messages.load(Relaxed);
        let away = state.groups.iter();
        let away = away.filter(|(_, group)| !group.has_subscribers());
        let away: Vec<&str> = away.map(|(key, _)| &*key.name).take(4).collect();
        match away.is_empty() {
            true => format!("{messages} messages are not settled yet"),
            false => format!(
                "{messages} messages are not settled yet, and nobody subscribes for the group {}",
                away.join(", ")
            ),
        }
    }
}

impl State {
    fn matching(&self, topic: &str, also: impl Fn(&Group) -> bool) -> Vec<Key> {
        let groups = self.groups.iter();
        let groups = groups.filter(|(key, group)| matches(&key.pattern, topic) && also(group));
        groups.map(|(key, _)| key.clone()).collect()
    }

    fn deliver(&mut self, held: &Arc<Held>, keys: &[Key]) {
        for key in keys {
            if let Some(group) = self.groups.get_mut(key) {
                group.push(Waiting {
                    held: held.clone(),
                    attempts: 0,
                    until: None,
                });
            }
        }
    }
}

/// Somebody who waits for answers.
struct Requester<'a> {
    broker: &'a Broker,
    id: u64,
}

impl Drop for Requester<'_> {
    fn drop(&mut self) {
        self.broker.lock().requests.remove(&self.id);
    }
}

fn check_terms(terms: &Subscription) -> Result<()> {
    if !is_pattern(&terms.pattern) {
        return Err(bad_topic(&terms.pattern, "a pattern of topics"));
    }
    let Some(letter) = &terms.dead_letter else {
        return Ok(());
    };
    if !is_topic(letter) {
        return Err(bad_topic(letter, "a topic"));
    }
    if matches(&terms.pattern, letter) {
        return Err(Error::BadTopic(format!(
            "the dead letters of {} would come back as its messages",
            terms.pattern
        )));
    }
    Ok(())
}

fn bad_topic(text: &str, what: &str) -> Error {
    Error::BadTopic(format!("{text:?} is not {what}"))
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
