//! [`Group`]: what one group has still to do. No clock, no locks, no waiting: the broker says what time it is.
//!
//! A message of a group is ready, delayed (it failed and is given a rest) or unsettled (a subscriber has it). Requests pass
//! through the same queue, but are never tried again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::broker::Held;
use super::{Message, Subscription};

/// Who a group is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) name: Arc<str>,
    pub(super) pattern: Arc<str>,
}

/// A message that waits for a subscriber.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) held: Arc<Held>,
    /// Deliveries so far.
    pub(super) attempts: u32,
    /// When nobody waits for the answer any more; `None` for what is no request.
    pub(super) until: Option<Instant>,
}

/// A message that a subscriber has.
#[derive(Debug)]
struct Unsettled {
    waiting: Waiting,
    subscriber: u64,
    terms: Arc<Subscription>,
    deadline: Instant,
}

/// What became of a failed delivery.
#[derive(Debug)]
pub(super) enum Failed {
    /// It is tried again later, or was a request, or had been settled before.
    Kept,
    /// The group is done with it, and this goes to the dead-letter topic, if there is one.
    Dead(Option<Message>),
}

/// What one group has still to do.
#[derive(Debug)]
pub(super) struct Group {
    ready: VecDeque<Waiting>,
    delayed: BTreeMap<(Instant, u64), Waiting>,
    unsettled: HashMap<u64, Unsettled>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Unsettled messages of each subscriber.
    subscribers: HashMap<u64, usize>,
    /// Tells subscribers that there may be something for them.
    pub(super) wake: Arc<Notify>,
    /// When a subscriber was there last, in milliseconds since 1970.
    pub(super) seen_ms: u64,
}

impl Group {
    pub(super) fn new(seen_ms: u64) -> Self {
        Self {
            ready: VecDeque::new(),
            delayed: BTreeMap::new(),
            unsettled: HashMap::new(),
            deadlines: BTreeSet::new(),
            subscribers: HashMap::new(),
            wake: Arc::default(),
            seen_ms,
        }
    }

    pub(super) fn has_subscribers(&self) -> bool {
        !self.subscribers.is_empty()
    }

    pub(super) fn enter(&mut self, subscriber: u64) {
        self.subscribers.insert(subscriber, 0);
    }

    /// What the subscriber has taken stays its own until it is settled or its time is over.
    pub(super) fn leave(&mut self, subscriber: u64) {
        self.subscribers.remove(&subscriber);
        if self.subscribers.is_empty() {
            // Nobody will answer these.
            self.ready.retain(|waiting| waiting.until.is_none());
        }
        self.wake.notify_waiters();
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.ready.push_back(waiting);
        self.wake.notify_waiters();
    }

    /// The next message for a subscriber, with the number of this delivery; `None` where there is none or it has enough.
    pub(super) fn take(
        &mut self,
        subscriber: u64,
        terms: &Arc<Subscription>,
        now: Instant,
    ) -> Option<(Arc<Held>, u32)> {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            self.ready.push_front(entry.remove());
        }
        if *self.subscribers.get(&subscriber)? >= terms.in_flight.max(1) {
            return None;
        }
        let mut waiting = loop {
            let waiting = self.ready.pop_front()?;
            match waiting.until {
                // The process died with it again and again: it is not handed out once more, only given up.
                None if waiting.attempts >= terms.deliveries => {
                    self.hand_out(waiting, subscriber, terms, now);
                }
                Some(until) if until <= now => {}
                _ => break waiting,
            }
        };
        waiting.attempts = waiting.attempts.saturating_add(1);
        let (held, attempt) = (waiting.held.clone(), waiting.attempts);
        self.hand_out(waiting, subscriber, terms, now + terms.ack_wait);
        Some((held, attempt))
    }

    fn hand_out(
        &mut self,
        waiting: Waiting,
        subscriber: u64,
        terms: &Arc<Subscription>,
        deadline: Instant,
    ) {
        let id = waiting.held.id;
        *self.subscribers.entry(subscriber).or_default() += 1;
        self.deadlines.insert((deadline, id));
        let unsettled = Unsettled {
            waiting,
            subscriber,
            terms: terms.clone(),
            deadline,
        };
        self.unsettled.insert(id, unsettled);
    }

    /// When something will have to be done even if nothing happens until then.
    pub(super) fn due(&self) -> Option<Instant> {
        let delayed = self.delayed.keys().next().map(|&(due, _)| due);
        let expires = self.deadlines.first().map(|&(due, _)| due);
        [delayed, expires].into_iter().flatten().min()
    }

    /// A delivery whose time is over, with its number.
    pub(super) fn expired(&self, now: Instant) -> Option<(u64, u32)> {
        let &(deadline, id) = self.deadlines.first()?;
        let attempt = self.unsettled.get(&id)?.waiting.attempts;
        (deadline <= now).then_some((id, attempt))
    }

    /// The group is done with a message, wherever it is: an acknowledgement that comes late counts too. Whether it was one
    /// that had to be kept until now.
    pub(super) fn settle(&mut self, id: u64) -> bool {
        if let Some(unsettled) = self.give_back(id) {
            return unsettled.waiting.until.is_none();
        }
        let before = self.ready.len() + self.delayed.len();
        self.ready.retain(|waiting| waiting.held.id != id);
        self.delayed.retain(|&(_, delayed), _| delayed != id);
        self.ready.len() + self.delayed.len() < before
    }

    /// This delivery failed.
    pub(super) fn fail(&mut self, id: u64, attempt: u32, now: Instant, key: &Key) -> Failed {
        let Some((waiting, terms)) = self.failed(id, attempt) else {
            return Failed::Kept;
        };
        if attempt >= terms.deliveries {
            return dead(&waiting, &terms, key, attempt);
        }
        let due = now + terms.pause(attempt);
        self.delayed.insert((due, id), waiting);
        Failed::Kept
    }

    /// This delivery failed, after so many tries, and another one would too.
    pub(super) fn reject(&mut self, id: u64, attempt: u32, key: &Key, tries: u32) -> Failed {
        match self.failed(id, attempt) {
            Some((waiting, terms)) => dead(&waiting, &terms, key, tries),
            None => Failed::Kept,
        }
    }

    /// This delivery did not take place: the message is before all that came later. Its deliveries so far, if it is to be
    /// kept.
    pub(super) fn release(&mut self, id: u64, attempt: u32) -> Option<u32> {
        let (mut waiting, _) = self.failed(id, attempt)?;
        let attempts = attempt.saturating_sub(1);
        waiting.attempts = attempts;
        let later = self.ready.iter().position(|ready| ready.held.id > id);
        self.ready
            .insert(later.unwrap_or(self.ready.len()), waiting);
        self.wake.notify_waiters();
        Some(attempts)
    }

    /// The message of a delivery that is still the current one, and is no request; nobody has it any more.
    fn failed(&mut self, id: u64, attempt: u32) -> Option<(Waiting, Arc<Subscription>)> {
        if self.unsettled.get(&id)?.waiting.attempts != attempt {
            return None;
        }
        let Unsettled { waiting, terms, .. } = self.give_back(id)?;
        waiting.until.is_none().then_some((waiting, terms))
    }

    /// The time of this delivery begins again, if it is still the current one.
    pub(super) fn extend(&mut self, id: u64, attempt: u32, now: Instant) {
        let Some(unsettled) = self.unsettled.get_mut(&id) else {
            return;
        };
        if unsettled.waiting.attempts != attempt {
            return;
        }
        self.deadlines.remove(&(unsettled.deadline, id));
        unsettled.deadline = now + unsettled.terms.ack_wait;
        self.deadlines.insert((unsettled.deadline, id));
    }

    fn give_back(&mut self, id: u64) -> Option<Unsettled> {
        let unsettled = self.unsettled.remove(&id)?;
        self.deadlines.remove(&(unsettled.deadline, id));
        if let Some(taken) = self.subscribers.get_mut(&unsettled.subscriber) {
            *taken = taken.saturating_sub(1);
        }
        self.wake.notify_waiters();
        Some(unsettled)
    }
}

fn dead(waiting: &Waiting, terms: &Subscription, key: &Key, tries: u32) -> Failed {
    let topic = terms.dead_letter.as_ref();
    let message = &waiting.held.message;
    Failed::Dead(topic.map(|topic| message.dead_letter(topic, &key.name, tries)))
}
